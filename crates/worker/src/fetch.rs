//! Fetching an image's bytes. What is read is never more than the job says that the image has.

use crate::room::{ALIGN, Room};
use imgsys_service::{config::ImagesConfig, read_secret};
use imgsys_tls::{Check, ClientFiles, TlsError};
use imgsys_types::{Checksum, Digest};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::Policy,
};
use rustix::{
    fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, open, openat},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// How long a server may take to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long a server may be silent within an answer.
const SILENCE: Duration = Duration::from_secs(10);

/// Why the bytes are not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Its server does not have the image.
    #[error("the image is not at its server any more ({0})")]
    Missing(&'static str),
    /// Other bytes than those that were accepted.
    #[error("not the image that was accepted: {0}")]
    OtherBytes(String),
    /// Something that no server of ours puts there.
    #[error("the image is no plain file in its place: {0}")]
    NoPlainFile(&'static str),
    /// The place can't be reached now.
    #[error("fetching the image: {0}")]
    Away(String),
}

/// From which size on files are read past the kernel's cache, if at all: where servers begin to write
/// them so. Below it, setting up the disk's own transfer costs more than the copy that is saved.
const DIRECT_MIN: u64 = 128 << 10;

/// What an image has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
    pub(crate) checksum: Option<Checksum>,
}

/// Reads an image out of a directory of images; blocks. No symbolic link below `root` is followed. If its
/// checksum is given and is right, its digest is not looked at.
pub(crate) fn read_file<'a>(
    root: &Path,
    image: &Expected,
    direct_io: bool,
    into: &'a mut Room,
) -> Result<&'a [u8], FetchError> {
    let Expected { sha256, size, .. } = *image;
    let name = sha256.to_string();
    let folder = open_folder(root, &name[..2])?;
    let file = open_in(&folder, &name).map_err(|error| below_root("the file", error))?;
    let stat = fstat(&file).map_err(|error| FetchError::Away(error.to_string()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FetchError::NoPlainFile("not a regular file"));
    }
    if u64::try_from(stat.st_size) != Ok(size) {
        return Err(other_size(stat.st_size, size));
    }
    let len = usize::try_from(size).unwrap_or(usize::MAX - ALIGN);
    let bytes = into.of(len).map_err(|_| no_memory(size))?;
    if direct_io && size >= DIRECT_MIN {
        // Not every file system can: then it is read like any other.
        let _ = set_direct(&file, true);
    }
    let read = read(&file, &mut *bytes, len);
    let read = read.map_err(|error| FetchError::Away(format!("reading the file: {error}")))?;
    let bytes = &bytes[..read];
    if image.checksum != Some(Checksum::of(bytes)) {
        verify(bytes, &sha256, size)?;
    }
    Ok(bytes)
}

/// Opens a folder of a directory of images.
fn open_folder(root: &Path, name: &str) -> Result<OwnedFd, FetchError> {
    let directory = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let below = directory | OFlags::NOFOLLOW;
    // At once; a link in the last place is not followed.
    if let Ok(folder) = open(root.join(name), below, Mode::empty()) {
        return Ok(folder);
    }
    // If there is no directory of images at all, a disk is not mounted rather than an image lost.
    let root = open(root, directory, Mode::empty())
        .map_err(|error| FetchError::Away(format!("opening {}: {error}", root.display())))?;
    openat(&root, name, below, Mode::empty()).map_err(|error| below_root("the folder", error))
}

/// Opens a file to be read, without noting when that was, if this may be left out: only the file's
/// owner may.
fn open_in(folder: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    static MAY_SKIP_TIMES: AtomicBool = AtomicBool::new(true);
    // Non-blocking, lest a FIFO holds the thread.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if MAY_SKIP_TIMES.load(Ordering::Relaxed) {
        match openat(folder, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => MAY_SKIP_TIMES.store(false, Ordering::Relaxed),
            opened => return opened,
        }
    }
    openat(folder, name, flags, Mode::empty())
}

