/*! Pools and verdicts for the tests of their renderers. */

use std::net::IpAddr;
use std::sync::Arc;

use crate::diagnosis::{Count, Effect, Kind, Level, Myth, Remedy, Urgency, Verdict};
use crate::model::sample::task;
use crate::model::{
    Capacity, Cause, Ends, Error, Failed, Forecast, Foretold, Holder, Pool, PoolId, Process, Rates,
    Runtime, States, TcpState,
};

/// The moment all samples stand at, ns.
pub(crate) const NOW_NS: u64 = 100_000_000_000;

/// The sockets a pool or process holds.
pub(crate) fn states(list: &[(TcpState, u64)]) -> States {
    let mut states = States::default();
    for &(state, count) in list {
        *states.get_mut(state).unwrap() = count;
    }
    states
}

/// A pool's name.
pub(crate) fn id(src: &str, dst: &str, dport: u16) -> PoolId {
    PoolId {
        netns: 4_026_532_281,
        src: src.parse::<IpAddr>().unwrap(),
        dst: dst.parse::<IpAddr>().unwrap(),
        dport,
    }
}

fn process(tgid: u32, comm: &[u8]) -> Process {
    Process {
        tgid,
        uid: 1000,
        start_ns: u64::from(tgid) * 10_000_000,
        cgroup_id: 8,
        comm: task(comm),
        thread: task(comm),
        ..Process::default()
    }
}

/// A process in a container of a pod.
pub(crate) fn holder(tgid: u32, comm: &[u8], list: &[(TcpState, u64)]) -> Holder {
    Holder {
        process: Arc::new(Process {
            exe: Some("/usr/local/bin/web".into()),
            cgroup: Some("/kubepods.slice/x.scope".into()),
            container: Some("3f4e5d6c7b8a99aabbcc".into()),
            runtime: Some(Runtime::Containerd),
            pod: Some("9a8b7c6d-1111-2222-3333-444455556666".into()),
            ..process(tgid, comm)
        }),
        states: states(list),
        opened: 5_000,
        open_rate: rates(1_240.0),
        ends: Ends {
            local: 4_900,
            peer: 40,
            reset: 0,
        },
        net_rate: 4.82,
        bound: 0,
    }
}

/// Sockets that were there before tracing.
pub(crate) fn before(list: &[(TcpState, u64)]) -> Holder {
    Holder {
        process: Process::nobody(),
        opened: 0,
        open_rate: Rates::default(),
        ends: Ends::default(),
        net_rate: 0.0,
        ..holder(0, b"", list)
    }
}

fn rates(per_second: f64) -> Rates {
    Rates {
        second: per_second + 10.0,
        ten: per_second,
        minute: per_second / 3.0,
        peak: per_second * 2.0,
    }
}

/// Failures of one process.
pub(crate) fn failed(tgid: u32, comm: &[u8], count: u64) -> Failed {
    Failed {
        process: Arc::new(process(tgid, comm)),
        errno: Some(Error(99)),
        cause: Cause::PortsExhausted,
        bind: false,
        count,
        first_ns: 80_000_000_000,
        last_ns: NOW_NS,
    }
}

/// A pool of 1,000 ports run dry by churn, as was forecast.
pub(crate) fn dry_pool() -> Pool {
    Pool {
        id: id("10.0.0.1", "10.0.0.2", 6432),
        capacity: Some(Capacity {
            range: (40_000, 41_009),
            reserved: 8,
            blocked: 2,
        }),
        states: dry_states(),
        peak: (1_000, 90_000_000_000),
        holders: vec![
            holder(
                4242,
                b"web",
                &[(TcpState::TimeWait, 900), (TcpState::Established, 40)],
            ),
            before(&[(TcpState::TimeWait, 60)]),
        ],
        failures: vec![failed(4242, b"web", 1_204), failed(77, b"cron", 12)],
        open_rate: rates(1_240.0),
        opened: 0,
        net_rate: 0.0,
        ends: Ends {
            local: 4_900,
            peer: 40,
            reset: 3,
        },
        lifetime_ns: Some((1_240_000, 9_000_000)),
        search_ns: Some((650, 81_000)),
        searched: (0, 0),
        high: (0, 0),
        drift: -2,
        forecast: Some(Forecast {
            made_ns: 99_000_000_000,
            dry_in_s: None,
            settles_at: Some(74_400.0),
        }),
        foretold: Some(foretold()),
    }
}

