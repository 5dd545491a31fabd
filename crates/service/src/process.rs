//! What the process uses, under the names that Prometheus' own libraries give it.

use prometheus::{
    Counter, Gauge, IntGauge, Result,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};
use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// Read anew at each look.
pub(crate) struct Usage {
    cpu: Counter,
    resident: IntGauge,
    fds: IntGauge,
    max_fds: IntGauge,
    started: Gauge,
}

impl Usage {
    pub(crate) fn new() -> Result<Self> {
        let started = Gauge::new(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
        )?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        started.set(now.map_or(0.0, |now| now.as_secs_f64()));
        Ok(Self {
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "Processor time used, in the system and in the program",
            )?,
            resident: IntGauge::new("process_resident_memory_bytes", "Memory held in RAM")?,
            fds: IntGauge::new("process_open_fds", "Open file descriptors")?,
            max_fds: IntGauge::new("process_max_fds", "File descriptors that may be open")?,
            started,
        })
    }

    fn all(&self) -> [&dyn Collector; 5] {
        [
            &self.cpu,
            &self.resident,
            &self.fds,
            &self.max_fds,
            &self.started,
        ]
    }

    fn look(&self) {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = std::time::Duration::try_from(time).unwrap_or_default();
        self.cpu
            .inc_by((seconds.as_secs_f64() - self.cpu.get()).max(0.0));
        // What the system does not tell stays as it was.
        if let Some(pages) = resident_pages() {
            let bytes = pages.saturating_mul(rustix::param::page_size() as u64);
            crate::metrics::set(&self.resident, bytes);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is for this look.
            let open = files.count().saturating_sub(1);
            crate::metrics::set(&self.fds, open as u64);
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            crate::metrics::set(&self.max_fds, most);
        }
    }
}

fn resident_pages() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

impl Collector for Usage {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.look();
        self.all()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}
