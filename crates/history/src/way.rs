//! How the jobs that pass a filter are found: by the one of its conditions that fewest jobs meet.

use imgsys_types::{HistoryFilter, JobState};

/// How jobs that pass a filter are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Among the first jobs after the place.
    Near,
    /// In the order of time, by the index over time or that of a label or state, whichever PostgreSQL
    /// takes.
    Time,
    /// Span of time after span, by the index over confidences.
    Confidences,
    /// Likewise by that over names.
    Names,
    /// Those of each analyzer, version and model.
    Analyzers,
}

impl Way {
    /// How many of a thousand jobs meet its condition, although one has counted fewer: names and
    /// analyzers come at their time, and where they come they may be all there is. To look through those
    /// for what one job of so many has takes as long as to look past it for them.
    pub(crate) fn at_least(self) -> i64 {
        match self {
            Self::Names | Self::Analyzers => 4,
            Self::Near | Self::Time | Self::Confidences => 0,
        }
    }
}

/// The ways in which jobs that pass this filter can be found, the best first if one does not know how
/// many pass: labels and confidences are much the same at all times, names are not.
pub(crate) fn ways(filter: &HistoryFilter) -> Vec<Way> {
    let not_done = matches!(filter.state, Some(JobState::Failed | JobState::Queued));
    let named = filter.name.as_ref().is_some_and(|name| !name.is_empty());
    let by_analyzer = filter.analyzer.is_some()
        || filter.except_version.is_some()
        || filter.except_model.is_some();
    let ways = [
        (Way::Time, filter.label.is_some() || not_done),
        (Way::Confidences, filter.min_confidence.is_some()),
        (Way::Names, named),
        (Way::Analyzers, by_analyzer),
    ];
    let mut ways: Vec<Way> = ways
        .into_iter()
        .filter_map(|(way, is_one)| is_one.then_some(way))
        .collect();
    if ways.is_empty() {
        ways.push(Way::Time);
    }
    ways
}

/// The way that is taken if nothing is known of the jobs.
pub(crate) fn way(filter: &HistoryFilter) -> Way {
    let ways = ways(filter);
    let usual = [Way::Time, Way::Names, Way::Analyzers, Way::Confidences];
    let first = usual.into_iter().find(|way| ways.contains(way));
    first.unwrap_or(Way::Time)
}

/// Whether no job can pass: what has not been done has nothing that an analysis finds.
pub(crate) fn is_contradiction(filter: &HistoryFilter) -> bool {
    let by_analyzer = filter.analyzer.is_some()
        || filter.except_version.is_some()
        || filter.except_model.is_some();
    matches!(filter.state, Some(JobState::Failed | JobState::Queued))
        && (filter.label.is_some() || filter.min_confidence.is_some() || by_analyzer)
}
