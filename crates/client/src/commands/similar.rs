//! `imgsys similar`

use super::{print, print_json};
use crate::{
    caller::Caller,
    cli::{ImageArg, Similar as Args},
    context::Context,
    error::{ClientError, Exit},
    files::hash,
    line::Line,
    reporter::percent,
    screen::{Paint, Screen},
    table::{Cell, Column, Table},
    times::local,
};
use imgsys_proto::{
    ClientMessage, ServerMessage,
    message::{Similar, SimilarJob, SimilarRequest},
};
use imgsys_types::{Digest, ErrorCode, JobId, Outcome};
use std::{io, path::PathBuf};

/// Shows what looks like an image.
pub(crate) async fn run(args: Args, context: Context) -> Result<Exit, ClientError> {
    let (distance, limit) = (args.distance, args.limit);
    let (job, sha256) = match &args.image {
        ImageArg::Job(job) => (Some(*job), None),
        ImageArg::File(path) => (None, Some(digest(path.clone()).await?)),
    };
    let mut caller = Caller::new(&context);
    let question = |req| {
        ClientMessage::Similar(SimilarRequest {
            req,
            of_job: job,
            of_image: sha256,
            distance,
            limit,
        })
    };
    let answer = match caller.call(question).await {
        Ok(ServerMessage::Similar(answer)) => answer,
        Ok(_) => return Err(ClientError::Nonsense),
        Err(error) => return Err(named(error, &args.image)),
    };
    check(&answer, job, sha256, distance)?;
    let screen = &context.screen;
    if args.json {
        for similar in &answer.jobs {
            print_json(screen, &Line::from(similar))?;
        }
    } else {
        table(&answer, screen)?;
    }
    if answer.jobs.is_empty() {
        screen.note("nothing else looks like it");
    } else if answer.more {
        screen.note("there are more: see --limit");
    }
    Ok(Exit::Ok)
}

/// The SHA-256 of a file.
async fn digest(path: PathBuf) -> Result<Digest, ClientError> {
    let name = path.display().to_string();
    let hashed = tokio::task::spawn_blocking(move || hash(&path)).await;
    let hashed = hashed
        .map_err(io::Error::other)
        .map_err(ClientError::local("hashing"))?;
    match hashed {
        Ok(hashed) => Ok(hashed.sha256),
        Err(problem) => Err(ClientError::Plain(format!("{name}: {}", problem.detail))),
    }
}

/// The server does not know what the file is called.
fn named(error: ClientError, image: &ImageArg) -> ClientError {
    match (error, image) {
        (ClientError::Refused { code, text }, ImageArg::File(path))
            if code != ErrorCode::BadRequest =>
        {
            let text = format!("{}: {text}", path.display());
            ClientError::Refused { code, text }
        }
        (error, _) => error,
    }
}

/// Whether the answer is about what was asked.
fn check(
    answer: &Similar,
    job: Option<JobId>,
    sha256: Option<Digest>,
    distance: u32,
) -> Result<(), ClientError> {
    let is_about = job.is_none_or(|job| job == answer.job)
        && sha256.is_none_or(|sha256| sha256 == answer.sha256);
    let is_near = |similar: &SimilarJob| similar.distance <= distance;
    if is_about && answer.jobs.iter().all(is_near) {
        Ok(())
    } else {
        Err(ClientError::Nonsense)
    }
}

fn table(answer: &Similar, screen: &Screen) -> Result<(), ClientError> {
    let columns = vec![
        Column::right("DISTANCE", 8),
        Column::left("SUBMITTED", 19),
        Column::left("JOB", 36),
        Column::left("NAME", 24).gives_way(),
        Column::left("LABEL", 20),
        Column::right("CONFIDENCE", 10),
        Column::left("NOTE", 10),
    ];
    let mut table = Table::new(columns);
    let names = answer.jobs.iter().map(|similar| &*similar.record.job.name);
    table.fit("NAME", names);
    if !answer.jobs.is_empty() {
        print(screen, &table.header(screen))?;
    }
    for SimilarJob { distance, record } in &answer.jobs {
        let (label, confidence) = match record.result.as_ref().map(|result| &result.outcome) {
            Some(Outcome::Done(analysis)) => (&*analysis.label, percent(analysis.confidence)),
            Some(Outcome::Failed(_)) | None => ("", String::new()),
        };
        let (note, paint) = if record.job.sha256 == answer.sha256 {
            ("same image", Paint::Bold)
        } else {
            ("", Paint::Plain)
        };
        let cells = [
            Cell::new(&distance.to_string()),
            Cell::new(&local(record.job.submitted_at)),
            Cell::new(&record.job.id.to_string()),
            Cell::new(&record.job.name),
            Cell::new(label),
            Cell::new(&confidence),
            Cell::painted(note, paint),
        ];
        print(screen, &table.row(&cells, screen))?;
    }
    Ok(())
}
