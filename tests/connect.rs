/*! connect() that fails: how often exactly, whose, where to, why. */

use std::net::SocketAddr;

use serde_json::{Value, json};
use tracer::sandbox::workload::{Collide, Connect, Manner, Report, Ring, Then, Work};
use tracer::sandbox::{CLIENT_V4, CLIENT_V6, SERVER_V4, SILENT_V4, Settings, Side, UNROUTED_V4};
use tracer_ebpf::tcp_state;

use crate::Scenario;
use crate::trace::{Trace, Tracer, assert_each, sum};
use crate::world::{SOON, Skip, World, connect, own_program, server_mapped, server_v4, server_v6};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "range_exhausted_by_open_connections",
        exhausted_by_open_connections,
    ),
    ("range_exhausted_by_time_wait", exhausted_by_time_wait),
    ("range_exhausted_over_ipv6", exhausted_over_ipv6),
    (
        "range_exhausted_by_v4_mapped_sockets",
        exhausted_by_v4_mapped_sockets,
    ),
    (
        "range_exhausted_by_nonblocking_sockets",
        exhausted_by_nonblocking_sockets,
    ),
    (
        "range_exhausted_through_io_uring",
        exhausted_through_io_uring,
    ),
    ("tuple_taken_by_a_bound_port_is_no_exhaustion", tuple_in_use),
    ("refused", refused),
    ("refused_nonblocking", refused_nonblocking),
    ("timed_out", timed_out),
    ("timed_out_nonblocking", timed_out_nonblocking),
    ("no_route", no_route),
    ("abandoned_before_the_handshake_is_no_failure", abandoned),
    (
        "left_to_the_first_write_is_no_failure",
        left_to_the_first_write,
    ),
    ("port_search_is_told_without_system_calls", without_syscalls),
    ("thread_is_named_beside_its_process", thread_is_named),
];

/// Runs `work` under the tracer and returns what both say of it.
fn traced(world: &World, work: &Work) -> Result<(Trace, u32, Report), Skip> {
    let tracer = Tracer::watch(&[])?;
    let mut client = world.client("culprit", work);
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    // The client lives until the tracer has ended: its identity can be read.
    let trace = tracer.stop();
    trace.assert_whole();
    if let Some(reason) = report.refused {
        return Err(Skip(reason));
    }
    Ok((trace, client.pid(), report))
}

/// All failures of the client's namespace: `count` of them, each with the
/// owner's names and `fields`.
fn assert_failures(world: &World, trace: &Trace, pid: u32, count: u64, fields: &Value) {
    let failures = trace.of("connect_failed", world.pair.inode(Side::Client));
    assert_eq!(sum(&failures), count, "{failures:#?}");
    assert_each(&failures, fields);
    assert_each(
        &failures,
        &json!({
            "pid": pid,
            "tid": pid,
            "comm": "culprit",
            "thread": "culprit",
            "exe": own_program(),
            "uid": 0,
        }),
    );
}

fn exhausted_by_open_connections() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    let work = connect(server_v4(), 250, Then::PingAndKeep);
    let (trace, pid, report) = traced(&world, &work)?;
    assert_eq!(
        (report.connected, report.failed["EADDRNOTAVAIL"]),
        (100, 150)
    );
    let fields = json!({
        "errno": "EADDRNOTAVAIL", "cause": "ports_exhausted",
        "src": CLIENT_V4, "dst": SERVER_V4, "dport": 7000,
    });
    assert_failures(&world, &trace, pid, 150, &fields);
    assert_eq!(
        trace.of("time_wait", world.pair.inode(Side::Client)),
        Vec::<&Value>::new()
    );
    Ok(())
}

fn exhausted_by_time_wait() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&[])?;
    let work = Connect::new(server_v4(), 1000).stop_after(50);
    let mut client = world.client("culprit", &Work::Connect(work));
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    assert_eq!(
        (report.connected, report.failed["EADDRNOTAVAIL"]),
        (100, 50)
    );
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 100);
    let trace = tracer.stop();
    trace.assert_whole();
    let fields = json!({
        "errno": "EADDRNOTAVAIL", "cause": "ports_exhausted",
        "dst": SERVER_V4, "dport": 7000,
    });
    assert_failures(&world, &trace, client.pid(), 50, &fields);
    let births = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(births.len(), 100);
    assert_each(
        &births,
        &json!({ "pid": client.pid(), "comm": "culprit", "direction": "out" }),
    );
    Ok(())
}