fn dry_states() -> States {
    states(&[(TcpState::TimeWait, 960), (TcpState::Established, 40)])
}

fn foretold() -> Foretold {
    Foretold {
        forecast: Forecast {
            made_ns: 46_000_000_000,
            dry_in_s: Some(41.0),
            settles_at: None,
        },
        used: 260,
        dry_ns: 90_000_000_000,
    }
}

/// The verdict on that pool.
pub(crate) fn churn() -> Verdict {
    let pool = dry_pool();
    Verdict {
        kind: Kind::Churn,
        urgency: Urgency::Failing,
        pool: pool.id,
        namespace: "web".into(),
        level: Level {
            used: 1_000,
            peak: 1_000,
            capacity: 1_000,
        },
        states: pool.states,
        evidence: vec![
            "960 of 1,000 ports are in TIME_WAIT, 60 s each.".into(),
            "Half of the connections lived less than 1.24 ms, and our side closed 4,900 of 4,943 first, so \
             TIME_WAIT stays here."
                .into(),
        ],
        culprits: pool.holders,
        victims: pool.failures,
        failures: vec![Count {
            errno: Some(Error(99)),
            cause: Cause::PortsExhausted,
            bind: false,
            count: 1_216,
        }],
        ceiling: 16.666_666_666,
        safe_rate: 12.5,
        rate: 1_240.0,
        forecast: pool.forecast,
        foretold: pool.foretold,
        remedies: vec![
            Remedy {
                name: "reuse",
                what: "Keep connections open and reuse them: a pool of 20 is enough for this rate.".into(),
                lines: Vec::new(),
                trade_off: "the server holds 20 connections all the time".into(),
                effect: Some(Effect {
                    change: "pool of 20".into(),
                    safe_rate: None,
                    ports: Some(20),
                }),
            },
            Remedy {
                name: "range",
                what: "Widen the range in that namespace.".into(),
                lines: vec![
                    "ip netns exec web sysctl -w net.ipv4.ip_local_port_range='1024 65535' net.ipv4.ip_local_reserved_ports=8080,9090".into(),
                ],
                trade_off: "services that listen above 1024 can find their port taken".into(),
                effect: Some(Effect {
                    change: "range 1024-65535".into(),
                    safe_rate: Some(1_075.2),
                    ports: None,
                }),
            },
        ],
        myths: vec![Myth {
            setting: "tcp_fin_timeout",
            truth: "It bounds FIN_WAIT2 of orphans; TIME_WAIT lasts 60 s whatever it says.".into(),
        }],
    }
}

/// A leak towards an IPv6 destination that will run dry 41 s after [`NOW_NS`].
pub(crate) fn leak() -> Verdict {
    let list = [(TcpState::Established, 21_000)];
    let mut client = holder(7, b"broker-client", &list);
    client.open_rate = rates(5.0);
    Verdict {
        kind: Kind::Leak,
        urgency: Urgency::Soon,
        pool: id(
            "fd00:10:244:1::17",
            "fd00:10:96:aaaa:bbbb:cccc:dddd:eeee",
            5672,
        ),
        level: Level {
            used: 21_000,
            peak: 21_000,
            capacity: 28_232,
        },
        states: states(&list),
        culprits: vec![client],
        victims: Vec::new(),
        failures: Vec::new(),
        rate: 5.0,
        forecast: Some(Forecast {
            made_ns: NOW_NS - 1_000_000_000,
            dry_in_s: Some(42.0),
            settles_at: None,
        }),
        foretold: None,
        ..churn()
    }
}
