use super::*;
use futures::FutureExt;
use imgsys_types::arbitrary::typical;

/// The end of a job that took so long, in two halves.
fn end(taken_us: u64) -> Finish {
    let mut record = typical();
    let result = record.result.as_mut().unwrap();
    (result.queued_us, result.analysis_us) = (taken_us / 2, taken_us - taken_us / 2);
    Finish {
        event: Some(Event {
            record,
            run: 0,
            data: String::new(),
        }),
        ..Finish::acknowledge("x".into(), vec!["tag".into()])
    }
}

#[test]
fn ends_wait_for_a_part_of_what_their_jobs_took() {
    for (taken_us, waits_us) in [
        (0, 2_000),
        (8_000, 2_000),
        (20_000, 5_000),
        (64_000, 16_000),
        (u64::MAX, 16_000),
    ] {
        assert_eq!(end(taken_us).patience(), Duration::from_micros(waits_us));
    }
    // What is not the end of a job is not kept waiting for long.
    let end = Finish::acknowledge("x".into(), Vec::new());
    assert_eq!(end.patience(), Duration::from_millis(2));
}

#[tokio::test]
async fn who_has_nothing_else_to_do_does_not_wait() {
    // Nothing to go on with, as many as go together, or nobody who could bring more.
    for (count, busy, open) in [(1, false, true), (TOGETHER, true, true), (1, true, false)] {
        let (sender, mut ends) = mpsc::unbounded_channel();
        let sender = open.then_some(sender);
        let mut batch: Vec<_> = (0..count).map(|_| end(u64::MAX)).collect();
        let gathered = gather(&mut ends, &mut batch, || busy);
        // It is done when it is looked at first.
        assert!(gathered.now_or_never().is_some(), "{count} {busy} {open}");
        drop(sender);
    }
}

#[tokio::test]
async fn who_is_busy_takes_along_what_comes_meanwhile() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let mut batch = vec![end(0)];
    for _ in 1..TOGETHER {
        sender.send(end(0)).unwrap();
    }
    gather(&mut ends, &mut batch, || true).await;
    assert_eq!(batch.len(), TOGETHER);
}
