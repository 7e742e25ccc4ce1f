/*! What a pool was like within one span of time, and a bounded row of such samples. */

use std::collections::VecDeque;

use crate::model::{Cause, States, TcpState};

/// What failures are counted by, as declared; the last stands for anything else.
pub(super) const CAUSES: [Cause; 8] = [
    Cause::PortsExhausted,
    Cause::TupleInUse,
    Cause::AddressNotLocal,
    Cause::NoRoute,
    Cause::Refused,
    Cause::TimedOut,
    Cause::Reset,
    Cause::Other,
];

const _: () = {
    let mut index = 0;
    while index < CAUSES.len() {
        assert!(CAUSES[index] as usize == index);
        index += 1;
    }
};

/// Ports by TCP state: [`States`] at half their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels([u32; States::ALL.len()]);

impl Levels {
    /// How many are in `state`; 0 for one that holds no port.
    pub fn get(&self, state: TcpState) -> u32 {
        let index = States::ALL.iter().position(|&one| one == state);
        index.map_or(0, |index| self.0[index])
    }

    /// All of them: the source ports held.
    pub fn total(&self) -> u64 {
        self.0.iter().copied().map(u64::from).sum()
    }
}

impl From<&States> for Levels {
    fn from(states: &States) -> Self {
        Self(States::ALL.map(|state| narrow(states.get(state))))
    }
}

/// Connections that ended, by who ended them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Our side sent the first FIN: these leave a TIME_WAIT.
    pub local: u32,
    /// The peer did.
    pub peer: u32,
    /// A RST, a timeout or an abort.
    pub reset: u32,
}

/// What a pool was like within one span of time. Counts that do not fit stay at the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Where the span begins, whole seconds of `CLOCK_MONOTONIC`: a multiple of its length.
    pub at_s: u64,
    /// Time connect() spent looking for a port, ns, of all `searches` together.
    pub search_ns: u64,
    /// Ports held by TCP state, at the last look within the span.
    pub states: Levels,
    /// The most ports held at a time, between looks too.
    pub peak: u32,
    /// Connections opened.
    pub opened: u32,
    /// The most opened within any 100 ms.
    pub open_peak: u32,
    /// Connections that ended.
    pub closed: Closed,
    /// Searches for a port that were timed.
    pub searches: u32,
    pub(super) failed: [u32; CAUSES.len()],
}

impl Sample {
    /// Failed calls of this cause.
    pub fn failed(&self, cause: Cause) -> u32 {
        self.failed[cause as usize]
    }

    /// Failed calls by cause, in the order causes are declared; those that are 0 too.
    pub fn failures(&self) -> impl Iterator<Item = (Cause, u32)> {
        CAUSES.into_iter().zip(self.failed)
    }

    /// Takes in a later look at the same span.
    fn merge(&mut self, later: &Self) {
        let add = |sum: &mut u32, more: u32| *sum = sum.saturating_add(more);
        self.states = later.states;
        self.peak = self.peak.max(later.peak);
        self.open_peak = self.open_peak.max(later.open_peak);
        self.search_ns = self.search_ns.saturating_add(later.search_ns);
        add(&mut self.opened, later.opened);
        add(&mut self.searches, later.searches);
        add(&mut self.closed.local, later.closed.local);
        add(&mut self.closed.peer, later.closed.peer);
        add(&mut self.closed.reset, later.closed.reset);
        for (sum, more) in self.failed.iter_mut().zip(later.failed) {
            add(sum, more);
        }
    }
}

/// The samples of the newest `MOST` spans of `SPAN_S` seconds, oldest first; none of a span in which
/// nobody looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Track<const SPAN_S: u64, const MOST: usize>(VecDeque<Sample>);

impl<const SPAN_S: u64, const MOST: usize> Track<SPAN_S, MOST> {
    /// Adds a look, whose `at_s` is its second; no earlier than any before.
    pub(super) fn add(&mut self, look: &Sample) {
        self.prune(look.at_s);
        let at_s = look.at_s - look.at_s % SPAN_S;
        if let Some(newest) = self.0.back_mut()
            && newest.at_s == at_s
        {
            newest.merge(look);
            return;
        }
        let count = self.0.len();
        if count == self.0.capacity() {
            // Doubling by itself would end at far more than the bound that is stated.
            let room = MOST.saturating_sub(count);
            self.0.reserve_exact(count.max(4).min(room));
        }
        self.0.push_back(Sample { at_s, ..*look });
    }

    /// Drops what is too old. Each sample has a span of its own, so this bounds their number as well.
    pub(super) fn prune(&mut self, now_s: u64) {
        let newest = now_s - now_s % SPAN_S;
        let oldest = newest.saturating_sub(SPAN_S * (MOST as u64 - 1));
        while self.0.front().is_some_and(|sample| sample.at_s < oldest) {
            self.0.pop_front();
        }
    }

    pub(super) fn samples(&self) -> impl DoubleEndedIterator<Item = &Sample> + ExactSizeIterator {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As much of a count as has room in a sample.
pub(super) fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Sample, Track};

    #[test]
    fn a_row_that_is_full_takes_no_more_memory_than_its_bound() {
        let mut track = Track::<10, 720>::default();
        for at_s in 5..20_000 {
            let look = Sample {
                at_s,
                ..Sample::default()
            };
            track.add(&look);
            assert!(track.0.capacity() <= 720, "at {at_s} s");
            if at_s == 45 {
                assert!(track.0.capacity() <= 8, "a short run costs little");
            }
            if at_s % 1_000 == 0 {
                // A copy has no spare room.
                track = track.clone();
            }
        }
        assert_eq!(track.0.len(), 720);
    }
}
