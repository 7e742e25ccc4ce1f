/*! What the traced connections added up to, at its worst: what a gate looks at. */

use std::collections::VecDeque;

use crate::model::{Closer, Direction, Event, Kind};

/// Parts of a second in which opens are counted.
const PARTS: usize = 20;

/// One of them, ns.
const PART_NS: u64 = 1_000_000_000 / PARTS as u64;

/// Outbound connections, added up. Without `Opened` events only the TIME_WAITs are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Connections open or closing now.
    pub open: u64,
    /// The most at a time.
    pub open_peak: u64,
    /// The most opened within a second.
    pub rate_peak: u64,
    /// TIME_WAITs left behind.
    pub time_wait: u64,
    rate: Rate,
}

impl Load {
    /// Adds one event.
    pub fn event(&mut self, event: &Event) {
        if event.direction != Some(Direction::Out) {
            return;
        }
        match event.kind {
            Kind::Opened => {
                self.open += 1;
                self.open_peak = self.open_peak.max(self.open);
                let rate = self.rate.add(event.ts_ns);
                self.rate_peak = self.rate_peak.max(rate);
            }
            // Given up before it was open, or told once more by its TIME_WAIT, which alone is
            // told of those whose end no program saw.
            Kind::Closed if event.closer == Some(Closer::Local) => {}
            Kind::Closed | Kind::TimeWait => {
                self.open = self.open.saturating_sub(1);
                self.time_wait += u64::from(event.kind == Kind::TimeWait);
            }
            Kind::TimeWaitEnd | Kind::ConnectFailed | Kind::BindFailed => {}
        }
    }
}

/// Opens within the last second, in parts of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rate {
    parts: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Rate {
    /// Counts one at `ts_ns` and returns how many there were within a second until then.
    fn add(&mut self, ts_ns: u64) -> u64 {
        // Events of several processors come slightly out of order: none is older than its part.
        let newest = self.parts.back().map_or(0, |&(part, _)| part);
        let part = newest.max(ts_ns / PART_NS);
        match self.parts.back_mut() {
            Some((last, count)) if *last == part => *count += 1,
            _ => self.parts.push_back((part, 1)),
        }
        self.sum += 1;
        while let Some(&(oldest, count)) = self.parts.front()
            && oldest + PARTS as u64 <= part
        {
            self.sum -= count;
            self.parts.pop_front();
        }
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::{Load, Rate};
    use crate::model::sample::time_wait;
    use crate::model::{Closer, Direction, Event, Kind, TcpState};

    fn of(kind: Kind, direction: Direction) -> Event {
        Event {
            kind,
            direction: Some(direction),
            closer: Some(Closer::Peer),
            ..time_wait()
        }
    }

    #[test]
    fn opens_and_their_two_ends_add_up() {
        let closed_by_us = |state| Event {
            closer: Some(Closer::Local),
            state: Some(state),
            ..of(Kind::Closed, Direction::Out)
        };
        let mut load = Load::default();
        for event in [
            of(Kind::Opened, Direction::Out),
            of(Kind::Opened, Direction::In),
            closed_by_us(TcpState::SynSent),
            of(Kind::Opened, Direction::Out),
            of(Kind::Closed, Direction::Out),
            closed_by_us(TcpState::TimeWait),
            of(Kind::TimeWait, Direction::Out),
            of(Kind::TimeWait, Direction::In),
            of(Kind::Opened, Direction::Out),
        ] {
            load.event(&event);
        }
        assert_eq!((load.open, load.open_peak), (1, 2));
        assert_eq!((load.rate_peak, load.time_wait), (3, 1));
    }

    #[test]
    fn a_rate_is_that_of_any_second() {
        const MS: u64 = 1_000_000;
        let mut rate = Rate::default();
        // 10 every 100 ms for 3 s, across the borders of whole seconds.
        let mut most = 0;
        for tenth in 3..33 {
            for _ in 0..10 {
                most = most.max(rate.add(tenth * 100 * MS));
            }
        }
        assert_eq!(most, 100);
        assert_eq!(rate.add(60_000 * MS), 1);
        // One that comes late counts where the newest is.
        assert_eq!(rate.add(59_990 * MS), 2);
        assert_eq!(rate.parts.len(), 1);
    }
}