fn exhausted(to: SocketAddr, src: Value, dst: Value) -> Result<(), Skip> {
    let world = World::with_ports(50)?;
    if to.is_ipv6() && !world.pair.has_v6() {
        return Err(Skip("this kernel does no IPv6".to_owned()));
    }
    let _server = world.server(Manner::Echo);
    let (trace, pid, report) = traced(&world, &connect(to, 80, Then::Keep))?;
    assert_eq!((report.connected, report.failed["EADDRNOTAVAIL"]), (50, 30));
    let fields = json!({
        "errno": "EADDRNOTAVAIL", "cause": "ports_exhausted",
        "src": src, "dst": dst, "dport": 7000,
    });
    assert_failures(&world, &trace, pid, 30, &fields);
    Ok(())
}

fn exhausted_over_ipv6() -> Result<(), Skip> {
    let server = server_v6();
    exhausted(server, json!(CLIENT_V6), json!(server.ip()))
}

fn exhausted_by_v4_mapped_sockets() -> Result<(), Skip> {
    exhausted(server_mapped(), json!(CLIENT_V4), json!(SERVER_V4))
}

fn exhausted_by_nonblocking_sockets() -> Result<(), Skip> {
    let world = World::with_ports(50)?;
    let _server = world.server(Manner::Echo);
    let work = Connect::new(server_v4(), 80).then(Then::Keep).nonblocking();
    let (trace, pid, report) = traced(&world, &Work::Connect(work))?;
    assert_eq!((report.connected, report.failed["EADDRNOTAVAIL"]), (50, 30));
    let fields = json!({ "errno": "EADDRNOTAVAIL", "cause": "ports_exhausted" });
    assert_failures(&world, &trace, pid, 30, &fields);
    Ok(())
}

fn exhausted_through_io_uring() -> Result<(), Skip> {
    let world = World::with_ports(50)?;
    let _server = world.server(Manner::Echo);
    let work = Work::Ring(Ring {
        to: server_v4(),
        attempts: 80,
    });
    let (trace, pid, report) = traced(&world, &work)?;
    assert_eq!((report.connected, report.failed["EADDRNOTAVAIL"]), (50, 30));
    let failures = trace.of("connect_failed", world.pair.inode(Side::Client));
    assert_eq!(sum(&failures), 30, "{failures:#?}");
    let fields = json!({
        "pid": pid, "comm": "culprit", "errno": "EADDRNOTAVAIL", "cause": "ports_exhausted",
        "dst": SERVER_V4, "dport": 7000,
    });
    assert_each(&failures, &fields);
    Ok(())
}

fn tuple_in_use() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    let from = SocketAddr::new(CLIENT_V4.into(), 30_000);
    let work = Work::Collide(Collide {
        from,
        to: server_v4(),
        times: 4,
    });
    let (trace, pid, report) = traced(&world, &work)?;
    assert_eq!((report.connected, report.failed["EADDRNOTAVAIL"]), (1, 4));
    let fields = json!({
        "errno": "EADDRNOTAVAIL", "cause": "tuple_in_use",
        "src": CLIENT_V4, "dst": SERVER_V4, "dport": 7000,
    });
    assert_failures(&world, &trace, pid, 4, &fields);
    Ok(())
}

/// `attempts` that all fail for a reason outside of this host's ports.
fn unreachable(
    ip: std::net::Ipv4Addr,
    attempts: u64,
    nonblocking: bool,
    errno: &str,
    cause: &str,
) -> Result<(), Skip> {
    let settings = Settings::with_ports(100).client_sysctl("net/ipv4/tcp_syn_retries", "1");
    let world = World::new(&settings)?;
    let mut work = Connect::new(SocketAddr::new(ip.into(), 81), attempts);
    work.nonblocking = nonblocking;
    let (trace, pid, report) = traced(&world, &Work::Connect(work))?;
    assert_eq!(
        (report.connected, report.failed.get(errno)),
        (0, Some(&attempts))
    );
    let fields = json!({ "errno": errno, "cause": cause, "dst": ip, "dport": 81 });
    assert_failures(&world, &trace, pid, attempts, &fields);
    assert_eq!(
        trace.of("time_wait", world.pair.inode(Side::Client)),
        Vec::<&Value>::new()
    );
    Ok(())
}

fn refused() -> Result<(), Skip> {
    unreachable(SERVER_V4, 40, false, "ECONNREFUSED", "refused")
}

fn refused_nonblocking() -> Result<(), Skip> {
    unreachable(SERVER_V4, 40, true, "ECONNREFUSED", "refused")
}

