//! The report for people.

use super::{Report, Row, Run};
use std::{collections::BTreeSet, fmt::Write};

/// The report as Markdown.
#[must_use]
pub(crate) fn markdown(report: &Report) -> String {
    let mut out = format!("# Benchmark\n\n{}\n\n", report.machine);
    out += &table(&report.rows);
    out += "\nA ratio says how many times better ours is than the peer's, our own other figure, or the bound.\n";
    runs(&mut out, report);
    limits(&mut out, report);
    for fact in &report.facts {
        let _ = writeln!(out, "\n- {}", fact.text);
    }
    out
}

/// The rows as a table.
#[must_use]
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| what | unit | ours | peer | ratio | at least | holds |\n|---|---|--:|--:|--:|--:|---|\n",
    );
    for row in rows {
        line(
            &mut out,
            &[
                row.name.clone(),
                row.unit.clone(),
                number(row.ours),
                row.peer.map_or("–".into(), number),
                row.ratio.map_or("–".into(), number),
                number(row.least),
                match row.holds {
                    Some(true) => "yes".into(),
                    Some(false) => "**no**".into(),
                    None => "skipped".into(),
                },
            ],
        );
    }
    out
}

fn line(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

/// With about three digits.
#[must_use]
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn runs(out: &mut String, report: &Report) {
    let mut seen = BTreeSet::new();
    let pairs = report
        .runs
        .iter()
        .filter(|run| seen.insert((&run.cell, &run.system)));
    let pairs: Vec<&Run> = pairs.collect();
    if pairs.is_empty() {
        return;
    }
    *out += "\n## Loads\n\nMedians. CPU is µs an image: all parts, then each.\n\n";
    *out += "| load | system | images/s (range) | p50 ms | p95 | p99 | CPU | by part | of the load | drain s | others' cores |\n";
    *out += "|---|---|--:|--:|--:|--:|--:|---|--:|--:|--:|\n";
    for pair in pairs {
        let of = |figure: &dyn Fn(&Run) -> f64| {
            number(
                report
                    .median(&pair.cell, &pair.system, figure)
                    .unwrap_or_default(),
            )
        };
        // Where images wait for long there is none.
        let time = |figure: &dyn Fn(&Run) -> f64| match of(figure) {
            none if none == number(0.0) => "–".into(),
            time => time,
        };
        let rates = || {
            report
                .runs(&pair.cell, &pair.system)
                .map(|run| run.images_per_s)
        };
        let parts = pair.cpu_us.keys().map(|part| {
            let cpu = of(&|run| run.cpu_us.get(part).copied().unwrap_or_default());
            format!("{part} {cpu}")
        });
        line(
            out,
            &[
                pair.cell.clone(),
                pair.system.clone(),
                format!(
                    "{} ({}–{})",
                    of(&|run| run.images_per_s),
                    number(rates().fold(f64::INFINITY, f64::min)),
                    number(rates().fold(0.0, f64::max))
                ),
                time(&|run| run.p50_ms),
                time(&|run| run.p95_ms),
                time(&|run| run.p99_ms),
                of(&|run| run.cpu_us_all),
                parts.collect::<Vec<_>>().join(", "),
                of(&|run| run.load_cpu_us),
                of(&|run| run.drain_s),
                of(&|run| run.others_cores),
            ],
        );
    }
}

fn limits(out: &mut String, report: &Report) {
    if report.limits.is_empty() {
        return;
    }
    *out += "\n## What the machine can do\n\n";
    *out += "| limit | a second | an image needs | images/s by it | ours of that |\n|---|--:|--:|--:|--:|\n";
    for limit in &report.limits {
        let ours = report.median(&limit.cell, &limit.system, |run| run.images_per_s);
        let by_it = limit.per_second / limit.per_image;
        line(
            out,
            &[
                limit.name.clone(),
                format!("{} {}", number(limit.per_second), limit.unit),
                number(limit.per_image),
                number(by_it),
                ours.map_or("–".into(), |ours| {
                    format!("{:.1} %", 100.0 * ours / by_it)
                }),
            ],
        );
    }
}
