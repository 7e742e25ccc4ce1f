/*! What a gate looks at, taken from the stream on its way to a view. */

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::levels;
use crate::diagnosis::Verdict;
use crate::event::{Closer, Direction, Error, Event, Kind};
use crate::gate::Measured;
use crate::host::process::Identity;
use crate::ledger::pool::Pool;
use crate::source::{Failure, Loss};
use crate::view::{Summary, View};

/// Parts of a second in which opens are counted.
const PARTS: usize = 20;

/// One of them, ns.
const PART_NS: u64 = 1_000_000_000 / PARTS as u64;

/// Adds up what is measured, and shows of the stream what is wanted.
pub(super) struct Measuring {
    view: Box<dyn View>,
    /// Whether the stream is shown, or only the summary.
    stream: bool,
    /// Whether connections that open and close are shown too.
    all: bool,
    measured: Measured,
    open: u64,
    rate: Rate,
}

impl Measuring {
    /// Before a `view`.
    pub(super) fn new(view: Box<dyn View>, stream: bool, all: bool) -> Self {
        Self {
            view,
            stream,
            all,
            measured: Measured::default(),
            open: 0,
            rate: Rate::default(),
        }
    }

    /// What was measured.
    pub(super) fn measured(self) -> Measured {
        self.measured
    }

    fn count(&mut self, event: &Event) {
        if event.direction != Some(Direction::Out) {
            return;
        }
        match event.kind {
            Kind::Opened => {
                self.open += 1;
                self.measured.open = self.measured.open.max(self.open);
                let rate = self.rate.add(event.ts_ns);
                self.measured.rate = self.measured.rate.max(rate);
            }
            // Given up before it was open, or told once more by its TIME_WAIT, which alone is
            // told of those whose end no program saw.
            Kind::Closed if event.closer == Some(Closer::Local) => {}
            Kind::Closed | Kind::TimeWait => {
                self.open = self.open.saturating_sub(1);
                self.measured.time_wait += u64::from(event.kind == Kind::TimeWait);
            }
            Kind::TimeWaitEnd | Kind::ConnectFailed | Kind::BindFailed => {}
        }
    }
}

impl View for Measuring {
    fn event(&mut self, event: &Event, who: &Arc<Identity>, out: &mut Vec<u8>) -> io::Result<()> {
        self.count(event);
        let detail = matches!(event.kind, Kind::Opened | Kind::Closed);
        if self.stream && (self.all || !detail) {
            self.view.event(event, who, out)?;
        }
        Ok(())
    }

    fn failure(
        &mut self,
        failure: &Failure,
        who: &Arc<Identity>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        match failure.first.errno {
            Some(errno) => *self.measured.failures.entry(name(errno)).or_default() += failure.count,
            None => self.measured.nameless += failure.count,
        }
        if self.stream {
            self.view.failure(failure, who, out)?;
        }
        Ok(())
    }

    fn tick(&mut self, now_ns: u64, out: &mut Vec<u8>) -> io::Result<()> {
        self.view.tick(now_ns, out)
    }

