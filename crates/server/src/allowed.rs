//! What each request takes: which scopes of a token, and whether it counts against a rate.

use crate::auth::Scope;
use imgsys_proto::ClientMessage;

/// What a request needs to be allowed, and its number.
pub(crate) fn needed(message: &ClientMessage) -> Option<(u64, &'static [Scope])> {
    const SEND: &[Scope] = &[Scope::Send];
    const HISTORY: &[Scope] = &[Scope::History];
    match message {
        ClientMessage::Submit(submit) => Some((submit.req, SEND)),
        ClientMessage::Watch(watch) => Some((watch.req, SEND)),
        ClientMessage::Cancel(request) => Some((request.req, SEND)),
        ClientMessage::Reanalyze(request) => Some((request.req, SEND)),
        ClientMessage::Runs(request) => Some((request.req, HISTORY)),
        ClientMessage::Similar(request) => Some((request.req, HISTORY)),
        ClientMessage::History(request) => Some((request.req, HISTORY)),
        ClientMessage::Show(request) | ClientMessage::Fetch(request) => {
            Some((request.req, HISTORY))
        }
        // Neither a camera that only sends nor a screen that only shows may do away with anything.
        ClientMessage::Delete(request) => Some((request.req, &[Scope::Send, Scope::History])),
        ClientMessage::Hello(_) | ClientMessage::Status(_) | ClientMessage::Ping(_) => None,
    }
}

/// The number of a request that counts against its owner's rate. `ping` can't be refused, and is
/// how a client learns that a server is there.
pub(crate) fn counted(message: &ClientMessage) -> Option<u64> {
    match message {
        ClientMessage::Status(request) => Some(request.req),
        other => needed(other).map(|(req, _)| req),
    }
}
