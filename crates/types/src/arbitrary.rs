//! Strategies that make any value of each type, for property tests, and a typical one, for benchmarks.

use crate::{
    Analysis, Analyzer, Color, Cursor, Digest, ErrorCode, Exif, Exposure, Failure, FailureReason,
    Gps, HistoryFilter, Job, JobId, JobRecord, JobResult, JobState, Limits, Outcome, Owner,
    PerceptualHash, Priority, Properties, Scalar, Score, ServerId, Timestamp, Whose,
};
use proptest::{
    collection::{btree_map, vec},
    num::f64::NORMAL,
    option,
    prelude::*,
    sample::select,
};

/// Any job id.
pub fn job_id() -> impl Strategy<Value = JobId> {
    any::<[u8; 16]>().prop_map(JobId::from_bytes)
}

/// Any server id.
pub fn server_id() -> impl Strategy<Value = ServerId> {
    any::<[u8; 16]>().prop_map(ServerId::from_bytes)
}

/// Any digest.
pub fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

/// Any time.
pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

/// Any owner.
pub fn owner() -> impl Strategy<Value = Owner> {
    "[a-zA-Z0-9._@-]{1,64}".prop_filter_map("an owner", |text| text.parse().ok())
}

/// Any owner, or all.
pub fn whose() -> impl Strategy<Value = Whose> {
    prop_oneof![owner().prop_map(Whose::One), Just(Whose::All)]
}

/// Any priority.
pub fn priority() -> impl Strategy<Value = Priority> {
    (0..=Priority::MAX).prop_filter_map("a priority", Priority::new)
}

/// Any state.
pub fn state() -> impl Strategy<Value = JobState> {
    select(vec![JobState::Queued, JobState::Done, JobState::Failed])
}

/// Any error code.
pub fn error_code() -> impl Strategy<Value = ErrorCode> {
    select(ErrorCode::ALL)
}

/// Any job.
pub fn job() -> impl Strategy<Value = Job> {
    let ids = (job_id(), owner(), digest(), server_id());
    (ids, any::<String>(), any::<u64>(), priority(), timestamp()).prop_map(
        |((id, owner, sha256, server), name, size, priority, submitted_at)| Job {
            id,
            owner,
            sha256,
            name,
            size,
            priority,
            submitted_at,
            server,
        },
    )
}

fn analyzer() -> impl Strategy<Value = Analyzer> {
    (any::<String>(), any::<String>(), option::of(digest())).prop_map(|(name, version, model)| {
        Analyzer {
            name,
            version,
            model,
        }
    })
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<bool>().prop_map(Scalar::Bool),
        NORMAL.prop_map(Scalar::Number),
        any::<String>().prop_map(Scalar::Text),
    ]
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::of(any::<String>())
}

fn number() -> impl Strategy<Value = Option<f64>> {
    option::of(NORMAL)
}

fn exif() -> impl Strategy<Value = Exif> {
    let gps = (NORMAL, NORMAL, number()).prop_map(|(latitude, longitude, altitude)| Gps {
        latitude,
        longitude,
        altitude,
    });
    let texts = (text(), text(), text());
    let numbers = (number(), number(), option::of(any::<u32>()), number());
    (texts, numbers, option::of(gps)).prop_map(
        |((camera, lens, taken_at), (exposure_time, f_number, iso, focal_length), gps)| Exif {
            camera,
            lens,
            taken_at,
            exposure_time,
            f_number,
            iso,
            focal_length,
            gps,
        },
    )
}

fn looks() -> impl Strategy<Value = Properties> {
    let exposure = (NORMAL, NORMAL, NORMAL).prop_map(|(mean, shadows, highlights)| Exposure {
        mean,
        shadows,
        highlights,
    });
    let color = (any::<String>(), NORMAL).prop_map(|(rgb, share)| Color { rgb, share });
    let hash = any::<u64>().prop_map(PerceptualHash::from_bits);
    let flags = vec("[a-z_]{1,12}", 0..4);
    (
        number(),
        option::of(exposure),
        vec(color, 0..4),
        option::of(hash),
        text(),
        flags,
    )
        .prop_map(
            |(sharpness, exposure, colors, perceptual_hash, thumb_hash, flags)| Properties {
                sharpness,
                exposure,
                colors,
                perceptual_hash,
                thumb_hash,
                flags,
                ..Properties::default()
            },
        )
}

fn properties() -> impl Strategy<Value = Properties> {
    let extra = btree_map("[a-z_]{1,12}", scalar(), 0..4);
    let file = ("[a-z]{3,5}", any::<u32>(), any::<u32>());
    let coding = (
        text(),
        option::of(any::<u8>()),
        option::of(any::<u32>()),
        option::of(exif()),
    );
    (file, coding, looks(), extra).prop_map(
        |((format, width, height), (color_type, bit_depth, frames, exif), looks, extra)| {
            Properties {
                format,
                width,
                height,
                color_type,
                bit_depth,
                frames,
                exif,
                extra,
                ..looks
            }
        },
    )
}

/// Any analysis.
pub fn analysis() -> impl Strategy<Value = Analysis> {
    let score =
        (any::<String>(), NORMAL).prop_map(|(label, confidence)| Score { label, confidence });
    let scores = vec(score, 0..4);
    (analyzer(), any::<String>(), NORMAL, scores, properties()).prop_map(
        |(analyzer, label, confidence, scores, properties)| Analysis {
            analyzer,
            label,
            confidence,
            scores,
            properties,
        },
    )
}

