//! Health and metrics of the programs, and everything that names a metric: docs/metrics.md, the
//! alert rules and the dashboard are held to what the programs really tell.
//!
//! `UPDATE_DOCS=1 cargo test -p imgsys-local --test metrics` writes docs/metrics.md anew.

#![allow(
    clippy::similar_names,
    reason = "queue and queued are what they are called"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod support;

use assert_cmd::Command;
use imgsys_local::{Service, Stack};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};
use support::{eventually, get, side};

const CAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/cat.jpg");

/// A metric as a program tells it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    /// Label → values, the bounds of buckets left out.
    labels: BTreeMap<String, BTreeSet<String>>,
}

type Families = BTreeMap<String, Family>;

fn scrape(service: &Service) -> String {
    let (status, text) = get(&side(service), "/metrics", &[]);
    assert_eq!(status, 200);
    text
}

/// The value of the series written so.
fn value(text: &str, series: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
    line.parse().unwrap()
}

/// The metric to which a series belongs.
fn family_name(series: &str, known: impl Fn(&str) -> bool) -> Option<String> {
    let suffixes = ["", "_bucket", "_sum", "_count"];
    let mut names = suffixes
        .iter()
        .filter_map(|suffix| series.strip_suffix(suffix));
    names.find(|name| known(name)).map(str::to_owned)
}

fn parse(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            help.clone_into(&mut families.entry(name.to_owned()).or_default().help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
        } else {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let name = family_name(name, |name| families.contains_key(name)).unwrap();
            let family = families.get_mut(&name).unwrap();
            for pair in labels.trim_end_matches('}').split("\",") {
                if let Some((label, value)) = pair.split_once("=\"")
                    && label != "le"
                {
                    let values = family.labels.entry(label.to_owned()).or_default();
                    values.insert(value.trim_end_matches('"').to_owned());
                }
            }
        }
    }
    families
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

const HEAD: &str = "# Metrics

Each program has an HTTP side listener (`http_listen` in its section of the configuration; by default
7451 on the server, 7452 on a worker, 7453 on a persister, on 127.0.0.1 only):

| path | tells |
|---|---|
| `/livez` | 200 while the process runs |
| `/readyz` | 200 if the program can do its work, else 503; as JSON, such as `{\"ready\":true,\"down\":[\"redis\"]}`, what is down of that which it needs |
| `/metrics` | what is below, in Prometheus' text format |

A server goes on accepting without Redis and PostgreSQL, so it is ready whatever is down, until it
shuts down; a worker needs Redis, a persister needs both. What is told of these parts is at most a
second old (a persister tells what it met last). Every series is there from the start, as 0.

[alerts.yml](alerts.yml) has alert rules for Prometheus, [grafana-dashboard.json](grafana-dashboard.json)
a dashboard for Grafana. This page is made from what the programs tell, and a test holds all three to it.
";

/// Labels with their values; of long lists, only the label.
fn labels(family: &Family) -> String {
    const FEW: usize = 6;
    let label = |(label, values): (&String, &BTreeSet<String>)| {
        // Versions change, and analyzers are named by whoever makes them.
        let is_open = ["version", "program", "analyzer"].contains(&label.as_str());
        if is_open || values.len() > FEW {
            return format!("`{label}`");
        }
        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        format!("`{label}`: {}", values.join(", "))
    };
    let labels: Vec<_> = family.labels.iter().map(label).collect();
    labels.join("; ")
}

fn document(programs: &[(&str, Families)]) -> String {
    let mut text = HEAD.to_owned();
    let common: BTreeSet<_> = programs[0]
        .1
        .keys()
        .filter(|name| programs.iter().all(|(_, all)| all.contains_key(*name)))
        .filter(|name| *name != "imgsys_up")
        .collect();
    let table = |text: &mut String, title: &str, families: &Families, shared: bool| {
        let head = "| metric | kind | labels | what it is |\n|---|---|---|---|";
        let _ = writeln!(text, "\n## {title}\n\n{head}");
        for (name, family) in families {
            if common.contains(name) == shared {
                let Family { kind, help, .. } = family;
                let labels = labels(family);
                let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
            }
        }
    };
    table(&mut text, "All programs", &programs[0].1, true);
    for (program, families) in programs {
        table(&mut text, program, families, false);
    }
    text.replace("|  |", "| – |")
}

