//! The tables of docs/scaling.md.

use super::{
    costs::Costs,
    plan::{Demand, Machine, Part, Plan, resources},
    queueing::{Stations, Visit, simulate},
};
use crate::stats::Times;
use std::fmt::Write;

/// Sizes of images, and what they are called.
const SIZES: [(&str, f64); 3] = [("10 KB", 1e4), ("100 KB", 1e5), ("1 MB", 1e6)];
/// What an analysis takes: of the header, of all pixels, by a network.
const ANALYSES_MS: [f64; 3] = [0.0, 5.0, 25.0];
const RATES: [f64; 5] = [1e3, 5e3, 1e4, 2e4, 5e4];
/// How full the fullest is, in percent.
const LOADS: [f64; 6] = [30.0, 50.0, 70.0, 80.0, 90.0, 95.0];
const DAY: f64 = 86_400.0;

/// All of them.
pub(super) fn all(costs: &Costs, machine: &Machine) -> String {
    let demands = RATES.iter().flat_map(|&rate| {
        ANALYSES_MS.map(|analysis| Demand {
            rate,
            bytes: 1e5,
            analysis_us: analysis * 1e3,
        })
    });
    let demands: Vec<Demand> = demands.collect();
    [
        measured(costs),
        walls(costs, machine),
        plans(costs, machine, &demands),
        latencies(costs, machine),
    ]
    .join("\n")
}

fn measured(costs: &Costs) -> String {
    let mut out = format!(
        "### What an image costs\n\nMeasured on: {}\n\n",
        costs.machine
    );
    out += "| µs of processor time | server | worker | persister | Redis | PostgreSQL | all |\n";
    out += "|---|---:|---:|---:|---:|---:|---:|\n";
    for (name, bytes) in SIZES {
        let cpu = costs.of(bytes);
        let all = [
            cpu.server,
            cpu.worker,
            cpu.persister,
            cpu.redis,
            cpu.postgres,
            cpu.sum(),
        ];
        let _ = writeln!(out, "| {name} | {} |", all.map(number).join(" | "));
    }
    let by_costs = costs.cores * 1e6 / (costs.small_us.sum() + costs.load_us);
    let _ = writeln!(
        out,
        "\nOf the server's, {} are its committing thread's. The database keeps {} bytes of an image, and \
         writes {} into its log; a job that waits takes {} bytes of Redis' memory. A single image is \
         answered in {} ms, {} more than the processor time that it takes among many: flushes, threads that \
         wake up, batches of one.\n",
        number(costs.committer_us),
        number(costs.row_bytes),
        number(costs.log_bytes),
        number(costs.waiting_bytes),
        number(costs.trip_ms),
        number(costs.still_us() / 1e3),
    );
    let _ = writeln!(
        out,
        "Held against the measurement: by these costs, {} cores come to {} images of 10 KB a second, with \
         the {} µs of the load itself; measured were {}.",
        number(costs.cores),
        number(by_costs),
        number(costs.load_us),
        number(costs.images_per_s),
    );
    out
}

fn walls(costs: &Costs, machine: &Machine) -> String {
    let of = |bytes, analysis| {
        let demand = Demand {
            rate: 1.0,
            bytes,
            analysis_us: analysis * 1e3,
        };
        resources(costs, machine, &demand)
    };
    let columns = [of(1e4, 0.0), of(1e5, 5.0), of(1e5, 25.0), of(1e6, 25.0)];
    let mut out = format!(
        "### Walls\n\nImages a second at which one of each is full, on machines of {} cores with {} Gbit/s \
         each way and a disk that writes {} MB/s:\n\n",
        machine.cores,
        number(machine.network * 8.0 / 1e9),
        number(machine.disk / 1e6)
    );
    out += "| what is full | 10 KB, header only | 100 KB, 5 ms | 100 KB, 25 ms | 1 MB, 25 ms |\n";
    out += "|---|---:|---:|---:|---:|\n";
    let mut rows: Vec<(&str, Vec<f64>)> = Vec::new();
    for (place, resource) in columns[0].iter().enumerate() {
        let each = columns.iter().map(|column| 1.0 / column[place].each);
        rows.push((resource.name, each.collect()));
    }
    // The first wall first.
    rows.sort_by(|(_, a), (_, b)| a[0].total_cmp(&b[0]));
    for (name, each) in rows {
        let each: Vec<String> = each.into_iter().map(number).collect();
        let _ = writeln!(out, "| {name} | {} |", each.join(" | "));
    }
    out
}

