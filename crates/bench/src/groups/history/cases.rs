//! What is asked for: each filter alone, where much, little and nothing passes it, and such
//! combinations as make sense.

use imgsys_types::{Digest, HistoryFilter, JobState, Timestamp, Whose};
use sha2::{Digest as _, Sha256};

/// A filter, and whose jobs.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) filter: HistoryFilter,
    pub(super) owner: Option<Whose>,
    /// The same in SQL, if there are ten thousand pages.
    pub(super) sql: Option<&'static str>,
}

/// What the names of all images of a day, a month and a year begin with.
pub(super) const NAMES: &str = "
    SELECT to_char(at, '\"photos/\"YYYY/MM/DD/'), to_char(at, '\"photos/\"YYYY/MM/'), to_char(at, '\"photos/\"YYYY/')
    FROM (SELECT (now() - interval '500 days') AT TIME ZONE 'UTC' AS at) AS day";

const DAY: i64 = 86_400_000_000;

#[rustfmt::skip]
pub(super) fn cases(now: Timestamp, [day, month, year]: [String; 3]) -> Vec<Case> {
    let none = HistoryFilter::default;
    let ago = |days: i64| Some(Timestamp::from_micros(now.as_micros() - days * DAY));
    let label = |label: &str| Some(label.to_owned());
    let text = |text: &str| Some(text.to_owned());
    let model = |name: &str| Some(Digest::from_bytes(Sha256::digest(name).into()));
    let (done, failed, queued) = (Some(JobState::Done), Some(JobState::Failed), Some(JobState::Queued));
    let own = |name, filter, sql| Case { name, filter, owner: None, sql };
    let of = |name, owner, filter, sql| Case { name, filter, owner: Some(owner), sql };
    let small = || "owner-7".parse().map_or(Whose::All, Whose::One);
    vec![
        own("nothing", none(), Some("owner = 'local'")),
        own("since a day ago", HistoryFilter { since: ago(1), ..none() }, None),
        own("since a year ago", HistoryFilter { since: ago(365), ..none() }, Some("owner = 'local' AND submitted_at > now() - interval '365 days'")),
        own("until a year ago", HistoryFilter { until: ago(365), ..none() }, Some("owner = 'local' AND submitted_at < now() - interval '365 days'")),
        own("a day a year ago", HistoryFilter { since: ago(366), until: ago(365), ..none() }, None),
        own("the commonest label", HistoryFilter { label: label("label 0"), ..none() }, Some("owner = 'local' AND left(label, 100) = 'label 0'")),
        own("a rare label", HistoryFilter { label: label("label 990"), ..none() }, None),
        own("a label that nothing has", HistoryFilter { label: label("unicorn"), ..none() }, None),
        own("confidence of 50", HistoryFilter { min_confidence: Some(50.0), ..none() }, Some("owner = 'local' AND confidence >= 50")),
        own("confidence of 90", HistoryFilter { min_confidence: Some(90.0), ..none() }, Some("owner = 'local' AND confidence >= 90")),
        own("confidence of 99.99", HistoryFilter { min_confidence: Some(99.99), ..none() }, None),
        own("confidence of 99.99999", HistoryFilter { min_confidence: Some(99.99999), ..none() }, None),
        own("confidence of 100", HistoryFilter { min_confidence: Some(100.0), ..none() }, None),
        own("state done", HistoryFilter { state: done, ..none() }, Some("owner = 'local' AND state = 'done'")),
        own("state failed", HistoryFilter { state: failed, ..none() }, None),
        own("state queued", HistoryFilter { state: queued, ..none() }, None),
        own("names of photos/", HistoryFilter { name: text("photos/"), ..none() }, Some("owner = 'local' AND name LIKE 'photos/%'")),
        own("names of photos/, a year", HistoryFilter { name: text("photos/2"), since: ago(365), ..none() }, None),
        own("names of scans/", HistoryFilter { name: text("scans/"), ..none() }, None),
        own("names of scans/page-33", HistoryFilter { name: text("scans/page-33"), ..none() }, None),
        own("names of scans/page-3333", HistoryFilter { name: text("scans/page-3333"), ..none() }, None),
        own("names of a day", HistoryFilter { name: Some(day), ..none() }, None),
        own("names of a month", HistoryFilter { name: Some(month.clone()), ..none() }, None),
        own("names of a year", HistoryFilter { name: Some(year), ..none() }, None),
        own("a name that nothing has", HistoryFilter { name: text("nothing"), ..none() }, None),
        own("analyzer onnx", HistoryFilter { analyzer: text("onnx"), ..none() }, Some("owner = 'local' AND analyzer = 'onnx'")),
        own("analyzer simulated", HistoryFilter { analyzer: text("simulated"), ..none() }, None),
        own("an analyzer that nothing has", HistoryFilter { analyzer: text("python"), ..none() }, None),
        own("other versions than the new", HistoryFilter { except_version: text("1+cafebabe"), ..none() }, None),
        own("other versions of onnx", HistoryFilter { analyzer: text("onnx"), except_version: text("1+cafebabe"), ..none() }, None),
        own("other versions than one of long ago", HistoryFilter { except_version: text("0"), ..none() }, Some("owner = 'local' AND analyzer IS NOT NULL")),
        own("other models than the new", HistoryFilter { except_model: model("new"), ..none() }, None),
        own("other models than the old", HistoryFilter { except_model: model("old"), ..none() }, Some("owner = 'local' AND analyzer IS NOT NULL AND model IS DISTINCT FROM sha256('old')")),
        own("the commonest label and confidence of 90", HistoryFilter { label: label("label 0"), min_confidence: Some(90.0), ..none() }, None),
        own("the commonest label and confidence of 99.99", HistoryFilter { label: label("label 0"), min_confidence: Some(99.99), ..none() }, None),
        own("a rare label and confidence of 99", HistoryFilter { label: label("label 990"), min_confidence: Some(99.0), ..none() }, None),
        own("the commonest label, a week a year ago", HistoryFilter { label: label("label 0"), since: ago(372), until: ago(365), ..none() }, None),
        own("a label and names of photos/", HistoryFilter { label: label("label 10"), name: text("photos/"), ..none() }, None),
        own("a label and names of scans/", HistoryFilter { label: label("label 10"), name: text("scans/"), ..none() }, None),
        own("confidence of 99, a week", HistoryFilter { min_confidence: Some(99.0), since: ago(7), ..none() }, None),
        own("done with confidence of 90 by onnx", HistoryFilter { state: done, min_confidence: Some(90.0), analyzer: text("onnx"), ..none() }, Some("owner = 'local' AND confidence >= 90 AND analyzer = 'onnx'")),
        own("failed, a week a year ago", HistoryFilter { state: failed, since: ago(372), until: ago(365), ..none() }, None),
        own("failed, names of scans/", HistoryFilter { state: failed, name: text("scans/"), ..none() }, None),
        of("nothing, of all owners", Whose::All, none(), Some("true")),
        of("the commonest label, of all owners", Whose::All, HistoryFilter { label: label("label 0"), ..none() }, None),
        of("state failed, of all owners", Whose::All, HistoryFilter { state: failed, ..none() }, None),
        of("a rare label, of all owners", Whose::All, HistoryFilter { label: label("label 990"), ..none() }, None),
        of("a label that nothing has, of all owners", Whose::All, HistoryFilter { label: label("unicorn"), ..none() }, None),
        of("confidence of 90, of all owners", Whose::All, HistoryFilter { min_confidence: Some(90.0), ..none() }, None),
        of("confidence of 99.99, of all owners", Whose::All, HistoryFilter { min_confidence: Some(99.99), ..none() }, None),
        of("confidence of 100, of all owners", Whose::All, HistoryFilter { min_confidence: Some(100.0), ..none() }, None),
        of("names of photos/, of all owners", Whose::All, HistoryFilter { name: text("photos/"), ..none() }, None),
        of("names of scans/page-3333, of all owners", Whose::All, HistoryFilter { name: text("scans/page-3333"), ..none() }, None),
        of("names of a month, of all owners", Whose::All, HistoryFilter { name: Some(month), ..none() }, None),
        of("a name that nothing has, of all owners", Whose::All, HistoryFilter { name: text("nothing"), ..none() }, None),
        of("other versions than the new, of all owners", Whose::All, HistoryFilter { except_version: text("1+cafebabe"), ..none() }, None),
        of("a label and names of scans/, of all owners", Whose::All, HistoryFilter { label: label("label 10"), name: text("scans/"), ..none() }, None),
        of("the commonest label and confidence of 99.99, of all owners", Whose::All, HistoryFilter { label: label("label 0"), min_confidence: Some(99.99), ..none() }, None),
        of("nothing, of another owner", small(), none(), None),
        of("confidence of 90, of another owner", small(), HistoryFilter { min_confidence: Some(90.0), ..none() }, None),
    ]
}