/// The expressions of the alert rules and of the dashboard.
fn expressions() -> Vec<String> {
    let alerts = fs::read_to_string(docs("alerts.yml")).unwrap();
    let lines = alerts.lines().map(str::trim);
    let mut found: Vec<String> = lines
        .filter_map(|line| line.strip_prefix("expr: "))
        .map(str::to_owned)
        .collect();
    assert_eq!(found.len(), alerts.matches("- alert:").count());
    let dashboard = fs::read_to_string(docs("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{} shows nothing", panel["title"]);
        found.extend(
            targets
                .iter()
                .map(|t| t["expr"].as_str().unwrap().to_owned()),
        );
    }
    found
}

/// What an expression names that is nowhere told: a metric, or a value of a label.
fn unknown(expression: &str, known: &Families) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut wrong = Vec::new();
    for (at, _) in expression.match_indices(is_word) {
        let before = expression[..at].chars().next_back();
        let word = &expression[at..];
        let end = word.find(|c| !is_word(c)).unwrap_or(word.len());
        let (word, rest) = word.split_at(end);
        let ours = word.starts_with("imgsys_") || word.starts_with("process_");
        if !ours || before.is_some_and(is_word) {
            continue;
        }
        let Some(name) = family_name(word, |name| known.contains_key(name)) else {
            wrong.push(word.to_owned());
            continue;
        };
        let matchers = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
            .map_or("", |(matchers, _)| matchers);
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, values) = matcher.split_once('=').unwrap();
            if ["instance", "job"].contains(&label) {
                continue;
            }
            for value in values.trim_matches(['~', '"']).split('|') {
                let told = known[&name].labels.get(label);
                if !told.is_some_and(|told| told.contains(value)) {
                    wrong.push(format!("{name}{{{label}=\"{value}\"}}"));
                }
            }
        }
    }
    wrong
}

fn check_documents(programs: &[(&str, Families)]) {
    let document = document(programs);
    let file = docs("metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &document).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == document,
        "docs/metrics.md does not list what the programs tell: write it anew with UPDATE_DOCS=1"
    );

    let mut known = Families::new();
    for (name, family) in programs.iter().flat_map(|(_, families)| families) {
        let merged = known.entry(name.clone()).or_insert_with(|| family.clone());
        for (label, values) in &family.labels {
            let all = merged.labels.entry(label.clone()).or_default();
            all.extend(values.iter().cloned());
        }
    }
    assert_eq!(
        unknown("x_imgsys_a + imgsys_up{part=\"moon\"} + imgsys_b", &known),
        ["imgsys_up{part=\"moon\"}", "imgsys_b"]
    );
    for expression in expressions() {
        let unknown = unknown(&expression, &known);
        assert!(unknown.is_empty(), "{unknown:?} in {expression}");
    }
    for (name, family) in &known {
        let (kind, help) = (&family.kind, &family.help);
        assert!(!help.is_empty(), "{name} does not say what it is");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    }
}

