/*!
Both backends tell the same story: two tracers, one with trampolines and one with tracepoints
alone, watch the same workload, and every line of the one must be in the other. Beyond that the
trampolines tell only what nothing else can: how long the port search took, and what tracepoints
conclude without having seen it.
*/

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tracer::sandbox::workload::{Bind, Collide, Connect, Manner, Ring, Then, Work};
use tracer::sandbox::{
    CLIENT_V4, CLIENT_V6, FOREIGN_V4, SERVER_V4, SERVER_V6, SILENT_V4, Settings, UNROUTED_V4,
};
use tracer_ebpf::tcp_state;

use crate::Scenario;
use crate::trace::sum;
use crate::world::{Skip, connect, server_mapped, server_v4, server_v6};

mod stage;
mod story;

use stage::{Check, Stage, perform};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("on_connections_that_end", on_connections_that_end),
    ("on_failures", on_failures),
];

/// Plays whose connections end in every way.
fn on_connections_that_end() -> Result<(), Skip> {
    perform(&[
        ("churn", Settings::default(), churn),
        (
            "closed_by_the_peer",
            Settings::with_ports(100),
            closed_by_the_peer,
        ),
        ("reset", Settings::with_ports(100), reset),
        // FIN_WAIT2 stays a full socket, and TIME_WAIT begins when the server closes.
        (
            "closed_by_others",
            with_fin_timeout("120"),
            closed_by_others,
        ),
        ("expires", with_fin_timeout("1"), expires),
    ])
}

/// Plays whose connect() and bind() fail in every way.
fn on_failures() -> Result<(), Skip> {
    let impatient = Settings::with_ports(100).client_sysctl("net/ipv4/tcp_syn_retries", "1");
    perform(&[
        ("leak", Settings::with_ports(50), leak),
        (
            "nonblocking",
            Settings::with_ports(50),
            exhausted_nonblocking,
        ),
        ("tuple_in_use", Settings::with_ports(100), tuple_in_use),
        (
            "network",
            Settings::with_ports(100),
            failures_of_the_network,
        ),
        ("timed_out", impatient, timed_out),
        ("bind", Settings::with_ports(20), bind_failing),
        ("io_uring", Settings::with_ports(50), io_uring),
    ])
}

fn with_fin_timeout(seconds: &str) -> Settings {
    Settings::with_ports(100).client_sysctl("net/ipv4/tcp_fin_timeout", seconds)
}

/// An address of IPv6 that nobody has.
const FOREIGN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99);
/// One without a route.
const UNROUTED_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// As an IPv6 socket sees IPv4.
fn mapped(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_ipv6_mapped().into(), port)
}

fn churn(stage: &mut Stage) -> Check {
    const EACH: u64 = 40;
    stage.serve(Manner::Echo);
    let to = |to| Connect::new(to, EACH).list_ports();
    let threads = to(server_v4()).threads(2, "worker");
    let works = [
        ("churn-a", to(server_v4())),
        ("churn-b", to(server_v4())),
        ("threads", threads),
        ("six", to(server_v6())),
        ("mapped", to(server_mapped())),
        ("nonblocking", to(server_v4()).nonblocking()),
    ];
    let works = works.map(|(name, work)| (name, Work::Connect(work)));
    let reports = stage.act_at_once(&works);
    let all = EACH * 7;
    let connected: u64 = reports.iter().map(|report| report.connected).sum();
    assert_eq!(connected, all);
    stage.settle(tcp_state::TIME_WAIT, all);
    Box::new(move |told| {
        for trace in [told.trampoline, told.tracepoint] {
            let lines = trace.of("time_wait", told.client);
            assert_eq!(lines.len() as u64, all);
            for report in &reports {
                let own = lines.iter().filter(|line| line["pid"] == report.pid);
                let ports = own.map(|line| line["sport"].as_u64().unwrap());
                let mut ports: Vec<_> = ports.map(|port| u16::try_from(port).unwrap()).collect();
                let mut real = report.ports.clone();
                ports.sort_unstable();
                real.sort_unstable();
                assert_eq!(ports, real, "the TIME_WAITs of {}", report.pid);
            }
        }
        told.assert_searched("opened", all);
    })
}

