/*! One owner's part of a pool: its holdings by state, and what it did. */

use std::sync::Arc;

use super::meter::{Meter, Ring, SECOND, Trend};
use crate::model::{Ends, Holder, Process, States, TIME_WAIT_NS, TcpState};

/// How long an end that came before its beginning waits for it.
const OWED: u64 = SECOND;

/// The states of a TIME_WAIT: its birth may be that of a FIN_WAIT2 mini-socket, which turns into a
/// TIME_WAIT without an event.
pub(super) const WAITS: [TcpState; 2] = [TcpState::TimeWait, TcpState::FinWait2];

/// Births of TIME_WAITs by second, to let them leave where no event tells of it.
#[derive(Clone, Debug, Default)]
struct Expiry {
    births: Ring<64, SECOND>,
    /// Births not yet gone.
    pending: u32,
    /// Seconds before this one are done with.
    from: u64,
}

/// One owner's part of a pool. About 1 kB.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) process: Arc<Process>,
    pub(super) states: States,
    pub(super) opened: u64,
    pub(super) opens: Meter,
    pub(super) ends: Ends,
    pub(super) bound: u64,
    /// Open holdings: those that no TIME_WAIT is.
    pub(super) trend: Trend<31>,
    /// Of its FIN_WAIT2 those whose file is still open, at the last dump: no mini-sockets.
    pub(super) held_fin_wait2: u64,
    /// Ends seen before their beginnings, of connections and of TIME_WAITs, and until when those count.
    owed: [u32; 2],
    owed_until: u64,
    expiry: Option<Box<Expiry>>,
}

impl Account {
    pub(super) fn new(process: &Arc<Process>) -> Self {
        Self {
            process: Arc::clone(process),
            states: States::default(),
            opened: 0,
            opens: Meter::default(),
            ends: Ends::default(),
            bound: 0,
            trend: Trend::default(),
            held_fin_wait2: 0,
            owed: [0; 2],
            owed_until: 0,
            expiry: None,
        }
    }

    /// One more in `state`; false for a state that holds no port.
    pub(super) fn add(&mut self, state: TcpState) -> bool {
        self.states
            .get_mut(state)
            .map(|count| *count += 1)
            .is_some()
    }

    /// One less in the first of `states` that has any: which it was.
    pub(super) fn take(&mut self, states: &[TcpState]) -> Option<TcpState> {
        let &state = states.iter().find(|&&state| self.states.get(state) > 0)?;
        *self.states.get_mut(state)? -= 1;
        Some(state)
    }

    /// TIME_WAITs and FIN_WAIT2 mini-sockets.
    pub(super) fn waits(&self) -> u64 {
        waits(&self.states, self.held_fin_wait2)
    }

    /// Every other holding.
    pub(super) fn open(&self) -> u64 {
        self.states.total() - self.waits()
    }

    /// An end came whose beginning was not seen yet.
    pub(super) fn owe(&mut self, is_wait: bool, at_ns: u64) {
        if at_ns > self.owed_until {
            self.owed = [0; 2];
        }
        self.owed[usize::from(is_wait)] += 1;
        self.owed_until = at_ns + OWED;
    }

    /// Whether a beginning is that of an end that came before it.
    pub(super) fn pay(&mut self, is_wait: bool, at_ns: u64) -> bool {
        let owed = &mut self.owed[usize::from(is_wait)];
        let pays = *owed > 0 && at_ns <= self.owed_until;
        *owed -= u32::from(pays);
        pays
    }

    pub(super) fn forgive(&mut self) {
        self.owed = [0; 2];
    }

    /// A TIME_WAIT was born whose end no event will tell. Returns how many left meanwhile.
    pub(super) fn born_for_a_minute(&mut self, at_ns: u64) -> u64 {
        let gone = self.expire(at_ns);
        let expiry = self.expiry.get_or_insert_default();
        if expiry.pending == 0 {
            expiry.from = at_ns / SECOND;
        }
        expiry.births.add(at_ns, 1);
        expiry.pending += 1;
        gone
    }

    /// Lets TIME_WAITs leave that were born over 60 s ago; returns how many.
    pub(super) fn expire(&mut self, now_ns: u64) -> u64 {
        let Some(expiry) = &mut self.expiry else {
            return 0;
        };
        // A second is over when all of it is 60 s old.
        let until = (now_ns.saturating_sub(TIME_WAIT_NS) / SECOND).max(expiry.from);
        if until == expiry.from {
            return 0;
        }
        let left: u32 = (until..=now_ns / SECOND)
            .map(|second| expiry.births.get(second))
            .sum();
        let gone = expiry.pending.saturating_sub(left);
        expiry.from = until;
        expiry.pending = left;
        (0..gone)
            .map_while(|_| self.take(&WAITS))
            .count()
            .try_into()
            .unwrap_or(u64::MAX)
    }

    /// Some TIME_WAITs ended early: the oldest, for all that is known.
    pub(super) fn trim_expiry(&mut self) {
        let waits = u32::try_from(self.waits()).unwrap_or(u32::MAX);
        if let Some(expiry) = &mut self.expiry
            && expiry.pending > waits
        {
            expiry
                .births
                .take_oldest(expiry.from, expiry.pending - waits);
            expiry.pending = waits;
        }
    }

    /// Whether it holds nothing and did nothing for a minute.
    pub(super) fn is_idle(&self, now_ns: u64) -> bool {
        self.states.total() == 0 && self.opens.is_silent(now_ns)
    }

    pub(super) fn holder(&self, now_ns: u64, since_ns: u64) -> Holder {
        Holder {
            process: Arc::clone(&self.process),
            states: self.states,
            opened: self.opened,
            open_rate: self.opens.rates(now_ns, since_ns),
            ends: self.ends,
            net_rate: self
                .trend
                .slope(now_ns, 60 * SECOND)
                .map_or(0.0, |slope| slope.per_s),
            bound: self.bound,
        }
    }
}

/// TIME_WAITs and FIN_WAIT2 mini-sockets of `states`, of whose FIN_WAIT2 `held` are full sockets.
pub(super) fn waits(states: &States, held: u64) -> u64 {
    states.get(TcpState::TimeWait) + states.get(TcpState::FinWait2).saturating_sub(held)
}

#[cfg(test)]
mod tests {
    use super::super::row::Row;
    use super::super::space::Change;
    use super::Account;

    #[test]
    fn memory_is_what_the_limits_say() {
        assert!(size_of::<Row>() <= 4_000);
        assert!(size_of::<Account>() <= 1_000);
        assert!(size_of::<Change>() <= 96);
    }
}
