//! Jobs and what became of them as fields.

use super::{
    fields::{Encoder, Fields, Malformed},
    result::{self, timestamp},
};
use crate::Spooled;
use imgsys_types::{
    Checksum, Digest, Job, JobId, JobResult, Owner, Priority, Run, ServerId, Timestamp,
};

/// What the index and the table of images have to know of an accepted job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance<'a> {
    pub(crate) id: JobId,
    pub(crate) owner: &'a str,
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
    pub(crate) submitted_at: Timestamp,
    /// The number of the run, and that of the run that the result in the record is of.
    pub(crate) run: u32,
    pub(crate) last_run: Option<u32>,
}

/// Writes an accepted run, with the result of the run before it.
pub(super) fn encode_accepted(to: &mut Encoder<'_>, run: &Run, last: Option<&JobResult>) {
    let Run {
        job:
            Job {
                id,
                owner,
                sha256,
                name,
                size,
                priority,
                submitted_at,
                server,
            },
        number,
        priority: run_priority,
        accepted_at,
        checksum,
    } = run;
    to.bytes(1, id.as_bytes());
    to.text(2, owner.as_str());
    to.bytes(3, sha256.as_bytes());
    to.text(4, name);
    to.number(5, *size);
    to.number(6, priority.get());
    to.eight(7, submitted_at.as_micros().to_le_bytes());
    to.bytes(8, server.as_bytes());
    // A submission says nothing of these: they are the job's.
    if *number > 0 {
        to.number(9, *number);
        to.number(10, run_priority.get());
        to.eight(11, accepted_at.as_micros().to_le_bytes());
    }
    if let Some(checksum) = checksum {
        to.bytes(14, &checksum.to_bytes());
    }
    if let Some(last) = last {
        // Before the result, so that who only glances need not read it.
        to.number(12, last.run);
        to.fields(13, |to| result::encode(to, last));
    }
}

pub(super) fn decode_accepted(payload: &[u8]) -> Result<Spooled, Malformed> {
    let mut fields = Fields::new(payload);
    let (mut id, mut owner, mut sha256, mut server) = (None, None, None, None);
    let (mut name, mut size, mut submitted_at) = (String::new(), 0, Timestamp::default());
    let mut priority = Priority::default();
    let (mut number, mut run_priority, mut accepted_at) = (0, None, None);
    let (mut checksum, mut last) = (None, None);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => id = Some(JobId::from_bytes(value.array()?)),
            2 => owner = Some(value.text()?.parse::<Owner>().map_err(|_| OWNER)?),
            3 => sha256 = Some(Digest::from_bytes(value.array()?)),
            4 => name = value.string()?,
            5 => size = value.number()?,
            6 => priority = Priority::new(value.number()?).ok_or(PRIORITY)?,
            7 => submitted_at = timestamp(value)?,
            8 => server = Some(ServerId::from_bytes(value.array()?)),
            9 => number = value.number()?,
            10 => run_priority = Some(Priority::new(value.number()?).ok_or(PRIORITY)?),
            11 => accepted_at = Some(timestamp(value)?),
            13 => last = Some(result::decode(value.fields()?)?),
            14 => checksum = Some(Checksum::from_bytes(value.array()?)),
            _ => {}
        }
    }
    let job = Job {
        id: id.ok_or(ID)?,
        owner: owner.ok_or(OWNER)?,
        sha256: sha256.ok_or(Malformed("no digest"))?,
        name,
        size,
        priority,
        submitted_at,
        server: server.ok_or(Malformed("no server"))?,
    };
    let run = Run {
        number,
        priority: run_priority.unwrap_or(job.priority),
        accepted_at: accepted_at.unwrap_or(job.submitted_at),
        checksum,
        job,
    };
    Ok(Spooled { run, result: last })
}

pub(super) fn glance(payload: &[u8]) -> Result<Glance<'_>, Malformed> {
    let mut fields = Fields::new(payload);
    let (mut id, mut owner, mut sha256, mut last_run) = (None, None, None, None);
    let (mut size, mut submitted_at, mut run) = (0, Timestamp::default(), 0);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => id = Some(JobId::from_bytes(value.array()?)),
            2 => owner = Some(value.text()?),
            3 => sha256 = Some(Digest::from_bytes(value.array()?)),
            5 => size = value.number()?,
            7 => submitted_at = timestamp(value)?,
            9 => run = value.number()?,
            12 => last_run = Some(value.number()?),
            _ => {}
        }
    }
    Ok(Glance {
        id: id.ok_or(ID)?,
        owner: owner.ok_or(OWNER)?,
        sha256: sha256.ok_or(Malformed("no digest"))?,
        size,
        submitted_at,
        run,
        last_run,
    })
}

/// Writes what a job's run came to.
pub(super) fn encode_result(to: &mut Encoder<'_>, job: JobId, result: &JobResult) {
    to.bytes(1, job.as_bytes());
    to.fields(2, |to| result::encode(to, result));
}

pub(super) fn decode_result(payload: &[u8]) -> Result<(JobId, JobResult), Malformed> {
    let mut fields = Fields::new(payload);
    let (mut id, mut result) = (None, None);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => id = Some(JobId::from_bytes(value.array()?)),
            2 => result = Some(result::decode(value.fields()?)?),
            _ => {}
        }
    }
    Ok((id.ok_or(ID)?, result.ok_or(Malformed("no result"))?))
}

/// The job of a result, which is not read itself.
pub(super) fn job_of_result(payload: &[u8]) -> Result<JobId, Malformed> {
    let mut fields = Fields::new(payload);
    while let Some((field, value)) = fields.next()? {
        if field == 1 {
            return value.array().map(JobId::from_bytes);
        }
    }
    Err(ID)
}

const ID: Malformed = Malformed("no job id");
const OWNER: Malformed = Malformed("no owner");
const PRIORITY: Malformed = Malformed("a priority that is none");
