//! The classifier `onnx` over models too small to know anything but the main colour of a picture
//! (`models/make.py`): what is right with it and what is wrong, told when it is loaded.

#![allow(clippy::unwrap_used)]

use image::{Rgb, RgbImage};
use imgsys_analysis::{
    Depth, Limits, Onnx, Options, analyze,
    onnx::{Layout, ModelError, Resize, Settings},
};
use imgsys_types::{Analysis, Digest};
use sha2::{Digest as _, Sha256};
use std::{fs, io::Cursor, path::Path, sync::Arc, thread};

const LABELS: &str = "red\ngreen\nblue\n";

const OPTIONS: Options = Options {
    limits: Limits {
        max_pixels: 1_000_000,
        max_side: 2000,
        max_decode_memory: 16 << 20,
    },
    depth: Depth::Header,
    keep_gps: false,
};

fn settings() -> Settings {
    Settings {
        name: "main-color".into(),
        input_size: 8,
        mean: [0.0; 3],
        scale: [255.0; 3],
        ..Settings::default()
    }
}

fn model(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    fs::read(folder.join(name)).unwrap()
}

fn load(name: &str, settings: Settings) -> Result<Onnx, ModelError> {
    Onnx::new(&model(name), LABELS, settings)
}

/// A green picture, with blue at its left and right.
fn green() -> Vec<u8> {
    let image = RgbImage::from_fn(300, 100, |x, _| {
        Rgb(if (60..240).contains(&x) {
            [0, 255, 0]
        } else {
            [0, 0, 255]
        })
    });
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn analysis(classifier: &Onnx) -> Analysis {
    analyze(&green(), Digest::from_bytes([0; 32]), &OPTIONS, classifier).unwrap()
}

#[test]
fn layouts_open_shapes_and_logits_come_to_the_same() {
    for (name, settings) in [
        ("nchw.onnx", settings()),
        ("depthwise.onnx", settings()),
        ("open.onnx", settings()),
        (
            "nhwc.onnx",
            Settings {
                layout: Layout::Nhwc,
                ..settings()
            },
        ),
        (
            "logits.onnx",
            Settings {
                softmax: true,
                ..settings()
            },
        ),
    ] {
        let found = analysis(&load(name, settings).unwrap());
        assert_eq!(found.label, "green", "{name}");
        // The centre is all green: e^10 / (e^10 + 2).
        assert!((found.confidence - 99.9909).abs() < 0.0002, "{found:?}");
        assert_eq!(found.scores.len(), 3);
        assert_eq!(found.scores[0].label, "green");
        // The pixels were needed, so they were measured too.
        assert!(found.properties.sharpness.is_some());
    }
}

#[test]
fn the_resize_rule_decides_what_is_seen() {
    let squeezed = Settings {
        resize: Resize::Squeeze,
        ..settings()
    };
    let found = analysis(&load("nchw.onnx", squeezed).unwrap());
    // 60 % green, 40 % blue.
    let expected = 100.0 / (1.0 + (-2.0_f64).exp() + (-6.0_f64).exp());
    assert_eq!(found.label, "green");
    assert!((found.confidence - expected).abs() < 0.5, "{found:?}");
}

#[test]
fn few_labels_are_told_and_none_below_the_least_confidence() {
    let one = Settings {
        top_k: 1,
        ..settings()
    };
    assert_eq!(analysis(&load("nchw.onnx", one).unwrap()).scores.len(), 1);

    let sure = Settings {
        min_confidence: 50.0,
        ..settings()
    };
    assert_eq!(analysis(&load("nchw.onnx", sure).unwrap()).scores.len(), 1);

    let surest = Settings {
        min_confidence: 100.0,
        ..settings()
    };
    let found = analysis(&load("nchw.onnx", surest).unwrap());
    assert_eq!((&*found.label, found.scores.len()), ("unknown", 0));
    assert!(found.confidence > 99.0);
}

#[test]
fn results_bear_name_version_and_digest() {
    let bytes = model("nchw.onnx");
    let first = analysis(&Onnx::new(&bytes, LABELS, settings()).unwrap()).analyzer;
    assert_eq!(first.name, "main-color");
    assert!(first.version.starts_with("1+"), "{first:?}");
    let digest = Digest::from_bytes(Sha256::digest(&bytes).into());
    assert_eq!(first.model, Some(digest));

    let version = |labels, settings| {
        let classifier = Onnx::new(&bytes, labels, settings).unwrap();
        analysis(&classifier).analyzer.version
    };
    assert_eq!(version(LABELS, settings()), first.version);
    let other = Settings {
        mean: [1.0; 3],
        ..settings()
    };
    assert_ne!(version(LABELS, other), first.version);
    assert_ne!(version("rouge\nvert\nbleu", settings()), first.version);
}

#[test]
fn what_is_wrong_is_told_at_once() {
    let large = Settings {
        input_size: 9,
        ..settings()
    };
    let nhwc = Settings {
        layout: Layout::Nhwc,
        ..settings()
    };
    let nothing = Settings {
        scale: [0.0; 3],
        ..settings()
    };
    for (name, labels, settings, expected) in [
        (
            "nchw.onnx",
            "red\ngreen",
            settings(),
            "tells 3 labels apart, but there are 2",
        ),
        (
            "nchw.onnx",
            "red\n\nblue",
            settings(),
            "line 2 of the labels is empty",
        ),
        (
            "nchw.onnx",
            LABELS,
            large,
            "is 1x3x8x8 of F32, but size and layout make it 1x3x9x9",
        ),
        (
            "nchw.onnx",
            LABELS,
            nhwc,
            "is 1x3x8x8 of F32, but size and layout make it 1x8x8x3",
        ),
        ("nchw.onnx", LABELS, nothing, "scale: "),
        (
            "two-inputs.onnx",
            LABELS,
            settings(),
            "the model has 2 inputs",
        ),
        (
            "logits.onnx",
            LABELS,
            settings(),
            "perhaps it needs softmax",
        ),
        ("make.py", LABELS, settings(), "reading the model: "),
    ] {
        let error = Onnx::new(&model(name), labels, settings).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
}

#[test]
fn bytes_that_are_no_model_are_an_error_never_a_panic() {
    let bytes = model("nchw.onnx");
    for end in 0..bytes.len() {
        let _ = Onnx::new(&bytes[..end], LABELS, settings());
    }
}

#[test]
fn one_model_serves_all_threads() {
    let classifier = Arc::new(load("nchw.onnx", settings()).unwrap());
    let expected = analysis(&classifier);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let classifier = Arc::clone(&classifier);
            thread::spawn(move || (0..20).map(|_| analysis(&classifier)).collect::<Vec<_>>())
        })
        .collect();
    for thread in threads {
        assert!(
            thread
                .join()
                .unwrap()
                .iter()
                .all(|found| *found == expected)
        );
    }
}
