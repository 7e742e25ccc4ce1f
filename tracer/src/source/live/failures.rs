/*! Failed calls: the kernel side's absolute counts, turned into steps. */

use std::time::{Duration, Instant};

use anyhow::Context as _;
use foldhash::HashMap;
use tracer_ebpf::FailureKey;

use super::{Kernel, wire};
use crate::model::Failure;
use crate::source::{Batch, Item};

/// Shortest time between two reads of the failures map: reading it costs a
/// system call an entry, and what it holds is not lost by waiting.
const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// Longest time a failure waits to be reported whose sample found the ring full: others are told of
/// by a sample, their own or one a moment before.
const LONGEST_GAP: Duration = Duration::from_secs(10);

/// What was told of the failures map.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Count and port-search time, ns, by key.
    told: HashMap<FailureKey, (u64, u64)>,
    /// Whether a sample came, or there was something new, since or at the last read.
    pub(super) sampled: bool,
    read: Option<Instant>,
}

impl Failures {
    /// Whether the map is to be read again.
    pub(super) fn is_due(&self) -> bool {
        let gap = if self.sampled {
            SHORTEST_GAP
        } else {
            LONGEST_GAP
        };
        self.read.is_none_or(|read| read.elapsed() >= gap)
    }

    /// Adds what is new in the map, and returns how many failures could not be decoded.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub(super) fn drain(
        &mut self,
        kernel: &mut impl Kernel,
        people: &mut impl wire::Resolve,
        batch: &mut Batch,
    ) -> anyhow::Result<u64> {
        self.read = Some(Instant::now());
        // Samples are rate-limited: where some failed, more may follow without one.
        self.sampled = false;
        let mut undecodable = 0;
        let failures = kernel.failures().context("cannot read the failures map")?;
        for (key, now) in failures {
            let (count, search) = match self.told.get(&key) {
                // A smaller count is another entry, made after the first was removed.
                Some(&(count, search)) if count <= now.count => (count, search),
                _ => (0, 0),
            };
            if now.count == count {
                continue;
            }
            match wire::event(&now.first, people) {
                Ok(first) => {
                    self.sampled = true;
                    batch.push(Item::Failures(Box::new(Failure {
                        count: now.count - count,
                        last_ns: now.last_ns,
                        search_sum_ns: now.search_sum_ns.saturating_sub(search),
                        first,
                        fresh: count == 0,
                    })));
                }
                Err(malformed) => {
                    log::debug!("{malformed}");
                    undecodable += now.count - count;
                }
            }
            self.told.insert(key, (now.count, now.search_sum_ns));
        }
        Ok(undecodable)
    }
}
