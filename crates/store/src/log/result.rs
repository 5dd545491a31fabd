//! Results as fields.
//!
//! Each type is taken apart by name, so that a field that is added to it does not compile until it
//! has a number here.

use super::fields::{Encoder, Fields, Malformed, Value};
use imgsys_types::{
    Analysis, Analyzer, Color, Digest, Exif, Exposure, Failure, FailureReason, Gps, JobResult,
    Outcome, PerceptualHash, Properties, Scalar, Score, Timestamp,
};

pub(super) fn encode(to: &mut Encoder<'_>, result: &JobResult) {
    let JobResult {
        run,
        outcome,
        worker,
        attempts,
        queued_us,
        analysis_us,
        finished_at,
    } = result;
    to.number(1, *run);
    match outcome {
        Outcome::Done(analysis) => to.fields(2, |to| encode_analysis(to, analysis)),
        Outcome::Failed(Failure { reason, detail }) => to.fields(3, |to| {
            to.text(1, reason.as_str());
            to.text(2, detail);
        }),
    }
    to.maybe_text(4, worker.as_ref());
    to.number(5, *attempts);
    to.number(6, *queued_us);
    to.number(7, *analysis_us);
    to.eight(8, finished_at.as_micros().to_le_bytes());
}

pub(super) fn decode(mut fields: Fields<'_>) -> Result<JobResult, Malformed> {
    let mut outcome = None;
    let mut result = JobResult {
        run: 0,
        outcome: Outcome::Failed(Failure::new(FailureReason::Other, "")),
        worker: None,
        attempts: 0,
        queued_us: 0,
        analysis_us: 0,
        finished_at: Timestamp::default(),
    };
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => result.run = value.number()?,
            2 => outcome = Some(Outcome::Done(decode_analysis(value.fields()?)?)),
            3 => outcome = Some(Outcome::Failed(decode_failure(value.fields()?)?)),
            4 => result.worker = Some(value.string()?),
            5 => result.attempts = value.number()?,
            6 => result.queued_us = value.number()?,
            7 => result.analysis_us = value.number()?,
            8 => result.finished_at = timestamp(value)?,
            _ => {}
        }
    }
    result.outcome = outcome.ok_or(Malformed("a result without an outcome"))?;
    Ok(result)
}

pub(super) fn timestamp(value: Value<'_>) -> Result<Timestamp, Malformed> {
    let bytes = value.eight()?;
    Ok(Timestamp::from_micros(i64::from_le_bytes(bytes)))
}

fn decode_failure(mut fields: Fields<'_>) -> Result<Failure, Malformed> {
    let mut failure = Failure::new(FailureReason::Other, "");
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => failure.reason = FailureReason::from_text(value.text()?),
            2 => failure.detail = value.string()?,
            _ => {}
        }
    }
    Ok(failure)
}

fn encode_analysis(to: &mut Encoder<'_>, analysis: &Analysis) {
    let Analysis {
        analyzer: Analyzer {
            name,
            version,
            model,
        },
        label,
        confidence,
        scores,
        properties,
    } = analysis;
    to.text(1, name);
    to.text(2, version);
    if let Some(model) = model {
        to.bytes(3, model.as_bytes());
    }
    to.text(4, label);
    to.float(5, *confidence);
    for Score { label, confidence } in scores {
        to.fields(6, |to| {
            to.text(1, label);
            to.float(2, *confidence);
        });
    }
    to.fields(7, |to| encode_properties(to, properties));
}

fn decode_analysis(mut fields: Fields<'_>) -> Result<Analysis, Malformed> {
    let mut analysis = Analysis {
        analyzer: Analyzer {
            name: String::new(),
            version: String::new(),
            model: None,
        },
        label: String::new(),
        confidence: 0.0,
        scores: Vec::new(),
        properties: Properties::default(),
    };
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => analysis.analyzer.name = value.string()?,
            2 => analysis.analyzer.version = value.string()?,
            3 => analysis.analyzer.model = Some(Digest::from_bytes(value.array()?)),
            4 => analysis.label = value.string()?,
            5 => analysis.confidence = value.float()?,
            6 => {
                let (label, confidence) = decode_pair(value.fields()?)?;
                analysis.scores.push(Score { label, confidence });
            }
            7 => analysis.properties = decode_properties(value.fields()?)?,
            _ => {}
        }
    }
    Ok(analysis)
}

/// A text and a number: a score, or a colour and its share.
fn decode_pair(mut fields: Fields<'_>) -> Result<(String, f64), Malformed> {
    let mut pair = (String::new(), 0.0);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => pair.0 = value.string()?,
            2 => pair.1 = value.float()?,
            _ => {}
        }
    }
    Ok(pair)
}

