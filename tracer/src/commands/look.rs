/*! A look at the machine without tracing, as a state. */

use foldhash::HashMap;

use crate::diagnosis::diagnose;
use crate::host::dump::Snapshot;
use crate::ledger::{Feed, Ledger, Limits};
use crate::model::{Dump, Pool, PoolId, Rates, Selection, TcpState};
use crate::state::{State, select};

/// Life of a TIME_WAIT.
const TIME_WAIT_MS: u32 = 60_000;

/// The pools asked for that hold a port. No call is seen to fail without tracing: a process asked for
/// counts if it holds one.
pub(super) fn state(look: &Snapshot, selection: &Selection) -> State {
    let mut ledger = Ledger::new(Limits::new(Feed {
        opens: false,
        ends: false,
    }));
    let mut state = State::default();
    for dump in &look.dumps {
        ledger.dump(dump);
        state.now_ns = state.now_ns.max(dump.ended_ns);
        let namespace = dump.namespace.clone();
        state.namespaces.insert(namespace.inode, namespace);
    }
    let began_ns = look.dumps.iter().map(|dump| dump.began_ns).min();
    state.began_ns = began_ns.unwrap_or(state.now_ns);
    ledger.advance(state.now_ns);
    let mut pools = ledger.pools(state.now_ns);
    pools.retain(|pool| pool.used() > 0);
    select(selection, &mut pools, &mut Vec::new());
    state.pools = pools;
    state
}

/// Says of these pools how fast they were used, and what is wrong with them.
pub(super) fn judge(state: &mut State, look: &Snapshot) {
    let timers = Timers::of(&look.dumps);
    for pool in &mut state.pools {
        timers.date(pool);
    }
    let namespaces = &state.namespaces;
    state.verdicts = diagnose(&state.pools, &[], |inode| namespaces.get(&inode));
    state.judgements = 1;
}

/// When the sockets that end by themselves are due to: TIME_WAITs and FIN_WAIT2 mini-sockets.
pub(super) struct Timers(HashMap<PoolId, Vec<(TcpState, u32)>>);

impl Timers {
    /// Those of a look.
    pub(super) fn of(dumps: &[Dump]) -> Self {
        let mut timers: HashMap<PoolId, Vec<_>> = HashMap::default();
        for dump in dumps {
            for socket in &dump.sockets {
                let Some(due_in) = socket.due_in else {
                    continue;
                };
                let id = PoolId {
                    netns: dump.namespace.inode,
                    src: socket.local.ip(),
                    dst: socket.remote.ip(),
                    dport: socket.remote.port(),
                };
                let timer = (socket.state, due_in.ms());
                timers.entry(id).or_default().push(timer);
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
    fn date(&self, pool: &mut Pool) {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{TIME_WAIT_MS, Timers, judge, state};
    use crate::host::dump::Snapshot;
    use crate::model::{DueIn, Dump, Listed, Selection, TcpState};

    fn snapshot(sockets: &[(TcpState, Option<u32>)]) -> Snapshot {
        let listed = |(port, &(state, left_ms)): (u16, &(TcpState, Option<u32>))| Listed {
            state,
            local: SocketAddr::new("192.0.2.1".parse().unwrap(), port),
            remote: "192.0.2.2:7000".parse().unwrap(),
            cookie: u64::from(port),
            process: None,
            due_in: left_ms.map(DueIn::from_ms),
        };
        Snapshot {
            dumps: vec![Dump {
                began_ns: 1,
                ended_ns: 2,
                namespace: crate::model::sample::namespace(),
                sockets: (20_000..).zip(sockets).map(listed).collect(),
            }],
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
        let mut state = state(&look, &Selection::default());
        judge(&mut state, &look);
        let [pool] = state.pools.as_slice() else {
            panic!("{:?}", state.pools);
        };
        assert_eq!(pool.used(), 8);
        let timers = Timers::of(&look.dumps);
        assert_eq!(timers.left_ms(&pool.id).len(), 7);
        let rates = pool.open_rate;
        assert_eq!((rates.second, rates.ten, rates.minute), (2.0, 0.4, 0.1));
        assert_eq!(pool.forecast, None);
        assert_eq!((state.now_ns, state.duration_ns()), (2, 1));
    }
}
