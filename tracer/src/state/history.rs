/*!
What source-port pools were like: bounded series over the last ten minutes, two hours and day.

Sampled from the pools as the ledger tells them, about once a second: an event costs no more than the
counters it is told from.
A sample is the difference to the look before, so what happened is told of the second it was
looked at in, and what happened during a pause of the second after it.
*/

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::{Ends, Failed, Pool, PoolId};

mod sample;
#[cfg(test)]
mod tests;

use self::sample::{CAUSES, Track, narrow};
pub use self::sample::{Closed, Levels, Sample};

/// Most series kept: each has at most 2,760 samples of 112 bytes, 309 kB; all have 20 MB.
const MOST: usize = 64;

const _: () = assert!(size_of::<Sample>() == 112);

/// A pool matters from this part of its capacity on: one port in so many is held.
const MATTERS: u64 = 16;

const SECOND_NS: u64 = 1_000_000_000;
const DAY_NS: u64 = 24 * 3_600 * SECOND_NS;

/// A pool that was calm for so long has nothing left in its seconds.
const CALM_NS: u64 = 600 * SECOND_NS;

/// An event reaches the ledger at most this much after it happened: far more than the kernel side
/// and the stream hold anything back.
const LATE_NS: u64 = 10 * SECOND_NS;

/// What a pool counted since its row in the ledger was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    opened: u64,
    ends: Ends,
    failed: [u64; CAUSES.len()],
    searched: (u64, u64),
}

impl Counters {
    /// The counters as they stand, of failures those that are `wanted`.
    fn of(pool: &Pool, wanted: impl Fn(&Failed) -> bool) -> Self {
        let mut failed = [0_u64; CAUSES.len()];
        for one in pool.failures.iter().filter(|&one| wanted(one)) {
            let sum = &mut failed[one.cause as usize];
            *sum = sum.saturating_add(one.count);
        }
        Self {
            opened: pool.opened,
            ends: pool.ends,
            failed,
            searched: pool.searched,
        }
    }
}

/// What a series stays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    /// The last failure.
    failed_ns: Option<u64>,
    /// The most ports held, in thousandths of the capacity, and when that was.
    fullest: (u32, u64),
    /// When a port was held or a call failed last.
    stirred_ns: u64,
}

/// How much right to a series a pool has: the fields in this order. Without new activity it never
/// grows, so a pool that had to go does not come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// A call failed within the last day.
    failed: bool,
    /// It was not calm for the last ten minutes.
    stirred: bool,
    /// The most ports held, in thousandths of the capacity; forgotten after a day.
    fullest: u32,
}

impl Standing {
    fn of(pool: &Pool, now_ns: u64) -> Self {
        let failed_ns = pool.failures.iter().map(|one| one.last_ns).max();
        let is_active = pool.used() > 0 || pool.high != (0, 0);
        let (held, ports) = fill(pool);
        let thousandths = held.saturating_mul(1_000).checked_div(ports).unwrap_or(0);
        Self {
            failed_ns,
            fullest: (narrow(thousandths), now_ns),
            stirred_ns: if is_active {
                now_ns
            } else {
                failed_ns.unwrap_or(0)
            },
        }
    }

    fn update(&mut self, now: Self) {
        self.failed_ns = self.failed_ns.max(now.failed_ns);
        self.stirred_ns = self.stirred_ns.max(now.stirred_ns);
        if now.fullest.0 >= self.fullest.0 || now.fullest.1.saturating_sub(self.fullest.1) >= DAY_NS
        {
            self.fullest = now.fullest;
        }
    }

    fn right(&self, now_ns: u64) -> Right {
        let is_within = |at_ns: u64, span_ns| now_ns.saturating_sub(at_ns) < span_ns;
        let (fullest, fullest_ns) = self.fullest;
        Right {
            failed: self.failed_ns.is_some_and(|at| is_within(at, DAY_NS)),
            stirred: is_within(self.stirred_ns, CALM_NS),
            fullest: if is_within(fullest_ns, DAY_NS) {
                fullest
            } else {
                0
            },
        }
    }
}

/// One pool over time, in three resolutions that tell the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    seconds: Track<1, 600>,
    tens: Track<10, 720>,
    minutes: Track<60, 1_440>,
    before: Counters,
    standing: Standing,
    /// The look that saw the pool last.
    seen: u64,
}

impl Series {
    /// Samples of 1 s of the last ten minutes, oldest first.
    pub fn seconds(&self) -> impl DoubleEndedIterator<Item = &Sample> + ExactSizeIterator {
        self.seconds.samples()
    }

    /// Samples of 10 s of the last two hours, oldest first.
    pub fn tens(&self) -> impl DoubleEndedIterator<Item = &Sample> + ExactSizeIterator {
        self.tens.samples()
    }

    /// Samples of a minute of the last day, oldest first.
    pub fn minutes(&self) -> impl DoubleEndedIterator<Item = &Sample> + ExactSizeIterator {
        self.minutes.samples()
    }

    /// A series without samples, of a pool at first sight. `since_ns` is the look before, if any.
    ///
    /// What it counted until now happened at times nobody noted, and would be a burst that never
    /// was: it stays out. Failures are why a pool is noticed: they are in, but for those of a kind
    /// that the look before had seen, and that had no room then.
    fn new(since_ns: Option<u64>, now_ns: u64, pool: &Pool) -> Self {
        let is_known = |one: &Failed| {
            let seen_ns = one.first_ns.saturating_add(LATE_NS);
            since_ns.is_some_and(|since| seen_ns < since)
        };
        Self {
            seconds: Track::default(),
            tens: Track::default(),
            minutes: Track::default(),
            before: Counters::of(pool, is_known),
            standing: Standing::of(pool, now_ns),
            seen: 0,
        }
    }

