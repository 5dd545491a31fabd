//! The server to talk to, and as whom.

use crate::token::Token;

/// The server to talk to.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Where it is, as `HOST:PORT`.
    pub(crate) address: String,
    /// What says who the user is.
    pub(crate) token: Option<Token>,
}
