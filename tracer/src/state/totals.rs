/*! What a stream adds up to: totals, and who did how much of it where. */

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use serde::Serialize;

use crate::model::{Cause, Error, Event, Failure, Kind, Ownership, Place, Process};

/// Most rows kept, at about 500 bytes each: 2 MB. What comes beyond is only in the totals.
const MOST_ROWS: usize = 4096;

/// Events by type; failures by their exact count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// connect() calls that failed.
    pub connect_failed: u64,
    /// bind() calls that failed.
    pub bind_failed: u64,
    /// TIME_WAITs and FIN_WAIT2 mini-sockets born.
    pub time_wait: u64,
    /// Of those, concluded from state changes.
    pub time_wait_inferred: u64,
    /// TIME_WAITs that gave their port back.
    pub time_wait_end: u64,
    /// Connections established; 0 unless all events were asked for.
    pub opened: u64,
    /// Connections closed; 0 unless all events were asked for.
    pub closed: u64,
}

impl Totals {
    fn add(&mut self, kind: Kind, inferred: bool, count: u64) {
        let total = match kind {
            Kind::ConnectFailed => &mut self.connect_failed,
            Kind::BindFailed => &mut self.bind_failed,
            Kind::TimeWait => {
                self.time_wait_inferred += if inferred { count } else { 0 };
                &mut self.time_wait
            }
            Kind::TimeWaitEnd => &mut self.time_wait_end,
            Kind::Opened => &mut self.opened,
            Kind::Closed => &mut self.closed,
        };
        *total += count;
    }

    /// connect() and bind() calls that failed.
    pub fn failed(&self) -> u64 {
        self.connect_failed + self.bind_failed
    }
}

/// What one process did in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The process.
    pub process: Arc<Process>,
    /// Where.
    pub place: Place,
    /// How much.
    pub totals: Totals,
    /// Failures by errno and cause; the counts are exact.
    pub failures: BTreeMap<(Option<Error>, Cause), u64>,
}

/// Adds events up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    totals: Totals,
    errnos: BTreeMap<Option<Error>, u64>,
    rows: HashMap<(u32, u64, Place), Row>,
    beyond: u64,
}

impl Tally {
    /// Adds one event; not a failure.
    pub fn event(&mut self, event: &Event) {
        self.totals.add(event.kind, event.inferred, 1);
        // Nobody's, and not even known which side is the pool: thousands of rows that say nothing.
        if event.kind == Kind::TimeWaitEnd && event.ownership == Ownership::Unknown {
            return;
        }
        if let Some(row) = self.row(event) {
            row.totals.add(event.kind, event.inferred, 1);
        }
    }

    /// Adds failures.
    pub fn failure(&mut self, failure: &Failure) {
        let first = &failure.first;
        self.totals.add(first.kind, first.inferred, failure.count);
        *self.errnos.entry(first.errno).or_default() += failure.count;
        if let Some(row) = self.row(first) {
            row.totals.add(first.kind, first.inferred, failure.count);
            let why = (first.errno, first.cause.unwrap_or(Cause::Other));
            *row.failures.entry(why).or_default() += failure.count;
        }
    }

    fn row(&mut self, event: &Event) -> Option<&mut Row> {
        let place = Place::of(event);
        let key = (event.process.tgid, event.process.start_ns, place);
        if self.rows.len() >= MOST_ROWS && !self.rows.contains_key(&key) {
            self.beyond += 1;
            return None;
        }
        Some(self.rows.entry(key).or_insert_with(|| Row {
            process: Arc::clone(&event.process),
            place,
            totals: Totals::default(),
            failures: BTreeMap::new(),
        }))
    }

    /// Everything so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Failures by errno, those of connect() and bind() together; `None` where it is not known.
    pub fn errnos(&self) -> &BTreeMap<Option<Error>, u64> {
        &self.errnos
    }

    /// Events and failure lines that found no row and are only in the totals.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// The rows: most failures first, then most TIME_WAITs, then most connections.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.values().cloned().collect();
        rows.sort_by_key(|row| {
            let totals = &row.totals;
            (
                std::cmp::Reverse((totals.failed(), totals.time_wait, totals.opened)),
                row.process.tgid,
                row.place,
            )
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{MOST_ROWS, Tally};
    use crate::model::sample::{exhausted, time_wait};
    use crate::model::{Event, Failure, Kind, Ownership, Process};

    fn process(tgid: u32) -> Arc<Process> {
        Arc::new(Process {
            tgid,
            ..Process::default()
        })
    }

    #[test]
    fn totals_are_exact_beyond_the_rows() {
        let mut tally = Tally::default();
        let many = u32::try_from(MOST_ROWS).unwrap() + 10;
        for tgid in 1..=many {
            let mut event = time_wait();
            event.process = process(tgid);
            tally.event(&event);
            tally.event(&event);
        }
        assert_eq!(tally.rows().len(), MOST_ROWS);
        assert_eq!(tally.totals().time_wait, u64::from(2 * many));
        let in_rows: u64 = tally.rows().iter().map(|row| row.totals.time_wait).sum();
        assert_eq!(in_rows + tally.beyond(), u64::from(2 * many));
    }

    #[test]
    fn the_most_failures_come_first_and_nobodys_ends_make_no_row() {
        let mut tally = Tally::default();
        for _ in 0..9 {
            tally.event(&time_wait());
        }
        let mut failing = exhausted();
        failing.process = process(9999);
        let failure = |count| Failure {
            count,
            ..Failure::single(failing.clone())
        };
        tally.failure(&failure(3));
        tally.failure(&failure(4));
        let mut end = Event {
            kind: Kind::TimeWaitEnd,
            ownership: Ownership::Unknown,
            ..time_wait()
        };
        end.tuple.dport = 50_000;
        tally.event(&end);
        let rows = tally.rows();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].process.tgid, 9999);
        assert_eq!(rows[0].totals.failed(), 7);
        assert_eq!(rows[0].failures.values().sum::<u64>(), 7);
        assert_eq!(tally.totals().time_wait_end, 1);
        assert_eq!(tally.totals().failed(), 7);
        assert_eq!(tally.errnos().values().sum::<u64>(), 7);
    }
}
