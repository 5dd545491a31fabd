//! Reading pages: which statements find one, one after the other.

use crate::{
    query::{Of, Query},
    read::{DEADLINE, ReadError, Reader, records},
    way::{Way, is_contradiction, way, ways},
};
use imgsys_types::{Cursor, HistoryFilter, JobRecord, Owner, Whose};
use std::cmp::Reverse;
use tokio::time::Instant;
use tokio_postgres::Row;

impl Reader {
    /// A page of the history, newest first: up to `limit` jobs that the filter lets pass, from the
    /// newest, or from the one after `after`.
    pub async fn page(
        &self,
        whose: &Whose,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<JobRecord>, ReadError> {
        if is_contradiction(filter) {
            return Ok(Vec::new());
        }
        let page = Page {
            reader: self,
            filter,
            after,
            limit,
            deadline: Instant::now() + DEADLINE,
        };
        match whose {
            Whose::One(owner) => Ok(page.of_one(owner).await?.0),
            Whose::All => page.of_all().await,
        }
    }
}

/// A page that is asked for.
#[derive(Clone, Copy)]
struct Page<'a> {
    reader: &'a Reader,
    filter: &'a HistoryFilter,
    after: Option<Cursor>,
    limit: u32,
    deadline: Instant,
}

impl Page<'_> {
    /// The page of one owner, and the way in which jobs of others that pass are best looked for.
    async fn of_one(self, owner: &Owner) -> Result<(Vec<JobRecord>, Way), ReadError> {
        let mut best = way(self.filter);
        let sampled = self.rarest(owner).await?;
        // Names and confidences are near the place as a rule, and looking there costs little.
        let near = match sampled {
            Some(Way::Near) => true,
            Some(way) => {
                best = way;
                false
            }
            None => matches!(best, Way::Names | Way::Confidences),
        };
        if near {
            let found = self.find(Of::One(owner), Way::Near).await?;
            if self.is_full(&found) {
                return Ok((found, best));
            }
        }
        Ok((self.find(Of::One(owner), best).await?, best))
    }

    /// The page of all owners. Each one's page would hold as many jobs, and where few pass a filter each
    /// would be looked for in the whole history; but nothing is on the page that is older than the
    /// oldest of a full one of anybody. So the page of the owner comes first with whom it is likely to be
    /// the newest, and others are asked only for what is not older.
    ///
    /// A job that is written while this goes on may be missing, as any may that is written later than
    /// jobs that were submitted after it.
    async fn of_all(self) -> Result<Vec<JobRecord>, ReadError> {
        let rows = self.rows(&Query::busiest(self.filter, self.after)).await?;
        let busiest = rows.first().map(|row| row.try_get::<_, &str>(0));
        // A name that nobody can have is told with the job that has it.
        let Some(Ok(busiest)) = busiest.transpose()?.map(str::parse::<Owner>) else {
            return self.find(Of::AllBut(None), way(self.filter)).await;
        };
        let (mut jobs, way) = self.of_one(&busiest).await?;
        let mut filter = self.filter.clone();
        if self.is_full(&jobs) {
            let oldest = jobs.last().map(|oldest| oldest.job.submitted_at);
            filter.since = filter.since.max(oldest);
        }
        let others = Page {
            filter: &filter,
            ..self
        };
        jobs.extend(others.find(Of::AllBut(Some(&busiest)), way).await?);
        jobs.sort_unstable_by_key(|record| Reverse(Cursor::of(record)));
        jobs.truncate(self.limit as usize);
        Ok(jobs)
    }

    /// Of several ways in which jobs that pass can be found, the one by the condition that fewest of the
    /// jobs next after the place meet; [`Way::Near`] if those have the page. `None` if there is one way.
    async fn rarest(self, owner: &Owner) -> Result<Option<Way>, ReadError> {
        let ways = ways(self.filter);
        if ways.len() < 2 {
            return Ok(None);
        }
        let query = Query::sample(owner, self.filter, self.after, &ways);
        let rows = self.rows(&query).await?;
        let mut counts = Vec::with_capacity(1 + ways.len());
        for column in 0..=ways.len() {
            let row = rows.first();
            counts.push(row.map_or(Ok(0), |row| row.try_get::<_, i64>(column))?);
        }
        if counts[0] >= i64::from(self.limit) {
            return Ok(Some(Way::Near));
        }
        let counted = counts[1..].iter().zip(ways);
        let counted = counted.map(|(count, way)| ((*count).max(way.at_least()), way));
        // The first of equals.
        Ok(counted.min_by_key(|(count, _)| *count).map(|(_, way)| way))
    }

    async fn find(self, of: Of<'_>, way: Way) -> Result<Vec<JobRecord>, ReadError> {
        let query = Query::page(of, self.filter, self.after, self.limit, way);
        records(&self.rows(&query).await?)
    }

    async fn rows(self, query: &Query) -> Result<Vec<Row>, ReadError> {
        let params = query.params();
        self.reader
            .query_until(&query.sql, &params, self.deadline)
            .await
    }

    fn is_full(self, jobs: &[JobRecord]) -> bool {
        jobs.len() >= self.limit as usize
    }
}