#[test]
fn metrics_are_counted_documented_and_used_by_their_names() {
    let stack = Stack::builder().start().unwrap();
    let (server, worker, persister) = (stack.server(), &stack.workers()[0], stack.persister());
    for service in [server, worker, persister] {
        assert_eq!(get(&side(service), "/livez", &[]), (200, "ok\n".to_owned()));
        eventually("all is up", || {
            let (status, body) = get(&side(service), "/readyz", &[]);
            let body: Value = serde_json::from_str(&body).unwrap();
            (status == 200 && body == json!({"ready": true, "down": []})).then_some(())
        });
    }

    let imgsys = Path::new(env!("CARGO_BIN_EXE_imgsys-local")).with_file_name("imgsys");
    let bytes = fs::metadata(CAT).unwrap().len();
    // A text is no image, but is a job.
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    Command::new(imgsys)
        .env("IMGSYS_SERVER", stack.address())
        .args(["send", CAT, text])
        .assert()
        .code(1);
    let text = eventually("rows are told to the server", || {
        let text = scrape(server);
        let persisted = "imgsys_stage_seconds_count{stage=\"persist\"}";
        (value(&text, persisted) > 1.0 && value(&text, "imgsys_spool_jobs") < 1.0).then_some(text)
    });
    for (series, least, most) in [
        ("imgsys_uploads_total{code=\"accepted\"}", 2.0, 2.0),
        (
            "imgsys_upload_bytes_total{code=\"accepted\"}",
            f64_of(bytes),
            f64_of(bytes) + 5000.0,
        ),
        ("imgsys_jobs_total{outcome=\"done\"}", 1.0, 1.0),
        (
            "imgsys_jobs_total{outcome=\"unsupported_format\"}",
            1.0,
            1.0,
        ),
        ("imgsys_dispatched_total", 2.0, 2.0),
        ("imgsys_stage_seconds_count{stage=\"accept\"}", 2.0, 2.0),
        ("imgsys_stage_seconds_count{stage=\"total\"}", 2.0, 2.0),
        ("imgsys_stage_seconds_sum{stage=\"total\"}", 0.0001, 60.0),
        ("imgsys_up{part=\"redis\"}", 1.0, 1.0),
        ("imgsys_up{part=\"postgresql\"}", 1.0, 1.0),
        ("imgsys_oldest_job_age_seconds", 0.0, 0.0),
        ("imgsys_queue_tasks{state=\"waiting\"}", 0.0, 0.0),
        ("imgsys_disk_available_bytes", 1.0, f64::MAX),
    ] {
        let told = value(&text, series);
        assert!(told >= least && told <= most, "{series} is {told}");
    }
    let worked = scrape(worker);
    assert!(value(&worked, "imgsys_worker_tasks_total{outcome=\"done\"}") >= 1.0);
    assert!(
        value(
            &worked,
            "imgsys_worker_analysis_seconds_count{analyzer=\"simulated\"}"
        ) >= 2.0
    );
    assert!(value(&worked, "imgsys_worker_running_tasks").abs() < 1.0);
    let written = scrape(persister);
    // What was accepted, and how it ended.
    assert!(
        value(
            &written,
            "imgsys_persister_events_total{outcome=\"written\"}"
        ) >= 4.0
    );
    assert!(value(&written, "imgsys_persister_lag_seconds_count") >= 4.0);

    check_documents(&[
        ("Server", parse(&text)),
        ("Worker", parse(&worked)),
        ("Persister", parse(&written)),
    ]);
}

fn f64_of(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes).unwrap())
}

#[test]
fn what_is_down_is_told() {
    let stack = Stack::builder().start().unwrap();
    stack.redis().stop();
    stack.postgres().stop();
    let told = |service: &Service, ready: bool, down: &[&str]| {
        eventually("it is told", || {
            let (status, body) = get(&side(service), "/readyz", &[]);
            let body: Value = serde_json::from_str(&body).unwrap();
            let expected = json!({"ready": ready, "down": down});
            (body == expected && status == if ready { 200 } else { 503 }).then_some(())
        });
    };
    // A server accepts all the same.
    told(stack.server(), true, &["redis", "postgresql"]);
    told(&stack.workers()[0], false, &["redis"]);
    let text = scrape(stack.server());
    assert!(value(&text, "imgsys_up{part=\"postgresql\"}").abs() < f64::EPSILON);

    stack.postgres().start().unwrap();
    stack.redis().start().unwrap();
    told(stack.server(), true, &[]);
    told(&stack.workers()[0], true, &[]);
    told(stack.persister(), true, &[]);
}
