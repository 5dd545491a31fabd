//! How a connection is set up, and what an error of PostgreSQL means for the caller.

use crate::address::{Address, AddressError};
use postgres::{Client, Error, error::SqlState};
use std::{fmt, io, time::Duration};
use tokio_postgres::Config;

/// How long an address may take to answer, unless the connection string says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After how long without a word from its machine a peer counts as gone. One that takes its time
/// over a statement is not: its machine acknowledges what it was sent.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string makes no sense.
    #[error("reading the connection string of PostgreSQL")]
    Url(#[from] AddressError),
    /// PostgreSQL is away, or does not let us in.
    #[error("connecting to PostgreSQL{}", Advice(source))]
    Postgres {
        /// Its word.
        #[from]
        source: Error,
    },
}

/// Connects for migrations and other work that blocks. Fails at once if nobody answers.
pub fn connect(url: &str) -> Result<Client, ConnectError> {
    let Address { config, tls } = Address::parse(url, "imgsys")?;
    Ok(postgres::Config::from(config).connect(tls)?)
}

/// Sets limits on how long a dead server is waited for.
pub(crate) fn limited(config: &mut Config, program: &str) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(PEER_TIMEOUT);
    }
    // Two hours by default: too long to notice that a machine is gone.
    config.keepalives_idle(PEER_TIMEOUT);
    config.keepalives_interval(PEER_TIMEOUT / 3);
    config.keepalives_retries(3);
    if config.get_application_name().is_none() {
        config.application_name(program);
    }
}

/// What to do about an error of PostgreSQL's: nothing, or `: it …`.
pub(crate) struct Advice<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match imgsys_tls::advice(self.0) {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

/// Has the server give up on a statement after `limit`.
pub(crate) fn limit_statements(config: &mut Config, limit: Duration) {
    set(config, &format!("statement_timeout={}", limit.as_millis()));
}

/// Has the server not compile statements, which takes it many times longer than a page of the history.
/// It would for one with a large estimate, although that stops when the page is full.
pub(crate) fn interpret_statements(config: &mut Config) {
    set(config, "jit=off");
}

/// Sets a parameter of the session, beside those of the connection string.
fn set(config: &mut Config, parameter: &str) {
    let set = format!("-c {parameter}");
    let options = match config.get_options() {
        Some(given) => format!("{given} {set}"),
        None => set,
    };
    config.options(options);
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The data's: the same statement with the same values fails again.
    Data,
    /// The schema's: something that the program expects is not there.
    Schema,
    /// Nobody's, or the server's: it may go well later.
    Passing,
}

/// Tells whose fault an error is. Only what is certain to be the data's fault is called so: an
/// event taken for bad is set aside, one that waits too long is merely late.
pub(crate) fn fault(error: &Error) -> Fault {
    let Some(code) = error.code() else {
        return if is_encoding(error) {
            Fault::Data
        } else {
            Fault::Passing
        };
    };
    match code.code().get(..2) {
        // Data exception, integrity constraint, an exception raised by a trigger, a row too large.
        Some("22" | "23" | "P0" | "54") => Fault::Data,
        Some("42") if *code != SqlState::INSUFFICIENT_PRIVILEGE => Fault::Schema,
        _ => Fault::Passing,
    }
}

/// Whether the error came up while values were being written into a message, which has no public
/// kind: its source is neither the server's word nor an error of the connection.
fn is_encoding(error: &Error) -> bool {
    use std::error::Error as _;
    !error.is_closed()
        && error.to_string().starts_with("error serializing parameter")
        && error
            .source()
            .is_some_and(|source| source.downcast_ref::<io::Error>().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_and_pairs_are_the_same() {
        let config = |text, program| Address::parse(text, program).map(|a| a.config);
        let url = config(
            "postgres://ann@%2Frun%2Fpostgresql/imgsys?connect_timeout=2",
            "t",
        );
        let pairs = config("host=/run/postgresql user=ann dbname=imgsys port=5432", "t");
        assert_eq!(url.unwrap(), pairs.unwrap());
        assert!(config("redis://nowhere", "t").is_err());
    }

    #[test]
    fn options_of_the_url_are_kept() {
        let mut config = Address::parse("host=/x options='-c jit=off'", "t")
            .unwrap()
            .config;
        limit_statements(&mut config, Duration::from_secs(2));
        assert_eq!(
            config.get_options(),
            Some("-c jit=off -c statement_timeout=2000")
        );
    }
}
