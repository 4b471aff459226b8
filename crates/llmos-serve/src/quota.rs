//! How much may be done with a key: requests and tokens of a minute, tokens of a day.
//!
//! A minute's quota is a bucket that fills evenly, so that there is no moment at which everyone comes
//! back. Tokens are taken when they are read and drawn, since nobody knows before how many they will
//! be: a bucket may go below nothing, and who asks next waits until it is full enough again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::keys::Quota;
use crate::refusal::Refusal;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// What was used, by the name of the key.
#[derive(Default)]
pub(crate) struct Meters {
    meters: Mutex<HashMap<String, Meter>>,
}

/// What was used with one key.
struct Meter {
    requests: Bucket,
    tokens: Bucket,
    /// Days since 1970.
    day: u64,
    /// Tokens of that day, as far as the store knows.
    known: u64,
    /// Requests and tokens that the store was not told of.
    untold: (u64, u64),
}

/// A quota of a minute: what is left of it.
struct Bucket {
    left: f64,
    since: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        // It is filled to its size when that is known.
        Bucket { left: f64::INFINITY, since: now }
    }

    /// Fills up to now. The time until `wanted` will be there, if it is not.
    fn wait(&mut self, size: f64, wanted: f64, now: Instant) -> Option<Duration> {
        let per_second = size / 60.0;
        let passed = now.duration_since(self.since).as_secs_f64();
        self.left = (self.left + passed * per_second).min(size);
        self.since = now;
        let missing = wanted.min(size) - self.left;
        (missing > 0.0).then(|| Duration::from_secs_f64((missing / per_second).clamp(0.0, 3600.0)))
    }
}

impl Meters {
    fn meters(&self) -> MutexGuard<'_, HashMap<String, Meter>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, or says when it may come again.
    ///
    /// # Errors
    /// A quota is used up.
    pub(crate) fn admit(&self, name: &str, quota: Quota) -> Result<(), Refusal> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.admit_at(name, quota, Instant::now(), since.as_secs())
    }

    fn admit_at(
        &self,
        name: &str,
        quota: Quota,
        now: Instant,
        seconds: u64,
    ) -> Result<(), Refusal> {
        let mut meters = self.meters();
        let meter = meter(&mut meters, name, now, seconds);
        if let Some(most) = quota.tokens_per_day
            && meter.known.saturating_add(meter.untold.1) >= most
        {
            let wait = Duration::from_secs(DAY - seconds % DAY);
            return Err(Refusal::used_up(format!("the {most} tokens of this day (UTC)"), wait));
        }
        if let Some(most) = quota.tokens_per_minute
            // Something must be left, however little: what it will take nobody knows.
            && let Some(wait) = meter.tokens.wait(most as f64, 1.0, now)
        {
            return Err(Refusal::too_fast(format!("{most} tokens a minute"), wait));
        }
        if let Some(most) = quota.requests_per_minute {
            if let Some(wait) = meter.requests.wait(f64::from(most), 1.0, now) {
                return Err(Refusal::too_fast(format!("{most} requests a minute"), wait));
            }
            meter.requests.left -= 1.0;
        }
        meter.untold.0 += 1;
        Ok(())
    }

    /// Takes tokens.
    pub(crate) fn spend(&self, name: &str, tokens: usize) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut meters = self.meters();
        let meter = meter(&mut meters, name, Instant::now(), since.as_secs());
        meter.tokens.left -= tokens as f64;
        meter.untold.1 += tokens as u64;
    }

    /// Notes what the store knows of this day.
    pub(crate) fn know(&self, name: &str, tokens: u64) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut meters = self.meters();
        if tokens > 0 || meters.contains_key(name) {
            meter(&mut meters, name, Instant::now(), since.as_secs()).known = tokens;
        }
    }

    /// What the store was not told of: (name, requests, tokens). It counts as told from now on.
    pub(crate) fn take(&self) -> Vec<(String, u64, u64)> {
        let mut spent = Vec::new();
        for (name, meter) in self.meters().iter_mut() {
            let (requests, tokens) = std::mem::take(&mut meter.untold);
            if requests + tokens > 0 {
                meter.known = meter.known.saturating_add(tokens);
                spent.push((name.clone(), requests, tokens));
            }
        }
        spent
    }

    /// Takes back what the store could not be told.
    pub(crate) fn give_back(&self, spent: Vec<(String, u64, u64)>) {
        let mut meters = self.meters();
        for (name, requests, tokens) in spent {
            if let Some(meter) = meters.get_mut(&name) {
                meter.untold.0 += requests;
                meter.untold.1 += tokens;
                meter.known = meter.known.saturating_sub(tokens);
            }
        }
    }
}

/// The meter of a key, set back where a new day has begun.
fn meter<'a>(
    meters: &'a mut HashMap<String, Meter>,
    name: &str,
    now: Instant,
    seconds: u64,
) -> &'a mut Meter {
    let day = seconds / DAY;
    let new = || Meter {
        requests: Bucket::new(now),
        tokens: Bucket::new(now),
        day,
        known: 0,
        untold: (0, 0),
    };
    let meter = meters.entry(name.to_string()).or_insert_with(new);
    if meter.day != day {
        (meter.day, meter.known) = (day, 0);
    }
    meter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_s_quota_fills_evenly() {
        let meters = Meters::default();
        let quota = Quota { requests_per_minute: Some(2), ..Quota::default() };
        let start = Instant::now();
        let ask = |seconds: u64| {
            meters.admit_at("a", quota, start + Duration::from_secs(seconds), seconds)
        };
        assert!(ask(0).is_ok() && ask(0).is_ok());
        let refusal = ask(0).unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.retry_after), (429, Some(30)));
        assert!(ask(29).is_err() && ask(30).is_ok() && ask(30).is_err());
        assert!(meters.admit_at("b", quota, start, 0).is_ok());
        // After a long while there is no more than a minute's.
        assert!(ask(9999).is_ok() && ask(9999).is_ok() && ask(9999).is_err());
    }

    #[test]
    fn tokens_are_taken_as_they_come_and_a_day_s_end_with_it() {
        let meters = Meters::default();
        let quota =
            Quota { tokens_per_minute: Some(60), tokens_per_day: Some(100), ..Quota::default() };
        let start = Instant::now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let midnight = since - since % DAY;
        let ask = |seconds: u64| {
            meters.admit_at("a", quota, start + Duration::from_secs(seconds), midnight + seconds)
        };
        assert!(ask(0).is_ok());
        meters.spend("a", 90);
        // Thirty below nothing, and one more.
        let refusal = ask(0).unwrap_err();
        assert!((30..=31).contains(&refusal.retry_after.unwrap()), "{refusal:?}");
        assert!(ask(40).is_ok());
        meters.know("a", 20);
        assert_eq!(meters.take(), [("a".to_string(), 2, 90)]);
        assert_eq!(meters.take(), []);
        let refusal = ask(200).unwrap_err();
        assert_eq!(refusal.retry_after, Some((DAY - 200) as u32));
        assert!(ask(DAY).is_ok());
        meters.give_back(vec![("a".to_string(), 1, 5)]);
        assert_eq!(meters.take(), [("a".to_string(), 2, 5)]);
    }
}
