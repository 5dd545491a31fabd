//! One task, from its start to its verdict.

use super::{
    AnalyzeTask, Shared, Verdict,
    control::{REVOKED, revoked},
    finish::Finish,
    leases::{Released, Started},
};
use crate::{
    incoming, keys,
    link::Backoff,
    monitor::{events::TaskEvent, python},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use imgsys_types::{Analysis, Failure, FailureReason, JobResult, Outcome, Timestamp};
use redis::cmd;
use serde_json::json;
use std::{
    any::Any,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tracing::{debug, error, info};

/// The pauses between attempts: one second, doubling to five minutes.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

impl Shared {
    /// Runs the tasks that are held under these leases, and ends them.
    pub(super) async fn run_all(&self, leases: &[String]) {
        let mut running: FuturesUnordered<_> = leases.iter().map(|lease| self.run(lease)).collect();
        while running.next().await.is_some() {}
    }

    /// Runs the task that is held under this lease, and ends it. Nothing happens if its message
    /// has been given back.
    async fn run(&self, lease: &str) {
        // Those that waited for their time may all come at once.
        let Ok(slot) = self.slots.acquire().await else {
            return;
        };
        self.control.rate.turn().await;
        let Some(started) = self.leases.start(lease, &self.events) else {
            return;
        };
        if started.task.eta.is_some() && self.has_ended(&started).await {
            if let Some(released) = self.leases.end(lease) {
                let finish = Finish::acknowledge(started.task.id.clone(), released.tags);
                self.settle(lease, finish).await;
            }
            return;
        }
        let taken_at = Timestamp::now();
        let clock = Instant::now();
        let verdict = tokio::select! {
            biased;
            verdict = self.judge(&started) => verdict,
            () = started.cancelled.cancelled() => return,
            () = started.revoked.cancelled() => Verdict::Failed(revocation()),
        };
        drop(slot);
        let outcome = match verdict {
            Verdict::Done(analysis) => Outcome::Done(analysis),
            Verdict::Failed(failure) => Outcome::Failed(failure),
            Verdict::Retry(why) if started.task.retries < self.options.max_retries => {
                if self.events.tasks() {
                    let exception = format!("Retry({})", python::string(&why));
                    let traceback = None;
                    let retried = TaskEvent::Retried {
                        exception,
                        traceback,
                    };
                    self.events.task(&started.task.id, retried);
                }
                self.try_again(lease, next_attempt(&started, &why)).await;
                return;
            }
            Verdict::Retry(why) => {
                let detail = format!("gave up after {} attempts: {why}", started.attempt);
                Outcome::Failed(Failure::new(FailureReason::RetriesExhausted, detail))
            }
        };
        let result = JobResult {
            run: started.task.arguments.run,
            outcome,
            worker: Some(self.options.name.clone()),
            attempts: started.attempt,
            queued_us: micros(taken_at.since(started.task.arguments.accepted_at())),
            analysis_us: micros(clock.elapsed()),
            finished_at: Timestamp::now(),
        };
        if let Some(released) = self.leases.end(lease) {
            let ended = self.events.tasks().then(|| ended(&started, &result));
            self.settle(lease, Finish::task(released, result)).await;
            if let Some(ended) = ended {
                self.events.task(&started.task.id, ended);
            }
        }
    }

    /// Puts the task that is held under this lease on the queue again, to be run at that time.
    pub(super) async fn try_again(&self, lease: &str, at: DateTime<Utc>) {
        let Some(Released { task, mut tags }) = self.leases.end(lease) else {
            return;
        };
        let message = match incoming::retried(&task.raw, at) {
            Ok(message) => message,
            Err(error) => {
                // It has been read as JSON before. Its lease runs out, and it comes again.
                error!(job = %task.arguments.job, "making a task's next message: {error}");
                return;
            }
        };
        loop {
            let mut call = self.give_back_call(task.level);
            call.arg("LPUSH").arg(&message).arg(&task.id).arg(&tags);
            let mut backoff = Backoff::redis();
            while let Err(_noted) = self.link.script::<u64>(&call).await {
                backoff.wait().await;
            }
            // What was put back may have come here again before Redis' answer, which may have been
            // lost. It is no copy that has shared this one's fate, but the task itself: it is put back
            // once more, and from now on it is held like any other.
            tags = self.leases.settled(lease, &tags);
            if tags.is_empty() {
                return;
            }
        }
    }

    /// What comes of the task, whatever the analyzer does.
    async fn judge(&self, started: &Started) -> Verdict {
        let task = &started.task;
        let failed = |reason, detail: String| Verdict::Failed(Failure::new(reason, detail));
        if let Some(expires) = task.expires
            && expires <= Utc::now()
        {
            let detail = format!("no worker took it before {}", expires.to_rfc3339());
            return failed(FailureReason::Expired, detail);
        }
        if self.control.revoked.contains(&task.id) {
            return Verdict::Failed(revocation());
        }
        let analysis = self.analyzer.analyze(AnalyzeTask {
            job: task.arguments.job(),
            run: task.arguments.run,
            image_url: task.arguments.image_url.clone(),
            checksum: task.checksum,
            attempt: started.attempt,
            alone: started.alone,
            begun: started.begun.clone(),
        });
        match self
            .in_time(started, AssertUnwindSafe(analysis).catch_unwind())
            .await
        {
            Ok(Ok(Verdict::Done(analysis))) if !is_finite(&analysis) => failed(
                FailureReason::AnalyzerError,
                "the analyzer gave a number that is none".to_owned(),
            ),
            Ok(Ok(verdict)) => verdict,
            Ok(Err(panic)) => {
                let message = panic_message(panic.as_ref());
                error!(job = %task.arguments.job, "the analysis panicked: {message}");
                failed(FailureReason::AnalyzerError, message.to_owned())
            }
            Err(limit) => {
                let detail = format!("not analysed within {limit:.1?}");
                failed(FailureReason::Timeout, detail)
            }
        }
    }

    /// Waits for an analysis, no longer than it may take: all in all, and from when it began. Gives
    /// the limit that it ran over.
    async fn in_time<T>(
        &self,
        started: &Started,
        analysis: impl Future<Output = T>,
    ) -> Result<T, Duration> {
        let in_all = self.options.task_time;
        let limits = [started.task.time_limit, self.control.time_limit()];
        let limit = limits.into_iter().flatten().min();
        let limited = async {
            match limit {
                Some(limit) => {
                    started.begun.wait().await;
                    sleep(limit).await;
                    limit
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = analysis => Ok(done),
            limit = limited => Err(limit),
            () = sleep(in_all) => Err(in_all),
        }
    }

    /// Whether the job has ended while the task waited for its time.
    async fn has_ended(&self, started: &Started) -> bool {
        let arguments = &started.task.arguments;
        let mut get = cmd("HGET");
        get.arg(self.keys().open(arguments.server));
        get.arg(arguments.job.to_string());
        // If Redis does not answer, to run it in vain is the lesser evil.
        let mark: Option<String> = self.link.query(&get).await.unwrap_or_default();
        mark.is_some_and(|mark| mark != keys::queued(arguments.run))
    }
}

/// How a task ended, for monitors.
fn ended(started: &Started, result: &JobResult) -> TaskEvent<'static> {
    match &result.outcome {
        Outcome::Done(_) => TaskEvent::Succeeded {
            result: python::value(&json!(result)),
            runtime: started.begun.elapsed().as_secs_f64(),
        },
        Outcome::Failed(failure) => match failure.reason {
            FailureReason::Revoked => revoked(started.begun.time().is_some()),
            FailureReason::Expired => TaskEvent::Revoked {
                terminated: false,
                signum: None,
                expired: true,
            },
            _ => TaskEvent::Failed {
                exception: format!("AnalysisFailed({})", python::string(&failure.to_string())),
                traceback: None,
            },
        },
    }
}

fn revocation() -> Failure {
    Failure::new(FailureReason::Revoked, REVOKED)
}

/// When a task is tried again.
fn next_attempt(started: &Started, why: &str) -> DateTime<Utc> {
    let task = &started.task;
    let pause = RETRY.after(task.retries).next();
    let job = task.arguments.job;
    if task.retries == 0 {
        info!(%job, "a task is tried again in {pause:.1?}: {why}");
    } else {
        debug!(%job, "a task is tried again in {pause:.1?}: {why}");
    }
    Utc::now() + TimeDelta::from_std(pause).unwrap_or_default()
}

/// Whether the answer is one. What else the analyzer says is brought within bounds.
fn is_finite(analysis: &Analysis) -> bool {
    let scores = analysis.scores.iter().map(|score| score.confidence);
    scores.chain([analysis.confidence]).all(f64::is_finite)
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the analyzer panicked")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
