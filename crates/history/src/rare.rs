//! The SQL that finds jobs of one owner of which few among many pass a filter, by the indexes of
//! `sql/0006_filters.sql`.
//!
//! What an index finds is not in the order of time, and what is in that order need not pass. These
//! statements take from the index what lies near the page's place, in pieces that are bounded whatever
//! the filter is. Their order and end do not hang on PostgreSQL's plan: only how long they take does.

/// How jobs that pass a filter are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Among the first [`NEAR`] jobs after the place.
    Near,
    /// In the order of time, by the index over time or that of a label or state, whichever PostgreSQL
    /// takes.
    Time,
    /// Span of time after span, by the index over names or that over confidences.
    Spans,
    /// Those of each analyzer, version and model.
    Analyzers,
}

/// How many jobs are looked through in the order of time before another way is taken. If one of forty
/// passes they hold a page, and a page of one of forty is found quickly in spans.
const NEAR: u32 = 2000;

/// The order of pages.
const NEWEST: &str = "ORDER BY submitted_at DESC, id DESC LIMIT";

/// The span of time that a job is in, written as in sql/, or no index is found.
const SPAN: &str = "date_bin('84 hours', submitted_at, timestamptz '2000-01-01 00:00:00+00')";

/// A page of one owner: SQL that stands for values, or for the columns that hold them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// Whose it is.
    pub(crate) owner: &'a str,
    /// Conditions on the time, each with AND before it.
    pub(crate) time: &'a str,
    /// The one among them that is its lower end, if there is one.
    pub(crate) since: &'a str,
    /// A time before which all jobs are that meet these conditions.
    pub(crate) below: &'a str,
    /// All other conditions, likewise.
    pub(crate) rest: &'a str,
    /// Those among them that are on the analyzer, version and model alone.
    pub(crate) analyzers: &'a str,
    /// How many jobs.
    pub(crate) limit: &'a str,
}

impl Part<'_> {
    /// The rows of `jobs` that the page is of, the newest first.
    pub(crate) fn sql(self, way: Way) -> String {
        let Self {
            owner,
            time,
            rest,
            limit,
            ..
        } = self;
        match way {
            Way::Time => format!(
                "SELECT * FROM jobs WHERE owner = {owner} AND deleted_at IS NULL{time}{rest} {NEWEST} {limit}"
            ),
            Way::Near => format!(
                "SELECT * FROM (SELECT * FROM jobs
                                WHERE owner = {owner} AND deleted_at IS NULL{time} {NEWEST} {NEAR}) near
                 WHERE true{rest} {NEWEST} {limit}"
            ),
            Way::Spans => self.by_id(&self.spans()),
            Way::Analyzers => self.by_id(&self.each_analyzer()),
        }
    }

    fn by_id(self, ids: &str) -> String {
        format!(
            "SELECT * FROM jobs WHERE id = ANY(ARRAY({ids})) {NEWEST} {}",
            self.limit
        )
    }

    /// Ids of enough jobs for the page: the newest of each span, from span to span that has any job.
    fn spans(self) -> String {
        let Self {
            owner,
            time,
            since,
            below,
            rest,
            limit,
            ..
        } = self;
        // A span's jobs come whole (OFFSET 0), for PostgreSQL would rather look for the newest of them
        // among all jobs. The next span is looked for by one upper end only: with the page's place as
        // another, PostgreSQL begins there each time, and passes over all jobs between.
        format!(
            "WITH RECURSIVE walk (below, ids, found) AS (
                 SELECT {below}, '{{}}'::uuid[], 0
                 UNION ALL
                 SELECT next.span,
                        ARRAY(SELECT id FROM (SELECT submitted_at, id FROM jobs
                                              WHERE owner = {owner} AND deleted_at IS NULL
                                                AND {SPAN} = next.span{time}{rest} OFFSET 0) AS those
                              {NEWEST} {limit}),
                        found + cardinality(ids)
                 FROM walk, LATERAL (SELECT {SPAN} AS span FROM jobs
                                     WHERE owner = {owner} AND deleted_at IS NULL
                                       AND submitted_at < below{since} {NEWEST} 1) AS next
                 WHERE found + cardinality(ids) < {limit})
             SELECT unnest(ids) FROM walk"
        )
    }

    /// Ids of the newest jobs of each analyzer that passes; each costs one look into the index, and there
    /// are few.
    fn each_analyzer(self) -> String {
        const SAID: &str = "SELECT analyzer, analyzer_version, coalesce(model, '') FROM jobs
                            WHERE deleted_at IS NULL AND analyzer IS NOT NULL";
        let Self {
            owner,
            time,
            rest,
            analyzers,
            limit,
            ..
        } = self;
        format!(
            "WITH RECURSIVE said (analyzer, analyzer_version, model) AS (
                 ({SAID} AND owner = {owner} ORDER BY 1, 2, 3 LIMIT 1)
                 UNION ALL
                 SELECT next.* FROM said, LATERAL (
                     {SAID} AND owner = {owner}
                       AND (jobs.analyzer, jobs.analyzer_version, coalesce(jobs.model, ''))
                           > (said.analyzer, said.analyzer_version, said.model)
                     ORDER BY 1, 2, 3 LIMIT 1) AS next)
             SELECT id FROM (SELECT analyzer AS a, analyzer_version AS v, model AS m
                             FROM said WHERE true{analyzers}) AS passing,
                  LATERAL (SELECT submitted_at, id FROM jobs
                           WHERE owner = {owner} AND deleted_at IS NULL AND analyzer IS NOT NULL
                             AND analyzer = a AND analyzer_version = v AND coalesce(model, '') = m{time}{rest}
                           {NEWEST} {limit}) AS those
             {NEWEST} {limit}"
        )
    }
}
