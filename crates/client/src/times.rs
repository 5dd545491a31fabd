//! Points in time and spans, as people write and read them.

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use imgsys_types::Timestamp;
use std::{fmt, time::Duration};

/// What is told when a text is no point in time.
const FORMS: &str = "a time is 2026-11-01, '2026-11-01 12:00', 2026-11-01T12:00:00Z, or a span such as 2h or 7d ago";

/// Reads a point in time: RFC 3339, a local date or date and time, or a span before now.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    parse_at(text, Timestamp::now(), &Local)
}

fn parse_at<Z: TimeZone>(text: &str, now: Timestamp, zone: &Z) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(from_chrono(&time));
    }
    if let Some(naive) = parse_naive(text) {
        return zone
            .from_local_datetime(&naive)
            .earliest()
            .map(|time| from_chrono(&time))
            .ok_or_else(|| "the clocks were put forward over that time".to_owned());
    }
    let span = text.strip_suffix("ago").map_or(text, str::trim_end);
    let span = humantime::parse_duration(span).map_err(|_| FORMS.to_owned())?;
    i64::try_from(span.as_micros())
        .ok()
        .and_then(|span| now.as_micros().checked_sub(span))
        .map(Timestamp::from_micros)
        .ok_or_else(|| "that is too long ago".to_owned())
}

fn parse_naive(text: &str) -> Option<NaiveDateTime> {
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(NaiveTime::MIN));
    }
    [
        "%Y-%m-%d %H:%M",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%dT%H:%M:%S%.f",
    ]
    .iter()
    .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
}

fn from_chrono<Z: TimeZone>(time: &DateTime<Z>) -> Timestamp {
    Timestamp::from_micros(time.timestamp_micros())
}

/// Reads a span, such as `10s`, `1m 30s` or `2h`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "a span is a number and a unit, such as 500ms, 10s or 5m".to_owned())
}

/// A time for programs: RFC 3339 in UTC, to the microsecond.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    DateTime::<Utc>::from_timestamp_micros(time.as_micros()).map_or_else(
        || format!("{} µs", time.as_micros()),
        |time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
    )
}

/// A time for people: local, to the second.
pub(crate) fn local(time: Timestamp) -> String {
    DateTime::<Utc>::from_timestamp_micros(time.as_micros()).map_or_else(
        || format!("{} µs", time.as_micros()),
        |time| {
            time.with_timezone(&Local)
                .format("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// A span in milliseconds, for programs.
pub(crate) fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// A span for people: two or three digits and a unit.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, ms) = (self.0.as_secs(), millis(self.0));
        let text = match secs {
            0 if ms < 10.0 => format!("{ms:.1} ms"),
            0 => format!("{ms:.0} ms"),
            1..60 => format!("{:.1} s", self.0.as_secs_f64()),
            60..3600 => format!("{}m {:02}s", secs / 60, secs % 60),
            3600..86_400 => format!("{}h {:02}m", secs / 3600, secs / 60 % 60),
            _ => format!("{}d {:02}h", secs / 86_400, secs / 3600 % 24),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    const NOW: i64 = 1_793_534_400; // 2026-11-01T12:00:00Z

    fn parsed(text: &str) -> Result<i64, String> {
        let zone = FixedOffset::east_opt(3600).unwrap();
        parse_at(text, Timestamp::from_micros(NOW * 1_000_000), &zone)
            .map(|time| time.as_micros() / 1_000_000 - NOW)
    }

    #[test]
    fn times_are_read_in_every_form() {
        for (text, seconds) in [
            ("2026-11-01T12:00:00Z", 0),
            ("2026-11-01T14:00:00+02:00", 0),
            ("2026-11-01T12:00:01.5Z", 1),
            ("2026-11-01", -13 * 3600),
            ("2026-11-01 13:00", 0),
            ("2026-11-01 13:00:07", 7),
            ("2026-11-01T13:30", 1800),
            ("2h", -7200),
            ("7d", -7 * 86_400),
            ("1h 30m ago", -5400),
        ] {
            assert_eq!(parsed(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "soon",
            "2026-13-01",
            "2026-11-01 25:00",
            "-2h",
            "ago",
            "2",
        ] {
            assert_eq!(parsed(text), Err(FORMS.to_owned()), "{text}");
        }
        assert!(parsed("99999999999y").is_err());
    }

    #[test]
    fn spans_have_few_digits() {
        for (ms, text) in [
            (0, "0.0 ms"),
            (7, "7.0 ms"),
            (123, "123 ms"),
            (1500, "1.5 s"),
            (61_000, "1m 01s"),
            (3_660_000, "1h 01m"),
            (90_000_000, "1d 01h"),
        ] {
            assert_eq!(Span(Duration::from_millis(ms)).to_string(), text);
        }
        assert!(parse_span("10").is_err());
        assert_eq!(parse_span("1m 30s"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn programs_get_utc() {
        let time = Timestamp::from_micros(NOW * 1_000_000 + 1);
        assert_eq!(rfc3339(time), "2026-11-01T12:00:00.000001Z");
        assert!(!rfc3339(Timestamp::from_micros(i64::MAX)).is_empty());
        assert!(!local(Timestamp::from_micros(i64::MIN)).is_empty());
    }
}