/// Any outcome.
pub fn outcome() -> impl Strategy<Value = Outcome> {
    let failure = (select(FailureReason::ALL), any::<String>())
        .prop_map(|(reason, detail)| Failure { reason, detail });
    prop_oneof![
        analysis().prop_map(Outcome::Done),
        failure.prop_map(Outcome::Failed)
    ]
}

/// Any result.
pub fn job_result() -> impl Strategy<Value = JobResult> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>());
    (numbers, outcome(), option::of(any::<String>()), timestamp()).prop_map(
        |((run, attempts, queued_us, analysis_us), outcome, worker, finished_at)| JobResult {
            run,
            outcome,
            worker,
            attempts,
            queued_us,
            analysis_us,
            finished_at,
        },
    )
}

/// Any line of the history.
pub fn job_record() -> impl Strategy<Value = JobRecord> {
    (job(), option::of(job_result())).prop_map(|(job, result)| JobRecord { job, result })
}

/// Any cursor.
pub fn cursor() -> impl Strategy<Value = Cursor> {
    (timestamp(), job_id()).prop_map(|(submitted_at, job)| Cursor { submitted_at, job })
}

/// Any filter.
pub fn filter() -> impl Strategy<Value = HistoryFilter> {
    (
        option::of(timestamp()),
        option::of(timestamp()),
        option::of(any::<String>()),
        option::of(NORMAL),
        option::of(state()),
        option::of(any::<String>()),
        option::of(any::<String>()),
        option::of(any::<String>()),
        option::of(digest()),
    )
        .prop_map(
            |(
                since,
                until,
                label,
                min_confidence,
                state,
                name,
                analyzer,
                except_version,
                except_model,
            )| {
                HistoryFilter {
                    since,
                    until,
                    label,
                    min_confidence,
                    state,
                    name,
                    analyzer,
                    except_version,
                    except_model,
                }
            },
        )
}

/// Any limits.
pub fn limits() -> impl Strategy<Value = Limits> {
    (
        any::<u64>(),
        any::<u32>(),
        any::<u32>(),
        any::<u32>(),
        any::<u64>(),
    )
        .prop_map(
            |(max_image, max_in_flight, max_watched, max_page, idle_ms)| Limits {
                max_image,
                max_in_flight,
                max_watched,
                max_page,
                idle_ms,
            },
        )
}

/// A line of the history as most are: a photograph that was looked into and labelled. Always the
/// same, so that what it costs can be compared.
#[must_use]
pub fn typical() -> JobRecord {
    let score = |label: &str, confidence| Score {
        label: label.to_owned(),
        confidence,
    };
    let color = |rgb: &str, share| Color {
        rgb: rgb.to_owned(),
        share,
    };
    let accepted = 1_764_000_000_123_456;
    let mut id = [0x5a; 16];
    // What makes it a UUID of version 7.
    (id[6], id[8]) = (0x7a, 0x9a);
    let job = Job {
        id: JobId::from_bytes(id),
        owner: Owner::local(),
        sha256: Digest::from_bytes([0xc4; 32]),
        name: "photos/2025/IMG_20251103_174512.jpg".into(),
        size: 234_567,
        priority: Priority::default(),
        submitted_at: Timestamp::from_micros(accepted),
        server: ServerId::from_bytes([0x3c; 16]),
    };
    let properties = Properties {
        format: "jpeg".into(),
        width: 1920,
        height: 1080,
        color_type: Some("rgb".into()),
        bit_depth: Some(8),
        frames: Some(1),
        sharpness: Some(412.75),
        exposure: Some(Exposure {
            mean: 47.25,
            shadows: 1.5,
            highlights: 0.25,
        }),
        colors: vec![color("#4a5b3c", 52.5), color("#c8d1d9", 31.25)],
        perceptual_hash: Some(PerceptualHash::from_bits(0xa5a5_3c3c_0ff0_9669)),
        thumb_hash: Some("1QcSHQRnh493V4dIh4eXh1h4kJUI".into()),
        exif: Some(Exif {
            camera: Some("Pinhole 5".into()),
            taken_at: Some("2025-11-03T17:45:12".into()),
            exposure_time: Some(0.008),
            f_number: Some(1.8),
            iso: Some(64),
            ..Exif::default()
        }),
        ..Properties::default()
    };
    let analysis = Analysis {
        analyzer: Analyzer {
            name: "onnx".into(),
            version: "1+01234567".into(),
            model: Some(Digest::from_bytes([0x7e; 32])),
        },
        label: "tabby cat".into(),
        confidence: 85.5,
        scores: vec![
            score("tabby cat", 85.5),
            score("tiger cat", 9.25),
            score("lynx", 3.25),
        ],
        properties,
    };
    let result = JobResult {
        run: 0,
        outcome: Outcome::Done(analysis),
        worker: Some("imgsys@worker-1".into()),
        attempts: 1,
        queued_us: 812,
        analysis_us: 25_431,
        finished_at: Timestamp::from_micros(accepted + 27_000),
    };
    JobRecord {
        job,
        result: Some(result),
    }
}
