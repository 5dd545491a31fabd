//! The SQL of a page of the history: only the conditions that are set, so that an index fits.

use crate::{
    rare::Part,
    value::{COLUMNS, text, time},
    way::Way,
};
use imgsys_types::{Cursor, HistoryFilter, Owner};
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

/// How many of an owner's jobs tell how close they are. Few, for all owners are asked; who is taken
/// for the busiest matters only to how long a page takes.
const CLOSE: u32 = 10;

/// Whose jobs a statement is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of<'a> {
    /// This owner's.
    One(&'a Owner),
    /// Those of all owners, but of this one.
    AllBut(Option<&'a Owner>),
}

/// A statement and its values.
pub(crate) struct Query {
    pub(crate) sql: String,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Query {
    /// The page of the history with up to `limit` jobs after the place `after`. That of all owners
    /// is made of a page of each, for which there are indexes. [`Way::Near`] finds the page only if
    /// it is a full one.
    pub(crate) fn page(
        of: Of<'_>,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: u32,
        way: Way,
    ) -> Self {
        let (mut query, parts) = Self::parts(of, filter, after, limit);
        let part = parts.part(way).sql(way);
        let (owners, jobs) = match of {
            Of::One(_) => ("", part),
            Of::AllBut(left_out) => {
                let mut those = "owner_name IS NOT NULL".to_owned();
                if let Some(owner) = left_out {
                    let owner = query.value(owner.as_str().to_owned(), Type::TEXT);
                    and(&mut those, &format!("owner_name <> {owner}"));
                }
                let jobs = format!(
                    "SELECT of_one.* FROM owners, LATERAL ({part}) of_one WHERE {those}
                     ORDER BY submitted_at DESC, id DESC LIMIT {}",
                    parts.limit
                );
                (OWNERS, jobs)
            }
        };
        query.sql = format!(
            "{owners}SELECT {COLUMNS} FROM ({jobs}) j
             LEFT JOIN predictions p ON p.job_id = j.id AND p.run = j.run
             ORDER BY j.submitted_at DESC, j.id DESC"
        );
        query
    }

    /// How many of the jobs next after the place pass, and how many meet the conditions by which each
    /// of these ways goes.
    pub(crate) fn sample(
        owner: &Owner,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        ways: &[Way],
    ) -> Self {
        let (mut query, parts) = Self::parts(Of::One(owner), filter, after, 0);
        let each: Vec<&str> = ways.iter().map(|way| parts.by(*way)).collect();
        query.sql = parts.part(Way::Near).sample(&each);
        query
    }

    /// The owner whose jobs next after the place are the closest to each other, whatever they are; no row
    /// if all have but a few.
    pub(crate) fn busiest(filter: &HistoryFilter, after: Option<Cursor>) -> Self {
        let (mut query, parts) = Self::parts(Of::AllBut(None), filter, after, 0);
        query.sql = format!(
            "{OWNERS}SELECT owner_name
             FROM owners, LATERAL (SELECT submitted_at FROM jobs WHERE owner = owner_name AND deleted_at IS NULL{}
                                   ORDER BY submitted_at DESC, id DESC OFFSET {CLOSE} LIMIT 1) AS last
             ORDER BY submitted_at DESC LIMIT 1",
            parts.time
        );
        query
    }

    /// The conditions, with their values in a statement that is not written yet.
    fn parts(
        of: Of<'_>,
        filter: &HistoryFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> (Self, Parts) {
        let mut query = Self {
            sql: String::new(),
            values: Vec::new(),
        };
        let owner = match of {
            Of::One(owner) => query.value(owner.as_str().to_owned(), Type::TEXT),
            Of::AllBut(_) => "owner_name".into(),
        };
        let (time, since, below) = query.time(filter, after);
        let parts = Parts {
            owner,
            time,
            since,
            below,
            label_and_state: query.label_and_state(filter),
            confidence: query.confidence(filter),
            name: query.name(filter),
            analyzers: query.analyzers(filter),
            limit: query.value(i64::from(limit), Type::INT8),
        };
        (query, parts)
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

    /// The conditions on the label and the state.
    fn label_and_state(&mut self, filter: &HistoryFilter) -> String {
        let mut conditions = String::new();
        if let Some(label) = &filter.label {
            let label = self.value(text(label).into_owned(), Type::TEXT);
            // The first condition is the index's, see sql/.
            and(
                &mut conditions,
                &format!("left(label, 100) = left({label}, 100)"),
            );
            and(&mut conditions, &format!("label = {label}"));
        }
        if let Some(state) = filter.state {
            // Spelt out, for only so can PostgreSQL see that a partial index holds all of them.
            and(&mut conditions, &format!("state = '{state}'"));
        }
        conditions
    }

    /// The condition on the confidence.
    fn confidence(&mut self, filter: &HistoryFilter) -> String {
        let mut condition = String::new();
        if let Some(least) = filter.min_confidence {
            let least = self.value(least, Type::FLOAT8);
            and(&mut condition, &format!("confidence >= {least}"));
        }
        condition
    }

    /// The conditions on the name.
    fn name(&mut self, filter: &HistoryFilter) -> String {
        let mut conditions = String::new();
        if let Some(prefix) = filter.name.as_ref().filter(|prefix| !prefix.is_empty()) {
            // Not LIKE, which would be asked once more of each name that the index finds.
            let prefix = text(prefix).into_owned();
            let end = behind(&prefix);
            let begin = self.value(prefix, Type::TEXT);
            and(&mut conditions, &format!("name >= {begin}"));
            if let Some(end) = end {
                let end = self.value(end, Type::TEXT);
                and(&mut conditions, &format!("name < {end}"));
            }
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

/// The conditions of a page: SQL, each with AND before it.
struct Parts {
    owner: String,
    time: String,
    since: String,
    below: String,
    label_and_state: String,
    confidence: String,
    name: String,
    analyzers: String,
    limit: String,
}

impl Parts {
    /// The conditions that a way goes by.
    fn by(&self, way: Way) -> &str {
        match way {
            Way::Near => "",
            Way::Time => &self.label_and_state,
            Way::Confidences => &self.confidence,
            Way::Names => &self.name,
            Way::Analyzers => &self.analyzers,
        }
    }

    /// The page of one owner, if it is found in this way.
    fn part(&self, way: Way) -> Part<'_> {
        let (mut rest, mut others) = (String::new(), String::new());
        for one in [Way::Time, Way::Confidences, Way::Names, Way::Analyzers] {
            rest += self.by(one);
            if one != way {
                others += self.by(one);
            }
        }
        Part {
            owner: &self.owner,
            time: &self.time,
            since: &self.since,
            below: &self.below,
            rest,
            by: self.by(way),
            others,
            analyzers: &self.analyzers,
            limit: &self.limit,
        }
    }
}

/// The first text behind all that begin so, in the order of bytes, which is that of code points. There
/// is none behind the last code point.
fn behind(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests;
