//! What is plotted of a report.

use super::chart::{Chart, Group, Line, Scale};
use crate::{
    bench::{FSYNC, NONE, PEER},
    report::{Report, Run},
};

/// A picture, and what it shows.
#[derive(Debug)]
pub(super) struct Plot {
    /// The name of its file.
    pub(super) file: &'static str,
    /// What it says to those who do not see it.
    pub(super) about: &'static str,
    /// All of it, as SVG.
    pub(super) picture: String,
}

/// Loads, and how they are called here.
const MANY: [(&str, &str); 3] = [
    ("10 KB, C=8 W=16", "10 KB"),
    ("100 KB, C=8 W=16", "100 KB"),
    ("1 MB, C=8 W=16", "1 MB"),
];
const TIMES: [(&str, &str); 2] = [
    ("10 KB, C=1 W=1", "10 KB, one at a time"),
    (
        "10 KB, C=8 W=16",
        "10 KB, 8 connections with 16 each under way",
    ),
];
/// Systems, and how they are called here.
const SYSTEMS: [(&str, &str); 3] = [
    (NONE, "imgsys, none"),
    (FSYNC, "imgsys, fsync"),
    (PEER, "Python"),
];
/// Parts of a system in the report, and how they are called here.
const PARTS: [&str; 5] = ["server", "worker", "persister", "redis", "postgres"];
const PART_NAMES: [&str; 5] = ["server", "worker", "persister", "Redis", "PostgreSQL"];

/// Those for which the report has runs.
pub(super) fn all(report: &Report) -> Vec<Plot> {
    let plots = [
        Plot::of(
            "cpu.svg",
            "Processor time of an image by size and part, imgsys beside Python",
            &cpu(report),
        ),
        Plot::of(
            "rate.svg",
            "Images a second by size, imgsys beside Python",
            &rate(report),
        ),
        Plot::of(
            "latency.svg",
            "How long an answer takes: p50, p95 and p99, imgsys beside Python",
            &latency(report),
        ),
    ];
    plots.into_iter().flatten().collect()
}

impl Plot {
    fn of(file: &'static str, about: &'static str, chart: &Chart) -> Option<Self> {
        (!chart.groups.is_empty()).then(|| Self {
            file,
            about,
            picture: chart.draw(),
        })
    }
}

fn cpu(report: &Report) -> Chart {
    Chart {
        title: "Processor time of an image, all processes but the load",
        axis: "milliseconds of processor time",
        unit: "ms",
        scale: Scale::Linear,
        legend: &PART_NAMES,
        groups: groups(report, &MANY, |median, _| {
            let part =
                |name| median(&|run| run.cpu_us.get(name).copied().unwrap_or_default() / 1e3);
            let parts: Option<Vec<f64>> = PARTS.into_iter().map(part).collect();
            let parts = parts.filter(|parts| parts.iter().sum::<f64>() > 0.0);
            parts.map(Line::Stack)
        }),
    }
}

fn rate(report: &Report) -> Chart {
    Chart {
        title: "Images a second, 8 connections with 16 images each under way",
        axis: "images a second",
        unit: "/s",
        scale: Scale::Linear,
        legend: &["imgsys, none", "imgsys, fsync", "Python"],
        groups: groups(report, &MANY, |median, system| {
            median(&|run| run.images_per_s).map(|rate| Line::Bar(rate, system))
        }),
    }
}

fn latency(report: &Report) -> Chart {
    Chart {
        title: "From sent to answered, half, 95 and 99 in a hundred",
        axis: "milliseconds, each step ten times the one before",
        unit: "ms",
        scale: Scale::Logarithmic,
        legend: &["p50", "p95", "p99"],
        groups: groups(report, &TIMES, |median, _| {
            let marks = [
                median(&|run| run.p50_ms),
                median(&|run| run.p95_ms),
                median(&|run| run.p99_ms),
            ];
            // A run in which none was taken has 0.
            let marks = marks.map(|mark| mark.filter(|time| *time > 0.0));
            marks.into_iter().collect::<Option<_>>().map(Line::Marks)
        }),
    }
}

