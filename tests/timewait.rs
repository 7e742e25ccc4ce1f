/*! TIME_WAIT: as many lines as the kernel has sockets, each with the process that opened it. */

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Value, json};
use tracer::sandbox::workload::{Connect, Manner, Then, Work};
use tracer::sandbox::{CLIENT_V4, CLIENT_V6, SERVER_V4, SERVER_V6, Settings, Side};
use tracer_ebpf::tcp_state;

use crate::Scenario;
use crate::trace::{Trace, Tracer, assert_each};
use crate::world::{SOON, Skip, World, connect, own_program, server_mapped, server_v4, server_v6};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("two_thousand_closes_are_two_thousand_lines", two_thousand),
    ("ipv6", ipv6),
    ("v4_mapped", v4_mapped),
    ("nonblocking", nonblocking),
    (
        "five_thousand_of_twenty_processes_have_their_owners",
        twenty_processes,
    ),
    ("twenty_thousand_are_all_accounted", twenty_thousand),
    ("no_more_than_the_kernel_may_have", no_room),
    ("passive_close_leaves_none_on_our_side", passive_close),
    ("reset_by_the_peer_leaves_none", reset_by_the_peer),
    ("reset_out_of_fin_wait2_leaves_none", reset_out_of_fin_wait2),
    ("close_with_unread_data_leaves_none", close_with_unread_data),
    ("owner_dead_before_it_begins", owner_dead_before),
    ("softirq_of_the_peer_is_not_the_owner", softirq_of_the_peer),
    (
        "forked_child_closes_but_its_parent_owns",
        forked_child_closes,
    ),
    ("fin_wait2_of_a_silent_peer_is_one_line", fin_wait2),
    ("thread_is_named_beside_its_process", thread_is_named),
];

/// The line of each source port; a port must not appear twice.
fn by_port<'a>(lines: &[&'a Value]) -> BTreeMap<u16, &'a Value> {
    let mut ports = BTreeMap::new();
    for &line in lines {
        let port = u16::try_from(line["sport"].as_u64().expect("sport is a number")).unwrap();
        if let Some(other) = ports.insert(port, line) {
            panic!("two lines for port {port}: {other} and {line}");
        }
    }
    ports
}

/// Source ports of the kernel's TIME_WAITs on the client's side.
fn kernel_ports(world: &World) -> BTreeSet<u16> {
    let sockets = world.sockets(Side::Client);
    let waiting = sockets
        .iter()
        .filter(|socket| socket.state == tcp_state::TIME_WAIT);
    waiting.map(|socket| socket.local.port()).collect()
}

/// `count` connections from one process, each closed by it first: as many
/// lines, one for each of the kernel's sockets, with all that is known.
fn closes(work: Connect, src: Value, dst: Value) -> Result<(), Skip> {
    let world = World::new(&Settings::default())?;
    if work.to.is_ipv6() && !world.pair.has_v6() {
        return Err(Skip("this kernel does no IPv6".to_owned()));
    }
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&[])?;
    let count = usize::try_from(work.attempts).unwrap();
    let mut client = world.client("churner", &Work::Connect(work.list_ports()));
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    assert_eq!((report.connected, report.failures()), (count as u64, 0));
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, count);
    let kernel = kernel_ports(&world);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(lines.len(), count);
    let fields = json!({
        "pid": client.pid(), "tid": client.pid(), "uid": 0,
        "comm": "churner", "thread": "churner", "exe": own_program(),
        "src": src, "dst": dst, "dport": 7000, "direction": "out",
    });
    assert_each(&lines, &fields);
    let lines = by_port(&lines);
    assert_eq!(lines.keys().copied().collect::<BTreeSet<_>>(), kernel);
    assert_eq!(report.ports.into_iter().collect::<BTreeSet<_>>(), kernel);
    for line in lines.values() {
        assert!(
            line["duration_ns"]
                .as_u64()
                .is_some_and(|duration| duration > 0),
            "{line}"
        );
    }
    Ok(())
}

/// 300 connections where 100 TIME_WAITs may be: the kernel ends the others without one, and so it
/// is told.
fn no_room() -> Result<(), Skip> {
    const ALL: u64 = 300;
    let settings = Settings::default().client_sysctl("net/ipv4/tcp_max_tw_buckets", "100");
    let world = World::new(&settings)?;
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&[])?;
    let work = Work::Connect(Connect::new(server_v4(), ALL));
    let mut client = world.client("churner", &work);
    client.go().unwrap();
    assert_eq!(client.report(SOON).unwrap().connected, ALL);
    for side in [Side::Client, Side::Server] {
        world.wait_until_over(side);
    }
    let kernel = kernel_ports(&world);
    assert!((1..=100).contains(&kernel.len()), "{}", kernel.len());
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    if trace.summary()["backend"]["time_wait"] == "inferred" {
        // State changes alone do not tell the difference.
        assert_eq!(lines.len() as u64, ALL);
        assert_each(&lines, &json!({ "pid": client.pid(), "inferred": true }));
        return Ok(());
    }
    assert_each(&lines, &json!({ "pid": client.pid(), "comm": "churner" }));
    assert_eq!(lines.len(), kernel.len());
    assert_eq!(by_port(&lines).into_keys().collect::<BTreeSet<_>>(), kernel);
    Ok(())
}

