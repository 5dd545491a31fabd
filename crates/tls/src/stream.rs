//! The two halves of a connection, encrypted or not.
//!
//! Which of the two it is, each call asks anew: that costs a comparison, where a trait object would
//! cost the plain ones a call.

use crate::{Check, ClientFiles, TlsError};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// What is read from.
#[derive(Debug)]
pub enum ReadHalf {
    /// As it is.
    Plain(OwnedReadHalf),
    /// Over TLS.
    Tls(tokio::io::ReadHalf<TlsStream<TcpStream>>),
}

/// What is written to. Over TLS, what was written may stay behind until it is flushed.
#[derive(Debug)]
pub enum WriteHalf {
    /// As it is.
    Plain(OwnedWriteHalf),
    /// Over TLS.
    Tls(tokio::io::WriteHalf<TlsStream<TcpStream>>),
}

/// The halves of a connection without TLS.
#[must_use]
pub fn plain(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (ReadHalf::Plain(read), WriteHalf::Plain(write))
}

fn encrypted(stream: TlsStream<TcpStream>) -> (ReadHalf, WriteHalf) {
    let (read, write) = tokio::io::split(stream);
    (ReadHalf::Tls(read), WriteHalf::Tls(write))
}

/// Begins TLS as a client of one server.
#[derive(Debug, Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Connector {
    /// Reads the files; `host` is the server's name or address, which its certificate has to be for.
    pub fn new(files: &ClientFiles, check: Check, host: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(host.to_owned());
        Ok(Self {
            config: Arc::new(files.config(check)?),
            name: name.map_err(|_| TlsError::Name(host.to_owned()))?,
        })
    }

    /// Begins TLS. It may take as long as the server likes.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<(ReadHalf, WriteHalf)> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.name.clone(), stream).await?;
        Ok(encrypted(stream.into()))
    }
}

/// Begins TLS as the server, and gives the client's certificate, if it has one. It may take as long
/// as the client likes.
pub async fn accept(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> io::Result<(ReadHalf, WriteHalf, Option<CertificateDer<'static>>)> {
    let stream = acceptor.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates();
    let certificate = shown.and_then(|chain| chain.first()).cloned();
    let (read, write) = encrypted(stream.into());
    Ok((read, write, certificate.map(CertificateDer::into_owned)))
}
impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_read(cx, buffer),
            Self::Tls(half) => Pin::new(half).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_write(cx, bytes),
            Self::Tls(half) => Pin::new(half).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_flush(cx),
            Self::Tls(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_shutdown(cx),
            Self::Tls(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}
