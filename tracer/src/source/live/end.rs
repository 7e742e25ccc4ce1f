/*!
How the live source ends: a last reading, a look at what no program saw end, then the programs are
detached. Nothing here waits; each round goes as far as it can.
*/

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::repair::{self, List, One, Unfinished};
use super::{BUSY, Kernel, Live, clock, wire};
use crate::source::{Batch, Item};

/// Longest wait for the last reading, and for the one before it that may be under way.
const LAST: Duration = Duration::from_secs(5);

/// Longest wait for the bare sockets of one namespace.
const LISTING: Duration = Duration::from_secs(30);

/// How far the end has come.
pub(super) enum Stage {
    Running,
    /// It was asked for. A reading that is under way may have begun before the last events: one more
    /// is asked for after it.
    Settling {
        asked: bool,
        until: Instant,
    },
    /// What no program saw is looked for, one namespace after the other.
    Repairing {
        left: Unfinished,
        listing: Option<Listing>,
    },
    Ended,
}

/// A namespace that is being listed for what no program saw.
pub(super) struct Listing {
    unfinished: Vec<One>,
    /// When it was asked for, ns of `CLOCK_MONOTONIC`, and until when it is waited for.
    asked_ns: u64,
    until: Instant,
}

impl Stage {
    /// It was just asked to end.
    pub(super) fn settle() -> Self {
        Self::Settling {
            asked: false,
            until: Instant::now() + LAST,
        }
    }

    /// Whether nobody asked it to end.
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }

    /// Whether there is nothing more to tell.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Ended)
    }
}

impl<K: Kernel> Live<K> {
    /// What is to be done next.
    pub(super) fn advance(&mut self, now_ns: u64, batch: &mut Batch) -> anyhow::Result<()> {
        if !matches!(self.stage, Stage::Running) {
            // Deadlines are watched, whether anything comes or not.
            self.rest = BUSY;
        }
        loop {
            let waits = self.dumps.expects() && !self.hurried;
            match &mut self.stage {
                Stage::Running => {
                    batch.items.extend(self.dumps.ask_if_due(now_ns));
                    return Ok(());
                }
                Stage::Settling { until, .. } if waits && Instant::now() < *until => {
                    return Ok(());
                }
                Stage::Settling { asked, until } if !*asked && !self.hurried => {
                    (*asked, *until) = (true, Instant::now() + LAST);
                    self.dumps.ask(now_ns, true);
                }
                Stage::Settling { .. } => {
                    let mut left = Unfinished::default();
                    self.kernel
                        .unfinished(&mut |key, socket| left.add(key, socket))
                        .context("cannot read the sockets map")?;
                    self.stage = Stage::Repairing {
                        left,
                        listing: None,
                    };
                }
                Stage::Repairing {
                    listing: Some(listing),
                    ..
                } if waits && Instant::now() < listing.until => return Ok(()),
                Stage::Repairing {
                    listing: Some(_), ..
                } => self.repair(List::OutOfReach, batch),
                Stage::Repairing { left, listing } => match left.pop() {
                    Some((netns, unfinished)) => {
                        *listing = Some(Listing {
                            unfinished,
                            asked_ns: clock::now_ns(),
                            until: Instant::now() + LISTING,
                        });
                        if !self.hurried {
                            self.dumps.ask_for_sockets(netns);
                        }
                    }
                    None => {
                        self.kernel
                            .detach()
                            .context("cannot detach the programs; they end with this process")?;
                        while !self.drain_ring(batch) {}
                        self.drain_failures(batch)?;
                        self.stage = Stage::Ended;
                    }
                },
                Stage::Ended => return Ok(()),
            }
        }
    }

    /// Reports the TIME_WAITs whose birth no program saw, and counts other ends that none saw, of
    /// the namespace that was listed.
    pub(super) fn repair(&mut self, list: List, batch: &mut Batch) {
        let Stage::Repairing { listing, .. } = &mut self.stage else {
            return;
        };
        let Some(Listing {
            unfinished,
            asked_ns,
            ..
        }) = listing.take()
        else {
            return;
        };
        let found = repair::look(&unfinished, asked_ns, list, |key| {
            self.kernel.unfinished_one(key)
        });
        self.unseen += found.unseen;
        for wire in &found.births {
            match wire::event(wire, &mut self.people) {
                Ok(event) => batch.push(Item::Event(event)),
                Err(malformed) => {
                    log::debug!("{malformed}");
                    self.undecodable += 1;
                }
            }
        }
    }
}
