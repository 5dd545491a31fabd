//! `imgsys wait`

use super::job_ids;
use crate::{
    cli::Wait,
    context::Context,
    driver::Driver,
    error::{ClientError, Exit},
    reporter::{Form, Reporter},
    session::{Rules, Session},
};
use imgsys_types::Priority;
use std::time::Instant;

/// Waits for jobs and tells how they end.
pub(crate) async fn run(args: Wait, mut context: Context) -> Result<Exit, ClientError> {
    let jobs = job_ids(&args.jobs, &context).await?;
    let mut session = Session::new(Rules {
        jobs: 1,
        wait: true,
        priority: Priority::default(),
        patience: context.retry_for,
        max_cuts: 1,
    });
    for job in jobs {
        session.add_job(job, Instant::now());
    }
    context.screen.start_bar();
    let form = if args.json { Form::Json } else { Form::Table };
    let mut reporter = Reporter::new(&context, form);
    let driver = Driver::new(&context, &mut session, &mut reporter, None);
    let result = driver.run(args.timeout).await;
    Ok(reporter.finish(result))
}
