/*! What happened and was not accounted, by reason. */

use serde::{Deserialize, Serialize};

/// What was lost, by reason, and what else a reader must know to trust the
/// stream. All are totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Lines, and boxes of several, that found standard output too slow.
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

/// Facts that found no row of their own and are in one for all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evicted {
    /// Events and listed sockets of pools beyond the limit.
    pub pools: u64,
    /// Events and listed sockets of owners beyond the limit.
    pub owners: u64,
    /// Failures of a kind beyond the limit.
    pub failures: u64,
}

impl Evicted {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.pools + self.owners + self.failures
    }
}

/// What the ledger does not have, or not apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shortfall {
    /// Network namespaces whose sockets the last socket dump had no time to list.
    pub unlisted: u64,
    /// What found no row of its own.
    pub evicted: Evicted,
}
