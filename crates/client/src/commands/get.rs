//! `imgsys get`

use crate::{
    caller::Caller,
    clean::file_name,
    cli::Get,
    context::Context,
    error::{ClientError, Exit},
    link::LinkError,
    screen::Screen,
};
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{Image, JobRequest},
};
use imgsys_types::{Digest, JobId};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Gets an image and writes it beside its place; it takes the place once its digest is right.
pub(crate) async fn run(args: Get, context: Context) -> Result<Exit, ClientError> {
    if let Some(path) = &args.output {
        refuse_to_overwrite(path, args.force)?;
    }
    let mut caller = Caller::new(&context);
    let mut image = fetch(&mut caller, args.job).await?;
    let mut target = Target::open(&args, &image, &context.screen)?;
    let mut download = Download::default();
    loop {
        match download.go_on(&mut caller, &mut target).await? {
            Ok(()) => break,
            Err(error) => {
                caller.lost(error).await?;
                let again = fetch(&mut caller, args.job).await?;
                if again.sha256 != image.sha256 {
                    return Err(ClientError::Nonsense);
                }
                image = again;
            }
        }
    }
    if download.digest() != image.sha256 {
        return Err(ClientError::Plain(format!(
            "the bytes that came are not the image {}; nothing was kept",
            image.sha256
        )));
    }
    if let Some(path) = target.finish(args.force)? {
        context.screen.note(&format!(
            "{} bytes written to {}",
            download.written,
            path.display()
        ));
    }
    Ok(Exit::Ok)
}

async fn fetch(caller: &mut Caller<'_>, job: JobId) -> Result<Image, ClientError> {
    match caller
        .call(|req| ClientMessage::Fetch(JobRequest { req, job }))
        .await?
    {
        ServerMessage::Image(image) if image.job == job => Ok(image),
        _ => Err(ClientError::Nonsense),
    }
}

/// The bytes so far. After a lost connection the image comes from its beginning; what was written
/// already is passed over, so that it also works for standard output.
#[derive(Default)]
struct Download {
    written: u64,
    hasher: Sha256,
}

impl Download {
    /// Takes the body of the caller's last answer. The inner error is the connection's.
    async fn go_on(
        &mut self,
        caller: &mut Caller<'_>,
        target: &mut Target,
    ) -> Result<Result<(), LinkError>, ClientError> {
        let mut skip = self.written;
        loop {
            let chunk = match caller.body_chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= known as u64;
            let fresh = &chunk[known..];
            self.hasher.update(fresh);
            self.written += fresh.len() as u64;
            target.write(fresh)?;
        }
    }

    fn digest(&self) -> Digest {
        Digest::from_bytes(self.hasher.clone().finalize().into())
    }
}

/// Where the image goes.
enum Target {
    Stdout(Screen),
    File(Part),
}

impl Target {
    fn open(args: &Get, image: &Image, screen: &Screen) -> Result<Self, ClientError> {
        let own_name = || file_name(&image.name, &format!("{}.image", image.job));
        let path = match &args.output {
            Some(path) if path.as_os_str() == "-" => return Ok(Self::Stdout(screen.clone())),
            Some(path) if path.is_dir() => path.join(own_name()),
            Some(path) => path.clone(),
            None => PathBuf::from(own_name()),
        };
        refuse_to_overwrite(&path, args.force)?;
        Part::create(path, image.job).map(Self::File)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        match self {
            Self::Stdout(screen) => screen
                .write(bytes)
                .map_err(ClientError::local("writing to standard output")),
            Self::File(part) => part
                .file
                .write_all(bytes)
                .map_err(ClientError::local(format!(
                    "writing {}",
                    part.path.display()
                ))),
        }
    }

    /// Puts the file in its place and says where that is.
    fn finish(self, force: bool) -> Result<Option<PathBuf>, ClientError> {
        match self {
            Self::Stdout(_) => Ok(None),
            Self::File(part) => part.finish(force).map(Some),
        }
    }
}

/// A file that is not whole yet; it goes away if it never will be.
struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    placed: bool,
}

impl Part {
    fn create(target: PathBuf, job: JobId) -> Result<Self, ClientError> {
        let path = target.with_file_name(format!(".imgsys-{job}-{}.part", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(ClientError::local(format!("creating {}", path.display())))?;
        Ok(Self {
            file,
            path,
            target,
            placed: false,
        })
    }

    fn finish(mut self, force: bool) -> Result<PathBuf, ClientError> {
        let target = self.target.display().to_string();
        let placed = self
            .file
            .sync_all()
            .and_then(|()| place(&self.path, &self.target, force));
        match placed {
            Ok(()) => {
                self.placed = true;
                Ok(self.target.clone())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&self.target)),
            Err(error) => Err(ClientError::local(format!("writing {target}"))(error)),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.placed {
            // There is nothing more to do about a leftover that can't be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames a file, over another one only if `force` is set.
fn place(from: &Path, to: &Path, force: bool) -> io::Result<()> {
    if force {
        return fs::rename(from, to);
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // A file system that does not know the flag.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to).and_then(|()| fs::remove_file(from))
        }
        Err(error) => Err(error.into()),
    }
}

fn refuse_to_overwrite(path: &Path, force: bool) -> Result<(), ClientError> {
    let is_there = path.as_os_str() != "-" && path.symlink_metadata().is_ok() && !path.is_dir();
    if is_there && !force {
        Err(exists(path))
    } else {
        Ok(())
    }
}

fn exists(path: &Path) -> ClientError {
    ClientError::Plain(format!(
        "{} exists already; --force replaces it",
        path.display()
    ))
}
