/*! Events for the tests of what comes after decoding. */

use std::net::IpAddr;
use std::sync::Arc;

use super::{
    Cause, Closer, Direction, Error, Event, Kind, Namespace, Ownership, PortRange, Process,
    TaskName, TcpState, Tuple,
};

/// A namespace with 1,000 ports.
pub(crate) fn namespace() -> Namespace {
    Namespace {
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
    }
}

/// A task's name from text.
pub(crate) fn task(text: &[u8]) -> TaskName {
    let mut name = [0; 16];
    name[..text.len()].copy_from_slice(text);
    TaskName::new(name)
}

fn event(kind: Kind) -> Event {
    Event {
        ts_ns: 1_500_000_000,
        kind,
        process: Arc::new(Process {
            tgid: 4242,
            uid: 1000,
            start_ns: 7,
            cgroup_id: 8,
            comm: task(b"web"),
            thread: task(b"worker"),
            ..Process::default()
        }),
        tid: 4243,
        ownership: Ownership::Seen,
        tuple: Tuple {
            netns: 4_026_531_840,
            ifindex: 0,
            mapped: false,
            src: IpAddr::from([10, 0, 0, 1]),
            sport: 40001,
            dst: IpAddr::from([10, 0, 0, 2]),
            dport: 6432,
        },
        cookie: Some(99),
        duration_ns: None,
        search_ns: None,
        errno: None,
        cause: None,
        closer: None,
        direction: Some(Direction::Out),
        state: None,
        end_reason: None,
        inferred: false,
        bound: false,
        sample: false,
    }
}

/// A connection of ours in TIME_WAIT after 1.24 ms.
pub(crate) fn time_wait() -> Event {
    Event {
        duration_ns: Some(1_240_000),
        search_ns: Some(650),
        closer: Some(Closer::Local),
        state: Some(TcpState::TimeWait),
        ..event(Kind::TimeWait)
    }
}

/// connect() that found no port.
pub(crate) fn exhausted() -> Event {
    let mut event = Event {
        search_ns: Some(80_000),
        errno: Some(Error(99)),
        cause: Some(Cause::PortsExhausted),
        ..event(Kind::ConnectFailed)
    };
    event.tuple.sport = 0;
    event
}

/// bind() to an address of another host.
pub(crate) fn foreign_bind() -> Event {
    let mut event = Event {
        errno: Some(Error(99)),
        cause: Some(Cause::AddressNotLocal),
        direction: None,
        ..event(Kind::BindFailed)
    };
    event.tuple.sport = 8080;
    event.tuple.dst = IpAddr::from([0, 0, 0, 0]);
    event.tuple.dport = 0;
    event
}

/// A connection of ours, established.
pub(crate) fn opened() -> Event {
    Event {
        duration_ns: Some(90_000),
        ..event(Kind::Opened)
    }
}

/// A connection we accepted, closed by its peer.
pub(crate) fn closed_in() -> Event {
    let mut event = Event {
        duration_ns: Some(2_000_000_000),
        closer: Some(Closer::Peer),
        direction: Some(Direction::In),
        ownership: Ownership::AtClose,
        state: Some(TcpState::LastAck),
        ..event(Kind::Closed)
    };
    event.tuple.sport = 5432;
    event.tuple.dport = 51000;
    event
}
