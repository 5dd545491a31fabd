//! Counters, gauges and histograms, as Prometheus reads them.
//!
//! Everything is registered once, at start, with all the values that a label can have: so a series
//! is there, as 0, before anything has happened, and to count is an atomic addition without a look
//! into a map. docs/metrics.md lists what each program has; a test holds it to the code.

// A label comes as a pair, to be read as one.
#![allow(clippy::needless_pass_by_value)]

use crate::process;
use prometheus::{Encoder, HistogramOpts, Opts, Registry, TextEncoder};
use std::{
    fmt,
    time::{Duration, Instant},
};

pub use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

/// Bounds of the buckets of times, in seconds: from an image on an idle system to one that waited
/// for a part that was down.
const SECONDS: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// Bounds of the buckets of counts.
const COUNTS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0,
];

/// Something that is wrong with how metrics are declared: a name twice, or one that is none.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// As the library has it.
    #[error("declaring metrics")]
    Declared(#[from] prometheus::Error),
    /// A value of a label was not declared.
    #[error("a metric's label has no such value")]
    Missing,
}

/// All metrics of a program. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// One metric for each value of a label.
#[derive(Debug, Clone)]
pub struct By<K, M>(Vec<(K, M)>);

impl<K: PartialEq, M> By<K, M> {
    /// The metric of this value; `None` if the value was not declared.
    #[must_use]
    pub fn get(&self, value: &K) -> Option<&M> {
        self.0
            .iter()
            .find_map(|(known, metric)| (known == value).then_some(metric))
    }
}

impl<K: PartialEq> By<K, IntCounter> {
    /// Adds to the counter of this value.
    pub fn add(&self, value: &K, count: u64) {
        if let Some(counter) = self.get(value) {
            counter.inc_by(count);
        }
    }
}

impl<K: PartialEq> By<K, IntGauge> {
    /// Sets the gauge of this value.
    pub fn set(&self, value: &K, now: u64) {
        if let Some(gauge) = self.get(value) {
            set(gauge, now);
        }
    }
}

impl<K: PartialEq> By<K, Histogram> {
    /// Notes how long this took.
    pub fn observe(&self, value: &K, time: Duration) {
        if let Some(histogram) = self.get(value) {
            histogram.observe(time.as_secs_f64());
        }
    }
}

/// Sets a gauge to a count; gauges end at [`i64::MAX`].
pub fn set(gauge: &IntGauge, now: u64) {
    gauge.set(i64::try_from(now).unwrap_or(i64::MAX));
}

/// Notes how long it is since then.
pub fn observe_since(histogram: &Histogram, begin: Instant) {
    histogram.observe(begin.elapsed().as_secs_f64());
}

impl Metrics {
    /// The metrics that every program has: which program it is, and what its process uses.
    pub fn new(program: &str, version: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let info = Opts::new("imgsys_build_info", "The program and its version; always 1")
            .const_label("program", program)
            .const_label("version", version);
        let info = IntGauge::with_opts(info)?;
        info.set(1);
        registry.register(Box::new(info))?;
        registry.register(Box::new(process::Usage::new()?))?;
        Ok(Self { registry })
    }

    /// Declares whether each of these parts can be reached, as `imgsys_up`.
    pub fn up(
        &self,
        parts: impl IntoIterator<Item = &'static str>,
    ) -> Result<By<&'static str, IntGauge>, MetricsError> {
        let help = "Whether the part can be reached: 1, or 0";
        self.gauges_by("imgsys_up", help, ("part", str::to_owned), parts)
    }

    /// Declares a counter.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.own(IntCounter::new(name, help)?)
    }

    /// Declares a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.own(IntGauge::new(name, help)?)
    }

    /// Declares a gauge of a time in seconds.
    pub fn seconds(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        self.own(Gauge::new(name, help)?)
    }

    /// Declares a histogram of times in seconds.
    pub fn times(&self, name: &str, help: &str) -> Result<Histogram, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        self.own(Histogram::with_opts(options)?)
    }

    /// Declares a histogram of counts.
    pub fn counts(&self, name: &str, help: &str) -> Result<Histogram, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(COUNTS.to_vec());
        self.own(Histogram::with_opts(options)?)
    }

    /// Declares a counter for each of these values of a label.
    pub fn counters_by<K: Copy>(
        &self,
        name: &str,
        help: &str,
        label: (&str, impl Fn(K) -> String),
        values: impl IntoIterator<Item = K>,
    ) -> Result<By<K, IntCounter>, MetricsError> {
        let all = self.own(prometheus::IntCounterVec::new(
            Opts::new(name, help),
            &[label.0],
        )?)?;
        each(values, |value| {
            all.get_metric_with_label_values(&[(label.1)(value)])
        })
    }

    /// Declares a gauge for each of these values of a label.
    pub fn gauges_by<K: Copy>(
        &self,
        name: &str,
        help: &str,
        label: (&str, impl Fn(K) -> String),
        values: impl IntoIterator<Item = K>,
    ) -> Result<By<K, IntGauge>, MetricsError> {
        let all = self.own(prometheus::IntGaugeVec::new(
            Opts::new(name, help),
            &[label.0],
        )?)?;
        each(values, |value| {
            all.get_metric_with_label_values(&[(label.1)(value)])
        })
    }

    /// Declares a histogram of times in seconds for each of these values of a label.
    pub fn times_by<K: Copy>(
        &self,
        name: &str,
        help: &str,
        label: (&str, impl Fn(K) -> String),
        values: impl IntoIterator<Item = K>,
    ) -> Result<By<K, Histogram>, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let all = self.own(prometheus::HistogramVec::new(options, &[label.0])?)?;
        each(values, |value| {
            all.get_metric_with_label_values(&[(label.1)(value)])
        })
    }

    fn own<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: M,
    ) -> Result<M, MetricsError> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// All metrics with their values, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::with_capacity(16 << 10);
        // Writing to memory can't fail, nor can a metric without samples be gathered.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!("writing metrics: {error}");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

fn each<K: Copy, M>(
    values: impl IntoIterator<Item = K>,
    metric: impl Fn(K) -> prometheus::Result<M>,
) -> Result<By<K, M>, MetricsError> {
    let pair = |value| Ok((value, metric(value)?));
    let pairs: prometheus::Result<_> = values.into_iter().map(pair).collect();
    Ok(By(pairs?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_beginning() {
        let metrics = Metrics::new("probe", "1.2.3").unwrap();
        let name = |code: u8| format!("code_{code}");
        let codes = metrics
            .counters_by(
                "imgsys_probe_total",
                "Probes by code",
                ("code", name),
                [1, 2],
            )
            .unwrap();
        let times = metrics.times("imgsys_probe_seconds", "How long").unwrap();
        codes.add(&2, 5);
        codes.add(&3, 5);
        times.observe(0.002);
        let text = metrics.render();
        for line in [
            "# TYPE imgsys_probe_total counter",
            "imgsys_probe_total{code=\"code_1\"} 0",
            "imgsys_probe_total{code=\"code_2\"} 5",
            "imgsys_probe_seconds_bucket{le=\"0.001\"} 0",
            "imgsys_probe_seconds_bucket{le=\"0.0025\"} 1",
            "imgsys_probe_seconds_count 1",
            "imgsys_build_info{program=\"probe\",version=\"1.2.3\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }

    #[test]
    fn a_name_can_be_declared_once() {
        let metrics = Metrics::new("probe", "0").unwrap();
        metrics.counter("imgsys_x_total", "x").unwrap();
        metrics.gauge("imgsys_x_total", "y").unwrap_err();
    }
}
