/*!
The running kernel as a [`Source`]: ring buffer records, failure counts turned into steps, lists of
sockets, counters.

Everything waits in one place, `Live::wait`; the rest is done at once. Lists of sockets are read
on a thread of their own.
*/

mod births;
mod clock;
mod dumps;
mod end;
mod failures;
mod kernel;
pub mod machine;
pub mod repair;
pub mod survey;
pub mod wire;

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracer_ebpf::{Counter, flags};

use self::births::Births;
use self::dumps::{Dumps, Traced};
use self::end::Stage;
use self::failures::Failures;
pub use self::kernel::Kernel;
use self::survey::{Answer, Survey};
use super::{Batch, Flow, Item, Source};
use crate::host::process::Processes;
use crate::model::{About, Failure, Kind, Loss, Lost, Process, Task};

/// Time between drains while events come.
const BUSY: Duration = Duration::from_millis(15);

/// Longest time between drains: the kernel wakes for the first event after a pause.
const IDLE: Duration = Duration::from_secs(1);

/// Time between two looks at the loss counters, ns.
const LOSS_EVERY_NS: u64 = 1_000_000_000;

/// The same while no event comes, which is when nothing can be lost but what nobody asked for.
const LOSS_IDLE_NS: u64 = 10_000_000_000;

impl wire::Resolve for Processes {
    fn resolve(&mut self, task: &Task) -> std::sync::Arc<Process> {
        Self::resolve(self, task)
    }
}

/// Most records of the ring in one round. Whose they are is looked up on the way, in /proc where a
/// process is new: a storm of new ones would else keep a round from ending.
const ROUND: usize = 65_536;

/// The running kernel.
pub struct Live<K: Kernel> {
    wake: Option<AsyncFd<OwnedFd>>,
    kernel: K,
    about: About,
    people: Processes,
    dumps: Dumps,
    failures: Failures,
    undecodable: u64,
    unseen: u64,
    births: Option<Births>,
    stage: Stage,
    hurried: bool,
    /// An answer that came while the ring had more than one round takes.
    pending: Option<Answer>,
    /// How long to wait before the next drain.
    rest: Duration,
    /// When the loss counters were last looked at, ns, and whether any event came since.
    looked_ns: u64,
    stirred: bool,
}

impl<K: Kernel> Live<K> {
    /// A source out of attached programs, with lists of the sockets of these namespaces, or of all.
    ///
    /// `about.clock_offset_ns` is measured here.
    pub fn new(kernel: K, mut about: About, survey: Survey, namespaces: Vec<u32>) -> Self {
        about.clock_offset_ns = clock::offset_ns();
        Self {
            wake: None,
            kernel,
            people: Processes::new(),
            dumps: Dumps::new(survey, namespaces),
            failures: Failures::default(),
            undecodable: 0,
            unseen: 0,
            // Where no end comes, nothing would ever forget a birth.
            births: about.ends.then(Births::default),
            about,
            stage: Stage::Running,
            hurried: false,
            pending: None,
            rest: Duration::ZERO,
            looked_ns: 0,
            stirred: false,
        }
    }

    /// Waits for a wake-up of the ring buffer or an answer of the survey, at most as long as there
    /// is nothing else to do.
    async fn wait(&mut self, at_most: Duration) -> anyhow::Result<Option<Answer>> {
        let mut rest = self.rest.min(at_most);
        if self.stage.is_running() && !self.dumps.expects() {
            rest = rest.min(self.dumps.due_in().max(BUSY));
        }
        if rest.is_zero() {
            return Ok(None);
        }
        let wake = match &mut self.wake {
            Some(wake) => wake,
            // Here and not in `new`: it must be inside a runtime.
            none => {
                let ring = self.kernel.ring().try_clone_to_owned();
                let wake = ring.and_then(|ring| {
                    // SAFETY: the AsyncFd owns the descriptor, so it stays open while registered.
                    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
                        .map_err(Into::into)
                });
                none.insert(wake.context("cannot wait for the ring buffer")?)
            }
        };
        tokio::select! {
            biased;
            answer = self.dumps.answer() => return Ok(Some(answer)),
            ready = wake.readable() => {
                ready.context("cannot wait for the ring buffer")?.clear_ready();
            }
            () = tokio::time::sleep(rest) => {}
        }
        Ok(None)
    }

