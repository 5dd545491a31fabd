//! Deleting jobs: what is personal goes, the row stays.
//!
//! This is the one thing that a server writes itself: its client waits for it, and nothing that
//! was accepted depends on it. What is personal is told by `erase_job` in `sql/`.

use crate::read::{ReadError, Reader};
use imgsys_types::{Digest, JobId, Owner, ServerId};
use postgres_types::{ToSql, Type};
use std::{collections::HashSet, time::Duration};
use tokio_postgres::Row;

/// Which of some images a job has that is not deleted.
pub(crate) const NEEDED: &str = "
    SELECT DISTINCT sha256 FROM jobs
    WHERE sha256 = ANY($1) AND server = $2 AND deleted_at IS NULL";

/// The images of jobs that were deleted a short while ago.
pub(crate) const DELETED: &str = "
    SELECT DISTINCT sha256 FROM jobs
    WHERE server = $1 AND deleted_at > now() - make_interval(secs => $2)";

impl Reader {
    /// Erases an owner's job that has ended, all its runs; whether there was one. Once more
    /// changes nothing.
    pub async fn erase(&self, owner: &Owner, job: JobId) -> Result<bool, ReadError> {
        let (owner, job) = (owner.as_str(), job.uuid());
        let params = [
            (&job as &(dyn ToSql + Sync), Type::UUID),
            (&owner, Type::TEXT),
        ];
        let rows = self.query("SELECT erase_job($1, $2)", &params).await?;
        let erased = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(erased.unwrap_or(false))
    }

    /// Those of these images that a job of this server has which is not deleted.
    pub async fn needed(
        &self,
        server: ServerId,
        images: &[Digest],
    ) -> Result<HashSet<Digest>, ReadError> {
        let digests: Vec<&[u8]> = images.iter().map(|image| &image.as_bytes()[..]).collect();
        let server = server.uuid();
        let params = [
            (&digests as &(dyn ToSql + Sync), Type::BYTEA_ARRAY),
            (&server, Type::UUID),
        ];
        digests_of(&self.query(NEEDED, &params).await?)
    }

    /// The images of this server's jobs that were deleted within this time, whether others have
    /// them too or not.
    pub async fn deleted_images(
        &self,
        server: ServerId,
        within: Duration,
    ) -> Result<HashSet<Digest>, ReadError> {
        let (server, within) = (server.uuid(), within.as_secs_f64());
        let params = [
            (&server as &(dyn ToSql + Sync), Type::UUID),
            (&within, Type::FLOAT8),
        ];
        digests_of(&self.query(DELETED, &params).await?)
    }
}

/// The digests in the first column; a row that is none (the table's own check forbids it) is left
/// out.
fn digests_of(rows: &[Row]) -> Result<HashSet<Digest>, ReadError> {
    let mut digests = HashSet::with_capacity(rows.len());
    for row in rows {
        let bytes: &[u8] = row.try_get(0)?;
        digests.extend(bytes.try_into().map(Digest::from_bytes));
    }
    Ok(digests)
}