fn timed_out() -> Result<(), Skip> {
    unreachable(SILENT_V4, 1, false, "ETIMEDOUT", "timed_out")
}

fn timed_out_nonblocking() -> Result<(), Skip> {
    unreachable(SILENT_V4, 1, true, "ETIMEDOUT", "timed_out")
}

fn no_route() -> Result<(), Skip> {
    unreachable(UNROUTED_V4, 40, false, "ENETUNREACH", "no_route")
}

/// 40 calls that do not fail, and leave nothing behind.
fn no_failure(world: &World, work: Connect) -> Result<(), Skip> {
    let (trace, _, report) = traced(world, &Work::Connect(work))?;
    assert_eq!((report.connected, report.failures()), (40, 0));
    let netns = world.pair.inode(Side::Client);
    assert_eq!(trace.of("connect_failed", netns), Vec::<&Value>::new());
    assert_eq!(trace.of("time_wait", netns), Vec::<&Value>::new());
    Ok(())
}

fn abandoned() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let to = SocketAddr::new(SILENT_V4.into(), 81);
    no_failure(
        &world,
        Connect::new(to, 40).then(Then::Abandon).nonblocking(),
    )
}

/// With TCP Fast Open connect() sends nothing, and neither does close() where nothing was written.
fn left_to_the_first_write() -> Result<(), Skip> {
    // The client's half, also where it was never there before.
    let settings = Settings::with_ports(100).client_sysctl("net/ipv4/tcp_fastopen", "5");
    let world = World::new(&settings)?;
    let _server = world.server(Manner::Echo);
    no_failure(&world, Connect::new(server_v4(), 40).fast_open())
}

/// System calls keep their speed: what state changes show is told, what they do not is not, and
/// that is said.
fn without_syscalls() -> Result<(), Skip> {
    let world = World::with_ports(50)?;
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&["--no-syscalls"])?;
    let mut client = world.client("culprit", &connect(server_v4(), 80, Then::Keep));
    let nowhere = Connect::new(SocketAddr::new(UNROUTED_V4.into(), 81), 40);
    let mut lost = world.client("lost", &Work::Connect(nowhere));
    for (process, fails) in [(&mut client, 30), (&mut lost, 40)] {
        process.go().unwrap();
        assert_eq!(process.report(SOON).unwrap().failures(), fails);
    }
    let trace = tracer.stop();
    let failures = trace.of("connect_failed", world.pair.inode(Side::Client));
    let backend = &trace.summary()["backend"];
    if backend["connect"] == "trampoline" || !backend["witness"].is_string() {
        trace.assert_whole();
    } else {
        // Something sees each connect() begin there: those that did not end are counted.
        trace.assert_whole_but(&["unseen"]);
        assert_eq!(trace.summary()["lost"]["unseen"], 40);
    }
    let (own, others): (Vec<&Value>, Vec<&Value>) =
        failures.iter().partition(|line| line["comm"] == "culprit");
    assert_eq!(sum(&own), 30, "{failures:#?}");
    assert_each(
        &own,
        &json!({
            "pid": client.pid(), "errno": "EADDRNOTAVAIL", "cause": "ports_exhausted",
            "src": CLIENT_V4, "dst": SERVER_V4, "dport": 7000,
        }),
    );
    let said = "--no-syscalls leaves system calls alone";
    let is_said = trace.said.contains(said);
    if backend["connect"] == "trampoline" {
        assert_eq!(sum(&others), 40, "{failures:#?}");
        assert!(!is_said, "{:?}", trace.said);
    } else {
        assert_eq!(others, Vec::<&Value>::new());
        assert_each(&own, &json!({ "inferred": true }));
        assert_eq!(
            (&backend["connect"], &backend["bind"]),
            (&json!("inferred"), &json!("none"))
        );
        assert!(is_said, "{:?}", trace.said);
    }
    Ok(())
}

fn thread_is_named() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let work = Connect::new(SocketAddr::new(SERVER_V4.into(), 81), 30).threads(2, "worker");
    let (trace, pid, report) = traced(&world, &Work::Connect(work))?;
    assert_eq!(report.failed["ECONNREFUSED"], 60);
    let failures = trace.of("connect_failed", world.pair.inode(Side::Client));
    assert_eq!(sum(&failures), 60);
    assert_each(
        &failures,
        &json!({ "pid": pid, "comm": "culprit", "thread": "worker" }),
    );
    for line in failures {
        let tid = line["tid"].as_u64().unwrap();
        assert!(
            report.tids.iter().any(|&own| u64::from(own) == tid),
            "{line}"
        );
    }
    Ok(())
}
