/*! One pool in the numbers that verdicts are made of. */

use crate::model::{Cause, Failed, Holder, Namespace, Pool, States, TcpState, TwReuse};

use super::what_if::SAFE_SHARE;
use super::{Kind, Level, Urgency};

/// A failure that is older than this is no longer happening.
pub(super) const RECENT_NS: u64 = 60_000_000_000;

/// A failure that is older than this is history, and gives no verdict.
pub(super) const REMEMBERED_NS: u64 = 600_000_000_000;

/// A pool that runs dry within this many seconds does so soon.
const SOON_S: f64 = 3_600.0;

/// Failures of one sort.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// How many.
    pub count: u64,
    /// The newest, ns of `CLOCK_MONOTONIC`.
    pub last_ns: u64,
    /// How many a second, while they came.
    pub rate: f64,
}

impl Tally {
    /// Adds up those of `failures` that `which` chooses.
    pub(super) fn of<'a>(
        failures: impl IntoIterator<Item = &'a Failed>,
        which: impl Fn(&Failed) -> bool,
    ) -> Self {
        let mut tally = Self::default();
        for failed in failures.into_iter().filter(|failed| which(failed)) {
            tally.count += failed.count;
            tally.last_ns = tally.last_ns.max(failed.last_ns);
            let took = failed.last_ns.saturating_sub(failed.first_ns) as f64 / 1e9;
            tally.rate += failed.count as f64 / took.max(1.0);
        }
        tally
    }

    /// Whether they still happen.
    pub(super) fn recent(&self, now_ns: u64) -> bool {
        self.count > 0 && now_ns.saturating_sub(self.last_ns) <= RECENT_NS
    }

    /// Whether they are worth a word.
    pub(super) fn remembered(&self, now_ns: u64) -> bool {
        self.count > 0 && now_ns.saturating_sub(self.last_ns) <= REMEMBERED_NS
    }
}

/// No port was free.
pub(super) fn is_exhaustion(failed: &Failed) -> bool {
    failed.cause == Cause::PortsExhausted
}

/// connect() with a port of its own, whose 4-tuple exists.
pub(super) fn is_collision(failed: &Failed) -> bool {
    failed.cause == Cause::TupleInUse && !failed.bind
}

/// Neither: no change of ports helps.
pub(super) fn is_other(failed: &Failed) -> bool {
    !is_exhaustion(failed) && !is_collision(failed)
}

/// A pool, and what follows from it at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// The pool.
    pub pool: &'a Pool,
    /// Its namespace, where that is known.
    pub namespace: Option<&'a Namespace>,
    /// The moment the pools are of, ns of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// Ports in use.
    pub used: u64,
    /// Ports there are; `None` when not known.
    pub ports: Option<u64>,
    /// connect() that found no port.
    pub exhausted: Tally,
    /// connect() whose 4-tuple exists.
    pub collided: Tally,
    /// All other failures.
    pub other: Tally,
}

impl<'a> Facts<'a> {
    /// Those of `pool` at `now_ns`.
    pub(super) fn new(pool: &'a Pool, namespace: Option<&'a Namespace>, now_ns: u64) -> Self {
        Self {
            pool,
            namespace,
            now_ns,
            used: pool.used(),
            ports: pool.capacity.map(|capacity| capacity.ports()),
            exhausted: Tally::of(&pool.failures, is_exhaustion),
            collided: Tally::of(&pool.failures, is_collision),
            other: Tally::of(&pool.failures, is_other),
        }
    }

    /// The part of the ports in use; a pool without any port is full.
    pub(super) fn share(&self) -> Option<f64> {
        self.ports.map(|ports| part(self.used, ports))
    }

    /// The part that was in use when the pool was at its fullest.
    pub(super) fn peak_share(&self) -> Option<f64> {
        self.ports
            .map(|ports| part(self.pool.peak.0.max(self.used), ports))
    }

    /// Level for the verdict.
    pub(super) fn level(&self) -> Level {
        Level {
            used: self.used,
            peak: self.pool.peak.0.max(self.used),
            capacity: self.ports.unwrap_or_default(),
        }
    }