/// The median of a figure of some runs, if there are any.
type Median<'a> = dyn Fn(&dyn Fn(&Run) -> f64) -> Option<f64> + 'a;

/// A group for each of the loads, and in it a line for each system that was under it.
fn groups(
    report: &Report,
    loads: &[(&str, &str)],
    line: impl Fn(&Median<'_>, usize) -> Option<Line>,
) -> Vec<Group> {
    let group = |&(cell, name): &(&str, &str)| {
        let systems = SYSTEMS.iter().enumerate();
        let lines = systems.filter_map(|(place, &(system, name))| {
            let median = |figure: &dyn Fn(&Run) -> f64| report.median(cell, system, figure);
            line(&median, place).map(|line| (name.to_owned(), line))
        });
        let lines: Vec<_> = lines.collect();
        let name = name.to_owned();
        (!lines.is_empty()).then_some(Group { name, lines })
    };
    loads.iter().filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::svg::tests::elements, *};

    fn run(cell: &str, system: &str, cpu: [f64; 5], rate: f64) -> Run {
        Run {
            cell: cell.into(),
            system: system.into(),
            repetition: 1,
            images: 1000,
            images_per_s: rate,
            p50_ms: 1.0,
            p95_ms: 10.0,
            p99_ms: 100.0,
            cpu_us: PARTS.map(String::from).into_iter().zip(cpu).collect(),
            cpu_us_all: cpu.iter().sum(),
            load_cpu_us: 10.0,
            drain_s: 0.0,
            others_cores: 0.0,
        }
    }

    fn report() -> Report {
        let small = MANY[0].0;
        Report {
            runs: vec![
                run(small, NONE, [200.0, 150.0, 10.0, 100.0, 90.0], 3000.0),
                run(small, PEER, [1300.0, 1100.0, 0.0, 160.0, 100.0], 600.0),
            ],
            ..Report::default()
        }
    }

    /// This attribute of all elements of this name that are drawn for figures.
    fn drawn(picture: &str, name: &str, attribute: &str) -> Vec<f64> {
        let all = elements(picture).into_iter();
        let all = all.filter(|(found, attributes)| {
            // The legend has squares.
            let square = attributes.iter().any(|(_, value)| value == "11");
            found == name && !square
        });
        let values = all.flat_map(|(_, attributes)| attributes);
        let values = values.filter(|(key, _)| key == attribute);
        values.map(|(_, value)| value.parse().unwrap()).collect()
    }

    #[test]
    fn bars_are_as_long_as_the_report_says() {
        let plots = all(&report());
        let files: Vec<&str> = plots.iter().map(|plot| plot.file).collect();
        assert_eq!(files, ["cpu.svg", "rate.svg", "latency.svg"]);
        let widths = drawn(&plots[0].picture, "rect", "width");
        let micros = [
            200.0, 150.0, 10.0, 100.0, 90.0, 1300.0, 1100.0, 0.0, 160.0, 100.0,
        ];
        assert_eq!(widths.len(), micros.len());
        for (width, micros) in widths.iter().zip(micros) {
            assert!(
                (width - micros * widths[0] / 200.0).abs() < 0.1,
                "{widths:?}"
            );
        }
        assert!(plots[0].picture.contains("<title>server: 0.20 ms</title>"));
        assert!(plots[0].picture.contains(">0.55 ms</text>"));
        let widths = drawn(&plots[1].picture, "rect", "width");
        assert!((widths[0] / widths[1] - 5.0).abs() < 0.01, "{widths:?}");
    }

    #[test]
    fn marks_are_as_far_apart_as_they_are_greater() {
        let plots = all(&report());
        let places = drawn(&plots[2].picture, "circle", "cx");
        assert_eq!(places.len(), 6);
        let steps = (places[1] - places[0], places[2] - places[1]);
        assert!(
            steps.0 > 50.0 && (steps.0 - steps.1).abs() < 0.02,
            "{places:?}"
        );
        assert!(plots[2].picture.contains(">1.00 · 10.0 · 100 ms</text>"));
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        assert!(all(&Report::default()).is_empty());
    }
}
