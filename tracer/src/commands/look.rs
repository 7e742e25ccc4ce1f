/*! The pools of a look at the machine without tracing, and which of them are asked for. */

use std::collections::BTreeSet;

use anyhow::bail;

use crate::cli::Filters;
use crate::host::dump::Snapshot;
use crate::host::netns::Netns;
use crate::ledger::pool::{Holder, Pool, PoolId};
use crate::ledger::{Feed, Ledger, Limits};
use crate::stream::filter::Filter;

/// Which pools are asked for.
pub(super) struct Wanted<'a> {
    filters: &'a Filters,
    owner: Filter,
    /// The namespaces, kept while this lives; none stands for all.
    namespaces: Vec<Netns>,
}

impl<'a> Wanted<'a> {
    /// Opens the namespaces that the filters name.
    ///
    /// # Errors
    /// When a filter names nothing that exists.
    pub(super) fn new(filters: &'a Filters) -> anyhow::Result<Self> {
        let mut namespaces = Vec::new();
        for selector in &filters.netns {
            namespaces.push(selector.open()?);
        }
        for &pid in &filters.pid {
            if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
                bail!("there is no process {pid} to look at; `ps -e` lists them");
            }
        }
        Ok(Self {
            filters,
            owner: Filter {
                pids: filters.pid.clone(),
                comms: filters.comm.clone(),
                containers: filters.container.clone(),
            },
            namespaces,
        })
    }

    /// The inodes of the namespaces to look at; `None` for all.
    pub(super) fn namespaces(&self) -> Option<Vec<u32>> {
        let inodes: BTreeSet<u32> = self.namespaces.iter().map(Netns::inode).collect();
        (!inodes.is_empty()).then(|| inodes.into_iter().collect())
    }

    /// Whether owners matter.
    pub(super) fn asks_for_owners(&self) -> bool {
        self.owner != Filter::default()
    }

    /// Whether the pool is towards one of the destinations.
    pub(super) fn destination(&self, id: &PoolId) -> bool {
        let matches = |port: Option<u16>| port.is_none_or(|port| port == id.dport);
        let dst = &self.filters.dst;
        dst.is_empty()
            || dst
                .iter()
                .any(|dst| dst.network.contains(&id.dst) && matches(dst.port))
    }

    /// Whether one of the owners that are asked for holds a port of the pool.
    pub(super) fn held(&self, pool: &Pool) -> bool {
        let wants = |holder: &Holder| {
            self.owner.wants(&holder.owner) && self.owner.wants_identity(&holder.who)
        };
        !self.asks_for_owners() || pool.holders.iter().any(wants)
    }
}

/// The books as one look gives them, and when they stood so (ns of `CLOCK_MONOTONIC`).
pub(super) fn books(snapshot: &Snapshot) -> (Ledger, u64) {
    let mut ledger = Ledger::new(Limits::new(Feed {
        opens: false,
        ends: false,
    }));
    let mut now_ns = 0;
    for dump in &snapshot.dumps {
        ledger.dump(dump);
        now_ns = now_ns.max(dump.ended_ns);
    }
    ledger.advance(now_ns);
    (ledger, now_ns)
}
