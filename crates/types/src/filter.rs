//! What to show of the history.

use crate::{Analysis, Digest, IdError, JobId, JobRecord, JobState, Owner, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{borrow::Cow, str::FromStr};

/// Whose jobs to show. Written as the owner's name, or as `*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub enum Whose {
    /// This owner's.
    One(Owner),
    /// All owners'.
    All,
}

/// All owners; no owner has this name.
const ALL: &str = "*";

impl Whose {
    /// Whether a job of this owner is among them.
    #[must_use]
    pub fn includes(&self, owner: &Owner) -> bool {
        match self {
            Self::One(one) => one == owner,
            Self::All => true,
        }
    }
}

impl From<Owner> for Whose {
    fn from(owner: Owner) -> Self {
        Self::One(owner)
    }
}

impl FromStr for Whose {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            ALL => Ok(Self::All),
            owner => owner.parse().map(Self::One),
        }
    }
}

impl TryFrom<Cow<'_, str>> for Whose {
    type Error = IdError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, IdError> {
        text.parse()
    }
}

impl Serialize for Whose {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::One(owner) => owner.as_str(),
            Self::All => ALL,
        })
    }
}

/// Which jobs to show: all conditions that are set must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HistoryFilter {
    /// Submitted at this time or later.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Submitted before this time.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// With exactly this label.
    #[serde(default)]
    pub label: Option<String>,
    /// With at least this confidence, in percent.
    #[serde(default, deserialize_with = "number")]
    pub min_confidence: Option<f64>,
    /// In this state.
    #[serde(default)]
    pub state: Option<JobState>,
    /// Whose name begins so.
    #[serde(default)]
    pub name: Option<String>,
    /// Analysed by an analyzer of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analyzer: Option<String>,
    /// Analysed, but not by this version of its analyzer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except_version: Option<String>,
    /// Analysed, but not with the model of this SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except_model: Option<Digest>,
}

/// A number written as a float or as an integer: some languages can't tell 50.0 from 50.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    // Untagged, it takes whatever a value says of itself; CBOR's floats take no integers.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Any(f64),
    }
    let number = Option::<Number>::deserialize(deserializer)?;
    Ok(number.map(|Number::Any(number)| number))
}

/// A place in the history, newest first: what comes after it is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// When the last job shown was submitted.
    pub submitted_at: Timestamp,
    /// The last job shown.
    pub job: JobId,
}

impl Cursor {
    /// The place of this job.
    #[must_use]
    pub const fn of(record: &JobRecord) -> Self {
        Self {
            submitted_at: record.job.submitted_at,
            job: record.job.id,
        }
    }
}

impl HistoryFilter {
    /// Whether this job is to be shown.
    #[must_use]
    pub fn matches(&self, record: &JobRecord) -> bool {
        use crate::Outcome::Done;
        let job = &record.job;
        let analysis = match record.result.as_ref().map(|result| &result.outcome) {
            Some(Done(analysis)) => Some(analysis),
            _ => None,
        };
        let found = |holds: &dyn Fn(&Analysis) -> bool| analysis.is_some_and(holds);
        self.since.is_none_or(|since| job.submitted_at >= since)
            && self.until.is_none_or(|until| job.submitted_at < until)
            && self.state.is_none_or(|state| record.state() == state)
            && (self.name.as_ref()).is_none_or(|prefix| job.name.starts_with(prefix.as_str()))
            && (self.label.as_ref()).is_none_or(|label| found(&|found| found.label == *label))
            && (self.min_confidence).is_none_or(|least| found(&|found| found.confidence >= least))
            && (self.analyzer.as_ref())
                .is_none_or(|name| found(&|found| found.analyzer.name == *name))
            && (self.except_version.as_ref())
                .is_none_or(|version| found(&|found| found.analyzer.version != *version))
            && self
                .except_model
                .is_none_or(|model| found(&|found| found.analyzer.model != Some(model)))
    }
}