    /// Everything there is now. An answer is of a time before it came: what happened until then is
    /// in the ring, and comes before it.
    fn round(&mut self, answer: Option<Answer>, batch: &mut Batch) -> anyhow::Result<()> {
        let (before, malformed) = (batch.items.len(), self.undecodable);
        self.pending = answer.or(self.pending.take());
        let is_empty = self.drain_ring(batch);
        if self.failures.is_due() {
            self.drain_failures(batch)?;
        }
        let is_busy = batch.items.len() > before || self.undecodable > malformed;
        self.stirred |= is_busy;
        self.rest = if is_busy {
            BUSY
        } else {
            IDLE.min(self.rest.max(BUSY) * 2)
        };
        if !is_empty {
            // What is left in the ring may be older than the answer.
            self.rest = Duration::ZERO;
            return Ok(());
        }
        let now_ns = clock::now_ns();
        match self.pending.take() {
            Some(Answer::Dumps(reading)) => {
                let (kernel, people) = (&self.kernel, &mut self.people);
                let traced = || traced(kernel, people);
                self.dumps.book(reading, now_ns, traced, batch)?;
            }
            Some(Answer::Sockets(list)) => self.repair(list, batch),
            None => {}
        }
        self.advance(now_ns, batch)
    }

    /// Takes what the ring holds, but no more than one round may take, and says whether that was all.
    fn drain_ring(&mut self, batch: &mut Batch) -> bool {
        let Self {
            kernel,
            people,
            failures,
            births,
            undecodable,
            ..
        } = self;
        let is_empty = kernel.drain(ROUND, &mut |record| match wire::decode(record, people) {
            Ok(mut event) if !event.kind.is_failure() => {
                match (event.kind, &mut *births) {
                    (Kind::TimeWait, Some(births)) => births.remember(&event),
                    (Kind::TimeWaitEnd, Some(births)) => births.complete(&mut event),
                    _ => {}
                }
                batch.push(Item::Event(event));
            }
            Ok(event) if event.sample => failures.sampled = true,
            Ok(event) => batch.push(Item::Failures(Box::new(Failure::single(event)))),
            Err(malformed) => {
                log::debug!("{malformed}");
                *undecodable += 1;
            }
        });
        batch
            .items
            .extend(kernel.surprises().into_iter().map(Item::Notice));
        is_empty
    }

    fn drain_failures(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        let Self { kernel, people, .. } = self;
        self.undecodable += self.failures.drain(kernel, people, batch)?;
        Ok(())
    }

    fn loss(&mut self) -> anyhow::Result<Loss> {
        let missed = self.kernel.misses();
        let counters = self
            .kernel
            .counters()
            .context("cannot read the loss counters")?;
        let counter = |which: Counter| counters[which as usize];
        Ok(Loss {
            lost: Lost {
                ring_full: counter(Counter::RingFull),
                sockets_full: counter(Counter::SocketsFull),
                attempts_full: counter(Counter::AttemptsFull),
                pids_full: counter(Counter::PidsFull),
                recursion: missed.lost,
                undecodable: self.undecodable,
                unreadable: counter(Counter::SocketUnreadable),
                unseen: self.unseen + counter(Counter::Unseen),
                output: 0,
            },
            recursion_skipped: missed.rescued + missed.lost,
            recursion_rescued: counter(Counter::Rescued),
            samples_skipped: counter(Counter::SamplesSkipped),
            failures_full: counter(Counter::FailuresFull),
        })
    }
}

impl<K: Kernel> Source for Live<K> {
    fn about(&self) -> &About {
        &self.about
    }

    async fn next(&mut self, batch: &mut Batch, at_most: Duration) -> anyhow::Result<Flow> {
        let answer = self.wait(at_most).await?;
        self.round(answer, batch)?;
        let now_ns = clock::now_ns();
        let gap_ns = if self.stirred {
            LOSS_EVERY_NS
        } else {
            LOSS_IDLE_NS
        };
        if self.stage.is_over() || now_ns >= self.looked_ns + gap_ns {
            (self.looked_ns, self.stirred) = (now_ns, false);
            batch.push(Item::Loss(Box::new(self.loss()?)));
        }
        batch.push(Item::Clock {
            now_ns,
            expects_dump: self.dumps.expects(),
        });
        Ok(if self.stage.is_over() {
            Flow::Ended
        } else {
            Flow::More
        })
    }

    fn stop(&mut self) {
        self.rest = Duration::ZERO;
        if self.stage.is_running() {
            self.stage = Stage::settle();
        } else {
            self.hurried = true;
        }
    }
}

/// The owners of the connections under way, as the programs know them: by cookie, where sockets have
/// cookies that programs know (Linux 5.12).
fn traced(kernel: &impl Kernel, people: &mut Processes) -> anyhow::Result<Traced> {
    let mut traced = Traced::default();
    kernel
        .unfinished(&mut |_, socket| {
            if socket.cookie != 0 && socket.flags & flags::OWNER_UNKNOWN == 0 {
                let process = people.resolve(&wire::task(&socket.owner));
                traced.insert(socket.cookie, process);
            }
        })
        .context("cannot read the sockets map")?;
    Ok(traced)
}

#[cfg(test)]
mod tests;
