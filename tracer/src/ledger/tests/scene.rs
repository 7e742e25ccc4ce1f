/*! A namespace with 1,000 ports and the events of made-up connections in it. */

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::ledger::{Feed, Ledger, Limits};
use crate::model::sample::{exhausted, opened, task, time_wait};
use crate::model::{
    Closer, Direction, Dump, Event, Kind, Listed, Namespace, Ownership, Pool, PoolId, PortRange,
    Process, TcpState, TwReuse,
};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const MS: u64 = 1_000_000;
pub(super) const NETNS: u32 = 7;
/// When things begin: nothing here may depend on the clock being small.
pub(super) const START: u64 = 1_000_000 * SECOND + 123_456_789;

/// The default stream.
pub(super) const WATCH: Feed = Feed {
    opens: false,
    ends: true,
};
/// All events.
pub(super) const ALL: Feed = Feed {
    opens: true,
    ends: true,
};

pub(super) fn ledger(feed: Feed) -> Ledger {
    Ledger::new(Limits::new(feed))
}

pub(super) fn process(tgid: u32) -> Arc<Process> {
    Arc::new(Process {
        tgid,
        start_ns: u64::from(tgid) * 10_000_000,
        comm: task(b"web"),
        ..Process::default()
    })
}

pub(super) fn namespace() -> Namespace {
    Namespace {
        inode: NETNS,
        name: "host".to_owned(),
        range: PortRange {
            low: 32_000,
            high: 32_999,
        },
        reserved: 0,
        tw_reuse: Some(TwReuse::Off),
        fin_timeout_s: Some(60),
        max_tw_buckets: None,
        conntrack: None,
    }
}

fn local(sport: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], sport))
}

fn remote(dport: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], dport))
}

pub(super) fn pool_id(dport: u16) -> PoolId {
    PoolId {
        netns: NETNS,
        src: local(0).ip(),
        dst: remote(0).ip(),
        dport,
    }
}

/// An event of a connection of `tgid` from `sport` to `dport` that was opened `lived` ago.
pub(super) fn event(kind: Kind, at_ns: u64, tgid: u32, sport: u16, dport: u16) -> Event {
    let base = match kind {
        Kind::ConnectFailed => exhausted(),
        Kind::TimeWait => time_wait(),
        _ => opened(),
    };
    let mut event = Event {
        ts_ns: at_ns,
        kind,
        process: process(tgid),
        tid: tgid,
        duration_ns: Some(MS),
        closer: Some(Closer::Local),
        ..base
    };
    event.cookie = Some(u64::from(sport));
    event.tuple.netns = NETNS;
    event.tuple.src = local(0).ip();
    event.tuple.dst = remote(0).ip();
    event.tuple.dport = dport;
    if kind != Kind::ConnectFailed {
        event.tuple.sport = sport;
    }
    if kind == Kind::TimeWaitEnd {
        event.state = Some(TcpState::TimeWait);
        event.direction = Some(Direction::Out);
    }
    event
}

pub(super) fn unknown(event: Event) -> Event {
    Event {
        process: Process::nobody(),
        ownership: Ownership::Unknown,
        direction: None,
        ..event
    }
}

pub(super) fn tell(ledger: &mut Ledger, event: &Event) {
    ledger.event(event);
}

pub(super) fn listed(state: TcpState, tgid: Option<u32>, sport: u16, dport: u16) -> Listed {
    Listed {
        state,
        local: local(sport),
        remote: remote(dport),
        cookie: u64::from(sport),
        process: tgid.map(process),
        due_in: None,
    }
}

pub(super) fn listener(ip: [u8; 4], port: u16) -> Listed {
    Listed {
        state: TcpState::Listen,
        local: SocketAddr::from((ip, port)),
        remote: SocketAddr::from(([0, 0, 0, 0], 0)),
        cookie: 0,
        process: None,
        due_in: None,
    }
}

/// A dump that took a millisecond and ended at `ended_ns`.
pub(super) fn dump(ended_ns: u64, sockets: Vec<Listed>) -> Dump {
    Dump {
        began_ns: ended_ns - MS,
        ended_ns,
        namespace: namespace(),
        sockets,
    }
}

pub(super) fn pool(ledger: &Ledger, now_ns: u64, dport: u16) -> Pool {
    let id = pool_id(dport);
    let found = ledger.pools(now_ns).into_iter().find(|pool| pool.id == id);
    found.unwrap_or_else(|| panic!("no pool {id:?}"))
}

/// What `tgid` holds of a pool in `state`; 0 stands for nobody known.
pub(super) fn held(pool: &Pool, tgid: u32, state: TcpState) -> u64 {
    pool.holders
        .iter()
        .filter(|holder| holder.process.tgid == tgid)
        .map(|holder| holder.states.get(state))
        .sum()
}

/// The unspecified address.
pub(super) fn anywhere() -> IpAddr {
    IpAddr::from([0, 0, 0, 0])
}
