//! What a server that starts has to know of its spool.

use super::{Spooled, Store, page::CHUNK};
use crate::{StoreError, index::Key};
use imgsys_types::{JobId, Owner, Timestamp};

/// A job in the spool.
#[derive(Debug)]
pub enum Recovered<'a> {
    /// A submission without a result: what is in memory says all of it.
    Submission {
        /// Its id.
        job: JobId,
        /// Whose it is.
        owner: &'a Owner,
        /// When it was accepted.
        accepted_at: Timestamp,
    },
    /// Any other.
    Other(Box<Spooled>),
}

impl Store {
    /// Walks over all jobs, owner by owner, oldest first. Records of submissions without a result are not
    /// read, for there may be a million; of the others those that can't be read are logged and left out.
    /// This belongs on a blocking thread.
    pub fn recover(&self, mut each: impl FnMut(Recovered<'_>)) -> Result<(), StoreError> {
        let mut after: Option<(Owner, Key)> = None;
        loop {
            let after_this = after.as_ref().map(|(owner, key)| (owner, *key));
            let found = self.0.shared.spool().jobs.walk(after_this, CHUNK);
            let Some((job, entry)) = found.last() else {
                return Ok(());
            };
            after = Some((entry.owner.clone(), (entry.submitted_at, *job)));
            for (job, entry) in &found {
                if entry.run == 0 && entry.end.is_none() {
                    each(Recovered::Submission {
                        job: *job,
                        owner: &entry.owner,
                        accepted_at: entry.submitted_at,
                    });
                    continue;
                }
                match self.get(*job) {
                    Ok(Some(spooled)) => each(Recovered::Other(Box::new(spooled))),
                    Ok(None) => {}
                    Err(error @ StoreError::Corrupt { .. }) => {
                        tracing::error!(%error, "left out a record of the spool");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}
