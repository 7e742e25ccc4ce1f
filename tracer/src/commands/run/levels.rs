/*! How full the pools became that the command's processes hold ports in. */

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::diagnosis::{Verdict, diagnose};
use crate::event::Event;
use crate::host::dump::dump;
use crate::host::netns::Netns;
use crate::host::process::Identity;
use crate::ledger::dump::Dump;
use crate::ledger::pool::{Holder, Pool, PoolId};
use crate::ledger::{Feed, Ledger, Limits};
use crate::source::Failure;
use crate::stream::survey::{Ask, Survey};

/// Longest wait for the last reading.
const LAST: Duration = Duration::from_secs(5);

/// The books on the command's pools. Others' ports in them are known from the kernel's lists,
/// which are read once a second.
pub(super) struct Levels {
    ledger: Ledger,
    survey: Survey,
    namespaces: BTreeSet<u32>,
    read: Vec<Dump>,
}

impl Levels {
    /// Empty; `ends` says whether the source tells of TIME_WAITs that end.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn new(ends: bool) -> anyhow::Result<Self> {
        let feed = Feed { opens: true, ends };
        Ok(Self {
            ledger: Ledger::new(Limits::new(feed)),
            survey: Survey::start(read).context("cannot start a thread")?,
            namespaces: BTreeSet::new(),
            read: Vec::new(),
        })
    }

    /// Books an event; not a failure.
    pub(super) fn event(&mut self, event: &Event, who: &Arc<Identity>) {
        self.namespaces.insert(event.tuple.netns);
        self.ledger.event(event, who);
    }

    /// Books failures.
    pub(super) fn failure(&mut self, failure: &Failure, who: &Arc<Identity>) {
        self.namespaces.insert(failure.first.tuple.netns);
        self.ledger.failure(failure, who);
    }

    /// Time passed, and all events until now are booked.
    pub(super) fn tick(&mut self, now_ns: u64) {
        // Read before the events of this round were: none that it may have is still to come.
        self.fold();
        self.read = self.survey.take().unwrap_or_default();
        if self.survey.is_due() {
            self.ask();
        }
        self.ledger.advance(now_ns);
    }

    /// The pools at the end, and what is wrong with them.
    pub(super) fn finish(&mut self, now_ns: u64) -> (Vec<Pool>, Vec<Verdict>) {
        self.fold();
        // Asked for before the last events, so maybe before their namespaces were known.
        self.read = self.survey.wait(LAST).unwrap_or_default();
        self.fold();
        self.ask();
        self.read = self.survey.wait(LAST).unwrap_or_default();
        self.fold();
        self.ledger.advance(now_ns);
        let pools = self.ledger.pools(now_ns);
        let elsewhere: Vec<_> = self
            .ledger
            .elsewhere()
            .into_iter()
            .map(|elsewhere| (nowhere(elsewhere.netns, elsewhere.src), elsewhere.failed))
            .collect();
        let verdicts = diagnose(&pools, &elsewhere, |inode| self.ledger.namespace(inode));
        (pools, verdicts)
    }

    fn ask(&mut self) {
        // No name would mean all.
        if !self.namespaces.is_empty() {
            self.survey.ask(Ask {
                namespaces: self.namespaces.iter().copied().collect(),
                owners: false,
            });
        }
    }

    fn fold(&mut self) {
        for dump in self.read.drain(..) {
            self.ledger.dump(&dump);
        }
    }
}

/// Lists the sockets of what can be found of some namespaces.
fn read(ask: &Ask) -> Vec<Dump> {
    let inodes = ask.namespaces.iter();
    let dumps = inodes.filter_map(|&inode| match Netns::of_inode(inode) {
        Ok(netns) => dump(&netns, inode.to_string())
            .inspect_err(|error| log::debug!("{error:#}"))
            .ok(),
        Err(error) => {
            log::debug!("{error}");
            None
        }
    });
    dumps.collect()
}

/// Where a bind() stands that has no destination.
fn nowhere(netns: u32, src: IpAddr) -> PoolId {
    PoolId {
        netns,
        src,
        dst: match src {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        },
        dport: 0,
    }
}

/// Of all pools and verdicts those that the command's processes have to do with: only they are
/// traced, so what opened connections since or failed is theirs.
pub(super) fn of_the_command(pools: &[Pool], verdicts: &[Verdict]) -> (Vec<Pool>, Vec<Verdict>) {
    let opened = |holders: &[Holder]| holders.iter().any(|holder| holder.opened > 0);
    let mut own = pools.to_vec();
    own.retain(|pool| !pool.failures.is_empty() || opened(&pool.holders));
    let mut said = verdicts.to_vec();
    said.retain(|verdict| !verdict.victims.is_empty() || opened(&verdict.culprits));
    (own, said)
}

/// The highest level of any of the pools, from 0 to 1; `None` when one's capacity is not known.
pub(super) fn highest(pools: &[Pool]) -> Option<f64> {
    pools.iter().try_fold(0.0, |most, pool| {
        let ports = pool.capacity?.ports();
        let level = if ports == 0 {
            1.0
        } else {
            (pool.peak.0 as f64 / ports as f64).min(1.0)
        };
        Some(f64::max(most, level))
    })
}
