/*!
The kernel's own lists of sockets, read on a thread of its own beside the
stream: a namespace with a million sockets takes a second, and the ring buffer
does not wait.
*/

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, WeakUnboundedSender, unbounded_channel};

use super::repair::List;
use crate::model::Dump;

/// What to dump.
#[derive(Clone, Debug, PartialEq, Eq)]
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
pub enum Answer {
    /// Socket dumps.
    Dumps(Reading),
    /// The bare sockets of one namespace.
    Sockets(List),
}

/// Socket dumps, and what else is known of them.
#[derive(Debug, Default)]
pub struct Reading {
    /// The lists, those left out that could not be read.
    pub dumps: Vec<Dump>,
    /// By inode of each namespace listed: open connections of the pools that they are filling.
    pub filled: Vec<(u32, u64)>,
    /// Namespaces for which there was no time, and in words for people what that means.
    pub late: Option<(u64, String)>,
    /// What it cost in processor time, whatever time passed.
    pub cost: Duration,
}

/// Lists the bare sockets of the namespace with this inode.
type Lister = Arc<dyn Fn(u32) -> List + Send + Sync>;

/// A reader on its thread. It ends when this is dropped and its last reading is over.
pub struct Survey {
    ask: Sender<Ask>,
    /// Alive as long as the thread is.
    tell: WeakUnboundedSender<Answer>,
    answers: UnboundedReceiver<Answer>,
    list: Lister,
    /// Whether nothing can be asked for any more.
    dead: bool,
    /// Answers outstanding.
    waiting: u32,
    /// What the last reading cost, whether it had nothing new, and when it was taken.
    last: Option<(Duration, bool, Instant)>,
    closely: bool,
}

impl Survey {
    /// Starts the thread on which `read` reads. `list` lists on a thread of its own, so that what is
    /// asked of it does not wait for a reading that is late.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        mut read: impl FnMut(&Ask) -> Reading + Send + 'static,
        list: impl Fn(u32) -> List + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (ask, asked) = channel::<Ask>();
        let (tell, answers) = unbounded_channel();
        let weak = tell.downgrade();
        thread::Builder::new()
            .name("survey".into())
            .spawn(move || {
                for what in asked {
                    if tell.send(Answer::Dumps(read(&what))).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            ask,
            tell: weak,
            answers,
            list: Arc::new(list),
            dead: false,
            waiting: 0,
            last: None,
            closely: false,
        })
    }

    /// Whether a reading may be asked for: none is under way, and enough time has passed.
    pub(super) fn is_due(&self) -> bool {
        self.waiting == 0 && !self.dead && self.due_in().is_zero()
    }

    /// Time until enough of it has passed since the last reading.
    pub(super) fn due_in(&self) -> Duration {
        if self.dead {
            return Duration::MAX;
        }
        self.last.map_or(Duration::ZERO, |(cost, calm, taken)| {
            let least = if calm { CALM } else { SHORTEST };
            let pause = pause(cost, self.closely).max(least);
            pause.saturating_sub(taken.elapsed())
        })
    }

    /// Whether an answer is outstanding.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Whether to look closely from now on: something is about to run out.
    pub(super) fn look_closely(&mut self, closely: bool) {
        self.closely = closely;
    }

    /// Asks for a reading, and returns at once. False when the thread is gone: none will come.
    pub(super) fn ask(&mut self, what: Ask) -> bool {
        self.dead |= self.ask.send(what).is_err();
        self.waiting += u32::from(!self.dead);
        !self.dead
    }

    /// Asks for the bare sockets of one namespace, and returns at once. Where nobody can be asked no
    /// answer is outstanding.
    pub(super) fn ask_for_sockets(&mut self, netns: u32) {
        let Some(tell) = self.tell.upgrade() else {
            return;
        };
        let list = Arc::clone(&self.list);
        let spawned = thread::Builder::new()
            .name("list".into())
            .spawn(move || tell.send(Answer::Sockets(list(netns))).is_ok());
        self.waiting += u32::from(spawned.is_ok());
    }

    /// The next answer, when it is there; never returns when none is outstanding. Dropped, it takes
    /// nothing along.
    pub(super) async fn answer(&mut self) -> Answer {
        if self.waiting > 0 {
            if let Some(answer) = self.answers.recv().await {
                return self.taken(answer);
            }
            // The thread panicked: what it read does not come any more.
            self.waiting = 0;
        }
        std::future::pending().await
    }

    fn taken(&mut self, answer: Answer) -> Answer {
        self.waiting -= 1;
        if let Answer::Dumps(reading) = &answer {
            let calm = reading.dumps.is_empty();
            self.last = Some((reading.cost, calm, Instant::now()));
        }
        answer
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

    use super::{Answer, Ask, List, Reading, Survey, pause};

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

    fn nothing(_: u32) -> List {
        List::Gone
    }

    fn everything() -> Ask {
        Ask {
            namespaces: vec![7],
            owners: true,
            whole: true,
        }
    }

    async fn answer(survey: &mut Survey) -> Option<Answer> {
        let answer = tokio::time::timeout(Duration::from_secs(60), survey.answer());
        answer.await.ok()
    }

    #[tokio::test]
    async fn one_reading_at_a_time_and_none_too_soon() {
        let (tell, told) = std::sync::mpsc::channel();
        let read = move |what: &Ask| {
            tell.send(what.clone()).unwrap();
            Reading::default()
        };
        let mut survey = Survey::start(read, nothing).unwrap();
        assert!(survey.is_due());
        let none = tokio::time::timeout(Duration::from_millis(1), survey.answer());
        assert!(none.await.is_err(), "nothing was asked for");
        assert!(survey.ask(everything()));
        assert!(!survey.is_due());
        assert!(matches!(answer(&mut survey).await, Some(Answer::Dumps(_))));
        assert_eq!(told.recv(), Ok(everything()));
        assert!(!survey.is_due() && !survey.is_waiting());
    }

    #[tokio::test]
    async fn a_list_does_not_wait_for_a_late_reading() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let read = move |_: &Ask| {
            wait.recv().ok();
            Reading::default()
        };
        let mut survey = Survey::start(read, nothing).unwrap();
        survey.ask(everything());
        survey.ask_for_sockets(7);
        let first = answer(&mut survey).await;
        assert!(matches!(first, Some(Answer::Sockets(List::Gone))));
        assert!(survey.is_waiting());
        go.send(()).unwrap();
        assert!(matches!(answer(&mut survey).await, Some(Answer::Dumps(_))));
    }

    #[tokio::test]
    async fn a_reader_that_panicked_is_asked_once_more_and_never_again() {
        let read = |_: &Ask| panic!("as it is to");
        let mut survey = Survey::start(read, nothing).unwrap();
        survey.ask(everything());
        while survey.is_waiting() {
            let none = tokio::time::timeout(Duration::from_millis(10), survey.answer());
            assert!(none.await.is_err());
        }
        while survey.ask(everything()) {
            std::thread::yield_now();
        }
        assert!(!survey.is_due() && !survey.due_in().is_zero());
        survey.ask_for_sockets(7);
        assert!(!survey.is_waiting());
    }
}
