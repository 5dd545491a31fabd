//! Pages of a history of five million jobs, by every filter that clients offer.

mod cases;
mod rows;

use crate::{
    bench::{Bench, NONE, say},
    report::Row,
    stats::{Times, float},
    system::{System, answer, greeted, noop},
    warm,
};
use anyhow::{Context, bail};
use cases::{Case, NAMES, cases};
use imgsys_proto::{
    ClientMessage, ServerMessage, encode,
    message::{HistoryRequest, Page},
};
use imgsys_types::{Cursor, JobId, Timestamp, Whose};
use postgres::Client;
use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

/// Jobs of a page.
const PAGE: u32 = 50;
/// The page that is held against the first.
const DEEP: i64 = 10_000;
/// How often each of the two is asked for, and how often another in between.
const ASKED: usize = 60;
/// The longest that is spent on a case.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long the tables' files count as being in memory once they have been read.
const WARM: Duration = Duration::from_secs(10);

/// Loads the rows, and reads pages through a server.
pub(super) fn pages(bench: &mut Bench) -> anyhow::Result<()> {
    let system = System::start(NONE, noop())?;
    let postgres = system.ours_stack()?.postgres();
    rows::load(postgres)?;
    let mut client = rows::connect(&postgres.url())?;
    let names = client.query_one(NAMES, &[])?;
    let names = [names.get(0), names.get(1), names.get(2)];
    let mut stream = greeted(system.address())?;
    let files = postgres.data().join("base");
    let mut read_at: Option<Instant> = None;
    let (mut slowest, mut slowest_of_all, mut deepest) = (0.0_f64, 0.0_f64, 0.0_f64);
    for case in cases(Timestamp::now(), names) {
        // A page is to cost what it does on a machine that has the history in its memory: some hosts take
        // back within minutes what nobody has read.
        if read_at.is_none_or(|at| at.elapsed() >= WARM) {
            warm::files(&files)?;
            read_at = Some(Instant::now());
        }
        let found = measure(&case, &mut client, &mut stream)?;
        let of_all = case.owner == Some(Whose::All);
        let slowest = if of_all {
            &mut slowest_of_all
        } else {
            &mut slowest
        };
        *slowest = slowest.max(found.p99);
        deepest = deepest.max(found.deep.unwrap_or_default());
        let deep = found.deep.map_or_else(
            || "fewer than 10 000 pages".into(),
            |ratio| format!("page 10 000 {ratio:.2} times page 1"),
        );
        bench.fact(
            "history",
            format!(
                "history by {}: p50 {:.2} ms, p99 {:.2} ms, {} jobs on page 1; {deep}",
                case.name, found.p50, found.p99, found.jobs
            ),
        );
    }
    bench.retire(system);
    let name = "history page of 50, 5 M rows, any filter the client offers: p99 (at most 10 ms)";
    bench.put(Row::at_most(name, "ms", slowest, 10.0));
    let name = "history page of 50 of all owners, 5 M rows, any filter the client offers: p99 (at most 10 ms)";
    bench.put(Row::at_most(name, "ms", slowest_of_all, 10.0));
    let name = "history page of 50, 5 M rows: page 10 000 against page 1 (at most 1.5 times)";
    bench.put(Row::at_most(name, "times", deepest, 1.5));
    Ok(())
}

/// How long pages took.
struct Found {
    p50: f64,
    p99: f64,
    /// Jobs on the first page.
    jobs: usize,
    /// How many times longer page 10 000 takes than page 1, if there is one.
    deep: Option<f64>,
}

fn measure(case: &Case, client: &mut Client, stream: &mut TcpStream) -> anyhow::Result<Found> {
    let deep = page_10_000(case, client)?;
    let mut places = vec![None];
    places.extend(deep.map(Some));
    let mut times = vec![Vec::new(); 3];
    // Everything gets warm.
    let (_, first) = ask(case, None, stream)?;
    ask(case, deep, stream)?;
    let until = Instant::now() + PATIENCE;
    for round in 0..ASKED {
        for (kind, &place) in places.iter().enumerate() {
            times[kind].push(ask(case, place, stream)?.0);
        }
        times[2].push(ask(case, Some(somewhere(round)), stream)?.0);
        if Instant::now() > until {
            say(format!(
                "{}: given up after {} rounds",
                case.name,
                round + 1
            ));
            break;
        }
    }
    let all = Times::of(times.concat());
    let [first_page, deep_page, _] = times
        .try_into()
        .map(|times: [Vec<Duration>; 3]| times.map(|times| Times::of(times).at(500)))
        .ok()
        .context("three kinds of pages")?;
    Ok(Found {
        p50: all.at(500),
        p99: all.at(990),
        jobs: first.jobs.len(),
        deep: deep.map(|_| deep_page / first_page),
    })
}

/// Asks for a page.
fn ask(
    case: &Case,
    after: Option<Cursor>,
    stream: &mut TcpStream,
) -> anyhow::Result<(Duration, Page)> {
    let request = HistoryRequest {
        req: 1,
        limit: PAGE,
        after,
        filter: case.filter.clone(),
        owner: case.owner.clone(),
    };
    let mut frame = Vec::new();
    encode(&ClientMessage::History(request), 0, &mut frame)?;
    let begun = Instant::now();
    stream.write_all(&frame)?;
    match answer(stream)? {
        ServerMessage::Page(page) => Ok((begun.elapsed(), page)),
        other => bail!("no page but {other:?}"),
    }
}

/// Where page 10 000 begins, as one gets to it who follows the pages.
fn page_10_000(case: &Case, client: &mut Client) -> anyhow::Result<Option<Cursor>> {
    let Some(condition) = case.sql else {
        return Ok(None);
    };
    let before = (DEEP - 1) * i64::from(PAGE) - 1;
    let sql = format!(
        "SELECT (extract(epoch FROM submitted_at) * 1000000)::bigint, id::text FROM jobs
         WHERE deleted_at IS NULL AND {condition}
         ORDER BY submitted_at DESC, id DESC OFFSET {before} LIMIT 1"
    );
    let row = client.query_opt(&sql, &[])?;
    let Some(row) = row else {
        bail!("{}: there is no page 10 000", case.name);
    };
    let job: JobId = row.get::<_, &str>(1).parse()?;
    Ok(Some(Cursor {
        submitted_at: Timestamp::from_micros(row.get(0)),
        job,
    }))
}

/// A place in the two years, another one each time.
fn somewhere(round: usize) -> Cursor {
    const SPAN: Duration = Duration::from_secs(730 * 86_400);
    // The golden section spreads them evenly.
    let part = (float(round as u64) * 0.618_033_988_749_895).fract();
    let back = SPAN.mul_f64(part);
    let micros = i64::try_from(back.as_micros()).unwrap_or_default();
    Cursor {
        submitted_at: Timestamp::from_micros(Timestamp::now().as_micros() - micros),
        job: JobId::from_bytes([0; 16]),
    }
}
