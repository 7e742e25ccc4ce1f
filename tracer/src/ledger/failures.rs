/*! Failed calls: exact counts by owner, errno and cause, in their pool or, for bind(), without one. */

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use foldhash::HashMap;

use super::row::{FailureId, Row};
use crate::model::{Cause, Elsewhere, Failed, Failure, OwnerId, Process};

/// Where a bind() wanted to be.
type Place = (u32, IpAddr, u16);

/// Failures that have no pool, and how many kinds there are with those that have.
#[derive(Debug, Default)]
pub(super) struct Failures {
    elsewhere: HashMap<(FailureId, Place), Failed>,
    kinds: usize,
}

impl Failures {
    /// connect() failed. Returns how many failures found no room of their own.
    pub(super) fn connect(&mut self, row: &mut Row, failure: &Failure, most: usize) -> u64 {
        row.touched_ns = row.touched_ns.max(failure.last_ns);
        if failure.search_sum_ns > 0 {
            row.searches
                .add(failure.last_ns, failure.search_sum_ns, failure.count);
        }
        if failure.first.cause == Some(Cause::PortsExhausted) {
            row.ran_dry(since(failure));
        }
        let mut id = identity(failure, false);
        let is_full = self.kinds >= most && !row.failures.contains_key(&id);
        if is_full {
            id.0 = OwnerId::BEYOND;
        }
        let failed = row.failures.entry(id).or_insert_with(|| {
            self.kinds += 1;
            empty(failure, is_full)
        });
        count(failed, failure);
        if is_full { failure.count } else { 0 }
    }

    /// bind() failed. Returns how many failures found no room of their own.
    pub(super) fn bind(&mut self, failure: &Failure, most: usize) -> u64 {
        let tuple = &failure.first.tuple;
        let mut id = identity(failure, true);
        let mut place = (tuple.netns, tuple.src, tuple.sport);
        let is_full = self.kinds >= most && !self.elsewhere.contains_key(&(id, place));
        if is_full {
            id.0 = OwnerId::BEYOND;
            place = (tuple.netns, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        }
        let failed = self.elsewhere.entry((id, place)).or_insert_with(|| {
            self.kinds += 1;
            empty(failure, is_full)
        });
        count(failed, failure);
        if is_full { failure.count } else { 0 }
    }

    /// The failures of a row that goes.
    pub(super) fn forget(&mut self, row: &Row) -> u64 {
        self.kinds -= row.failures.len();
        row.failures.values().map(|failed| failed.count).sum()
    }

    /// The namespace is gone.
    pub(super) fn forget_namespace(&mut self, netns: u32) {
        let before = self.elsewhere.len();
        self.elsewhere.retain(|(_, place), _| place.0 != netns);
        self.kinds -= before - self.elsewhere.len();
    }

    /// Those without a pool, most first.
    pub(super) fn elsewhere(&self) -> Vec<Elsewhere> {
        let mut list: Vec<_> = self
            .elsewhere
            .iter()
            .map(|(&(_, (netns, src, sport)), failed)| Elsewhere {
                netns,
                src,
                sport,
                failed: failed.clone(),
            })
            .collect();
        list.sort_by_key(|one| {
            let failed = &one.failed;
            (
                std::cmp::Reverse(failed.count),
                failed.process.tgid,
                one.netns,
                one.src,
                one.sport,
            )
        });
        list
    }
}

/// When the failures of this report began, as far as it tells.
fn since(failure: &Failure) -> u64 {
    if failure.fresh {
        failure.first.ts_ns
    } else {
        failure.last_ns
    }
}

fn identity(failure: &Failure, bind: bool) -> FailureId {
    let first = &failure.first;
    let cause = first.cause.unwrap_or(Cause::Other);
    (OwnerId::of(&first.process), first.errno, cause, bind)
}

fn empty(failure: &Failure, beyond: bool) -> Failed {
    let first = &failure.first;
    Failed {
        process: if beyond {
            Process::others()
        } else {
            Arc::clone(&first.process)
        },
        errno: first.errno,
        cause: first.cause.unwrap_or(Cause::Other),
        bind: first.kind == crate::model::Kind::BindFailed,
        count: 0,
        first_ns: since(failure),
        last_ns: 0,
    }
}

fn count(failed: &mut Failed, failure: &Failure) {
    failed.count += failure.count;
    failed.first_ns = failed.first_ns.min(since(failure));
    failed.last_ns = failed.last_ns.max(failure.last_ns);
}
