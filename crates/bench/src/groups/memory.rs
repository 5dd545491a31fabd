//! The memory of programs.

use crate::{
    bench::{Bench, FSYNC, PEER},
    report::Row,
    stats::float,
};

const MIB: f64 = 1_048_576.0;

/// Server, persister and worker, started and idle.
pub(super) fn idle(bench: &mut Bench) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for system in bench.systems()? {
        let memory = system.memory();
        let parts = memory
            .iter()
            .map(|(part, bytes)| format!("{part} {:.1}", float(*bytes) / MIB));
        let parts: Vec<_> = parts.collect();
        all.push((
            system.name,
            float(memory.values().sum()) / MIB,
            parts.join(", "),
        ));
    }
    for (name, _, parts) in &all {
        bench.fact(
            "memory",
            format!("memory (PSS) in MiB of {name}, idle: {parts}"),
        );
    }
    let of = |name| {
        all.iter()
            .find(|(known, ..)| *known == name)
            .map(|(_, memory, _)| *memory)
    };
    let name = "idle memory: server, persister and worker (PSS)";
    bench.put(Row::less(
        name,
        "MiB",
        of(FSYNC).unwrap_or_default(),
        of(PEER),
        6.0,
    ));
    Ok(())
}