    /// Notes the pool as it stands.
    fn look(&mut self, now_ns: u64, pool: &Pool) {
        let now = Counters::of(pool, |_| true);
        let before = std::mem::replace(&mut self.before, now);
        let mut failed = [0; CAUSES.len()];
        for (index, more) in failed.iter_mut().enumerate() {
            *more = narrow(since(before.failed[index], now.failed[index]));
        }
        // The two are of the same searches: where one begins anew, so does the other.
        let is_new = now.searched.0 < before.searched.0 || now.searched.1 < before.searched.1;
        let searched = if is_new { (0, 0) } else { before.searched };
        self.standing.update(Standing::of(pool, now_ns));
        self.add(&Sample {
            at_s: now_ns / SECOND_NS,
            search_ns: now.searched.0 - searched.0,
            states: Levels::from(&pool.states),
            peak: narrow(pool.used().max(pool.high.0)),
            opened: narrow(since(before.opened, now.opened)),
            open_peak: pool.high.1,
            closed: Closed {
                local: narrow(since(before.ends.local, now.ends.local)),
                peer: narrow(since(before.ends.peer, now.ends.peer)),
                reset: narrow(since(before.ends.reset, now.ends.reset)),
            },
            searches: narrow(now.searched.1 - searched.1),
            failed,
        });
    }

    /// Notes that the ledger has the pool no more: nothing is held, and should it come back, it
    /// counts from 0.
    fn gone(&mut self, now_ns: u64) {
        self.before = Counters::default();
        self.add(&Sample {
            at_s: now_ns / SECOND_NS,
            ..Sample::default()
        });
    }

    fn add(&mut self, look: &Sample) {
        self.seconds.add(look);
        self.tens.add(look);
        self.minutes.add(look);
    }

    fn prune(&mut self, now_ns: u64) {
        self.seconds.prune(now_ns / SECOND_NS);
        self.tens.prune(now_ns / SECOND_NS);
        self.minutes.prune(now_ns / SECOND_NS);
    }
}

/// Series of the pools that matter: at most 64, in 20 MB.
///
/// A pool matters from a sixteenth of its capacity or its first failure on. Its series is kept until
/// the ledger did not have it for a day, or until it has to give way to one with more right: that
/// with failures within the last day, then one that was not calm for ten minutes, then the fullest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    series: BTreeMap<PoolId, Series>,
    last_ns: Option<u64>,
    looks: u64,
    evicted: u64,
    refused: usize,
}

impl History {
    /// Notes the pools as they stand at `now_ns` (`CLOCK_MONOTONIC`, ns): all that the ledger has,
    /// in any order; one that is missing holds nothing. Does nothing when time went backwards: the
    /// next look has it all.
    pub fn record(&mut self, now_ns: u64, pools: &[Pool]) {
        if self.last_ns.is_some_and(|last| now_ns < last) {
            return;
        }
        let since_ns = self.last_ns.replace(now_ns);
        self.looks += 1;
        let looks = self.looks;
        let mut newcomers = Vec::new();
        for pool in pools {
            if let Some(series) = self.series.get_mut(&pool.id) {
                series.look(now_ns, pool);
                series.seen = looks;
            } else if matters(pool) {
                newcomers.push((Standing::of(pool, now_ns).right(now_ns), pool));
            }
        }
        self.series.retain(|_, series| {
            if series.seen + 1 == looks {
                series.gone(now_ns);
            }
            series.prune(now_ns);
            !series.minutes.is_empty()
        });
        newcomers.sort_by_key(|(right, pool)| (Reverse(*right), pool.id));
        self.refused = 0;
        for (index, &(right, pool)) in newcomers.iter().enumerate() {
            if self.series.len() >= MOST && !self.make_room(now_ns, right) {
                // Those that follow have no more right.
                self.refused = newcomers.len() - index;
                break;
            }
            let mut series = Series::new(since_ns, now_ns, pool);
            series.look(now_ns, pool);
            series.seen = looks;
            self.series.insert(pool.id, series);
        }
    }

    /// Drops the series with the least right, if that is less than `right`: of several the one that
    /// is calm the longest, then that of the last pool.
    fn make_room(&mut self, now_ns: u64, right: Right) -> bool {
        let rank = |(id, series): (&PoolId, &Series)| {
            let standing = &series.standing;
            (standing.right(now_ns), standing.stirred_ns, Reverse(*id))
        };
        match self.series.iter().map(rank).min() {
            Some((least, _, Reverse(id))) if least < right => {
                self.series.remove(&id);
                self.evicted += 1;
                true
            }
            _ => false,
        }
    }

    /// The series of one pool, if one is kept.
    pub fn of(&self, id: &PoolId) -> Option<&Series> {
        self.series.get(id)
    }

    /// All series, in the order of [`PoolId`].
    pub fn pools(&self) -> impl Iterator<Item = (&PoolId, &Series)> {
        self.series.iter()
    }

    /// Series that were dropped for want of room so far; not those that a day ended.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Pools that mattered at the last look and were refused a series for want of room.
    pub fn refused(&self) -> usize {
        self.refused
    }
}

/// The most ports held since the last look, and those there are; 0 where that is not known.
fn fill(pool: &Pool) -> (u64, u64) {
    let ports = pool.capacity.map_or(0, |capacity| capacity.ports());
    (pool.used().max(pool.high.0), ports)
}

fn matters(pool: &Pool) -> bool {
    let (held, ports) = fill(pool);
    !pool.failures.is_empty() || ports > 0 && held >= ports.div_ceil(MATTERS)
}

/// What a counter counted between two looks. A smaller one is another, of a row made anew.
fn since(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}
