//! The words of imgsys: what every other crate talks about.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | [`JobId`], [`ServerId`], [`Digest`], [`Owner`] |
//! | [`checksum`] | [`Checksum`], by which a worker knows an image again |
//! | [`hash`] | [`PerceptualHash`], by which images that look alike are found |
//! | [`time`] | [`Timestamp`], microseconds since 1970 |
//! | [`job_map`] | [`JobMap`], values by the id of their job, for millions |
//! | [`job`] | [`Job`] (what was accepted), [`Run`] (of which there may be several), [`JobResult`] (what became of one), [`JobRecord`] (job and result) |
//! | [`analysis`] | [`Analysis`], [`Analyzer`] |
//! | [`properties`] | [`Properties`], [`Exif`] |
//! | [`failure`] | [`Failure`] and its stable [`FailureReason`] |
//! | [`error`] | [`ErrorCode`], the codes of the wire protocol |
//! | [`limits`] | [`Limits`] that a server holds its clients to |
//! | [`filter`] | [`HistoryFilter`], [`Cursor`] |
//! | [`bounds`] | how long the texts of others may be |
//!
//! Nothing here does I/O. Ids are written as bytes in binary formats (CBOR) and as text in
//! others (JSON), so one type serves the wire, the queue and the database.

pub mod analysis;
#[cfg(feature = "proptest")]
pub mod arbitrary;
pub mod bounds;
pub mod checksum;
pub mod error;
pub mod failure;
pub mod filter;
pub mod hash;
pub mod ids;
pub mod job;
pub mod job_map;
pub mod limits;
pub mod properties;
pub mod time;

mod hexadecimal;
mod text;

pub use analysis::{Analysis, Analyzer, Score};
pub use checksum::{Checksum, Summing};
pub use error::ErrorCode;
pub use failure::{Failure, FailureReason};
pub use filter::{Cursor, HistoryFilter, Whose};
pub use hash::PerceptualHash;
pub use ids::{Digest, IdError, JobId, Owner, ServerId};
pub use job::{Job, JobRecord, JobResult, JobState, Outcome, Priority, Run};
pub use job_map::JobMap;
pub use limits::Limits;
pub use properties::{Color, Exif, Exposure, Gps, Properties, Scalar};
pub use time::Timestamp;

/// The longest image name that is kept, in bytes of UTF-8; longer ones are cut at a character.
pub const MAX_NAME: usize = 1024;

/// The name as it is kept: at most [`MAX_NAME`] bytes, without U+0000 (PostgreSQL has no place
/// for it). Everything else stays as the client sent it; whoever prints a name cleans it.
#[must_use]
pub fn clean_name(name: &str) -> String {
    let mut name = name.to_owned();
    bound_name(&mut name);
    name
}

/// Makes a name one that is kept, as [`clean_name`] does.
pub fn bound_name(name: &mut String) {
    bounds::bound_text(name, MAX_NAME);
}

#[cfg(test)]
// Tests fail by panicking.
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_nul_and_excess() {
        assert_eq!(clean_name("a\0b.jpg"), "a\u{fffd}b.jpg");
        let long = "é".repeat(MAX_NAME);
        assert_eq!(clean_name(&long).len(), MAX_NAME);
        assert_eq!(clean_name("cat.jpg"), "cat.jpg");
    }

    #[test]
    fn results_of_others_are_kept_within_bounds() {
        let analysis = Analysis {
            analyzer: Analyzer {
                name: "x".repeat(5000),
                version: String::new(),
                model: None,
            },
            label: "a\0b".into(),
            confidence: 1e9,
            scores: vec![
                Score {
                    label: "ü".repeat(5000),
                    confidence: f64::NAN,
                };
                5000
            ],
            properties: Properties {
                format: "jpeg".into(),
                sharpness: Some(f64::INFINITY),
                colors: vec![
                    Color {
                        rgb: "z".repeat(500),
                        share: -1.0,
                    };
                    500
                ],
                exif: Some(Exif {
                    camera: Some("c".repeat(500)),
                    iso: Some(100),
                    gps: Some(Gps {
                        latitude: f64::NAN,
                        ..Gps::default()
                    }),
                    ..Exif::default()
                }),
                flags: vec!["f".repeat(500); 500],
                extra: (0..500)
                    .map(|n| (n.to_string(), Scalar::Bool(true)))
                    .collect(),
                ..Properties::default()
            },
        };
        let mut result = JobResult::failed(0, Failure::new(FailureReason::Other, "y".repeat(5000)));
        let Outcome::Failed(failure) = result.clone().bounded().outcome else {
            panic!("failed stays failed");
        };
        assert_eq!(failure.detail.len(), bounds::MAX_DETAIL);
        result.outcome = Outcome::Done(analysis);
        let Outcome::Done(kept) = result.bounded().outcome else {
            panic!("done stays done");
        };
        assert_eq!(kept.label, "a\u{fffd}b");
        assert!((kept.confidence - 100.0).abs() < f64::EPSILON);
        assert_eq!(kept.scores.len(), bounds::MAX_SCORES);
        assert!(kept.scores[0].confidence.abs() < f64::EPSILON);
        assert_eq!(kept.scores[0].label.len(), bounds::MAX_TEXT);
        let properties = kept.properties;
        assert_eq!(properties.extra.len(), bounds::MAX_EXTRA);
        assert_eq!(properties.sharpness, None);
        assert_eq!(properties.colors.len(), bounds::MAX_COLORS);
        assert_eq!(properties.colors[0].rgb.len(), bounds::MAX_TEXT);
        assert!(properties.colors[0].share.abs() < f64::EPSILON);
        let exif = properties.exif.unwrap();
        assert_eq!(exif.camera.unwrap().len(), bounds::MAX_TEXT);
        assert_eq!((exif.iso, exif.gps), (Some(100), None));
        assert_eq!(properties.flags.len(), bounds::MAX_FLAGS);
    }
}