fn two_thousand() -> Result<(), Skip> {
    closes(
        Connect::new(server_v4(), 2000),
        json!(CLIENT_V4),
        json!(SERVER_V4),
    )
}

fn ipv6() -> Result<(), Skip> {
    closes(
        Connect::new(server_v6(), 300),
        json!(CLIENT_V6),
        json!(SERVER_V6),
    )
}

fn v4_mapped() -> Result<(), Skip> {
    closes(
        Connect::new(server_mapped(), 300),
        json!(CLIENT_V4),
        json!(SERVER_V4),
    )
}

fn nonblocking() -> Result<(), Skip> {
    closes(
        Connect::new(server_v4(), 300).nonblocking(),
        json!(CLIENT_V4),
        json!(SERVER_V4),
    )
}

fn twenty_processes() -> Result<(), Skip> {
    const PROCESSES: usize = 20;
    const EACH: u64 = 250;
    const ALL: usize = 5000;
    let world = World::new(&Settings::default())?;
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&[])?;
    let work = Work::Connect(Connect::new(server_v4(), EACH).list_ports());
    let mut clients: Vec<_> = (0..PROCESSES)
        .map(|number| world.client(&format!("client-{number}"), &work))
        .collect();
    for client in &mut clients {
        client.go().unwrap();
    }
    let mut owners = BTreeMap::new();
    for client in &mut clients {
        let report = client.report(SOON).unwrap();
        assert_eq!((report.connected, report.failures()), (EACH, 0));
        for port in report.ports {
            assert_eq!(
                owners.insert(port, (client.pid(), client.name().to_owned())),
                None,
                "port {port} again after {} others",
                owners.len()
            );
        }
    }
    assert_eq!(owners.len(), ALL);
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, ALL);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(lines.len(), ALL);
    for (port, line) in by_port(&lines) {
        let (pid, name) = &owners[&port];
        assert_each(
            &[line],
            &json!({ "pid": pid, "comm": name, "exe": own_program() }),
        );
    }
    Ok(())
}

fn twenty_thousand() -> Result<(), Skip> {
    const ALL: usize = 20_000;
    let world = World::new(&Settings {
        ports: 10_000..=59_999,
        ..Settings::default()
    })?;
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&[])?;
    let work = Connect::new(server_v4(), 5000).threads(4, "worker");
    let mut client = world.client("storm", &Work::Connect(work));
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    assert_eq!((report.connected, report.failures()), (ALL as u64, 0));
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, ALL);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(lines.len(), ALL);
    assert_each(
        &lines,
        &json!({ "pid": client.pid(), "comm": "storm", "thread": "worker" }),
    );
    Ok(())
}

/// A finished run of 20 connections from a client that lives on.
fn run(manner: Manner, then: Then) -> Result<(World, Trace, u32, u32), Skip> {
    let world = World::with_ports(100)?;
    let mut server = world.server(manner);
    let tracer = Tracer::watch(&[])?;
    let mut client = world.client("client", &connect(server_v4(), 20, then));
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    assert_eq!((report.connected, report.failures()), (20, 0));
    client.release();
    client.wait(SOON).unwrap();
    server.release();
    server.wait(SOON).unwrap();
    for side in [Side::Client, Side::Server] {
        world.wait_until_over(side);
    }
    let trace = tracer.stop();
    trace.assert_whole();
    let pids = (client.pid(), server.pid());
    Ok((world, trace, pids.0, pids.1))
}

fn assert_none(world: &World, trace: &Trace, side: Side) {
    assert_eq!(
        trace.of("time_wait", world.pair.inode(side)),
        Vec::<&Value>::new(),
        "{side:?}"
    );
}

fn passive_close() -> Result<(), Skip> {
    let (world, trace, _, server) = run(Manner::CloseFirst, Then::AwaitPeer)?;
    assert_none(&world, &trace, Side::Client);
    let lines = trace.of("time_wait", world.pair.inode(Side::Server));
    assert_eq!(lines.len(), 20);
    let fields = json!({
        "pid": server, "comm": "server", "direction": "in",
        "src": SERVER_V4, "sport": 7000, "dst": CLIENT_V4,
    });
    assert_each(&lines, &fields);
    Ok(())
}

