//! Which jobs of the history a command is about.

use super::{parse_percent, parse_state};
use crate::times::parse_time;
use clap::Args;
use imgsys_types::{Digest, HistoryFilter, JobState, Timestamp};

/// Which jobs of the past. All that is given must hold of a job, or of its newest result.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which jobs")]
pub(crate) struct Filter {
    /// Submitted at this time or later: 2026-11-01, '2026-11-01 12:00', RFC 3339, or a span such as
    /// 2h or 7d ago.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) since: Option<Timestamp>,
    /// Submitted before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) until: Option<Timestamp>,
    /// With exactly this label.
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// With at least this confidence, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub(crate) min_confidence: Option<f64>,
    /// In this state: queued, done or failed.
    #[arg(long, value_parser = parse_state)]
    pub(crate) state: Option<JobState>,
    /// Whose name begins so.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) name: Option<String>,
    /// Analysed by an analyzer of this name, such as simulated or onnx.
    #[arg(long, value_name = "NAME")]
    pub(crate) analyzer: Option<String>,
    /// Analysed, but not by this version of its analyzer.
    #[arg(long, value_name = "VERSION")]
    pub(crate) except_version: Option<String>,
    /// Analysed, but not with the model of this SHA-256.
    #[arg(long, value_name = "SHA256")]
    pub(crate) except_model: Option<Digest>,
}

impl Filter {
    /// The filter as the protocol has it.
    pub(crate) fn wire(&self) -> HistoryFilter {
        HistoryFilter {
            since: self.since,
            until: self.until,
            label: self.label.clone(),
            min_confidence: self.min_confidence,
            state: self.state,
            name: self.name.clone(),
            analyzer: self.analyzer.clone(),
            except_version: self.except_version.clone(),
            except_model: self.except_model,
        }
    }
}
