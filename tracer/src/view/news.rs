/*!
When a verdict is worth repeating in a stream.

It is when a reader would act otherwise than on what was said last:

* it was not said before, or was gone for a minute since;
* its urgency rose;
* it has a forecast and had none, or the moment the pool runs dry moved by more than 5 s and by
  more than a third of the time that was left;
* the pool ran dry, so that the forecast can be held against it.

A fall of urgency is not said, and is believed only once it has lasted 10 s: a
pool on the brink would otherwise rise again every second. All news together
comes at most every few seconds, the gap the view asks for.
*/

use foldhash::HashMap;

use super::words::dry_in_s;
use crate::diagnosis::{Kind, Urgency, Verdict};
use crate::model::PoolId;

/// How long a verdict may be gone and still be the same one.
const GONE_NS: u64 = 60_000_000_000;

/// How long a lower urgency must last to be believed.
const CALM_NS: u64 = 10_000_000_000;

/// How far a forecast may move unsaid, seconds, and as a part of the time that was left.
const MOVED_S: f64 = 5.0;
const MOVED_PART: f64 = 1.0 / 3.0;

/// What was said last of one verdict.
#[derive(Clone, Copy, Debug)]
struct Said {
    urgency: Urgency,
    /// When it was said.
    at_ns: u64,
    /// Seconds from then until the pool is dry.
    dry_in_s: Option<f64>,
    foretold: bool,
    /// When the verdict was last there.
    seen_ns: u64,
    /// Since when its urgency has been lower.
    calm_since_ns: Option<u64>,
}

/// What was said of which verdict; as many as there were within the last minute.
#[derive(Debug)]
pub struct News {
    gap_ns: u64,
    next_ns: u64,
    said: HashMap<(Kind, PoolId), Said>,
}

impl News {
    /// Nothing was said yet; there are at least `gap_ns` between two times something is.
    pub fn new(gap_ns: u64) -> Self {
        Self {
            gap_ns,
            next_ns: 0,
            said: HashMap::default(),
        }
    }

    /// The verdicts to say now, in the order given. They count as said.
    pub fn of<'a>(&mut self, verdicts: &'a [Verdict], now_ns: u64) -> Vec<&'a Verdict> {
        self.said
            .retain(|_, said| now_ns.saturating_sub(said.seen_ns) < GONE_NS);
        let due = now_ns >= self.next_ns;
        let mut list = Vec::new();
        for verdict in verdicts {
            let key = (verdict.kind, verdict.pool);
            let new = match self.said.get_mut(&key) {
                Some(said) => {
                    said.see(verdict, now_ns);
                    said.differs(verdict, now_ns)
                }
                None => true,
            };
            // What is not due stays different from what was said.
            if new && due {
                self.said.insert(key, Said::now(verdict, now_ns));
                list.push(verdict);
            }
        }
        if !list.is_empty() {
            self.next_ns = now_ns.saturating_add(self.gap_ns);
        }
        list
    }
}

impl Said {
    fn now(verdict: &Verdict, now_ns: u64) -> Self {
        Self {
            urgency: verdict.urgency,
            at_ns: now_ns,
            dry_in_s: left_s(verdict, now_ns),
            foretold: verdict.foretold.is_some(),
            seen_ns: now_ns,
            calm_since_ns: None,
        }
    }

    /// The verdict is there, said or not.
    fn see(&mut self, verdict: &Verdict, now_ns: u64) {
        self.seen_ns = now_ns;
        if verdict.urgency >= self.urgency {
            self.calm_since_ns = None;
            return;
        }
        let since_ns = *self.calm_since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since_ns) >= CALM_NS {
            self.urgency = verdict.urgency;
            self.calm_since_ns = None;
        }
    }

    fn differs(&self, verdict: &Verdict, now_ns: u64) -> bool {
        if verdict.urgency > self.urgency || (verdict.foretold.is_some() && !self.foretold) {
            return true;
        }
        // Calls fail already: when the pool is dry is no news any more.
        if verdict.urgency == Urgency::Failing {
            return false;
        }
        match (self.dry_in_s, left_s(verdict, now_ns)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(said), Some(now)) => {
                let passed = now_ns.saturating_sub(self.at_ns) as f64 / 1e9;
                let left = (said - passed).max(0.0);
                let moved = (now - left).abs();
                moved > MOVED_S && moved > left * MOVED_PART
            }
        }
    }
}

fn left_s(verdict: &Verdict, now_ns: u64) -> Option<f64> {
    let forecast = verdict.forecast.as_ref()?;
    dry_in_s(forecast, now_ns)
}

#[cfg(test)]
mod tests;
