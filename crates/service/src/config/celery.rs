//! `[celery]`: what programs written for Celery see of imgsys, and may do.

use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which events workers send to Celery's monitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Events {
    /// None: monitors can ask workers, but don't see them come, live and go.
    Off,
    /// Those of workers; those of tasks as soon as a monitor wants them, as Flower does.
    Worker,
    /// Those of tasks too, from the start.
    Task,
}

/// What programs written for Celery see of imgsys, and may do.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CeleryConfig {
    /// Which events workers send to Celery's monitors
    #[arg(id = "celery.events", long, value_enum, default_value = "worker")]
    pub events: Events,
    /// Whether workers do what Celery's remote control says; whoever reaches Redis may say it
    #[arg(
        id = "celery.remote_control",
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value = "true"
    )]
    pub remote_control: bool,
    /// Whether servers tell Celery's monitors of each task that they send
    #[arg(id = "celery.sent_events", long)]
    pub sent_events: bool,
    /// How long Celery's results of tasks are kept in Redis, some 0.9 kB each; 0s for none. Nothing of
    /// imgsys needs them
    #[arg(id = "celery.result_expires", long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub result_expires: Duration,
}
