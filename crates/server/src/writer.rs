//! Writes out what gathers in a connection's outbox.

use crate::{
    outbox::{Outbox, Piece},
    shared::{Shared, chain},
};
use imgsys_proto::message::JobEnd;
use imgsys_tls::stream::WriteHalf;
use imgsys_types::{JobId, JobRecord};
use std::{io, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// The most of a file that is in memory at once.
const CHUNK: usize = 128 << 10;

/// The pause before an end that could not be looked up is looked up again.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes until the outbox is closed and empty or the client can't be written to.
pub(crate) async fn run(
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    mut stream: WriteHalf,
    gone: CancellationToken,
) {
    let patience = shared.config.limits.idle;
    while let Some(piece) = outbox.next().await {
        let written = match piece {
            Piece::Frames(frames) => write(&mut stream, &frames, patience).await,
            // In boxes: connections without either need no room for them.
            Piece::File { head, path, len } => {
                Box::pin(write_file(&mut stream, &head, &path, len, patience)).await
            }
            Piece::End(job) => {
                Box::pin(look_up(&shared, &outbox, job)).await;
                Ok(())
            }
        };
        if let Err(error) = written {
            debug!("writing to a client: {error}");
            break;
        }
    }
    // Over TLS this writes, too.
    let _ = timeout(patience, stream.shutdown()).await;
    gone.cancel();
    outbox.close();
}

/// Writes all, as long as the client takes something every now and then.
async fn write(stream: &mut WriteHalf, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(patience, stream.write(bytes)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    // Over TLS, the last of it may have stayed behind.
    timeout(patience, stream.flush()).await?
}

async fn write_file(
    stream: &mut WriteHalf,
    head: &[u8],
    path: &Path,
    len: u64,
    patience: Duration,
) -> io::Result<()> {
    let mut file = match tokio::fs::File::open(path).await {
        Ok(file) => file.take(len),
        Err(problem) => {
            error!("opening {}: {problem}", path.display());
            return Err(problem);
        }
    };
    write(stream, head, patience).await?;
    let mut buffer = vec![0; CHUNK];
    let mut left = len;
    while left > 0 {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            // The length was promised in the frame: there is no way to take it back.
            error!("{} is shorter than it should be", path.display());
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write(stream, &buffer[..read], patience).await?;
        left -= read as u64;
    }
    Ok(())
}

/// Finds out how a job ended, in the spool or the database, and puts it into the outbox.
async fn look_up(shared: &Arc<Shared>, outbox: &Arc<Outbox>, job: JobId) {
    if let Ok(Some(spooled)) = shared.store.get(job)
        && !spooled.has_ended()
    {
        // It is analysed once more, and that is now what the client is owed.
        shared.watch_spooled(job, outbox);
        return;
    }
    match shared.end_of(job).await {
        Ok(Some(JobRecord {
            job,
            result: Some(result),
        })) => outbox.end_now(&JobEnd {
            job: job.id,
            sha256: job.sha256,
            result,
        }),
        Ok(_) => warn!(%job, "a result that was there is there no more"),
        Err(problem) => {
            debug!(%job, "looking up a result: {}", chain(&problem));
            let outbox = Arc::clone(outbox);
            tokio::spawn(async move {
                tokio::time::sleep(AGAIN).await;
                outbox.look_up(job);
            });
        }
    }
}
