//! `imgsys send`

use crate::{
    cli::Send,
    context::Context,
    driver::Driver,
    error::{ClientError, Exit},
    files,
    reporter::{Form, Reporter},
    session::{Rules, Session},
};

/// So often a connection breaks by itself only if there is hardly any.
const MAX_CUTS: u32 = 10;

/// Sends files and tells what is in them.
pub(crate) async fn run(args: Send, mut context: Context) -> Result<Exit, ClientError> {
    let delimiter = if args.null { 0 } else { b'\n' };
    let files = files::find(args.paths, delimiter)
        .map_err(ClientError::local("starting to look for files"))?;
    let form = match (args.json, args.no_wait, context.screen.is_quiet()) {
        (true, ..) => Form::Json,
        (false, true, true) => Form::Ids,
        (false, true, false) => Form::Accepted,
        (false, false, _) => Form::Table,
    };
    context.screen.start_bar();
    let mut reporter = Reporter::new(&context, form);
    let mut session = Session::new(Rules {
        jobs: usize::from(args.jobs),
        wait: !args.no_wait,
        priority: args.priority,
        patience: context.retry_for,
        max_cuts: MAX_CUTS,
    });
    let driver = Driver::new(&context, &mut session, &mut reporter, Some(files));
    let result = driver.run(args.timeout).await;
    Ok(reporter.finish(result))
}
