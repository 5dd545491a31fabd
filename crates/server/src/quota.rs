//! What each owner is held to: unfinished jobs, bytes a day, requests a second.
//!
//! A submit takes its place and its bytes before its body is read, and gives them back unless it
//! becomes a new job: many at once can't go over a limit together.

use crate::{shared::refuse, submit::Refusal};
use imgsys_proto::message::Rejected;
use imgsys_service::config::LimitsConfig;
use imgsys_types::{ErrorCode, Owner, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const MICROS_OF_DAY: i64 = 86_400_000_000;

/// The owners' accounts. Owners come from the tokens file alone, so there are not many.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    accounts: Mutex<HashMap<Owner, Account>>,
}

#[derive(Debug)]
struct Account {
    /// Submits that may become jobs.
    coming: usize,
    /// Days since 1970 (UTC).
    day: i64,
    bytes: u64,
    /// Requests that may come at once, as of `filled`.
    requests: f64,
    filled: Instant,
}

impl Account {
    fn new(requests: f64) -> Self {
        Self {
            coming: 0,
            day: 0,
            bytes: 0,
            requests,
            filled: Instant::now(),
        }
    }

    fn turn_to(&mut self, day: i64) {
        if self.day != day {
            self.day = day;
            self.bytes = 0;
        }
    }
}

/// A submit's place and bytes, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    quotas: Arc<Quotas>,
    owner: Owner,
    day: i64,
    bytes: u64,
}

impl Reserved {
    /// The job is new: its bytes are spent.
    pub(crate) fn spend(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut accounts = self.quotas.accounts();
        if let Some(account) = accounts.get_mut(&self.owner) {
            account.coming = account.coming.saturating_sub(1);
            if account.day == self.day {
                account.bytes = account.bytes.saturating_sub(self.bytes);
            }
        }
    }
}

impl Quotas {
    /// Accounts that go on where the store says they were: owner, day, bytes.
    pub(crate) fn new(spent: impl IntoIterator<Item = (Owner, i64, u64)>) -> Self {
        let accounts = spent.into_iter().map(|(owner, day, bytes)| {
            let account = Account {
                day,
                bytes,
                // Filled to the brim by the first request.
                ..Account::new(f64::MAX)
            };
            (owner, account)
        });
        Self {
            accounts: Mutex::new(accounts.collect()),
        }
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<Owner, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request pass, or says what to answer it.
    pub(crate) fn request(
        &self,
        owner: &Owner,
        limits: &LimitsConfig,
        req: u64,
    ) -> Result<(), Rejected> {
        let rate = limits.owner_requests_per_second;
        if rate == 0 {
            return Ok(());
        }
        let (rate, now) = (f64::from(rate), Instant::now());
        let mut accounts = self.accounts();
        let account = accounts
            .entry(owner.clone())
            .or_insert_with(|| Account::new(rate));
        let gained = now.duration_since(account.filled).as_secs_f64() * rate;
        account.requests = (account.requests + gained).min(rate);
        account.filled = now;
        if account.requests >= 1.0 {
            account.requests -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - account.requests) / rate);
        let text = format!("{rate} requests a second are allowed: slow down");
        Err(Rejected {
            retry_after_ms: Some(millis_up(wait)),
            ..refuse(req, ErrorCode::RateLimited, text)
        })
    }

    /// Takes a submit's place and the bytes of its body.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        owner: &Owner,
        limits: &LimitsConfig,
        unfinished: usize,
        bytes: u64,
    ) -> Result<Reserved, Refusal> {
        let now = Timestamp::now();
        let day = day_of(now);
        let mut accounts = self.accounts();
        let account = accounts
            .entry(owner.clone())
            .or_insert_with(|| Account::new(f64::from(limits.owner_requests_per_second)));
        account.turn_to(day);
        let most = limits.owner_unfinished;
        if most > 0 && unfinished + account.coming >= most {
            let text = format!("{most} jobs are unfinished already: wait for results");
            return Err(Refusal::new(ErrorCode::TooManyUnfinished, text));
        }
        let most = limits.owner_bytes_per_day.get();
        if most > 0 && bytes > 0 && account.bytes.saturating_add(bytes) > most {
            let left = most.saturating_sub(account.bytes);
            let text = format!(
                "{most} bytes a day are taken, of which {left} are left; the day ends at 00:00 UTC"
            );
            let over = (day + 1) * MICROS_OF_DAY - now.as_micros();
            let wait = Duration::from_micros(u64::try_from(over).unwrap_or(0));
            return Err(Refusal {
                retry_after: Some(wait),
                ..Refusal::new(ErrorCode::QuotaExceeded, text)
            });
        }
        account.coming += 1;
        account.bytes = account.bytes.saturating_add(bytes);
        Ok(Reserved {
            quotas: Arc::clone(self),
            owner: owner.clone(),
            day,
            bytes,
        })
    }
}

/// The day of a time, in days since 1970 (UTC).
fn day_of(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(MICROS_OF_DAY)
}

/// Milliseconds, rounded up: who comes back by then is not too early.
pub(crate) fn millis_up(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
