/*! The pools of a look at the machine without tracing, and which of them are asked for. */

use std::collections::BTreeSet;

use anyhow::bail;
use foldhash::HashMap;

use crate::cli::Filters;
use crate::event::TcpState;
use crate::host::dump::Snapshot;
use crate::host::netns::Netns;
use crate::ledger::pool::{Holder, Pool, PoolId, Rates};
use crate::ledger::{Feed, Ledger, Limits};
use crate::stream::filter::Filter;

/// Life of a TIME_WAIT.
const TIME_WAIT_MS: u32 = 60_000;

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
                destinations: Vec::new(),
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

/// When the sockets that end by themselves are due to: TIME_WAITs and FIN_WAIT2 mini-sockets.
pub(super) struct Timers(HashMap<PoolId, Vec<(TcpState, u32)>>);

impl Timers {
    /// Those of a look.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut timers: HashMap<PoolId, Vec<_>> = HashMap::default();
        for (dump, left_ms) in snapshot.dumps.iter().zip(&snapshot.left_ms) {
            for (socket, &left_ms) in dump.sockets.iter().zip(left_ms) {
                let Some(left_ms) = left_ms else {
                    continue;
                };
                let id = PoolId {
                    netns: dump.namespace.inode,
                    src: socket.local.ip(),
                    dst: socket.remote.ip(),
                    dport: socket.remote.port(),
                };
                timers.entry(id).or_default().push((socket.state, left_ms));
            }
        }
        Self(timers)
    }

    /// Time each such socket of the pool has left, ms, in no order.
    pub(super) fn left_ms(&self, pool: &PoolId) -> Vec<u32> {
        self.each(pool).map(|(_, left_ms)| left_ms).collect()
    }

    /// Tells the rates of a pool from the age of its TIME_WAITs: each is a connection that was
    /// closed within the last minute. What is still open, or was closed by the peer, is not among
    /// them, and there is no telling where the pool is heading.
    pub(super) fn date(&self, pool: &mut Pool) {
        let mut younger = [(1, 0_u32), (10, 0), (60, 0)];
        for (state, left_ms) in self.each(&pool.id) {
            let age_ms = TIME_WAIT_MS.saturating_sub(left_ms);
            for (seconds, count) in &mut younger {
                *count += u32::from(state == TcpState::TimeWait && age_ms <= *seconds * 1000);
            }
        }
        let [second, ten, minute] =
            younger.map(|(seconds, count)| f64::from(count) / f64::from(seconds));
        pool.open_rate = Rates {
            second,
            ten,
            minute,
            peak: second.max(ten).max(minute),
        };
        pool.forecast = None;
    }

    fn each(&self, pool: &PoolId) -> impl Iterator<Item = (TcpState, u32)> {
        self.0.get(pool).into_iter().flatten().copied()
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{TIME_WAIT_MS, Timers, books};
    use crate::event::TcpState;
    use crate::host::dump::Snapshot;
    use crate::host::sysctl::PortRange;
    use crate::ledger::dump::{Dump, Listed, Namespace};

    fn snapshot(sockets: &[(TcpState, Option<u32>)]) -> Snapshot {
        let listed = |(port, &(state, _)): (u16, &(TcpState, Option<u32>))| Listed {
            state,
            local: SocketAddr::new("192.0.2.1".parse().unwrap(), port),
            remote: "192.0.2.2:7000".parse().unwrap(),
            cookie: u64::from(port),
            owner: None,
        };
        Snapshot {
            dumps: vec![Dump {
                began_ns: 1,
                ended_ns: 2,
                namespace: Namespace {
                    inode: 7,
                    name: "test".to_owned(),
                    range: PortRange {
                        low: 20_000,
                        high: 20_999,
                    },
                    reserved: 0,
                    tw_reuse: None,
                    fin_timeout_s: None,
                    max_tw_buckets: None,
                    conntrack: None,
                },
                sockets: (20_000..).zip(sockets).map(listed).collect(),
            }],
            left_ms: vec![sockets.iter().map(|&(_, left_ms)| left_ms).collect()],
            ..Snapshot::default()
        }
    }

    #[test]
    fn time_waits_date_the_connections_they_were() {
        let aged = |age_ms| (TcpState::TimeWait, Some(TIME_WAIT_MS - age_ms));
        let look = snapshot(&[
            aged(0),
            aged(900),
            aged(1_001),
            aged(9_999),
            aged(30_000),
            aged(60_000),
            // Not one of them.
            (TcpState::FinWait2, Some(60_000)),
            (TcpState::Established, None),
        ]);
        let (ledger, now_ns) = books(&look);
        let mut pools = ledger.pools(now_ns);
        let [pool] = pools.as_mut_slice() else {
            panic!("{pools:?}");
        };
        assert_eq!(pool.used(), 8);
        let timers = Timers::of(&look);
        assert_eq!(timers.left_ms(&pool.id).len(), 7);
        timers.date(pool);
        let rates = pool.open_rate;
        assert_eq!((rates.second, rates.ten, rates.minute), (2.0, 0.4, 0.1));
        assert_eq!(pool.forecast, None);
    }
}