fn reset_by_the_peer() -> Result<(), Skip> {
    let (world, trace, ..) = run(Manner::Reset, Then::AwaitReset)?;
    assert_none(&world, &trace, Side::Client);
    assert_none(&world, &trace, Side::Server);
    Ok(())
}

fn reset_out_of_fin_wait2() -> Result<(), Skip> {
    let (world, trace, ..) = run(Manner::ResetAtEof, Then::HalfCloseReset)?;
    assert_none(&world, &trace, Side::Client);
    assert_none(&world, &trace, Side::Server);
    Ok(())
}

fn close_with_unread_data() -> Result<(), Skip> {
    let (world, trace, ..) = run(Manner::TalkAtEof, Then::HalfCloseUnread)?;
    assert_none(&world, &trace, Side::Client);
    assert_none(&world, &trace, Side::Server);
    Ok(())
}

/// Connections whose FIN the server answers only when told: FIN_WAIT2 stays a
/// full socket (its timeout is longer than a TIME_WAIT), so TIME_WAIT begins in
/// a softirq of the server's close.
fn slow_world() -> Result<World, Skip> {
    World::new(&Settings::with_ports(100).client_sysctl("net/ipv4/tcp_fin_timeout", "120"))
}

fn owner_dead_before() -> Result<(), Skip> {
    let world = slow_world()?;
    let mut server = world.server(Manner::Keep);
    let tracer = Tracer::watch(&[])?;
    let mut client = world.client("gone", &connect(server_v4(), 30, Then::Exit));
    let pid = client.pid();
    let report = client.finish(SOON).unwrap();
    assert_eq!(report.connected, 30);
    world.wait_for(Side::Client, tcp_state::FIN_WAIT2, 30);
    assert_eq!(world.states(Side::Client).get(&tcp_state::TIME_WAIT), None);
    server.release();
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 30);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(by_port(&lines).len(), 30);
    // The executable of a process that is gone may not have been read in time.
    let fields = json!({ "pid": pid, "tid": pid, "comm": "gone", "uid": 0, "direction": "out" });
    assert_each(&lines, &fields);
    for line in lines {
        assert!(
            line["exe"].is_null() || line["exe"] == json!(own_program()),
            "{line}"
        );
    }
    Ok(())
}

fn softirq_of_the_peer() -> Result<(), Skip> {
    let world = slow_world()?;
    let mut server = world.server(Manner::Keep);
    let tracer = Tracer::watch(&[])?;
    let mut client = world.client("owner", &connect(server_v4(), 30, Then::Close));
    client.go().unwrap();
    client.report(SOON).unwrap();
    world.wait_for(Side::Client, tcp_state::FIN_WAIT2, 30);
    server.release();
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 30);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(by_port(&lines).len(), 30);
    let fields = json!({ "pid": client.pid(), "comm": "owner", "exe": own_program() });
    assert_each(&lines, &fields);
    Ok(())
}

fn forked_child_closes() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&[])?;
    let mut client = world.client("parent", &connect(server_v4(), 20, Then::ForkClose));
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    assert_eq!((report.connected, report.children.len()), (20, 20));
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 20);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(by_port(&lines).len(), 20);
    let fields = json!({ "pid": client.pid(), "comm": "parent", "direction": "out" });
    assert_each(&lines, &fields);
    Ok(())
}

fn fin_wait2() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let mut server = world.server(Manner::Keep);
    let tracer = Tracer::watch(&[])?;
    let mut client = world.client("client", &connect(server_v4(), 20, Then::Close));
    client.go().unwrap();
    client.report(SOON).unwrap();
    world.wait_for(Side::Client, tcp_state::FIN_WAIT2, 20);
    server.release();
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 20);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(by_port(&lines).len(), 20);
    assert_each(
        &lines,
        &json!({ "pid": client.pid(), "comm": "client", "direction": "out" }),
    );
    Ok(())
}

fn thread_is_named() -> Result<(), Skip> {
    let world = World::new(&Settings::default())?;
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&[])?;
    let to: SocketAddr = server_v4();
    let work = Connect::new(to, 50).threads(2, "worker");
    let mut client = world.client("pool", &Work::Connect(work));
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 100);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(by_port(&lines).len(), 100);
    assert_each(
        &lines,
        &json!({ "pid": client.pid(), "comm": "pool", "thread": "worker" }),
    );
    for tid in report.tids {
        let own = lines.iter().filter(|line| line["tid"] == tid);
        assert_eq!(own.count(), 50, "lines of thread {tid}");
    }
    Ok(())
}
