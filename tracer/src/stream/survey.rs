/*!
The kernel's own lists of sockets, read on a thread of its own beside the
stream: a namespace with a million sockets takes a second, and the ring buffer
does not wait.
*/

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::dump::Dump;

/// What to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Inodes of the namespaces; none for every one there is.
    pub namespaces: Vec<u32>,
    /// Whether the owners of sockets are looked for too: a look at every process.
    pub owners: bool,
    /// Whether namespaces are listed too of which the last list will do.
    pub whole: bool,
}

/// Shortest time between two readings.
const SHORTEST: Duration = Duration::from_secs(1);

/// The same after one that had nothing new.
const CALM: Duration = Duration::from_secs(2);

/// A reading may take one part in this many of a processor's time,
const SHARE: u32 = 200;

/// unless readings were then further apart than this: without news for so long, no growth shows.
const LONGEST: Duration = Duration::from_secs(10);

/// What a reading may take of that time at most, for that, or while pools fill.
const MOST: u32 = 20;

/// What was read.
#[derive(Debug)]
pub struct Reading {
    /// The lists, those left out that could not be read.
    pub dumps: Vec<Dump>,
    /// Namespaces for which there was no time, and in words for people what that means.
    pub late: Option<(u64, String)>,
    /// What it cost in processor time, whatever time passed.
    pub cost: Duration,
}

/// A reader on its thread. It ends when this is dropped and its last reading is over.
pub struct Survey {
    ask: Sender<Ask>,
    answers: Receiver<Reading>,
    waiting: bool,
    /// What the last reading cost, whether it had nothing new, and when it was taken.
    last: Option<(Duration, bool, Instant)>,
    closely: bool,
}

impl Survey {
    /// Starts the thread on which `read` reads.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mut read: impl FnMut(&Ask) -> Reading + Send + 'static) -> std::io::Result<Self> {
        let (ask, asked) = channel::<Ask>();
        let (tell, answers) = channel();
        thread::Builder::new()
            .name("survey".into())
            .spawn(move || {
                for what in asked {
                    if tell.send(read(&what)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            ask,
            answers,
            waiting: false,
            last: None,
            closely: false,
        })
    }

    /// Whether a reading may be asked for: none is under way, and enough time has passed.
    pub fn is_due(&self) -> bool {
        !self.waiting && self.due_in().is_zero()
    }

    /// Time until enough of it has passed since the last reading.
    pub fn due_in(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |(cost, calm, taken)| {
            let least = if calm { CALM } else { SHORTEST };
            let pause = pause(cost, self.closely).max(least);
            pause.saturating_sub(taken.elapsed())
        })
    }

    /// Whether a reading is under way.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether to look closely from now on: something is about to run out.
    pub fn look_closely(&mut self, closely: bool) {
        self.closely = closely;
    }

    /// Asks for a reading, and returns at once.
    pub fn ask(&mut self, what: Ask) {
        self.waiting = self.ask.send(what).is_ok();
    }

    /// The reading asked for, when it is there.
    pub fn take(&mut self) -> Option<Reading> {
        match self.answers.try_recv() {
            Ok(reading) => Some(self.taken(reading)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// The reading asked for, or nothing when none comes within `at_most`.
    pub fn wait(&mut self, at_most: Duration) -> Option<Reading> {
        if !self.waiting {
            return None;
        }
        let reading = self.answers.recv_timeout(at_most).ok()?;
        Some(self.taken(reading))
    }

    fn taken(&mut self, reading: Reading) -> Reading {
        self.waiting = false;
        let calm = reading.dumps.is_empty();
        self.last = Some((reading.cost, calm, Instant::now()));
        reading
    }
}

/// The time to leave after a reading of this cost.
fn pause(cost: Duration, closely: bool) -> Duration {
    let least = cost * MOST;
    if closely {
        least
    } else {
        (cost * SHARE).min(LONGEST.max(least))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Ask, Reading, Survey, pause};

    #[test]
    fn readings_cost_little_but_do_not_stay_away() {
        let pause = |cost_ms| pause(Duration::from_millis(cost_ms), false).as_millis();
        assert_eq!(pause(1), 200);
        assert_eq!(pause(20), 4_000);
        assert_eq!(pause(300), 10_000);
        assert_eq!(pause(2_000), 40_000);
    }

    #[test]
    fn a_close_look_may_cost_more() {
        let pause = |cost_ms| pause(Duration::from_millis(cost_ms), true).as_millis();
        assert_eq!(pause(1), 20);
        assert_eq!(pause(50), 1_000);
        assert_eq!(pause(300), 6_000);
    }

    #[test]
    fn one_reading_at_a_time_and_none_too_soon() {
        let (tell, told) = std::sync::mpsc::channel();
        let mut survey = Survey::start(move |what| {
            tell.send(what.clone()).unwrap();
            Reading {
                dumps: Vec::new(),
                late: None,
                cost: Duration::ZERO,
            }
        })
        .unwrap();
        assert!(survey.is_due());
        assert!(survey.wait(Duration::from_secs(60)).is_none());
        let what = Ask {
            namespaces: vec![7],
            owners: true,
            whole: true,
        };
        survey.ask(what.clone());
        assert!(!survey.is_due());
        assert!(survey.wait(Duration::from_secs(60)).is_some());
        assert_eq!(told.recv(), Ok(what));
        assert!(!survey.is_due());
        assert!(survey.take().is_none());
    }
}
