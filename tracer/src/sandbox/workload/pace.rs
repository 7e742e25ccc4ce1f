/*! A steady rate. */

use std::thread;
use std::time::{Duration, Instant};

/// A timetable of so many turns a second, the first one at once.
///
/// The times are fixed from the start: after a turn that came late the next ones come as
/// planned, so that the mean rate is exact.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    per_second: f64,
    turns: u64,
}

impl Pace {
    /// Begins now; `per_second` is more than 0.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        Self {
            began: Instant::now(),
            per_second,
            turns: 0,
        }
    }

    /// Waits for the next turn.
    pub fn wait(&mut self) {
        thread::sleep(self.turn().saturating_duration_since(Instant::now()));
    }

    /// When the next turn is.
    fn turn(&mut self) -> Instant {
        let due = Duration::from_secs_f64(self.turns as f64 / self.per_second);
        self.turns += 1;
        self.began + due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pace;

    #[test]
    fn turns_are_evenly_spread_from_the_start() {
        let mut pace = Pace::new(40.0);
        let first = pace.turn();
        assert_eq!(pace.turn() - first, Duration::from_millis(25));
        assert_eq!(pace.turn() - first, Duration::from_millis(50));
    }
}
