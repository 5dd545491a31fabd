//! The SQL that finds jobs of one owner of which few among many pass a filter, by the indexes of
//! `sql/0006_filters.sql`, `sql/0007_confidence.sql` and `sql/0008_names.sql`.
//!
//! What an index finds is not in the order of time, and what is in that order need not pass. These
//! statements take from the index what lies near the page's place, in pieces that are bounded whatever
//! the filter is. Their order and end do not hang on PostgreSQL's plan: only how long they take does.

use crate::way::Way;

/// How many jobs are looked through in the order of time before spans are. If one of twenty passes they
/// hold a page, and a page of one of twenty is found quickly in spans.
const NEAR: u32 = 1000;

/// How many jobs of several spans are put in order. More than a page has, as a rule, so that what is
/// found beyond it is not much.
const FEW: u32 = 300;

/// How many spans are looked into at once, at most.
const SPANS: u32 = 128;

/// The order of pages.
const ORDER: &str = "ORDER BY submitted_at DESC, id DESC";
const NEWEST: &str = "ORDER BY submitted_at DESC, id DESC LIMIT";

/// How long a span is in the index over names. Where a prefix has many names, all of a span are read.
const OF_NAMES: &str = "42 hours";

/// And in that over confidences.
const OF_CONFIDENCES: &str = "84 hours";

/// A page of one owner: SQL that stands for values, or for the columns that hold them.
#[derive(Debug)]
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
    pub(crate) rest: String,
    /// Those among them that the index over names, or that over confidences, is asked for.
    pub(crate) by: &'a str,
    /// Those that it is not asked for.
    pub(crate) others: String,
    /// Those among them that are on the analyzer, version and model alone.
    pub(crate) analyzers: &'a str,
    /// How many jobs.
    pub(crate) limit: &'a str,
}

impl Part<'_> {
    /// The rows of `jobs` that the page is of, the newest first.
    pub(crate) fn sql(&self, way: Way) -> String {
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
                "SELECT * FROM ({}) AS near WHERE true{rest} {NEWEST} {limit}",
                self.near()
            ),
            Way::Names => self.by_id(&self.spans(OF_NAMES, true)),
            Way::Confidences => self.by_id(&self.spans(OF_CONFIDENCES, false)),
            Way::Analyzers => self.by_id(&self.each_analyzer()),
        }
    }

    fn by_id(&self, ids: &str) -> String {
        format!(
            "SELECT * FROM jobs WHERE id = ANY(ARRAY({ids})) {NEWEST} {}",
            self.limit
        )
    }

    /// The next jobs, whatever they are.
    fn near(&self) -> String {
        let Self { owner, time, .. } = self;
        format!(
            "SELECT * FROM jobs WHERE owner = {owner} AND deleted_at IS NULL{time} {NEWEST} {NEAR}"
        )
    }

    /// How many of the next jobs meet all conditions, and how many each of these.
    pub(crate) fn sample(&self, each: &[&str]) -> String {
        let all = [self.rest.as_str()];
        let counts = all.iter().chain(each);
        let counts = counts.map(|conditions| format!("count(*) FILTER (WHERE true{conditions})"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        format!("SELECT {counts} FROM ({}) AS near", self.near())
    }

    /// Ids of enough jobs for the page, from span to span. Most spans of a filter that few pass have none
    /// at all: so twice as many are looked into each time, by one pass over the index, as long as little
    /// is found; where much is, half as many, until it is one. All of that one is read.
    ///
    /// A page has nothing older than the oldest of as many jobs with the last names, and what is older need
    /// not leave the index: little else is left where names are in the order of time.
    fn spans(&self, long: &str, by_name: bool) -> String {
        let Self {
            owner,
            time,
            since,
            below,
            by,
            others,
            limit,
            ..
        } = self;
        // What lies within spans comes as the index has it, and only by the condition that is in it, for
        // PostgreSQL would rather look for the newest of them among all jobs: hence OFFSET 0, or a LIMIT
        // without an order. The next span is looked for by one upper end only: with the page's place as
        // another, PostgreSQL begins there each time, and passes over all jobs between. It knows no time
        // before 4713 BC, so near that spans are looked into one by one.
        let of_owner = format!("SELECT * FROM jobs WHERE owner = {owner} AND deleted_at IS NULL");
        // Written as in sql/, or no index is found.
        let span =
            format!("date_bin('{long}', submitted_at, timestamptz '2000-01-01 00:00:00+00')");
        let all = format!("{of_owner} AND {span} = newest{time}{by}");
        let those = if by_name && others.is_empty() {
            format!(
                "(SELECT min(submitted_at) AS oldest
                  FROM ({all} ORDER BY name DESC LIMIT {limit}) AS last_names OFFSET 0) AS page,
                 LATERAL ({all} AND submitted_at >= page.oldest ORDER BY name DESC)"
            )
        } else if by_name {
            format!("({all} ORDER BY name DESC)")
        } else {
            format!("({all} OFFSET 0)")
        };
        format!(
            "WITH RECURSIVE walk (below, size, narrowing, ids, found) AS (
                 SELECT {below}, 1, false, '{{}}'::uuid[], 0
                 UNION ALL
                 SELECT CASE WHEN many THEN below ELSE oldest END,
                        CASE WHEN size = 1 THEN 2
                             WHEN many OR narrowing THEN size / 2
                             ELSE least(size * 2, {SPANS}) END,
                        size > 1 AND (many OR narrowing),
                        CASE WHEN size = 1
                             THEN ARRAY(SELECT id FROM {those} AS those
                                        WHERE true{others} {NEWEST} {limit})
                             WHEN many THEN '{{}}'
                             ELSE few[:least({limit}, {FEW})::integer] END,
                        found + cardinality(ids)
                 FROM walk,
                      LATERAL (SELECT {span} AS newest FROM jobs
                               WHERE owner = {owner} AND deleted_at IS NULL
                                 AND submitted_at < below{since} {NEWEST} 1) AS next,
                      LATERAL (SELECT CASE WHEN newest > timestamptz '4700-01-01 00:00:00+00 BC'
                                           THEN newest - (size - 1) * interval '{long}'
                                           ELSE newest END AS oldest) AS last,
                      LATERAL (SELECT ARRAY(SELECT generate_series(oldest, newest, interval '{long}')) AS spans
                               OFFSET 0) AS these,
                      LATERAL (SELECT coalesce(array_agg(id {ORDER}) FILTER (WHERE true{others}), '{{}}') AS few,
                                      count(*) > {FEW} AS many
                               FROM ({of_owner} AND {span} = ANY(spans){time}{by}
                                     LIMIT CASE WHEN size > 1 THEN {FEW} + 1 ELSE 0 END) AS those) AS looked
                 WHERE found + cardinality(ids) < {limit})
             SELECT unnest(ids) FROM walk"
        )
    }

    /// Ids of the newest jobs of each analyzer that passes; each costs one look into the index, and there
    /// are few.
    fn each_analyzer(&self) -> String {
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