    /// Connections per second that were asked for: those that were opened and those that failed.
    pub(super) fn wanted(&self) -> f64 {
        let rates = &self.pool.open_rate;
        let failing = if self.exhausted.recent(self.now_ns) {
            self.exhausted.rate
        } else {
            0.0
        };
        rates.second.max(rates.ten).max(rates.minute) + failing
    }

    /// Whether the forecast has the pool dry within an hour.
    pub(super) fn dry_soon(&self) -> bool {
        let forecast = self.pool.forecast.and_then(|forecast| forecast.dry_in_s);
        forecast.is_some_and(|seconds| seconds <= SOON_S)
    }

    /// Whether the pool is known to stay below the safe level: a forecast that says so, and room now.
    pub(super) fn sustainable(&self) -> bool {
        let Some((forecast, ports)) = self.pool.forecast.zip(self.ports) else {
            return false;
        };
        let settles_at = forecast.settles_at.unwrap_or(self.used as f64);
        let safe = ports as f64 * SAFE_SHARE;
        // TIME_WAITs that connect() may take over are not in its way.
        let now = if self.takes_over() {
            0.0
        } else {
            self.used as f64
        };
        forecast.dry_in_s.is_none() && settles_at.max(now) <= safe
    }

    /// Whether `tcp_tw_reuse` is in effect for the pool.
    fn takes_over(&self) -> bool {
        match self.namespace.and_then(|namespace| namespace.tw_reuse) {
            Some(TwReuse::On) => true,
            Some(TwReuse::LoopbackOnly) => {
                self.pool.id.dst.is_loopback() || self.pool.id.src.is_loopback()
            }
            Some(TwReuse::Off) | None => false,
        }
    }

    /// How much what the pool suffers from matters.
    pub(super) fn urgency(&self) -> Urgency {
        if self.exhausted.recent(self.now_ns) {
            Urgency::Failing
        } else if self.dry_soon() {
            Urgency::Soon
        } else {
            Urgency::Watch
        }
    }

    /// Connections opened by anybody since tracing began.
    pub(super) fn opened(&self) -> u64 {
        self.pool.holders.iter().map(|holder| holder.opened).sum()
    }

    /// Connections ended since tracing began.
    pub(super) fn ended(&self) -> u64 {
        let ends = &self.pool.ends;
        ends.local + ends.peer + ends.reset
    }

    /// Connections whose port was bound before connect().
    pub(super) fn bound(&self) -> u64 {
        self.pool.holders.iter().map(|holder| holder.bound).sum()
    }

    /// Whether most of the connections have a port that was bound before connect().
    pub(super) fn mostly_bound(&self) -> bool {
        let bound = self.bound();
        bound > 0 && bound * 2 > self.opened()
    }

    /// Ports held by what `kind` is about.
    pub(super) fn weight(&self, kind: Kind) -> u64 {
        weight(&self.pool.states, kind)
    }
}

/// Part of `ports`; all of them where there is none.
pub(super) fn part(used: u64, ports: u64) -> f64 {
    if ports == 0 {
        return 1.0;
    }
    used as f64 / ports as f64
}

/// Ports in states that are typical for `kind`.
pub(super) fn weight(states: &States, kind: Kind) -> u64 {
    let sum = |list: &[TcpState]| list.iter().map(|&state| states.get(state)).sum();
    match kind {
        Kind::Churn => sum(&[TcpState::TimeWait, TcpState::FinWait1, TcpState::Closing]),
        Kind::Leak => sum(&[TcpState::Established, TcpState::SynRecv]),
        Kind::CloseWait => sum(&[TcpState::CloseWait]),
        Kind::FinWait2 => sum(&[TcpState::FinWait2]),
        Kind::NotPorts => sum(&[TcpState::SynSent]),
        Kind::Bound | Kind::Collision | Kind::SmallRange => states.total(),
    }
}

/// How many connections of a holder ended.
pub(super) fn ended(holder: &Holder) -> u64 {
    holder.ends.local + holder.ends.peer + holder.ends.reset
}
