//! Jobs and results as JSON. It is what serde makes of them, in the same order, but written for each
//! image, and so without asking of every name whether there is something in it to be escaped.

use crate::json::Json;
use imgsys_types::{
    Analysis, Analyzer, Color, Exif, Exposure, Failure, Gps, Job, JobResult, Outcome, Properties,
    Scalar, Score,
};

/// More than most jobs and results take, in bytes.
const JOB: usize = 512;
const RESULT: usize = 2048;

/// A job in JSON.
pub(super) fn job(job: &Job) -> Result<String, serde_json::Error> {
    let Job {
        id,
        owner,
        sha256,
        name,
        size,
        priority,
        submitted_at,
        server,
    } = job;
    let mut out = Json::with_capacity(JOB + name.len());
    out.raw(r#"{"id":"#).quote(id);
    out.raw(r#","owner":"#).quote(owner);
    out.raw(r#","sha256":"#).quote(sha256);
    out.raw(r#","name":"#).text(name);
    out.raw(r#","size":"#).show(size);
    out.raw(r#","priority":"#).show(priority.get());
    out.raw(r#","submitted_at":"#)
        .show(submitted_at.as_micros());
    out.raw(r#","server":"#).quote(server).raw("}");
    out.finish()
}

/// A result in JSON.
pub(crate) fn result(result: &JobResult) -> Result<String, serde_json::Error> {
    let JobResult {
        run,
        outcome,
        worker,
        attempts,
        queued_us,
        analysis_us,
        finished_at,
    } = result;
    let mut out = Json::with_capacity(RESULT);
    out.raw(r#"{"run":"#).show(run).raw(r#","outcome":"#);
    match outcome {
        Outcome::Done(done) => {
            out.raw(r#"{"done":"#);
            analysis(&mut out, done);
        }
        Outcome::Failed(Failure { reason, detail }) => {
            out.raw(r#"{"failed":{"reason":"#).quote(reason);
            out.raw(r#","detail":"#).text(detail).raw("}");
        }
    }
    out.raw(r#"},"worker":"#);
    match worker {
        Some(worker) => out.text(worker),
        None => out.raw("null"),
    };
    out.raw(r#","attempts":"#).show(attempts);
    out.raw(r#","queued_us":"#).show(queued_us);
    out.raw(r#","analysis_us":"#).show(analysis_us);
    out.raw(r#","finished_at":"#).show(finished_at.as_micros());
    out.raw("}");
    out.finish()
}

fn analysis(out: &mut Json, analysis: &Analysis) {
    let Analysis {
        analyzer,
        label,
        confidence,
        scores,
        properties: found,
    } = analysis;
    let Analyzer {
        name,
        version,
        model,
    } = analyzer;
    out.raw(r#"{"analyzer":{"name":"#).text(name);
    out.raw(r#","version":"#).text(version);
    out.raw(r#","model":"#);
    match model {
        Some(model) => out.quote(model),
        None => out.raw("null"),
    };
    out.raw(r#"},"label":"#).text(label);
    out.raw(r#","confidence":"#).real(*confidence);
    out.raw(r#","scores":["#);
    each(out, scores, |out, Score { label, confidence }| {
        out.raw(r#"{"label":"#).text(label);
        out.raw(r#","confidence":"#).real(*confidence).raw("}");
    });
    out.raw(r#"],"properties":"#);
    properties(out, found);
    out.raw("}");
}

fn properties(out: &mut Json, properties: &Properties) {
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
        exif: camera,
        flags,
        extra,
    } = properties;
    out.raw(r#"{"format":"#).text(format);
    out.raw(r#","width":"#).show(width);
    out.raw(r#","height":"#).show(height);
    if let Some(color_type) = color_type {
        out.raw(r#","color_type":"#).text(color_type);
    }
    if let Some(bit_depth) = bit_depth {
        out.raw(r#","bit_depth":"#).show(bit_depth);
    }
    if let Some(frames) = frames {
        out.raw(r#","frames":"#).show(frames);
    }
    if let Some(sharpness) = sharpness {
        out.raw(r#","sharpness":"#).real(*sharpness);
    }
    if let Some(Exposure {
        mean,
        shadows,
        highlights,
    }) = exposure
    {
        out.raw(r#","exposure":{"mean":"#).real(*mean);
        out.raw(r#","shadows":"#).real(*shadows);
        out.raw(r#","highlights":"#).real(*highlights).raw("}");
    }
    if !colors.is_empty() {
        out.raw(r#","colors":["#);
        each(out, colors, |out, Color { rgb, share }| {
            out.raw(r#"{"rgb":"#).text(rgb);
            out.raw(r#","share":"#).real(*share).raw("}");
        });
        out.raw("]");
    }
    if let Some(hash) = perceptual_hash {
        out.raw(r#","perceptual_hash":"#).quote(hash);
    }
    if let Some(hash) = thumb_hash {
        out.raw(r#","thumb_hash":"#).text(hash);
    }
    if let Some(camera) = camera {
        exif(out, camera);
    }
    if !flags.is_empty() {
        out.raw(r#","flags":["#);
        each(out, flags, |out, flag| {
            out.text(flag);
        });
        out.raw("]");
    }
    if !extra.is_empty() {
        out.raw(r#","extra":{"#);
        each(out, extra, |out, (key, value)| {
            out.text(key).raw(":");
            match value {
                Scalar::Bool(value) => out.show(value),
                Scalar::Number(value) => out.real(*value),
                Scalar::Text(value) => out.text(value),
            };
        });
        out.raw("}");
    }
    out.raw("}");
}

fn exif(out: &mut Json, exif: &Exif) {
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
    // All may be left out: which is the first is not known beforehand.
    let mut before = r#","exif":{"#;
    let mut name = |out: &mut Json, name: &str| {
        out.raw(before).raw(name);
        before = ",";
    };
    for (key, text) in [
        (r#""camera":"#, camera),
        (r#""lens":"#, lens),
        (r#""taken_at":"#, taken_at),
    ] {
        if let Some(text) = text {
            name(out, key);
            out.text(text);
        }
    }
    for (key, number) in [
        (r#""exposure_time":"#, exposure_time),
        (r#""f_number":"#, f_number),
    ] {
        if let Some(number) = number {
            name(out, key);
            out.real(*number);
        }
    }
    if let Some(iso) = iso {
        name(out, r#""iso":"#);
        out.show(iso);
    }
    if let Some(number) = focal_length {
        name(out, r#""focal_length":"#);
        out.real(*number);
    }
    if let Some(Gps {
        latitude,
        longitude,
        altitude,
    }) = gps
    {
        name(out, r#""gps":{"latitude":"#);
        out.real(*latitude).raw(r#","longitude":"#).real(*longitude);
        if let Some(altitude) = altitude {
            out.raw(r#","altitude":"#).real(*altitude);
        }
        out.raw("}");
    }
    if before != "," {
        out.raw(before);
    }
    out.raw("}");
}

/// Writes each of them, with a comma between.
fn each<T>(out: &mut Json, all: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Json, T)) {
    for (index, one) in all.into_iter().enumerate() {
        if index > 0 {
            out.raw(",");
        }
        write(out, one);
    }
}