/// How many of each part these need.
pub(super) fn plans(costs: &Costs, machine: &Machine, demands: &[Demand]) -> String {
    let mut out = format!(
        "### How many of each\n\nSo many that nothing is more than {} % full; an answer takes from sent to \
         answered, of which *waits* are in lines.\n\n",
        number(machine.load * 100.0)
    );
    out += "| images/s | size | analysis | servers | Redis | workers | persisters | PostgreSQL | the fullest | p50 | p99 | waits p99 | images a day | rows a day |\n";
    out += "|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|\n";
    for demand in demands {
        let plan = Plan::of(costs, machine, demand);
        let counts = Part::ALL.map(|part| plan.count(part).to_string());
        let (fullest, full) = plan.fullest();
        let (times, waits) = answers(costs, machine, demand, &plan);
        let _ = writeln!(
            out,
            "| {} | {} | {} ms | {} | {fullest}, {:.0} % | {} ms | {} ms | {} ms | {} TB | {} GB |",
            number(demand.rate),
            size(demand.bytes),
            number(demand.analysis_us / 1e3),
            counts.join(" | "),
            full * 100.0,
            number(times[0]),
            number(times[1]),
            number(waits),
            number(demand.rate * demand.bytes * DAY / 1e12),
            number(demand.rate * costs.row_bytes * DAY / 1e9),
        );
    }
    out
}

/// Milliseconds: p50 and p99 of an answer, and p99 of what it waits in lines.
fn answers(costs: &Costs, machine: &Machine, demand: &Demand, plan: &Plan) -> ([f64; 2], f64) {
    let cpu = costs.of(demand.bytes);
    let shards = plan.count(Part::Redis);
    let kinds = [
        Stations {
            count: plan.count(Part::Server),
            places: machine.cores,
        },
        Stations {
            count: shards,
            places: 1,
        },
        // Each Redis has workers of its own.
        Stations {
            count: shards,
            places: (plan.count(Part::Worker) * machine.cores).div_ceil(shards),
        },
    ];
    let visit = |kind, mean_us| Visit { kind, mean_us };
    // Its bytes come in at first; else what is done for the task is as much as for the result.
    let back = costs.small_us.server / 2.0;
    let visits = [
        visit(0, cpu.server - back),
        visit(1, cpu.redis / 2.0),
        visit(2, cpu.worker + demand.analysis_us),
        visit(1, cpu.redis / 2.0),
        visit(0, back),
    ];
    let answered = simulate(demand.rate, &kinds, &visits);
    let still = costs.still_us() / 1e3;
    let at = |times: &Times, permille| times.at(permille);
    (
        [500, 990].map(|permille| at(&answered.times, permille) + still),
        at(&answered.waits, 990),
    )
}

/// One of each, but for as many workers as one Redis can feed.
fn latencies(costs: &Costs, machine: &Machine) -> String {
    const ANALYSIS_MS: f64 = 25.0;
    const BYTES: f64 = 1e5;
    let most = 1e6 / costs.of(BYTES).redis;
    let mut out = format!(
        "### How an answer slows down\n\nImages of {} with {} ms of analysis; one Redis, and so many servers \
         and workers that all are as full as it is:\n\n",
        size(BYTES),
        number(ANALYSIS_MS),
    );
    out += "| full | images/s | servers | workers | p50 | p99 | waits p99 |\n|---:|---:|---:|---:|---:|---:|---:|\n";
    for load in LOADS {
        let demand = Demand {
            rate: most * load / 100.0,
            bytes: BYTES,
            analysis_us: ANALYSIS_MS * 1e3,
        };
        // No fuller than Redis, or next to it.
        let machine = Machine {
            load: load / 100.0,
            ..*machine
        };
        let plan = Plan::of(costs, &machine, &demand);
        let (times, waits) = answers(costs, &machine, &demand, &plan);
        let _ = writeln!(
            out,
            "| {load:.0} % | {} | {} | {} | {} ms | {} ms | {} ms |",
            number(demand.rate),
            plan.count(Part::Server),
            plan.count(Part::Worker),
            number(times[0]),
            number(times[1]),
            number(waits),
        );
    }
    out
}

fn size(bytes: f64) -> String {
    let known = SIZES.iter().find(|(_, known)| (known - bytes).abs() < 1.0);
    known.map_or_else(
        || format!("{} KB", number(bytes / 1e3)),
        |(name, _)| (*name).to_owned(),
    )
}

/// With two or three digits, and spaces between thousands.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        0.0..10.0 if (value - value.round()).abs() > 0.05 => format!("{value:.1}"),
        0.0..1000.0 => format!("{value:.0}"),
        _ => thousands(value),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn thousands(value: f64) -> String {
    // Three digits are all that is known.
    let step = 10_f64.powf(value.abs().log10().floor() - 2.0);
    let digits = ((value / step).round() * step).round() as u64;
    let text = digits.to_string();
    let mut out = String::new();
    for (place, digit) in text.chars().enumerate() {
        if place > 0 && (text.len() - place).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_more_digits_than_are_known() {
        let shown = [0.0, 0.25, 3.0, 9.96, 47.4, 999.0, 12_345.0, 1_234_567.0].map(number);
        let expected = ["0", "0.2", "3", "10", "47", "999", "12 300", "1 230 000"];
        assert_eq!(shown, expected);
    }
}
