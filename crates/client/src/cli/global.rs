//! Options of every command: which server, as whom, how patient, how talkative.

use crate::{
    server::{Address, DEFAULT_SERVER, parse_fingerprint},
    times::parse_span,
};
use clap::{ArgAction, Args, ColorChoice};
use imgsys_types::Digest;
use std::{path::PathBuf, time::Duration};

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The server to talk to; with `tls://` before it, over TLS.
    #[arg(long, global = true, env = "IMGSYS_SERVER", value_name = "[tls://]HOST[:PORT]",
          default_value = DEFAULT_SERVER)]
    pub(crate) server: Address,
    /// Whoever signs the server's certificate, in PEM [default: those whom the system trusts].
    #[arg(
        long,
        global = true,
        env = "IMGSYS_CA",
        value_name = "FILE",
        hide_short_help = true
    )]
    pub(crate) ca: Option<PathBuf>,
    /// The server's certificate itself, by its SHA-256; then neither its name, its dates nor its
    /// signer count.
    #[arg(long, global = true, env = "IMGSYS_FINGERPRINT", value_name = "SHA256", conflicts_with = "ca",
          value_parser = parse_fingerprint, hide_short_help = true)]
    pub(crate) fingerprint: Option<Digest>,
    /// Your own certificate, in PEM, for servers that know you by it or want one.
    #[arg(
        long,
        global = true,
        env = "IMGSYS_CERTIFICATE",
        value_name = "FILE",
        hide_short_help = true
    )]
    pub(crate) certificate: Option<PathBuf>,
    /// The private key of your certificate, in PEM.
    #[arg(
        long,
        global = true,
        env = "IMGSYS_KEY",
        value_name = "FILE",
        hide_short_help = true
    )]
    pub(crate) key: Option<PathBuf>,
    /// File with the token that says who you are; only you may be able to read it.
    ///
    /// Without it the token is that of the variable `IMGSYS_TOKEN`, else the one in the file
    /// ~/.config/imgsys/token (below `XDG_CONFIG_HOME`, if that is set).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// How long to try to reach the server at first; no longer than --retry-for.
    #[arg(long, global = true, value_name = "SPAN", default_value = "10s", value_parser = parse_span,
          hide_short_help = true)]
    pub(crate) connect_timeout: Duration,
    /// How long to try again once the server has accepted something: to reach it after the
    /// connection was lost, and to repeat what it refuses for now.
    #[arg(long, global = true, value_name = "SPAN", default_value = "10m", value_parser = parse_span,
          hide_short_help = true)]
    pub(crate) retry_for: Duration,
    /// When to use colours. With `auto`: on a terminal, unless `NO_COLOR` is set.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_short_help = true
    )]
    pub(crate) color: ColorChoice,
    /// Say nothing but results and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Also say what happens to the connection.
    #[arg(short, long, global = true, action = ArgAction::SetTrue, hide_short_help = true)]
    pub(crate) verbose: bool,
}