    fn loss(&mut self, now_ns: u64, loss: &Loss, out: &mut Vec<u8>) -> io::Result<()> {
        // Without a stream it stands in the summary.
        if self.stream {
            self.view.loss(now_ns, loss, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.view.finish(out)
    }

    fn verdicts(
        &mut self,
        now_ns: u64,
        pools: &[Pool],
        verdicts: &[Verdict],
        last: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let (pools, verdicts) = levels::of_the_command(pools, verdicts);
        if last {
            self.measured.utilization = levels::highest(&pools);
        }
        if self.stream || last {
            self.view.verdicts(now_ns, &pools, &verdicts, last, out)?;
        }
        Ok(())
    }

    fn summary(&mut self, summary: &Summary, out: &mut Vec<u8>) -> io::Result<()> {
        let lost = &summary.loss.lost;
        // A line that found the output too slow was measured all the same.
        self.measured.lost = lost.total() - lost.output;
        self.view.summary(summary, out)
    }
}

fn name(errno: Error) -> String {
    errno.name().to_lowercase()
}

/// Opens within the last second, in parts of it.
#[derive(Debug, Default)]
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
    use std::io;
    use std::sync::Arc;

    use super::{Measuring, Rate};
    use crate::diagnosis::Verdict;
    use crate::event::sample::{exhausted, time_wait};
    use crate::event::{Closer, Direction, Event, Kind, TcpState};
    use crate::host::process::Identity;
    use crate::ledger::pool::Pool;
    use crate::source::{Failure, Loss, Lost};
    use crate::view::{Summary, View};

    /// Writes one letter for each call.
    struct Letters;

    impl View for Letters {
        fn event(&mut self, event: &Event, _: &Arc<Identity>, out: &mut Vec<u8>) -> io::Result<()> {
            out.push(event.kind.name().as_bytes()[0]);
            Ok(())
        }
        fn failure(&mut self, _: &Failure, _: &Arc<Identity>, out: &mut Vec<u8>) -> io::Result<()> {
            out.push(b'F');
            Ok(())
        }
        fn tick(&mut self, _: u64, _: &mut Vec<u8>) -> io::Result<()> {
            Ok(())
        }
        fn loss(&mut self, _: u64, _: &Loss, out: &mut Vec<u8>) -> io::Result<()> {
            out.push(b'L');
            Ok(())
        }
        fn finish(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
            Ok(())
        }
        fn verdicts(
            &mut self,
            _: u64,
            _: &[Pool],
            _: &[Verdict],
            last: bool,
            out: &mut Vec<u8>,
        ) -> io::Result<()> {
            out.push(if last { b'V' } else { b'v' });
            Ok(())
        }
        fn summary(&mut self, _: &Summary, out: &mut Vec<u8>) -> io::Result<()> {
            out.push(b'S');
            Ok(())
        }
    }

    fn of(kind: Kind, direction: Direction) -> Event {
        Event {
            kind,
            direction: Some(direction),
            closer: Some(Closer::Peer),
            ..time_wait()
        }
    }

    /// Two opens at once, ended in both ways, and what does not count.
    fn shown(stream: bool, all: bool) -> (String, super::Measured) {
        let mut measuring = Measuring::new(Box::new(Letters), stream, all);
        let (who, mut out) = (Arc::default(), Vec::new());
        let closed_by_us = |state| Event {
            closer: Some(Closer::Local),
            state: Some(state),
            ..of(Kind::Closed, Direction::Out)
        };
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
            measuring.event(&event, &who, &mut out).unwrap();
        }
        let failure = Failure {
            count: 7,
            ..Failure::single(exhausted())
        };
        measuring.failure(&failure, &who, &mut out).unwrap();
        let nameless = Failure::single(Event {
            errno: None,
            ..exhausted()
        });
        measuring.failure(&nameless, &who, &mut out).unwrap();
        let summary = Summary {
            loss: Loss {
                lost: Lost {
                    ring_full: 3,
                    output: 5,
                    ..Lost::default()
                },
                ..Loss::default()
            },
            ..Summary::default()
        };
        measuring.loss(0, &summary.loss, &mut out).unwrap();
        measuring.verdicts(0, &[], &[], false, &mut out).unwrap();
        measuring.verdicts(0, &[], &[], true, &mut out).unwrap();
        measuring.summary(&summary, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), measuring.measured())
    }

    #[test]
    fn measures_the_same_whatever_is_shown() {
        for (stream, all, letters) in [
            (true, true, "oococcttoFFLvVS".len()),
            (true, false, "ttFFLvVS".len()),
            (false, false, "VS".len()),
        ] {
            let (out, measured) = shown(stream, all);
            // Each event, unless it is a detail that was not asked for.
            assert_eq!(out.len(), letters, "{out}");
            assert_eq!(measured.open, 2);
            assert_eq!(measured.rate, 3);
            assert_eq!(measured.time_wait, 1);
            assert_eq!(measured.failures["eaddrnotavail"], 7);
            assert_eq!(measured.nameless, 1);
            assert_eq!(measured.lost, 3);
            assert_eq!(measured.utilization, Some(0.0), "no pool is no level");
        }
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
