/*! The running kernel as a [`Source`]: ring buffer records, failure counts turned into steps, counters. */

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use foldhash::HashMap;
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracer_ebpf::{COUNTERS, Counter, FailureCount, FailureKey, Socket, flags};

use super::births::Births;
use super::repair::{self, Survey};
use super::{About, Batch, Failure, Loss, Lost, Source};
use crate::event::{Event, Kind, Owner};
use crate::kernel::hooks::NONE;
use crate::kernel::probes::{Misses, Probes};

/// Shortest time between two reads of the failures map: reading it costs a
/// system call an entry, and what it holds is not lost by waiting.
const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// Longest time a failure waits to be reported whose sample found the ring full: others are told of
/// by a sample, their own or one a moment before.
const LONGEST_GAP: Duration = Duration::from_secs(10);

/// The attached programs, as far as a stream needs them.
pub trait Kernel {
    /// The ring buffer's descriptor: readable when the kernel side forced a wake-up.
    fn ring(&self) -> BorrowedFd<'_>;

    /// Hands every record the ring buffer holds to `each`.
    fn drain(&mut self, each: &mut dyn FnMut(&[u8]));

    /// What the kernel side had to say in words since the last call.
    fn surprises(&mut self) -> Vec<String>;

    /// The failures map as it is: absolute counts.
    ///
    /// # Errors
    /// When the map cannot be read.
    fn failures(&mut self) -> anyhow::Result<Vec<(FailureKey, FailureCount)>>;

    /// Sum over all processors, by [`Counter`].
    ///
    /// # Errors
    /// When the map cannot be read.
    fn counters(&mut self) -> anyhow::Result<[u64; COUNTERS as usize]>;

    /// Runs of programs the kernel skipped.
    fn misses(&self) -> Misses;

    /// Hands each connection whose end no program has seen yet to `each`, with its key.
    ///
    /// # Errors
    /// When the map cannot be read.
    fn unfinished(&self, each: &mut dyn FnMut(u64, &Socket)) -> anyhow::Result<()>;

    /// One such connection, if it still has seen no end.
    fn unfinished_one(&self, key: u64) -> Option<Socket>;

    /// Detaches the programs; the maps stay readable. Doing it again does nothing.
    ///
    /// # Errors
    /// When a program cannot be detached.
    fn detach(&mut self) -> anyhow::Result<()>;
}

impl Kernel for Probes {
    fn ring(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn drain(&mut self, each: &mut dyn FnMut(&[u8])) {
        self.drain(each);
    }

    fn surprises(&mut self) -> Vec<String> {
        self.surprises()
    }

    fn unfinished(&self, each: &mut dyn FnMut(u64, &Socket)) -> anyhow::Result<()> {
        Ok(self.unfinished(each)?)
    }

    fn unfinished_one(&self, key: u64) -> Option<Socket> {
        self.unfinished_one(key)
    }

    fn failures(&mut self) -> anyhow::Result<Vec<(FailureKey, FailureCount)>> {
        Ok(Probes::failures(self)?)
    }

    fn counters(&mut self) -> anyhow::Result<[u64; COUNTERS as usize]> {
        Ok(Probes::counters(self)?)
    }

    fn misses(&self) -> Misses {
        self.misses()
    }

    fn detach(&mut self) -> anyhow::Result<()> {
        Ok(Probes::detach(self)?)
    }
}

/// The running kernel.
pub struct Live<K: Kernel> {
    wake: Option<AsyncFd<OwnedFd>>,
    kernel: K,
    about: About,
    counted: HashMap<FailureKey, (u64, u64)>,
    sampled: bool,
    failures_read: Option<Instant>,
    undecodable: u64,
    unseen: u64,
    births: Option<Births>,
    survey: Survey,
}

impl<K: Kernel> Live<K> {
    /// A source out of attached programs.
    ///
    /// `about.clock_offset_ns` is measured here; `survey` lists the sockets of a namespace.
    pub fn new(kernel: K, mut about: About, survey: Survey) -> Self {
        about.clock_offset_ns = clock_offset();
        // Where no end comes, nothing would ever forget a birth.
        let ends = about.backend.get("time_wait_end");
        let births = (ends.map(String::as_str) != Some(NONE)).then(Births::default);
        Self {
            wake: None,
            kernel,
            about,
            counted: HashMap::default(),
            sampled: false,
            failures_read: None,
            undecodable: 0,
            unseen: 0,
            births,
            survey,
        }
    }

