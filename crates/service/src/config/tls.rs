//! `[….tls]`: certificates by which the programs and what they connect to know each other.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The server's certificate, by which it serves its clients over TLS.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// The server's certificate, in PEM, with what leads to its root; with it clients are served over
    /// TLS only (tls://). Read again when it changes
    #[arg(id = "server.tls.certificate", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The private key of that certificate, in PEM
    #[arg(id = "server.tls.key", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Whoever signs the clients' certificates, in PEM: with it only clients that have one may connect
    #[arg(id = "server.tls.client_ca", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Serve the HTTP side listener over TLS too (https:), with the same certificate
    #[arg(id = "server.tls.http", long)]
    pub http: bool,
}

/// Certificates for the way to Redis.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisTls {
    /// Whoever signs the certificate of Redis (rediss://), in PEM [default: the system's roots]
    #[arg(id = "redis.tls.ca", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Our own certificate for Redis, in PEM, with what leads to its root
    #[arg(id = "redis.tls.certificate", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The private key of that certificate, in PEM
    #[arg(id = "redis.tls.key", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Certificates for the way to PostgreSQL.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseTls {
    /// Whoever signs the certificate of PostgreSQL, in PEM: libpq's sslrootcert; with it, sslmode is
    /// verify-full unless the URL says otherwise
    #[arg(id = "database.tls.ca", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Our own certificate for PostgreSQL, in PEM: libpq's sslcert
    #[arg(id = "database.tls.certificate", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The private key of that certificate, in PEM: libpq's sslkey
    #[arg(id = "database.tls.key", long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}