fn leak(stage: &mut Stage) -> Check {
    stage.serve(Manner::Echo);
    for to in [server_v4(), server_v6(), server_mapped()] {
        let report = stage.act("leak", &connect(to, 80, Then::PingAndKeep));
        // The pool of a v4-mapped socket is that of IPv4, and dry.
        let held = if to == server_mapped() { 0 } else { 50 };
        assert_eq!(report.failed["EADDRNOTAVAIL"], 80 - held);
    }
    Box::new(move |told| {
        told.assert_failures("connect_failed", "ports_exhausted", 30 + 30 + 80);
        told.assert_searched("opened", 100);
        told.assert_searched("connect_failed", 0);
        told.assert_verdicts();
    })
}

fn exhausted_nonblocking(stage: &mut Stage) -> Check {
    stage.serve(Manner::Echo);
    for to in [server_mapped(), server_v6()] {
        let work = Connect::new(to, 80).nonblocking().stop_after(20);
        let report = stage.act("quick", &Work::Connect(work));
        assert_eq!((report.connected, report.failures()), (50, 20));
    }
    stage.settle(tcp_state::TIME_WAIT, 100);
    Box::new(move |told| {
        told.assert_failures("connect_failed", "ports_exhausted", 40);
        told.assert_verdicts();
    })
}

fn tuple_in_use(stage: &mut Stage) -> Check {
    stage.serve(Manner::Echo);
    let ways = [
        (SocketAddr::new(CLIENT_V4.into(), 30_000), server_v4()),
        (SocketAddr::new(CLIENT_V6.into(), 30_001), server_v6()),
        (mapped(CLIENT_V4, 30_002), server_mapped()),
    ];
    for (from, to) in ways {
        let times = 4;
        let report = stage.act("collider", &Work::Collide(Collide { from, to, times }));
        assert_eq!((report.connected, report.failures()), (1, times), "{to}");
    }
    Box::new(move |told| {
        told.assert_failures("connect_failed", "tuple_in_use", 12);
        told.assert_verdicts();
    })
}

fn failures_of_the_network(stage: &mut Stage) -> Check {
    let ways: [(SocketAddr, &str); 6] = [
        (SocketAddr::new(SERVER_V4.into(), 81), "ECONNREFUSED"),
        (SocketAddr::new(SERVER_V6.into(), 81), "ECONNREFUSED"),
        (mapped(SERVER_V4, 81), "ECONNREFUSED"),
        (SocketAddr::new(UNROUTED_V4.into(), 81), "ENETUNREACH"),
        (SocketAddr::new(UNROUTED_V6.into(), 81), "ENETUNREACH"),
        (mapped(UNROUTED_V4, 81), "ENETUNREACH"),
    ];
    for (to, errno) in ways {
        for work in [Connect::new(to, 5), Connect::new(to, 5).nonblocking()] {
            let report = stage.act("failing", &Work::Connect(work));
            assert_eq!(report.failed.get(errno), Some(&5), "{to}: {report:?}");
        }
    }
    Box::new(move |told| {
        told.assert_failures("connect_failed", "refused", 30);
        told.assert_failures("connect_failed", "no_route", 30);
    })
}

fn timed_out(stage: &mut Stage) -> Check {
    let to = SocketAddr::new(SILENT_V4.into(), 81);
    let works = [
        ("patient", Work::Connect(Connect::new(to, 1))),
        (
            "nonblocking",
            Work::Connect(Connect::new(to, 1).nonblocking()),
        ),
        (
            "mapped",
            Work::Connect(Connect::new(mapped(SILENT_V4, 81), 1)),
        ),
        (
            "gone",
            Work::Connect(Connect::new(to, 5).then(Then::Abandon).nonblocking()),
        ),
    ];
    let reports = stage.act_at_once(&works);
    let failed: u64 = reports.iter().map(|report| report.failures()).sum();
    assert_eq!(failed, 3);
    Box::new(move |told| {
        told.assert_failures("connect_failed", "timed_out", 3);
    })
}

