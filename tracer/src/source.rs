/*!
Where events come from, behind one trait: nothing downstream knows whether it
watches a kernel or reads a recording.
*/

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use serde::Serialize;

use crate::event::{Event, Owner};

mod births;
mod live;
mod repair;

pub use live::{Kernel, Live};
pub use repair::{OutOfReach, Survey};

/// What one drain brought; reused between drains, so that no event costs an allocation.
#[derive(Debug, Default)]
pub struct Batch {
    /// Facts about single sockets, in the order of the ring; never a failure.
    pub events: Vec<Event>,
    /// Failures, each with its exact count.
    pub failures: Vec<Failure>,
    /// Records that were no events.
    pub malformed: u64,
    /// What the kernel side had to say in words.
    pub surprises: Vec<String>,
}

impl Batch {
    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.failures.clear();
        self.malformed = 0;
        self.surprises.clear();
    }

    /// Whether the drain brought nothing.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.failures.is_empty() && self.malformed == 0
    }
}

/// New failures of one owner, pool, errno and cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How many since the last drain that reported this key: at least 1.
    pub count: u64,
    /// Time of the newest, ns of `CLOCK_MONOTONIC`.
    pub last_ns: u64,
    /// Sum of the port-search times of these failures, ns.
    pub search_sum_ns: u64,
    /// The first failure of this key ever seen. Its owner, destination, errno and cause are
    /// those of all; its thread, time and source port only its own.
    pub first: Event,
    /// Whether `first` is among the `count`.
    pub fresh: bool,
}

impl Failure {
    /// A failure that counts one by itself.
    pub fn single(event: Event) -> Self {
        Self {
            count: 1,
            last_ns: event.ts_ns,
            search_sum_ns: event.search_ns.unwrap_or(0),
            first: event,
            fresh: true,
        }
    }
}

/// What was lost, by reason, and what else a reader must know to trust the
/// stream. All are totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Events that happened and were not accounted.
    pub lost: Lost,
    /// Runs the kernel skipped because a program would have interrupted itself.
    pub recursion_skipped: u64,
    /// Ends of connections that were found because of that by another program. Fewer than were
    /// skipped: most state changes say nothing.
    pub recursion_rescued: u64,
    /// Failures counted but not sent as a sample: their count is exact all the same.
    pub samples_skipped: u64,
    /// Failures that found the failures map full and came as events of their own: counted.
    pub failures_full: u64,
}

/// Events that happened and were not accounted, by reason: all zero when nothing was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The ring buffer was full.
    pub ring_full: u64,
    /// The sockets map was full: the owner of a connection is not known.
    pub sockets_full: u64,
    /// The map of process ids was full: a child of a traced process was not traced.
    pub pids_full: u64,
    /// The attempts map was full: a failed call may be missing.
    pub attempts_full: u64,
    /// The kernel skipped a program whose fact no other gives.
    pub recursion: u64,
    /// Records that were no events.
    pub undecodable: u64,
    /// Failed calls on a socket that could not be read.
    pub unreadable: u64,
    /// Connections that ended without any program having run, and left no TIME_WAIT to find.
    pub unseen: u64,
    /// Lines that found standard output too slow.
    pub output: u64,
}

impl Lost {
    /// Each reason with its words for people, and its count.
    pub fn reasons(&self) -> [(&'static str, u64); 9] {
        [
            ("ring buffer full", self.ring_full),
            ("sockets map full", self.sockets_full),
            ("process map full", self.pids_full),
            ("attempts map full", self.attempts_full),
            ("recursion", self.recursion),
            ("undecodable record", self.undecodable),
            ("unreadable socket", self.unreadable),
            ("end not seen", self.unseen),
            ("slow output", self.output),
        ]
    }

    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.reasons().iter().map(|(_, count)| count).sum()
    }
}

/// What a source is and how it sees; fixed from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// Release of the kernel the events are from.
    pub kernel: String,
    /// What each hook is attached with (`trampoline`, `tracepoint`, …), by the hook's name.
    pub backend: BTreeMap<String, String>,
    /// Whether opens and closes are among the events, asked for or not.
    #[serde(skip)]
    pub opens: bool,
    /// Nanoseconds to add to `CLOCK_MONOTONIC` for the time since 1970, measured at the start.
    #[serde(skip)]
    pub clock_offset_ns: i64,
}

/// A stream of events.
pub trait Source {
    /// Adds everything there is now to `batch`, without waiting.
    ///
    /// # Errors
    /// When the source can no longer be read.
    fn drain(&mut self, batch: &mut Batch) -> anyhow::Result<()>;

    /// Returns when something may be there, at the latest after `at_most`.
    fn ready(&mut self, at_most: Duration) -> impl Future<Output = anyhow::Result<()>>;

    /// Ends the stream and adds all that happened until then to `batch`.
    ///
    /// # Errors
    /// When the source can no longer be read.
    fn finish(&mut self, batch: &mut Batch) -> anyhow::Result<()>;

    /// What was lost so far.
    ///
    /// # Errors
    /// When the kernel's counters can no longer be read.
    fn loss(&mut self) -> anyhow::Result<Loss>;

    /// Hands the owner of each connection under way to `each`, with the socket's cookie. Only where
    /// sockets have cookies that programs know (Linux 5.12).
    ///
    /// # Errors
    /// When the source can no longer be read.
    fn owners(&mut self, each: &mut dyn FnMut(u64, Owner)) -> anyhow::Result<()>;

    /// What the source is.
    fn about(&self) -> &About;

    /// The source's present, ns of `CLOCK_MONOTONIC`.
    fn now_ns(&self) -> u64;
}
