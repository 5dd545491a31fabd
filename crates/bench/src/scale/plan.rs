//! What each part can do, and how many of it there have to be.

use super::costs::Costs;

/// A machine on which one part runs alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub(super) cores: usize,
    /// Bytes a second, each way.
    pub(super) network: f64,
    /// Bytes written a second.
    pub(super) disk: f64,
    /// How full anything may be: 0 to 1.
    pub(super) load: f64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// Images a second.
    pub(super) rate: f64,
    /// Bytes of each.
    pub(super) bytes: f64,
    /// What its analysis takes of a core.
    pub(super) analysis_us: f64,
}

/// What there are several of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A machine with a server.
    Server,
    /// A Redis; it has one thread for commands, so a machine carries several.
    Redis,
    /// A machine with a worker.
    Worker,
    /// A persister; it does one thing after the other, over one connection.
    Persister,
    /// A machine with PostgreSQL.
    Database,
}

impl Part {
    pub(super) const ALL: [Self; 5] = [
        Self::Server,
        Self::Redis,
        Self::Worker,
        Self::Persister,
        Self::Database,
    ];
}

/// Something of a part that can be full.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resource {
    pub(super) part: Part,
    pub(super) name: &'static str,
    /// Seconds of it that an image takes.
    pub(super) each: f64,
}

/// All that an image takes of each part.
#[expect(clippy::cast_precision_loss)]
pub(super) fn resources(costs: &Costs, machine: &Machine, demand: &Demand) -> Vec<Resource> {
    let cpu = costs.of(demand.bytes);
    let cores = |us: f64| us / 1e6 / machine.cores as f64;
    let network = demand.bytes / machine.network;
    let of = |part, name, each| Resource { part, name, each };
    // Redis keeps a log of all that it is told: the event, the task and the result.
    let rows = costs.log_bytes + costs.row_bytes;
    vec![
        of(Part::Server, "server: cores", cores(cpu.server)),
        of(
            Part::Server,
            "server: the thread that commits",
            costs.committer_us / 1e6,
        ),
        of(Part::Server, "server: network, in", network),
        of(Part::Server, "server: network, out to workers", network),
        of(Part::Server, "server: disk", demand.bytes / machine.disk),
        of(Part::Redis, "Redis: its thread", cpu.redis / 1e6),
        of(
            Part::Worker,
            "worker: cores",
            cores(cpu.worker + demand.analysis_us),
        ),
        of(Part::Worker, "worker: network", network),
        of(
            Part::Persister,
            "persister and its connection",
            (cpu.persister + cpu.postgres) / 1e6,
        ),
        of(Part::Database, "PostgreSQL: cores", cores(cpu.postgres)),
        of(Part::Database, "PostgreSQL: disk", rows / machine.disk),
    ]
}

/// How many of each part.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    counts: [usize; Part::ALL.len()],
    resources: Vec<Resource>,
    rate: f64,
}

impl Plan {
    /// So many that none is fuller than it may be.
    pub(super) fn of(costs: &Costs, machine: &Machine, demand: &Demand) -> Self {
        let resources = resources(costs, machine, demand);
        let count = |part| {
            let of_it = resources.iter().filter(|resource| resource.part == part);
            let most = of_it.map(|resource| resource.each).fold(0.0, f64::max);
            whole(demand.rate * most / machine.load)
        };
        Self {
            counts: Part::ALL.map(count),
            resources,
            rate: demand.rate,
        }
    }

    pub(super) fn count(&self, part: Part) -> usize {
        let place = Part::ALL.iter().position(|other| *other == part);
        place.map_or(0, |place| self.counts[place])
    }

    /// What is the fullest of all, and how full: 0 to 1.
    #[expect(clippy::cast_precision_loss)]
    pub(super) fn fullest(&self) -> (&'static str, f64) {
        let full =
            |resource: &Resource| self.rate * resource.each / self.count(resource.part) as f64;
        let all = self.resources.iter();
        let fullest = all.map(|resource| (resource.name, full(resource)));
        let fuller = |(_, a): &(&str, f64), (_, b): &(&str, f64)| a.total_cmp(b);
        fullest.max_by(fuller).unwrap_or(("", 0.0))
    }
}

/// The next whole number, 1 at least.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(count: f64) -> usize {
    (count.ceil() as usize).max(1)
}
