/*! Pools for the tests, from what a case says of them. */

use std::net::IpAddr;
use std::sync::Arc;

use crate::model::sample::task;
use crate::model::{
    Capacity, Cause, Elsewhere, Ends, Error, Failed, Forecast, Holder, Namespace, Pool, PoolId,
    PortRange, Process, Rates, States, TcpState, TwReuse,
};

/// The moment all pools are of.
pub(in crate::diagnosis) const NOW_NS: u64 = 10_000_000_000_000;

/// The kernel's default range.
pub(in crate::diagnosis) const DEFAULT: (u16, u16) = (32_768, 60_999);

/// The pool from 10.0.0.1 to a port of 10.0.0.2.
pub(in crate::diagnosis) fn pool_id(dport: u16) -> PoolId {
    PoolId {
        netns: 4_026_532_000,
        src: IpAddr::from([10, 0, 0, 1]),
        dst: IpAddr::from([10, 0, 0, 2]),
        dport,
    }
}

/// Sockets by state.
pub(in crate::diagnosis) fn states(list: &[(TcpState, u64)]) -> States {
    let mut states = States::default();
    for &(state, count) in list {
        *states.get_mut(state).expect("a state that holds a port") += count;
    }
    states
}

/// A process with sockets.
pub(in crate::diagnosis) fn holder(comm: &str, pid: u32, list: &[(TcpState, u64)]) -> Holder {
    Holder {
        process: Arc::new(Process {
            tgid: pid,
            start_ns: u64::from(pid) * 1_000_000_000,
            comm: task(comm.as_bytes()),
            thread: task(comm.as_bytes()),
            ..Process::default()
        }),
        states: states(list),
        opened: 0,
        open_rate: Rates::default(),
        ends: Ends::default(),
        net_rate: 0.0,
        bound: 0,
    }
}

/// Sockets of nobody known.
pub(in crate::diagnosis) fn unknown(list: &[(TcpState, u64)]) -> Holder {
    Holder {
        process: Process::nobody(),
        ..holder("", 0, list)
    }
}

/// A namespace with the kernel's defaults.
pub(in crate::diagnosis) fn namespace(name: &str) -> Namespace {
    Namespace {
        inode: pool_id(1).netns,
        name: name.to_owned(),
        range: PortRange {
            low: DEFAULT.0,
            high: DEFAULT.1,
        },
        reserved: 0,
        tw_reuse: Some(TwReuse::LoopbackOnly),
        fin_timeout_s: Some(60),
        max_tw_buckets: Some(131_072),
        conntrack: None,
    }
}

/// connect() failures of one process within the last seconds.
pub(in crate::diagnosis) fn failed(
    comm: &str,
    pid: u32,
    (errno, cause): (u16, Cause),
    count: u64,
) -> Failed {
    Failed {
        process: holder(comm, pid, &[]).process,
        errno: Some(Error(errno)),
        cause,
        bind: false,
        count,
        first_ns: NOW_NS - 5_000_000_000,
        last_ns: NOW_NS,
    }
}

/// No port was free.
pub(in crate::diagnosis) const EXHAUSTED: (u16, Cause) = (99, Cause::PortsExhausted);

/// A pool of the default range towards a port nobody knows, with these holders.
pub(in crate::diagnosis) fn pool(holders: &[Holder]) -> Pool {
    let mut sum = States::default();
    let mut ends = Ends::default();
    let mut open_rate = Rates::default();
    for holder in holders {
        for state in States::ALL {
            *sum.get_mut(state).expect("one of all") += holder.states.get(state);
        }
        ends.local += holder.ends.local;
        ends.peer += holder.ends.peer;
        ends.reset += holder.ends.reset;
        open_rate.second += holder.open_rate.second;
        open_rate.ten += holder.open_rate.ten;
        open_rate.minute += holder.open_rate.minute;
        open_rate.peak += holder.open_rate.peak;
    }
    Pool {
        id: pool_id(9_999),
        capacity: Some(Capacity {
            range: DEFAULT,
            reserved: 0,
            blocked: 0,
        }),
        states: sum,
        peak: (sum.total(), NOW_NS),
        holders: holders.to_vec(),
        failures: Vec::new(),
        open_rate,
        opened: 0,
        net_rate: 0.0,
        ends,
        lifetime_ns: None,
        search_ns: None,
        searched: (0, 0),
        high: (0, 0),
        drift: 0,
        forecast: Some(Forecast {
            made_ns: NOW_NS,
            dry_in_s: None,
            settles_at: None,
        }),
        foretold: None,
    }
}

/// A pool like `pool` towards `dport`, with failures.
pub(in crate::diagnosis) fn failing(dport: u16, holders: &[Holder], failures: &[Failed]) -> Pool {
    Pool {
        id: pool_id(dport),
        failures: failures.to_vec(),
        ..pool(holders)
    }
}

/// A holder that opened `opened` at `rate` per second and closed all but what it holds open.
pub(in crate::diagnosis) fn churning(
    comm: &str,
    pid: u32,
    list: &[(TcpState, u64)],
    opened: u64,
    rate: f64,
) -> Holder {
    Holder {
        opened,
        ends: Ends {
            local: opened,
            ..Ends::default()
        },
        open_rate: Rates {
            second: rate,
            ten: rate,
            minute: rate,
            peak: rate,
        },
        ..holder(comm, pid, list)
    }
}

/// A holder that opens `rate` per second and closes nothing, for a minute and more.
pub(in crate::diagnosis) fn leaking(comm: &str, pid: u32, open: u64, rate: f64) -> Holder {
    Holder {
        opened: open,
        net_rate: rate,
        open_rate: Rates {
            second: rate,
            ten: rate,
            minute: rate,
            peak: rate,
        },
        ..holder(comm, pid, &[(TcpState::Established, open)])
    }
}

/// bind() to port 0 that found none.
pub(in crate::diagnosis) const EXHAUSTED_BIND: (u16, Cause) = (98, Cause::PortsExhausted);

/// A failed bind() of a process.
pub(in crate::diagnosis) fn bind(
    src: [u8; 4],
    (comm, pid): (&str, u32),
    what: (u16, Cause),
    count: u64,
) -> Elsewhere {
    Elsewhere {
        netns: pool_id(0).netns,
        src: IpAddr::from(src),
        sport: 0,
        failed: Failed {
            bind: true,
            ..failed(comm, pid, what, count)
        },
    }
}

/// A pool full of TIME_WAITs of one program, which also gets the error.
pub(in crate::diagnosis) fn burnt(comm: &str, dport: u16) -> Pool {
    let holder = churning(comm, 1, &[(TcpState::TimeWait, 28_200)], 30_000, 1_400.0);
    Pool {
        lifetime_ns: Some((1_200_000, 8_000_000)),
        ..failing(dport, &[holder], &[failed(comm, 1, EXHAUSTED, 900)])
    }
}

/// The same pool in a namespace with another range.
pub(in crate::diagnosis) fn small((low, high): (u16, u16), pool: Pool) -> Pool {
    Pool {
        capacity: Some(Capacity {
            range: (low, high),
            reserved: 0,
            blocked: 0,
        }),
        ..pool
    }
}
