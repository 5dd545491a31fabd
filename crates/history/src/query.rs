//! The SQL of a page of the history: only the conditions that are set, so that an index fits.

use crate::value::{COLUMNS, text, time};
use imgsys_types::{Cursor, HistoryFilter, Timestamp, Whose};
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
        const NEWEST: &str = "ORDER BY submitted_at DESC, id DESC LIMIT";
        let mut query = Self {
            sql: String::new(),
            values: Vec::new(),
        };
        match whose {
            Whose::One(owner) => {
                query.add(&format!(
                    "SELECT {COLUMNS} FROM (SELECT * FROM jobs WHERE owner = $1 AND deleted_at IS NULL"
                ));
                query.value(owner.as_str().to_owned(), Type::TEXT);
            }
            Whose::All => query.add(&format!(
                "{OWNERS}SELECT {COLUMNS} FROM (SELECT of_one.* FROM owners,
                 LATERAL (SELECT * FROM jobs
                          WHERE owner = owner_name AND deleted_at IS NULL"
            )),
        }
        // Of the two upper ends only the lower one is asked for: PostgreSQL begins at either, and would
        // pass over all rows between them.
        let after =
            after.filter(|after| filter.until.is_none_or(|until| after.submitted_at < until));
        let until = filter.until.filter(|_| after.is_none());
        query.filter(filter, until);
        if let Some(after) = after {
            let submitted_at = query.value(time(after.submitted_at), Type::TIMESTAMPTZ);
            let id = query.value(after.job.uuid(), Type::UUID);
            query.and(&format!("(submitted_at, id) < ({submitted_at}, {id})"));
        }
        let limit = query.value(i64::from(limit), Type::INT8);
        query.add(&format!(" {NEWEST} {limit})"));
        if *whose == Whose::All {
            query.add(&format!(" of_one {NEWEST} {limit})"));
        }
        query.add(
            " j LEFT JOIN predictions p ON p.job_id = j.id AND p.run = j.run
             ORDER BY j.submitted_at DESC, j.id DESC",
        );
        query
    }

    fn filter(&mut self, filter: &HistoryFilter, until: Option<Timestamp>) {
        let HistoryFilter {
            since,
            until: _,
            label,
            min_confidence,
            state,
            name,
            analyzer,
            except_version,
            except_model,
        } = filter;
        if let Some(since) = since {
            let since = self.value(time(*since), Type::TIMESTAMPTZ);
            self.and(&format!("submitted_at >= {since}"));
        }
        if let Some(until) = until {
            let until = self.value(time(until), Type::TIMESTAMPTZ);
            self.and(&format!("submitted_at < {until}"));
        }
        if let Some(label) = label {
            let label = self.value(text(label).into_owned(), Type::TEXT);
            // The first condition is the index's, see sql/.
            self.and(&format!("left(label, 100) = left({label}, 100)"));
            self.and(&format!("label = {label}"));
        }
        if let Some(least) = min_confidence {
            let least = self.value(*least, Type::FLOAT8);
            self.and(&format!("confidence >= {least}"));
        }
        if let Some(state) = state {
            // Spelt out, for only so can PostgreSQL see that a partial index holds all of them.
            self.and(&format!("state = '{state}'"));
        }
        if let Some(prefix) = name.as_ref().filter(|prefix| !prefix.is_empty()) {
            let pattern = self.value(prefix_pattern(&text(prefix)), Type::TEXT);
            self.and(&format!("name LIKE {pattern}"));
        }
        if let Some(name) = analyzer {
            let name = self.value(text(name).into_owned(), Type::TEXT);
            self.and(&format!("analyzer = {name}"));
        }
        if let Some(version) = except_version {
            let version = self.value(text(version).into_owned(), Type::TEXT);
            self.and(&format!("analyzer_version <> {version}"));
        }
        if let Some(model) = except_model {
            let model = self.value(model.as_bytes().to_vec(), Type::BYTEA);
            // A job that is done by an analyzer without a model is not done with this one.
            self.and(&format!(
                "analyzer IS NOT NULL AND model IS DISTINCT FROM {model}"
            ));
        }
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

    fn and(&mut self, condition: &str) {
        self.add(" AND ");
        self.add(condition);
    }

    fn add(&mut self, sql: &str) {
        self.sql.push_str(sql);
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
    use imgsys_types::{JobId, JobState, Owner};

    #[test]
    fn wildcards_of_a_prefix_stand_for_themselves() {
        assert_eq!(prefix_pattern(r"50%_off\"), r"50\%\_off\\%");
    }

    /// PostgreSQL's plan for a page, with these values.
    fn plan(client: &mut postgres::Client, filter: &HistoryFilter) -> String {
        let after = Cursor {
            submitted_at: Timestamp::from_micros(90_000_000_000),
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
                                   state, priority, sha256, owner, name, label)
                 SELECT gen_random_uuid(), gen_random_uuid(), at, done, 1, run, conf, state, 5,
                        sha256(n::text::bytea), 'local', 'image ' || n, label
                 FROM generate_series(1, 100000) AS n,
                      LATERAL (SELECT timestamptz 'epoch' + n * interval '1 s' AS at) AS t,
                      LATERAL (SELECT CASE WHEN n % 1000 = 0 THEN 'failed' ELSE 'done' END::job_state
                                      AS state, at AS done, 0 AS run,
                                      CASE WHEN n % 1000 > 0 THEN 50 END AS conf,
                                      CASE WHEN n % 1000 > 0 THEN 'label ' || n % 500 END AS label) AS r;
                 UPDATE jobs SET deleted_at = now() WHERE submitted_at < timestamptz 'epoch' + interval '1 h';
                 ANALYZE jobs",
            )
            .unwrap();
        let label = Some("label 3".into());
        let name = Some("image 77777".into());
        let since = Some(Timestamp::from_micros(80_000_000_000));
        let min_confidence = Some(10.0);
        let (failed, done) = (Some(JobState::Failed), Some(JobState::Done));
        let none = HistoryFilter::default;
        #[rustfmt::skip]
        let cases = [
            ("jobs_by_time", none()),
            ("jobs_by_time", HistoryFilter { since, min_confidence, ..none() }),
            ("jobs_by_time", HistoryFilter { state: done, ..none() }),
            ("jobs_by_label", HistoryFilter { label: label.clone(), ..none() }),
            ("jobs_by_label", HistoryFilter { label, state: done, min_confidence, ..none() }),
            ("jobs_not_done", HistoryFilter { state: failed, ..none() }),
            ("jobs_by_name", HistoryFilter { name, ..none() }),
        ];
        for (index, filter) in cases {
            let plan = plan(&mut client, &filter);
            assert!(
                plan.contains(&format!("using {index} on jobs")),
                "{filter:?}\n{plan}"
            );
            // Only names, of which a prefix selects few, have to be put in order.
            let sorted = plan.matches("Sort Key").count();
            assert!(
                sorted <= usize::from(index == "jobs_by_name") + 1,
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
