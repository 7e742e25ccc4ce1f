/*!
Repeated looks at the machine that list again only what may have changed.

To list one namespace the kernel walks the sockets of all, however few are in it. How many there
are costs next to nothing: where they are as many as before, and too few to fill a pool, the last
list will do for a while.
*/

use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::{Snapshot, namespaces};
use crate::model::PortRange;

/// Longest time for which a list will do.
const LONGEST: Duration = Duration::from_secs(10);

/// Sockets that fill no pool: fewer than one part in this many of the range's ports.
const FEW: u64 = 16;

/// What there was of each namespace when it was last listed.
#[derive(Debug, Default)]
pub struct Lookout {
    last: HashMap<u32, (Glance, Instant)>,
}

impl Lookout {
    /// As [`sockets`](super::sockets) at first and with `whole`; else without the namespaces whose
    /// last list will do.
    pub fn sockets(&mut self, only: Option<&[u32]>, whole: bool) -> Snapshot {
        if whole {
            self.last.clear();
        }
        let snapshot = super::look(only, self);
        let lately = |&mut (_, listed): &mut (Glance, Instant)| listed.elapsed() < LONGEST;
        self.last.retain(|_, seen| lately(seen));
        snapshot
    }

    /// Whether the last list of a namespace will do, at which this is a glance.
    pub(super) fn is_calm(&self, inode: u32, glance: Glance) -> bool {
        self.last.get(&inode).is_some_and(|&(last, listed)| {
            last == glance && glance.is_little() && listed.elapsed() < LONGEST
        })
    }

    /// A namespace was listed just after this glance at it.
    pub(super) fn listed(&mut self, inode: u32, glance: Glance) {
        self.last.insert(inode, (glance, Instant::now()));
    }
}

/// What is seen of a namespace without listing its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    pub(super) busy: Busy,
    range: Option<PortRange>,
}

impl Glance {
    /// At this thread's namespace.
    pub(super) fn take() -> Self {
        Self {
            busy: Busy::read(),
            range: PortRange::read().ok(),
        }
    }

    /// Whether no pool can be filling up there.
    fn is_little(self) -> bool {
        let ports = self.range.map_or(0, PortRange::ports);
        self.busy != Busy::UNKNOWN && self.busy.count() * FEW < u64::from(ports)
    }
}

/// How many TCP sockets a namespace has, other than those that are just bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) inuse_v4: u64,
    pub(super) inuse_v6: u64,
    /// Of both families.
    pub(super) time_wait: u64,
}

impl Busy {
    /// Where it cannot be told.
    pub(super) const UNKNOWN: Self = Self {
        inuse_v4: 1,
        inuse_v6: 1,
        time_wait: 1,
    };

    /// That of this thread's namespace.
    pub(super) fn read() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        match (read("sockstat"), read("sockstat6")) {
            (Ok(v4), Ok(v6)) => Self::parse(&v4, &v6),
            // A kernel without IPv6.
            (Ok(v4), Err(error)) if namespaces::is_gone(&error) => {
                Self::parse(&v4, "TCP6: inuse 0")
            }
            _ => Self::UNKNOWN,
        }
    }

    /// From `TCP: inuse 5 orphan 0 tw 3 alloc 9 mem 1` and `TCP6: inuse 2`.
    pub(super) fn parse(v4: &str, v6: &str) -> Self {
        let count = |text: &str, protocol: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(protocol));
            let mut words = line?.split_ascii_whitespace();
            words.find(|&word| word == key)?;
            words.next()?.parse().ok()
        };
        Self {
            inuse_v4: count(v4, "TCP:", "inuse").unwrap_or(Self::UNKNOWN.inuse_v4),
            inuse_v6: count(v6, "TCP6:", "inuse").unwrap_or(Self::UNKNOWN.inuse_v6),
            time_wait: count(v4, "TCP:", "tw").unwrap_or(Self::UNKNOWN.time_wait),
        }
    }

    pub(super) fn count(self) -> u64 {
        let open = self.inuse_v4.saturating_add(self.inuse_v6);
        open.saturating_add(self.time_wait)
    }
}
