//! What `similar` is given.

use clap::{Args, value_parser};
use imgsys_types::{JobId, PerceptualHash};
use std::{path::PathBuf, str::FromStr};

/// Options of `similar`.
#[derive(Debug, Args)]
pub(crate) struct Similar {
    /// A job's id, or a file that was sent before. A file whose name is an id is written `./ID`.
    #[arg(value_name = "IMAGE|JOB")]
    pub(crate) image: ImageArg,
    /// How many of the 64 bits of the perceptual hash may differ: 0 to 10.
    #[arg(short, long, value_name = "BITS", default_value_t = PerceptualHash::ALIKE,
          value_parser = value_parser!(u32).range(0..=i64::from(PerceptualHash::MAX_DISTANCE)))]
    pub(crate) distance: u32,
    /// Show this many jobs at most.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Print a JSON object for each job.
    #[arg(long)]
    pub(crate) json: bool,
}

/// An image on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageArg {
    /// That of this job.
    Job(JobId),
    /// This file.
    File(PathBuf),
}

impl FromStr for ImageArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text
            .parse()
            .map_or_else(|_| Self::File(text.into()), Self::Job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_job_and_all_else_a_file() {
        let id = "0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c";
        assert_eq!(id.parse(), Ok(ImageArg::Job(id.parse().unwrap())));
        for file in ["cat.jpg", "./0197f3a2-7c4e-7b61-9d05-1c2f3e4a5b6c", "-"] {
            assert_eq!(file.parse(), Ok(ImageArg::File(file.into())));
        }
    }
}