fn bind_failing(stage: &mut Stage) -> Check {
    let at = |ip: std::net::IpAddr, port| SocketAddr::new(ip, port);
    // Address, times, times it fails, and why.
    let ways = [
        (at(FOREIGN_V4.into(), 0), 5, 5, "EADDRNOTAVAIL"),
        (at(FOREIGN_V6.into(), 0), 5, 5, "EADDRNOTAVAIL"),
        (mapped(FOREIGN_V4, 0), 5, 5, "EADDRNOTAVAIL"),
        (at(FOREIGN_V4.into(), 31_000), 5, 5, "EADDRNOTAVAIL"),
        (at(CLIENT_V4.into(), 31_000), 5, 4, "EADDRINUSE"),
        (at(CLIENT_V6.into(), 31_001), 5, 4, "EADDRINUSE"),
        (mapped(CLIENT_V4, 31_002), 5, 4, "EADDRINUSE"),
        (at(CLIENT_V4.into(), 0), 25, 5, "EADDRINUSE"),
        (at(CLIENT_V6.into(), 0), 25, 5, "EADDRINUSE"),
    ];
    for (at, times, failed, errno) in ways {
        let report = stage.act("binder", &Work::Bind(Bind { at, times }));
        assert_eq!(report.failed.get(errno), Some(&failed), "{at}: {report:?}");
    }
    Box::new(move |told| {
        told.assert_failures("bind_failed", "address_not_local", 20);
        told.assert_failures("bind_failed", "tuple_in_use", 12);
        told.assert_failures("bind_failed", "ports_exhausted", 10);
    })
}

fn closed_by_the_peer(stage: &mut Stage) -> Check {
    stage.serve(Manner::CloseFirst);
    for to in [server_v4(), server_v6()] {
        let report = stage.act("client", &connect(to, 20, Then::AwaitPeer));
        assert_eq!((report.connected, report.reset), (20, 0));
    }
    stage.leave();
    Box::new(move |told| {
        told.assert_closed("peer", 40);
    })
}

fn reset(stage: &mut Stage) -> Check {
    let ways = [
        (Manner::Reset, Then::AwaitReset, 20),
        (Manner::ResetAtEof, Then::HalfCloseReset, 20),
        (Manner::TalkAtEof, Then::HalfCloseUnread, 0),
    ];
    for (manner, then, resets) in ways {
        stage.serve(manner);
        let report = stage.act("client", &connect(server_v4(), 20, then));
        // A reset may overtake connect(), which then returns it.
        assert_eq!(report.connected + report.failures(), 20, "{report:?}");
        assert_eq!(report.reset + report.failures(), resets, "{report:?}");
        stage.leave();
    }
    Box::new(move |told| {
        told.assert_closed("reset", 60);
    })
}

fn closed_by_others(stage: &mut Stage) -> Check {
    stage.serve(Manner::Keep);
    for then in [Then::Close, Then::ForkClose] {
        let report = stage.act("owner", &connect(server_v4(), 20, then));
        assert_eq!(report.connected, 20, "{then:?}");
    }
    stage.settle(tcp_state::FIN_WAIT2, 40);
    stage.dismiss();
    stage.settle(tcp_state::TIME_WAIT, 40);
    Box::new(move |told| {
        told.assert_closed("local", 40);
        assert_eq!(told.tracepoint.of("time_wait", told.client).len(), 40);
    })
}

fn expires(stage: &mut Stage) -> Check {
    stage.serve(Manner::Keep);
    for to in [server_v4(), server_v6()] {
        let report = stage.act("waiting", &connect(to, 20, Then::Close));
        assert_eq!(report.connected, 20);
    }
    stage.expire();
    Box::new(move |told| {
        for trace in [told.trampoline, told.tracepoint] {
            let ends = trace.of("time_wait_end", told.client);
            let expired = ends.iter().filter(|end| end["reason"] == "expired");
            assert_eq!(expired.count(), 40, "{ends:#?}");
            for end in ends {
                assert_eq!(end["comm"], "waiting", "{end}");
            }
        }
    })
}

fn io_uring(stage: &mut Stage) -> Check {
    stage.serve(Manner::Echo);
    let work = Work::Ring(Ring {
        to: server_v4(),
        attempts: 80,
    });
    let report = stage.act("ring", &work);
    if let Some(reason) = report.refused {
        println!("skipping agree::on_failures: this kernel has no io_uring: {reason}");
        return Box::new(|_| {});
    }
    assert_eq!((report.connected, report.failures()), (50, 30));
    // No system call of connect() ends: the errno is concluded from the state change.
    stage.infers("connect_failed");
    Box::new(move |told| {
        told.assert_failures("connect_failed", "ports_exhausted", 30);
        for line in told.tracepoint.of("connect_failed", told.client) {
            assert_eq!(line["inferred"], true, "{line}");
        }
        assert_eq!(sum(&told.trampoline.of("connect_failed", told.client)), 30);
    })
}
