//! How many tasks may begin in which time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Lets tasks begin one by one, each a while after the one before it.
#[derive(Debug)]
pub(in super::super) struct Rate {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    /// The rate as it was given.
    text: Option<String>,
    /// The pause between tasks.
    pause: Option<Duration>,
    next: Instant,
}

impl State {
    /// Takes the turn, if it has come; else says when it will.
    fn take(&mut self, now: Instant) -> Option<Instant> {
        let pause = self.pause?;
        if self.next > now {
            return Some(self.next);
        }
        self.next = now + pause;
        None
    }
}

impl Default for Rate {
    fn default() -> Self {
        let state = State {
            text: None,
            pause: None,
            next: Instant::now(),
        };
        Self {
            state: Mutex::new(state),
            changed: watch::channel(()).0,
        }
    }
}

impl Rate {
    /// Sets the rate: so many a second, or `10/s`, `5/m`, `1/h`; 0 for no limit. Says whether there is
    /// one now.
    pub(super) fn set(&self, text: &str) -> Result<bool, String> {
        let pause = parse(text)?;
        {
            let mut state = self.lock();
            state.text = pause.map(|_| text.to_owned());
            state.pause = pause;
            state.next = Instant::now();
        }
        self.changed.send_replace(());
        Ok(pause.is_some())
    }

    /// The rate, as it was given.
    pub(super) fn text(&self) -> Option<String> {
        self.lock().text.clone()
    }

    /// Returns when the next task may begin.
    pub(in super::super) async fn turn(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            let Some(next) = self.lock().take(Instant::now()) else {
                return;
            };
            tokio::select! {
                () = sleep_until(next) => {}
                // Its sender is ours.
                _ = changed.changed() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause between tasks at this rate; none if it is no limit.
fn parse(text: &str) -> Result<Option<Duration>, String> {
    let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
    let unit = match unit {
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("no unit is called {other:?}: s, m or h")),
    };
    let count: f64 = count
        .trim()
        .parse()
        .map_err(|_| format!("{count:?} is no number"))?;
    if count == 0.0 {
        return Ok(None);
    }
    let pause = Duration::try_from_secs_f64(unit / count);
    let pause = pause
        .ok()
        .filter(|pause| *pause <= Duration::from_secs(24 * 3600));
    pause
        .map(Some)
        .ok_or_else(|| format!("{text:?} can't be: at least one a day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_python_does() {
        let seconds = |text: &str| parse(text).unwrap().map(|pause| pause.as_secs_f64());
        assert_eq!(seconds("10/s"), Some(0.1));
        assert_eq!(seconds("5/m"), Some(12.0));
        assert_eq!(seconds("0.5/h"), Some(7200.0));
        assert_eq!(seconds("4"), Some(0.25));
        assert_eq!((seconds("0"), seconds("0/m")), (None, None));
        for wrong in ["", "x/s", "5/q", "-1/s", "NaN", "1e-30/h", "s", "5/s/s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tasks_begin_no_faster_than_allowed() {
        let rate = Rate::default();
        let mut state = rate.lock();
        let now = Instant::now();
        assert_eq!(state.take(now), None);
        assert_eq!(state.take(now), None);
        state.pause = Some(Duration::from_secs(2));
        assert_eq!(state.take(now), None);
        let next = now + Duration::from_secs(2);
        assert_eq!(state.take(now), Some(next));
        assert_eq!(state.take(next), None);
        let late = next + Duration::from_secs(60);
        assert_eq!(state.take(late), None);
        assert!(state.take(late).is_some(), "what was not used is not kept");
    }

    #[tokio::test]
    async fn who_waits_hears_of_a_change() {
        let rate = Rate::default();
        assert_eq!(rate.set("1/h"), Ok(true));
        assert_eq!(rate.text().as_deref(), Some("1/h"));
        rate.turn().await;
        let ((), changed) = tokio::join!(rate.turn(), async { rate.set("0") });
        assert_eq!(changed, Ok(false));
        assert_eq!(rate.text(), None);
    }
}