    fn drain_ring(&mut self, batch: &mut Batch) {
        let before = batch.malformed;
        let Self {
            kernel,
            sampled,
            births,
            ..
        } = self;
        kernel.drain(&mut |record| match Event::decode(record) {
            Ok(mut event) if !event.kind.is_failure() => {
                match (event.kind, &mut *births) {
                    (Kind::TimeWait, Some(births)) => births.remember(&event),
                    (Kind::TimeWaitEnd, Some(births)) => births.complete(&mut event),
                    _ => {}
                }
                batch.events.push(event);
            }
            Ok(event) if event.sample => *sampled = true,
            Ok(event) => batch.failures.push(Failure::single(event)),
            Err(malformed) => {
                log::debug!("{malformed}");
                batch.malformed += 1;
            }
        });
        batch.surprises.extend(kernel.surprises());
        self.undecodable += batch.malformed - before;
    }

    /// Reports the TIME_WAITs whose birth no program saw, and counts other ends that none saw.
    fn repair(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        let mut unfinished = repair::Unfinished::default();
        self.kernel
            .unfinished(&mut |key, socket| unfinished.add(key, socket))
            .context("cannot read the sockets map")?;
        let now_ns = self.now_ns();
        let found = repair::look(unfinished, now_ns, self.survey, |key| {
            self.kernel.unfinished_one(key)
        });
        self.unseen += found.unseen;
        for wire in &found.births {
            match Event::from_wire(wire) {
                Ok(event) => batch.events.push(event),
                Err(malformed) => {
                    log::debug!("{malformed}");
                    self.undecodable += 1;
                }
            }
        }
        Ok(())
    }

    fn drain_failures(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        self.failures_read = Some(Instant::now());
        let before = batch.failures.len();
        let failures = self
            .kernel
            .failures()
            .context("cannot read the failures map")?;
        for (key, now) in failures {
            let (count, search) = match self.counted.get(&key) {
                // A smaller count is another entry, made after the first was removed.
                Some(&(count, search)) if count <= now.count => (count, search),
                _ => (0, 0),
            };
            if now.count == count {
                continue;
            }
            match Event::from_wire(&now.first) {
                Ok(first) => batch.failures.push(Failure {
                    count: now.count - count,
                    last_ns: now.last_ns,
                    search_sum_ns: now.search_sum_ns.saturating_sub(search),
                    first,
                    fresh: count == 0,
                }),
                Err(malformed) => {
                    log::debug!("{malformed}");
                    batch.malformed += now.count - count;
                    self.undecodable += now.count - count;
                }
            }
            self.counted.insert(key, (now.count, now.search_sum_ns));
        }
        // Samples are rate-limited: where some failed, more may follow without one.
        self.sampled = batch.failures.len() > before;
        Ok(())
    }
}

impl<K: Kernel> Source for Live<K> {
    fn drain(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        self.drain_ring(batch);
        let due = self.failures_read.is_none_or(|read| {
            let gap = if self.sampled {
                SHORTEST_GAP
            } else {
                LONGEST_GAP
            };
            read.elapsed() >= gap
        });
        if due {
            self.drain_failures(batch)?;
        }
        Ok(())
    }

    async fn ready(&mut self, at_most: Duration) -> anyhow::Result<()> {
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
        // The other outcome is that the time passed.
        if let Ok(guard) = tokio::time::timeout(at_most, wake.readable()).await {
            guard
                .context("cannot wait for the ring buffer")?
                .clear_ready();
        }
        Ok(())
    }

    fn finish(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        self.repair(batch)?;
        self.kernel
            .detach()
            .context("cannot detach the programs; they end with this process")?;
        self.drain_ring(batch);
        self.drain_failures(batch)
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

    fn owners(&mut self, each: &mut dyn FnMut(u64, Owner)) -> anyhow::Result<()> {
        self.kernel
            .unfinished(&mut |_, socket| {
                if socket.cookie != 0 && socket.flags & flags::OWNER_UNKNOWN == 0 {
                    each(socket.cookie, Event::owner_from_wire(&socket.owner));
                }
            })
            .context("cannot read the sockets map")
    }

    fn about(&self) -> &About {
        &self.about
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(clock_ns(ClockId::CLOCK_MONOTONIC)).unwrap_or(0)
    }
}

/// Realtime minus monotonic, ns: of a few tries the one that was interrupted least.
fn clock_offset() -> i64 {
    (0..5)
        .map(|_| {
            let before = clock_ns(ClockId::CLOCK_MONOTONIC);
            let real = clock_ns(ClockId::CLOCK_REALTIME);
            let after = clock_ns(ClockId::CLOCK_MONOTONIC);
            (after - before, real - (before + (after - before) / 2))
        })
        .min()
        .map_or(0, |(_, offset)| offset)
}

fn clock_ns(clock: ClockId) -> i64 {
    let time = clock_gettime(clock).expect("both clocks exist on every Linux");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

#[cfg(test)]
mod tests;
