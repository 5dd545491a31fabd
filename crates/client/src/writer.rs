//! The sending half of a connection, as a task of its own: a large image on its way must not keep
//! the program from reading answers.

use crate::{
    files::{CHUNK, Problem, io_problem},
    link::{LinkError, Pulse},
    report::reason,
    session::Body,
};
use bytes::{Buf, Bytes, BytesMut};
use imgsys_proto::{ClientMessage, encode};
use imgsys_tls::stream::WriteHalf;
use imgsys_types::JobId;
use std::{io, path::Path};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc::{UnboundedReceiver, UnboundedSender},
};

/// Something to send.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A message.
    Message(ClientMessage),
    /// A job's image under a `submit`.
    Image {
        /// The job.
        job: JobId,
        /// The head.
        submit: ClientMessage,
        /// The body.
        body: Body,
    },
}

/// What a writer has to tell.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A file could not be read; nothing was sent, the connection is fine.
    File(JobId, Problem),
    /// The connection is broken.
    Link(LinkError),
}

/// Sends what comes, in order, until there is nothing more to come or the connection breaks.
///
/// What waits in the channel is bounded by the session: submits in flight, a few watches, a ping.
pub(crate) async fn run(
    mut stream: WriteHalf,
    mut outgoing: UnboundedReceiver<Outgoing>,
    trouble: UnboundedSender<Trouble>,
    pulse: Pulse,
) {
    let mut writer = Writer {
        stream: &mut stream,
        pulse,
    };
    while let Some(next) = outgoing.recv().await {
        let sent = match next {
            Outgoing::Message(message) => writer.head(&message, 0).await,
            Outgoing::Image { job, submit, body } => match open(&body).await {
                Ok(source) => writer.image(&submit, &body, source).await,
                Err(problem) => {
                    // Nobody listens once the call is over.
                    let _ = trouble.send(Trouble::File(job, problem));
                    Ok(())
                }
            },
        };
        if let Err(error) = sent {
            let _ = trouble.send(Trouble::Link(error));
            return;
        }
    }
}

enum Source {
    Kept(Bytes),
    File(File),
}

/// Opens the file again, as long as it is the size that was hashed.
async fn open(body: &Body) -> Result<Source, Problem> {
    match body {
        Body::Kept(bytes) => Ok(Source::Kept(bytes.clone())),
        Body::File { path, size } => {
            let (file, found) = open_file(path).await.map_err(|error| io_problem(&error))?;
            if found == *size {
                Ok(Source::File(file))
            } else {
                Err(Problem {
                    reason: reason::CHANGED,
                    detail: "the file was changed while it was being sent".into(),
                })
            }
        }
    }
}

async fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path).await?;
    let size = file.metadata().await?.len();
    Ok((file, size))
}

struct Writer<'a> {
    stream: &'a mut WriteHalf,
    pulse: Pulse,
}

impl Writer<'_> {
    async fn head(&mut self, message: &ClientMessage, body: u64) -> Result<(), LinkError> {
        let mut frame = Vec::with_capacity(256);
        encode(message, body, &mut frame).map_err(LinkError::Encode)?;
        self.stream.write_all(&frame).await?;
        // Over TLS it may have stayed behind.
        self.stream.flush().await?;
        Ok(())
    }

    async fn image(
        &mut self,
        submit: &ClientMessage,
        body: &Body,
        source: Source,
    ) -> Result<(), LinkError> {
        match (source, body) {
            (Source::Kept(bytes), _) => {
                let mut frame = Vec::with_capacity(256 + bytes.len());
                encode(submit, bytes.len() as u64, &mut frame).map_err(LinkError::Encode)?;
                frame.extend_from_slice(&bytes);
                self.write(&mut Bytes::from(frame)).await
            }
            (Source::File(file), Body::File { size, .. }) => {
                self.head(submit, *size).await?;
                self.body(file, *size).await
            }
            (Source::File(_), Body::Kept(_)) => Ok(()),
        }
    }

    /// Sends exactly `size` bytes. If the file has fewer by now, or can't be read on, zeros make up
    /// for the rest: the digest gives them away, and the connection stays usable for other files.
    async fn body(&mut self, mut file: File, size: u64) -> Result<(), LinkError> {
        file.set_max_buf_size(CHUNK);
        let mut buffer = BytesMut::with_capacity(CHUNK);
        let mut left = size;
        let mut readable = true;
        while left > 0 {
            buffer.clear();
            if readable {
                buffer.reserve(CHUNK);
                readable = matches!(file.read_buf(&mut buffer).await, Ok(read) if read > 0);
            }
            if !readable {
                buffer.resize(CHUNK, 0);
            }
            buffer.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= buffer.len() as u64;
            self.write(&mut buffer).await?;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &mut impl Buf) -> Result<(), LinkError> {
        while bytes.has_remaining() {
            self.stream.write_buf(bytes).await?;
            self.pulse.sent();
        }
        self.stream.flush().await?;
        Ok(())
    }
}
