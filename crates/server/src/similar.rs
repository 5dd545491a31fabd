//! Images that look alike: the database's, and those that are on their way there.

use crate::{
    history::PAGE_BYTES,
    session::Session,
    shared::{refuse, refuse_job},
    submit::Refusal,
    watch::LookUpError,
};
use imgsys_proto::{
    MAX_HEAD, ServerMessage, encode,
    message::{JobRequest, Similar, SimilarJob, SimilarRequest},
};
use imgsys_types::{
    Cursor, Digest, ErrorCode, HistoryFilter, JobRecord, JobState, Outcome, Owner, PerceptualHash,
    Whose,
};
use std::{cmp::Reverse, collections::HashSet};

/// How many of an owner's analysed jobs in the spool are looked at, the newest first: they are there
/// for a moment, unless the database is away, and then there is no answer anyway.
const SPOOLED: usize = 10_000;

/// Why there is no answer.
enum Trouble {
    Refused(Refusal),
    LookUp(LookUpError),
}

impl From<LookUpError> for Trouble {
    fn from(error: LookUpError) -> Self {
        Self::LookUp(error)
    }
}

impl Session {
    /// Answers `similar`.
    pub(crate) async fn similar(&self, request: SimilarRequest) {
        let req = request.req;
        match self.look_alikes(&request).await {
            Ok(answer) => self.outbox.send(&ServerMessage::Similar(answer)),
            Err(Trouble::LookUp(problem)) => self.unavailable(req, &problem),
            Err(Trouble::Refused(Refusal { code, text, .. })) => {
                let rejected = match request.of_job {
                    Some(job) => refuse_job(req, job, code, text),
                    None => refuse(req, code, text),
                };
                self.outbox.send(&ServerMessage::Rejected(rejected));
            }
        }
    }

    async fn look_alikes(&self, request: &SimilarRequest) -> Result<Similar, Trouble> {
        let &SimilarRequest { req, distance, .. } = request;
        let refused = |code, text: String| Err(Trouble::Refused(Refusal::new(code, text)));
        let most = PerceptualHash::MAX_DISTANCE;
        if distance > most {
            let text = format!("a distance is 0 to {most} bits: beyond, images look different");
            return refused(ErrorCode::BadRequest, text);
        }
        let record = match (request.of_job, request.of_image) {
            (Some(job), None) => self.reached_record(JobRequest { req, job }).await?,
            (None, Some(sha256)) => self.newest_of(&sha256).await?,
            (Some(_), Some(_)) | (None, None) => {
                let text = "name the image by of_job or by of_image, not both";
                return refused(ErrorCode::BadRequest, text.into());
            }
        };
        let Some(record) = record else {
            let text = match request.of_job {
                Some(_) => "no such job",
                None => "this image is not known: send it first",
            };
            return refused(ErrorCode::UnknownJob, text.into());
        };
        let hash = match hash(&record) {
            Ok(hash) => hash,
            Err((code, text)) => return refused(code, text.into()),
        };
        let most = self.shared.config.limits.wire().max_page;
        let limit = request.limit.clamp(1, most);
        let (job, owner) = (record.job.id, &record.job.owner);
        // The spool first: what leaves it meanwhile is in both.
        let spooled = self.in_spool(owner, Some(JobState::Done)).await?;
        let rows = (self.shared.reader)
            .similar(owner, hash, distance, job, limit + 1)
            .await
            .map_err(LookUpError::from)?;
        let mut jobs = near(spooled, hash, distance);
        let known: HashSet<_> = jobs.iter().map(|near| near.record.job.id).collect();
        let rows = rows
            .into_iter()
            .map(|(distance, record)| SimilarJob { distance, record });
        jobs.extend(rows.filter(|row| !known.contains(&row.record.job.id)));
        jobs.retain(|near| near.record.job.id != job);
        jobs.sort_by_key(|near| (near.distance, Reverse(Cursor::of(&near.record))));
        let (jobs, more) = fit(jobs, limit as usize);
        Ok(Similar {
            req,
            job,
            sha256: record.job.sha256,
            perceptual_hash: hash,
            jobs,
            more,
        })
    }

    /// The newest of an owner's jobs that are in the spool.
    async fn in_spool(
        &self,
        owner: &Owner,
        state: Option<JobState>,
    ) -> Result<Vec<JobRecord>, LookUpError> {
        let filter = HistoryFilter {
            state,
            ..HistoryFilter::default()
        };
        let whose = Whose::One(owner.clone());
        Ok(self.spooled(whose, filter, None, SPOOLED).await?)
    }

    /// The newest job of this owner with the image, by preference one that has a hash.
    async fn newest_of(&self, sha256: &Digest) -> Result<Option<JobRecord>, LookUpError> {
        let mut spooled = self.in_spool(&self.owner, None).await?;
        spooled.retain(|record| record.job.sha256 == *sha256);
        let has_hash = |record: &JobRecord| record.perceptual_hash().is_some();
        if let Some(place) = spooled.iter().position(has_hash) {
            return Ok(Some(spooled.swap_remove(place)));
        }
        match self.shared.reader.of_image(&self.owner, sha256).await? {
            Some(row) if has_hash(&row) || spooled.is_empty() => Ok(Some(row)),
            // It was accepted, and not analysed yet.
            _ => Ok(spooled.into_iter().next()),
        }
    }
}

/// The image's hash, or why it has none.
fn hash(record: &JobRecord) -> Result<PerceptualHash, (ErrorCode, &'static str)> {
    let Some(result) = &record.result else {
        let text = "the image has not been analysed yet";
        return Err((ErrorCode::NotFinished, text));
    };
    record.perceptual_hash().ok_or_else(|| {
        let text = match &result.outcome {
            Outcome::Failed(_) => "the image could not be analysed",
            Outcome::Done(_) => "the image has no hash: it is of one colour, or was not decoded",
        };
        (ErrorCode::NotComparable, text)
    })
}

/// Those within the distance.
fn near(records: Vec<JobRecord>, hash: PerceptualHash, distance: u32) -> Vec<SimilarJob> {
    let near = records.into_iter().filter_map(|record| {
        let found = record.perceptual_hash()?.distance(hash);
        (found <= distance).then_some(SimilarJob {
            distance: found,
            record,
        })
    });
    near.collect()
}

/// As many of the jobs as fit into an answer, and whether there are more.
fn fit(mut jobs: Vec<SimilarJob>, limit: usize) -> (Vec<SimilarJob>, bool) {
    let mut bytes = 0;
    let mut fitting = 0;
    for job in jobs.iter().take(limit) {
        let mut encoded = Vec::new();
        // None is over every limit: results are bounded where they come in.
        bytes += encode(job, 0, &mut encoded).map_or(MAX_HEAD, |()| encoded.len());
        if bytes > PAGE_BYTES {
            break;
        }
        fitting += 1;
    }
    let more = fitting < jobs.len();
    jobs.truncate(fitting);
    (jobs, more)
}
