//! The SQL of a page of the history: only the conditions that are set, so that an index fits.

use crate::{
    rare::{Part, Way},
    value::{COLUMNS, text, time},
};
use imgsys_types::{Cursor, HistoryFilter, JobState, Whose};
use postgres_types::{ToSql, Type};

/// A value and its type, as a statement takes them.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// All owners, by one look into an index for each: there are few, and many jobs of each.
const OWNERS: &str = "WITH RECURSIVE owners (owner_name) AS (
    (SELECT owner FROM jobs WHERE deleted_at IS NULL ORDER BY owner LIMIT 1)
    UNION ALL
    SELECT (SELECT owner FROM jobs WHERE owner > owner_name AND deleted_at IS NULL
            ORDER BY owner LIMIT 1)
    FROM owners WHERE owner_name IS NOT NULL)
 ";

/// A statement and its values.
pub(crate) struct Query {
    pub(crate) sql: String,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Query {
    /// The page of the history with up to `limit` jobs after the place `after`. That of all owners
    /// is made of a page of each, for which there are indexes.
    pub(crate) fn page(
        whose: &Whose,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> Self {
        Self::new(whose, filter, after, limit, way(filter))
    }

    /// A quicker statement for the same, for filters that most jobs may pass, or few. What it finds is
    /// the page only if it is a full one. `None` if there is no quicker one.
    pub(crate) fn near(
        whose: &Whose,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> Option<Self> {
        // Of all owners, the jobs that are near a place are not found by an index.
        let one = matches!(whose, Whose::One(_)) && way(filter) == Way::Spans;
        one.then(|| Self::new(whose, filter, after, limit, Way::Near))
    }

    fn new(
        whose: &Whose,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: u32,
        way: Way,
    ) -> Self {
        let mut query = Self {
            sql: String::new(),
            values: Vec::new(),
        };
        let owner = match whose {
            Whose::One(owner) => query.value(owner.as_str().to_owned(), Type::TEXT),
            Whose::All => "owner_name".into(),
        };
        let (time, since, below) = query.time(filter, after);
        let analyzers = query.analyzers(filter);
        let rest = query.rest(filter) + &analyzers;
        let limit = query.value(i64::from(limit), Type::INT8);
        let part = Part {
            owner: &owner,
            time: &time,
            since: &since,
            below: &below,
            rest: &rest,
            analyzers: &analyzers,
            limit: &limit,
        }
        .sql(way);
        let (owners, jobs) = match whose {
            Whose::One(_) => ("", part),
            Whose::All => (
                OWNERS,
                format!(
                    "SELECT of_one.* FROM owners, LATERAL ({part}) of_one
                     WHERE owner_name IS NOT NULL
                     ORDER BY submitted_at DESC, id DESC LIMIT {limit}"
                ),
            ),
        };
        query.sql = format!(
            "{owners}SELECT {COLUMNS} FROM ({jobs}) j
             LEFT JOIN predictions p ON p.job_id = j.id AND p.run = j.run
             ORDER BY j.submitted_at DESC, j.id DESC"
        );
        query
    }

    /// The conditions on the time, the lower end among them, and a time that all that meet them are before.
    fn time(&mut self, filter: &HistoryFilter, after: Option<Cursor>) -> (String, String, String) {
        // Of the two upper ends only the lower one is asked for: PostgreSQL begins at either, and would
        // pass over all rows between them.
        let after =
            after.filter(|after| filter.until.is_none_or(|until| after.submitted_at < until));
        let mut since = String::new();
        if let Some(at) = filter.since {
            let at = self.value(time(at), Type::TIMESTAMPTZ);
            and(&mut since, &format!("submitted_at >= {at}"));
        }
        let mut all = since.clone();
        let below = if let Some(after) = after {
            let submitted_at = self.value(time(after.submitted_at), Type::TIMESTAMPTZ);
            let id = self.value(after.job.uuid(), Type::UUID);
            let place = format!("(submitted_at, id) < ({submitted_at}, {id})");
            and(&mut all, &place);
            format!("{submitted_at} + interval '1 microsecond'")
        } else if let Some(until) = filter.until {
            let until = self.value(time(until), Type::TIMESTAMPTZ);
            and(&mut all, &format!("submitted_at < {until}"));
            until
        } else {
            "timestamptz 'infinity'".into()
        };
        (all, since, below)
    }

    /// The conditions on the analyzer, its version and its model.
    fn analyzers(&mut self, filter: &HistoryFilter) -> String {
        let mut conditions = String::new();
        if let Some(name) = &filter.analyzer {
            let name = self.value(text(name).into_owned(), Type::TEXT);
            and(&mut conditions, &format!("analyzer = {name}"));
        }
        if let Some(version) = &filter.except_version {
            let version = self.value(text(version).into_owned(), Type::TEXT);
            and(&mut conditions, &format!("analyzer_version <> {version}"));
        }
        if let Some(model) = &filter.except_model {
            let model = self.value(model.as_bytes().to_vec(), Type::BYTEA);
            // A job that is done by an analyzer without a model is not done with this one.
            let other = format!("analyzer IS NOT NULL AND model IS DISTINCT FROM {model}");
            and(&mut conditions, &other);
        }
        conditions
    }

    /// The other conditions.
    fn rest(&mut self, filter: &HistoryFilter) -> String {
        let HistoryFilter {
            since: _,
            until: _,
            label,
            min_confidence,
            state,
            name,
            analyzer: _,
            except_version: _,
            except_model: _,
        } = filter;
        let mut conditions = String::new();
        if let Some(label) = label {
            let label = self.value(text(label).into_owned(), Type::TEXT);
            // The first condition is the index's, see sql/.
            and(
                &mut conditions,
                &format!("left(label, 100) = left({label}, 100)"),
            );
            and(&mut conditions, &format!("label = {label}"));
        }
        if let Some(least) = min_confidence {
            let least = self.value(*least, Type::FLOAT8);
            and(&mut conditions, &format!("confidence >= {least}"));
        }
        if let Some(state) = state {
            // Spelt out, for only so can PostgreSQL see that a partial index holds all of them.
            and(&mut conditions, &format!("state = '{state}'"));
        }
        if let Some(prefix) = name.as_ref().filter(|prefix| !prefix.is_empty()) {
            let pattern = self.value(prefix_pattern(&text(prefix)), Type::TEXT);
            and(&mut conditions, &format!("name LIKE {pattern}"));
        }
        conditions
    }

    pub(crate) fn params(&self) -> Vec<Param<'_>> {
        let mut params: Vec<Param<'_>> = Vec::with_capacity(self.values.len());
        for (value, kind) in &self.values {
            params.push((value.as_ref(), kind.clone()));
        }
        params
    }

    /// Adds a value and gives its place holder.
    fn value(&mut self, value: impl ToSql + Sync + Send + 'static, kind: Type) -> String {
        self.values.push((Box::new(value), kind));
        format!("${}", self.values.len())
    }
}

fn and(conditions: &mut String, condition: &str) {
    conditions.push_str(" AND ");
    conditions.push_str(condition);
}

/// How the jobs that pass a filter are found. With several conditions it goes by the one that has
/// the most to say of where jobs are.
fn way(filter: &HistoryFilter) -> Way {
    let not_done = matches!(filter.state, Some(JobState::Failed | JobState::Queued));
    let named = filter.name.as_ref().is_some_and(|name| !name.is_empty());
    let by_analyzer = filter.analyzer.is_some()
        || filter.except_version.is_some()
        || filter.except_model.is_some();
    if filter.label.is_some() || not_done {
        Way::Time
    } else if named {
        Way::Spans
    } else if by_analyzer {
        Way::Analyzers
    } else if filter.min_confidence.is_some() {
        Way::Spans
    } else {
        Way::Time
    }
}

/// The pattern of LIKE for texts that begin so.
fn prefix_pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '\\' | '%' | '_') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connect,
        erase::{DELETED, NEEDED},
        migrate,
    };
    use imgsys_types::{JobId, Owner, Timestamp};

    #[test]
    fn wildcards_of_a_prefix_stand_for_themselves() {
        assert_eq!(prefix_pattern(r"50%_off\"), r"50\%\_off\\%");
    }

    /// PostgreSQL's plan for a page, with these values.
    fn plan(client: &mut postgres::Client, filter: &HistoryFilter) -> String {
        let after = Cursor {
            submitted_at: Timestamp::from_micros(5_400_000_000_000),
            job: JobId::from_bytes([0; 16]),
        };
        let query = Query::page(&Owner::local().into(), filter, Some(after), 50);
        let rows = client.query_typed(&format!("EXPLAIN {}", query.sql), &query.params());
        let lines = rows.unwrap().into_iter().map(|row| row.get(0));
        lines.collect::<Vec<String>>().join("\n")
    }

    #[test]
    fn each_filter_has_its_index() {
        let server = imgsys_local::TestPostgres::start().unwrap();
        let mut client = connect(&server.url()).unwrap();
        migrate(&mut client).unwrap();
        client
            .batch_execute(
                "INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, confidence,
                                   state, priority, sha256, owner, name, label, analyzer,
                                   analyzer_version, model)
                 SELECT gen_random_uuid(), gen_random_uuid(), at, done, 1, run, conf, state, 5,
                        sha256(n::text::bytea), 'local', 'image ' || n, label,
                        CASE WHEN state = 'done' THEN 'onnx' END,
                        CASE WHEN state = 'done' THEN 'version ' || n / 10000 END,
                        CASE WHEN n % 2 = 0 THEN sha256('model') END
                 FROM generate_series(1, 100000) AS n,
                      LATERAL (SELECT timestamptz 'epoch' + n * interval '1 min' AS at) AS t,
                      LATERAL (SELECT CASE WHEN n % 1000 = 0 THEN 'failed' ELSE 'done' END::job_state
                                      AS state, at AS done, 0 AS run,
                                      CASE WHEN n % 1000 > 0 THEN 50 END AS conf,
                                      CASE WHEN n % 1000 > 0 THEN 'label ' || n % 500 END AS label) AS r;
                 UPDATE jobs SET deleted_at = now() WHERE submitted_at < timestamptz 'epoch' + interval '60 h';
                 ANALYZE jobs",
            )
            .unwrap();
        let label = Some("label 3".into());
        let name = Some("image 77777".into());
        let since = Some(Timestamp::from_micros(4_800_000_000_000));
        let min_confidence = Some(10.0);
        let rare = Some(99.9);
        let analyzer = Some("onnx".into());
        let except_version = Some("version 1".into());
        let (failed, done) = (Some(JobState::Failed), Some(JobState::Done));
        let none = HistoryFilter::default;
        #[rustfmt::skip]
        let cases = [
            ("jobs_by_time", none()),
            ("jobs_by_time", HistoryFilter { since, ..none() }),
            ("jobs_by_time", HistoryFilter { state: done, ..none() }),
            ("jobs_by_label", HistoryFilter { label: label.clone(), ..none() }),
            ("jobs_by_label", HistoryFilter { label, state: done, min_confidence, ..none() }),
            ("jobs_not_done", HistoryFilter { state: failed, ..none() }),
            ("jobs_by_name", HistoryFilter { name, ..none() }),
            ("jobs_by_confidence", HistoryFilter { min_confidence: rare, state: done, ..none() }),
            ("jobs_by_analyzer", HistoryFilter { analyzer, since, ..none() }),
            ("jobs_by_analyzer", HistoryFilter { except_version, min_confidence, ..none() }),
        ];
        for (index, filter) in cases {
            let plan = plan(&mut client, &filter);
            assert!(
                plan.contains(&format!("using {index} on jobs")),
                "{filter:?}\n{plan}"
            );
            // What is found in the order of time has not to be put in order, but for the page at last;
            // what is not is bounded by its span or by the page.
            let sorted = plan.matches("Sort Key").count();
            assert!(
                way(&filter) != Way::Time || sorted <= 1,
                "{filter:?}\n{plan}"
            );
        }
    }

    #[test]
    fn images_of_deleted_jobs_have_theirs() {
        let server = imgsys_local::TestPostgres::start().unwrap();
        let mut client = connect(&server.url()).unwrap();
        migrate(&mut client).unwrap();
        client
            .batch_execute(
                "INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, state, priority,
                                   sha256, owner, name, deleted_at)
                 SELECT gen_random_uuid(), md5((n % 2)::text)::uuid, now(), now(), 1, 0, 'failed', 5,
                        sha256(n::text::bytea), 'local', '',
                        CASE WHEN n % 100 = 0 THEN now() - n * interval '1 min' END
                 FROM generate_series(1, 30000) AS n;
                 ANALYZE jobs",
            )
            .unwrap();
        let images = vec![vec![1_u8; 32]; 100];
        let server = uuid::Uuid::nil();
        let cases: [(&str, &str, Param<'_>, Param<'_>); 2] = [
            (
                "jobs_by_sha256",
                NEEDED,
                (&images, Type::BYTEA_ARRAY),
                (&server, Type::UUID),
            ),
            (
                "jobs_deleted",
                DELETED,
                (&server, Type::UUID),
                (&3600_f64, Type::FLOAT8),
            ),
        ];
        for (index, sql, one, two) in cases {
            let rows = client.query_typed(&format!("EXPLAIN {sql}"), &[one, two]);
            let lines = rows.unwrap().into_iter().map(|row| row.get(0));
            let plan = lines.collect::<Vec<String>>().join("\n");
            assert!(plan.contains(index), "{plan}");
        }
    }

    #[test]
    fn of_two_upper_ends_the_lower_one_is_asked_for() {
        let until = Timestamp::from_micros(2_000_000);
        let filter = HistoryFilter {
            until: Some(until),
            ..HistoryFilter::default()
        };
        for (micros, by_place) in [(1_999_999, true), (2_000_000, false), (3_000_000, false)] {
            let after = Cursor {
                submitted_at: Timestamp::from_micros(micros),
                job: JobId::from_bytes([0; 16]),
            };
            let query = Query::page(&Owner::local().into(), &filter, Some(after), 10);
            assert_eq!(query.sql.contains("(submitted_at, id) <"), by_place);
            assert_eq!(query.sql.contains("submitted_at < $"), !by_place);
        }
    }

    #[test]
    fn only_what_is_set_is_asked_for() {
        let query = Query::page(&Owner::local().into(), &HistoryFilter::default(), None, 10);
        assert!(
            query
                .sql
                .contains("WHERE owner = $1 AND deleted_at IS NULL ORDER BY")
        );
        assert_eq!(query.params().len(), 2);
    }
}