/// Reads so many bytes of a file from its beginning, or as many as it has. The room ends with the disk's
/// own unit.
fn read(file: &OwnedFd, into: &mut [u8], len: usize) -> io::Result<usize> {
    let mut have = 0;
    while have < len {
        match rustix::io::read(file, &mut into[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(Errno::INTR) => {}
            // The disk wants it another way than it was asked.
            Err(Errno::INVAL) if fcntl_getfl(file)?.contains(OFlags::DIRECT) => {
                set_direct(file, false)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(have.min(len))
}

/// Has a file read past the kernel's cache, or through it.
fn set_direct(file: &OwnedFd, direct: bool) -> Result<(), Errno> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    fcntl_setfl(file, flags)
}

/// Whether these are the bytes that were accepted.
pub(crate) fn verify(bytes: &[u8], sha256: &Digest, size: u64) -> Result<(), FetchError> {
    if bytes.len() as u64 != size {
        return Err(other_size(bytes.len(), size));
    }
    if Sha256::digest(bytes)[..] != sha256.as_bytes()[..] {
        return Err(FetchError::OtherBytes("its SHA-256 is another".into()));
    }
    Ok(())
}

fn below_root(what: &'static str, error: Errno) -> FetchError {
    match error {
        Errno::NOENT => FetchError::Missing("no such file"),
        // Opened without following links, a link is either of these.
        Errno::LOOP | Errno::NOTDIR => FetchError::NoPlainFile("a symbolic link"),
        error => FetchError::Away(format!("opening {what}: {error}")),
    }
}

fn other_size(found: impl std::fmt::Display, size: u64) -> FetchError {
    FetchError::OtherBytes(format!("{found} bytes, not {size}"))
}

fn room_for(size: u64) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    // One more than there should be, so that the end is seen without growing.
    let room = usize::try_from(size)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    bytes.try_reserve_exact(room).map_err(|_| no_memory(size))?;
    Ok(bytes)
}

fn no_memory(size: u64) -> FetchError {
    FetchError::Away(format!("no memory for {size} bytes"))
}

/// Why nothing can be fetched over HTTP.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("worker.images.token_file")]
    Token(#[source] anyhow::Error),
    #[error(
        "worker.images.token_file: {0} holds no token: write what `imgsys-server token new` has printed"
    )]
    NoToken(String),
    #[error("worker.images.ca")]
    Tls(#[from] TlsError),
    #[error("preparing to fetch over HTTP")]
    Client(#[from] reqwest::Error),
}

/// A client that goes nowhere but where it is told, no redirects, no proxies, and shows the worker's
/// token there.
pub(crate) fn client(images: &ImagesConfig, over_tls: bool) -> Result<Client, ClientError> {
    let mut headers = HeaderMap::new();
    if let Some(file) = &images.token_file {
        let token = read_secret(file).map_err(ClientError::Token)?;
        let token = token.trim();
        let value = HeaderValue::from_str(&format!("Bearer {token}")).ok();
        let value = value.filter(|_| !token.is_empty() && !token.contains(char::is_whitespace));
        let mut value = value.ok_or_else(|| ClientError::NoToken(file.display().to_string()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let files = ClientFiles {
        ca: images.ca.clone(),
        ..ClientFiles::default()
    };
    // Where nothing is fetched over TLS no roots are needed, and nobody is trusted.
    let check = if over_tls {
        Check::Full
    } else {
        Check::Pin([0; 32])
    };
    let client = Client::builder()
        .user_agent(concat!("imgsys-worker/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .tls_backend_preconfigured(files.config(check)?)
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIME)
        .read_timeout(SILENCE);
    Ok(client.build()?)
}

/// Fetches an image over HTTP, within this time. The bytes still have to be verified.
pub(crate) async fn get(
    client: &Client,
    url: Url,
    size: u64,
    time: Duration,
) -> Result<Vec<u8>, FetchError> {
    let away = |error: reqwest::Error| FetchError::Away(with_causes(&error));
    let request = client.get(url).timeout(time);
    let mut response = request.send().await.map_err(away)?;
    judge(&response, size)?;
    let mut bytes = room_for(size)?;
    while let Some(part) = response.chunk().await.map_err(away)? {
        if (bytes.len() + part.len()) as u64 > size {
            return Err(FetchError::OtherBytes(format!("more than {size} bytes")));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

fn judge(response: &Response, size: u64) -> Result<(), FetchError> {
    match response.status() {
        StatusCode::OK => {}
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            return Err(FetchError::Away(format!(
                "the server does not accept our token ({status}): worker.images.token_file has to name a \
                 token that it knows, with the scope worker"
            )));
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(FetchError::Missing("HTTP 404")),
        status => return Err(FetchError::Away(format!("the server answers {status}"))),
    }
    match response.content_length() {
        Some(length) if length != size => Err(other_size(length, size)),
        _ => Ok(()),
    }
}

/// The error with what brought it about: without that, it is "error sending request".
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    if let Some(advice) = imgsys_tls::advice(error) {
        text = format!("{advice}: {text}");
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::tempdir;

    /// Puts an image where its server would, and says what it has to be.
    fn put(root: &Path, bytes: &[u8]) -> Expected {
        let sha256 = Digest::from_bytes(Sha256::digest(bytes).into());
        let name = sha256.to_string();
        let folder = root.join(&name[..2]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
        Expected {
            sha256,
            size: bytes.len() as u64,
            checksum: Some(Checksum::of(bytes)),
        }
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..=250).cycle().take(len).collect()
    }

    #[test]
    fn files_are_read_whole_past_the_cache_and_through_it() {
        let dir = tempdir().unwrap();
        let mut room = Room::default();
        let least = usize::try_from(DIRECT_MIN).unwrap();
        for len in [1, 4096, least - 1, least, least + 1, 1 << 20, (1 << 20) + 7] {
            let image = bytes(len);
            let expected = put(dir.path(), &image);
            for direct_io in [true, false] {
                let read = read_file(dir.path(), &expected, direct_io, &mut room);
                assert!(
                    read.unwrap() == image,
                    "{len} bytes, direct I/O {direct_io}"
                );
            }
        }
    }

    #[test]
    fn the_digest_decides_where_the_checksum_does_not() {
        let dir = tempdir().unwrap();
        let mut room = Room::default();
        let image = bytes(10_000);
        let expected = put(dir.path(), &image);
        for checksum in [None, Some(Checksum::of(b"another image"))] {
            let expected = Expected {
                checksum,
                ..expected
            };
            assert!(read_file(dir.path(), &expected, true, &mut room).unwrap() == image);
        }
    }

    #[test]
    fn bytes_that_have_changed_are_found_with_and_without_a_checksum() {
        let dir = tempdir().unwrap();
        let mut room = Room::default();
        for len in [10_000, 300_000] {
            let image = bytes(len);
            let expected = put(dir.path(), &image);
            let name = expected.sha256.to_string();
            let path = dir.path().join(&name[..2]).join(&name);
            for place in [0, len / 2, len - 1] {
                let mut changed = image.clone();
                changed[place] ^= 1;
                fs::write(&path, &changed).unwrap();
                for checksum in [None, expected.checksum] {
                    let expected = Expected {
                        checksum,
                        ..expected
                    };
                    let read = read_file(dir.path(), &expected, true, &mut room);
                    assert!(matches!(read, Err(FetchError::OtherBytes(_))), "{read:?}");
                }
            }
        }
    }
}