fn encode_properties(to: &mut Encoder<'_>, properties: &Properties) {
    let Properties {
        format,
        width,
        height,
        color_type,
        bit_depth,
        frames,
        sharpness,
        exposure,
        colors,
        perceptual_hash,
        thumb_hash,
        exif,
        flags,
        extra,
    } = properties;
    to.text(1, format);
    to.number(2, *width);
    to.number(3, *height);
    to.maybe_text(4, color_type.as_ref());
    if let Some(bits) = bit_depth {
        to.number(5, *bits);
    }
    if let Some(frames) = frames {
        to.number(6, *frames);
    }
    to.maybe_float(7, *sharpness);
    if let Some(Exposure {
        mean,
        shadows,
        highlights,
    }) = exposure
    {
        to.fields(8, |to| {
            to.float(1, *mean);
            to.float(2, *shadows);
            to.float(3, *highlights);
        });
    }
    for Color { rgb, share } in colors {
        to.fields(9, |to| {
            to.text(1, rgb);
            to.float(2, *share);
        });
    }
    if let Some(hash) = perceptual_hash {
        to.eight(10, hash.bits().to_le_bytes());
    }
    to.maybe_text(11, thumb_hash.as_ref());
    if let Some(exif) = exif {
        to.fields(12, |to| encode_exif(to, exif));
    }
    for flag in flags {
        to.text(13, flag);
    }
    for (key, value) in extra {
        to.fields(14, |to| {
            to.text(1, key);
            match value {
                Scalar::Bool(value) => to.number(2, *value),
                Scalar::Number(value) => to.float(3, *value),
                Scalar::Text(value) => to.text(4, value),
            }
        });
    }
}

fn decode_properties(mut fields: Fields<'_>) -> Result<Properties, Malformed> {
    let mut properties = Properties::default();
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => properties.format = value.string()?,
            2 => properties.width = value.number()?,
            3 => properties.height = value.number()?,
            4 => properties.color_type = Some(value.string()?),
            5 => properties.bit_depth = Some(value.number()?),
            6 => properties.frames = Some(value.number()?),
            7 => properties.sharpness = Some(value.float()?),
            8 => properties.exposure = Some(decode_exposure(value.fields()?)?),
            9 => {
                let (rgb, share) = decode_pair(value.fields()?)?;
                properties.colors.push(Color { rgb, share });
            }
            10 => {
                let bits = u64::from_le_bytes(value.eight()?);
                properties.perceptual_hash = Some(PerceptualHash::from_bits(bits));
            }
            11 => properties.thumb_hash = Some(value.string()?),
            12 => properties.exif = Some(decode_exif(value.fields()?)?),
            13 => properties.flags.push(value.string()?),
            14 => {
                let (key, value) = decode_extra(value.fields()?)?;
                properties.extra.extend(value.map(|value| (key, value)));
            }
            _ => {}
        }
    }
    Ok(properties)
}

fn decode_exposure(mut fields: Fields<'_>) -> Result<Exposure, Malformed> {
    let mut exposure = Exposure::default();
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => exposure.mean = value.float()?,
            2 => exposure.shadows = value.float()?,
            3 => exposure.highlights = value.float()?,
            _ => {}
        }
    }
    Ok(exposure)
}

/// The value is `None` if it is of a kind that this version does not know.
fn decode_extra(mut fields: Fields<'_>) -> Result<(String, Option<Scalar>), Malformed> {
    let (mut key, mut scalar) = (String::new(), None);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => key = value.string()?,
            2 => scalar = Some(Scalar::Bool(value.number::<u64>()? != 0)),
            3 => scalar = Some(Scalar::Number(value.float()?)),
            4 => scalar = Some(Scalar::Text(value.string()?)),
            _ => {}
        }
    }
    Ok((key, scalar))
}

fn encode_exif(to: &mut Encoder<'_>, exif: &Exif) {
    let Exif {
        camera,
        lens,
        taken_at,
        exposure_time,
        f_number,
        iso,
        focal_length,
        gps,
    } = exif;
    to.maybe_text(1, camera.as_ref());
    to.maybe_text(2, lens.as_ref());
    to.maybe_text(3, taken_at.as_ref());
    to.maybe_float(4, *exposure_time);
    to.maybe_float(5, *f_number);
    if let Some(iso) = iso {
        to.number(6, *iso);
    }
    to.maybe_float(7, *focal_length);
    if let Some(Gps {
        latitude,
        longitude,
        altitude,
    }) = gps
    {
        to.fields(8, |to| {
            to.float(1, *latitude);
            to.float(2, *longitude);
            to.maybe_float(3, *altitude);
        });
    }
}

fn decode_exif(mut fields: Fields<'_>) -> Result<Exif, Malformed> {
    let mut exif = Exif::default();
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => exif.camera = Some(value.string()?),
            2 => exif.lens = Some(value.string()?),
            3 => exif.taken_at = Some(value.string()?),
            4 => exif.exposure_time = Some(value.float()?),
            5 => exif.f_number = Some(value.float()?),
            6 => exif.iso = Some(value.number()?),
            7 => exif.focal_length = Some(value.float()?),
            8 => exif.gps = Some(decode_gps(value.fields()?)?),
            _ => {}
        }
    }
    Ok(exif)
}

fn decode_gps(mut fields: Fields<'_>) -> Result<Gps, Malformed> {
    let mut gps = Gps {
        latitude: 0.0,
        longitude: 0.0,
        altitude: None,
    };
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => gps.latitude = value.float()?,
            2 => gps.longitude = value.float()?,
            3 => gps.altitude = Some(value.float()?),
            _ => {}
        }
    }
    Ok(gps)
}
