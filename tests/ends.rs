/*!
How TIME_WAITs end: as many as began, each with the owner of its begin and the
reason the kernel had.

A backend of tracepoints sees those that expire and no other; it must not
claim to. Whatever it sees, the pools agree with `ss` in the end.
*/

mod checks;
mod segment;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracer::host::sock_diag::TcpSocket;
use tracer::host::sysctl;
use tracer::sandbox::workload::{Manner, Serve, Then, Work};
use tracer::sandbox::{CLIENT_V4, Process, SERVER_V4, Settings, Side};
use tracer_ebpf::tcp_state;

use checks::{assert_ends, assert_no_drift, assert_pools, connection, sight};

use crate::Scenario;
use crate::trace::{Tracer, assert_each};
use crate::world::{
    SOON, Skip, World, connect, find, look_away, own_program, server_v4, server_v6,
};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("expired", expired),
    ("reused", || reused(&[])),
    ("reused_with_opens_and_closes", || reused(&["--all"])),
    ("begun_before_tracing_have_no_owner", begun_before_tracing),
    ("killed_by_a_reset", killed_by_a_reset),
    (
        "killed_by_a_reset_in_fin_wait2",
        killed_by_a_reset_in_fin_wait2,
    ),
    ("killed_by_a_new_syn", killed_by_a_new_syn),
    ("killed_by_sock_destroy", killed_by_sock_destroy),
    ("removed_with_their_namespace", removed_with_their_namespace),
];

/// Connections in each family of addresses.
const EACH: usize = 20;

/// How long a TIME_WAIT may last: a minute, and what the timer wheel adds.
const MINUTE: Duration = Duration::from_secs(90);

/// Both families, where the kernel does IPv6.
fn destinations(world: &World) -> Vec<SocketAddr> {
    let mut list = vec![server_v4()];
    list.extend(world.pair.has_v6().then(server_v6));
    list
}

/// `EACH` connections to each destination, closed at once by processes that live on: the tracer
/// cannot read a namespace that no process is in.
fn connections(world: &World, to: &[SocketAddr]) -> Vec<Process> {
    clients(world, "client", to, Then::Close)
}

/// The same, kept open.
fn kept_open(world: &World, to: &[SocketAddr]) -> Vec<Process> {
    clients(world, "keeper", to, Then::Keep)
}

fn clients(world: &World, name: &str, to: &[SocketAddr], then: Then) -> Vec<Process> {
    let start = |&to| {
        let mut client = world.client(name, &connect(to, EACH as u64, then));
        client.go().unwrap();
        let report = client.report(SOON).unwrap();
        assert_eq!((report.connected, report.failures()), (EACH as u64, 0));
        client
    };
    to.iter().map(start).collect()
}

/// How many TIME_WAITs the kernel says connect() took over on the client's side.
fn recycled(world: &World) -> usize {
    let text = || fs::read_to_string("/proc/thread-self/net/netstat");
    let text = world.pair.run_in(Side::Client, text).unwrap().unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split(' ').position(|name| name == "TWRecycled");
    values
        .split(' ')
        .nth(place.unwrap())
        .unwrap()
        .parse()
        .unwrap()
}

/// Waits until every TIME_WAIT of the client is so old that connect() may take it over: more than
/// a second, of whole ones before Linux 6.18.
fn wait_until_old(world: &World, count: usize) {
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, count);
    let deadline = Instant::now() + SOON;
    let is_young = |left_ms: Option<u32>| left_ms.is_some_and(|left_ms| left_ms > 58_000);
    while world
        .sockets(Side::Client)
        .iter()
        .any(|socket| is_young(socket.left_ms))
    {
        assert!(Instant::now() < deadline, "a TIME_WAIT stays young");
        look_away();
    }
}

/// A client with as many ports as connections.
fn narrow() -> Result<World, Skip> {
    World::with_ports(u16::try_from(EACH).unwrap())
}

/// Lets connect() take over TIME_WAITs. Not before all ports are in one: it would rather have one
/// that is old enough than a free port.
fn allow_reuse(world: &World) {
    let write = || sysctl::write("net/ipv4/tcp_tw_reuse", "1");
    world.pair.run_in(Side::Client, write).unwrap().unwrap();
}

/// Every port is in TIME_WAIT, and connect() takes each over; twice.
fn reused(arguments: &[&str]) -> Result<(), Skip> {
    let world = narrow()?;
    let to = destinations(&world);
    let all = EACH * to.len();
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(arguments)?;
    let first = connections(&world, &to);
    wait_until_old(&world, all);
    drop(first);
    assert_eq!(recycled(&world), 0);
    allow_reuse(&world);
    drop(clients(&world, "client", &to, Then::Keep));
    assert_eq!(recycled(&world), all);
    wait_until_old(&world, all);
    let _clients = kept_open(&world, &to);
    assert_eq!(recycled(&world), 2 * all);
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 0);
    let trace = tracer.stop();
    trace.assert_whole();
    let netns = world.pair.inode(Side::Client);
    assert_eq!(trace.of("time_wait", netns).len(), 2 * all);
    let ends = assert_ends(&trace, netns, &[("reused", 2 * all)]);
    let fields = json!({ "comm": "client", "direction": "out", "state": "TIME_WAIT" });
    assert_each(&ends, &fields);
    assert_pools(&world, &trace)
}

fn begun_before_tracing() -> Result<(), Skip> {
    let world = narrow()?;
    let to = destinations(&world);
    let all = EACH * to.len();
    let _server = world.server(Manner::Echo);
    let _clients = connections(&world, &to);
    wait_until_old(&world, all);
    allow_reuse(&world);
    let tracer = Tracer::watch(&[])?;
    let _keepers = kept_open(&world, &to);
    let trace = tracer.stop();
    trace.assert_whole();
    let netns = world.pair.inode(Side::Client);
    assert_eq!(trace.of("time_wait", netns), Vec::<&Value>::new());
    let ends = trace.of("time_wait_end", netns);
    let seen = sight(&trace) == "trampoline";
    assert_eq!(ends.len(), if seen { all } else { 0 });
    let nobody = json!({ "reason": "reused", "pid": null, "comm": null, "direction": null });
    assert_each(&ends, &nobody);
    assert_pools(&world, &trace)
}

/// A minute, for IPv4 and IPv6; less for those whose peer sends no FIN.
fn expired() -> Result<(), Skip> {
    let settings = Settings::default().client_sysctl("net/ipv4/tcp_fin_timeout", "10");
    let world = World::new(&settings)?;
    let to = destinations(&world);
    let silent: Vec<_> = to.iter().map(|to| SocketAddr::new(to.ip(), 7001)).collect();
    let _server = world.server(Manner::Echo);
    let serve = Work::Serve(Serve {
        at: silent.clone(),
        manner: Manner::Keep,
    });
    let _silent = world
        .pair
        .spawn(Side::Server, &own_program(), "silent", &serve)
        .unwrap();
    let mut tracer = Tracer::watch(&[])?;
    let _clients = connections(&world, &to);
    let _others = connections(&world, &silent);
    world.wait_for(Side::Server, tcp_state::CLOSE_WAIT, EACH * silent.len());
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, EACH * to.len());
    // The ACK of a FIN may come later than the FIN's effect.
    world.wait_for(Side::Client, tcp_state::FIN_WAIT1, 0);
    let all = EACH * to.len() + minis(&world);
    if tracer.sees("time_wait_end").is_none() {
        return Err(Skip("this kernel shows no end of a TIME_WAIT".to_owned()));
    }
    let netns = world.pair.inode(Side::Client);
    tracer.until_within(MINUTE, "every TIME_WAIT ends", |lines| {
        count(lines, netns) == all
    });
    let trace = tracer.stop();
    trace.assert_whole();
    assert_eq!(trace.of("time_wait", netns).len(), all);
    let ends = assert_ends(&trace, netns, &[("expired", all)]);
    assert_each(&ends, &json!({ "comm": "client", "direction": "out" }));
    for end in ends {
        let (state, at_least) = match end["dport"].as_u64() {
            Some(7001) => ("FIN_WAIT2", 10),
            _ => ("TIME_WAIT", 60),
        };
        assert_eq!(end["state"], state, "{end}");
        let begin = trace.of("time_wait", netns);
        let begin = begin
            .iter()
            .find(|begin| connection(begin) == connection(end));
        let lasted = time(end) - time(begin.expect("it was found before"));
        // It begins in a softirq whose timer may be behind by a tick.
        assert!(lasted > f64::from(at_least) - 0.1, "{lasted} s: {end}");
    }
    assert_eq!(world.states(Side::Client), BTreeMap::new());
    assert_no_drift(&world, &trace);
    assert_pools(&world, &trace)
}

fn time(line: &Value) -> f64 {
    let time: jiff::Timestamp = line["ts"].as_str().unwrap().parse().unwrap();
    time.as_nanosecond() as f64 / 1e9
}

/// The client's TIME_WAITs of `EACH` connections to each destination, all of which `kill` ends.
fn killed(
    settings: &Settings,
    destinations: fn(&World) -> Vec<SocketAddr>,
    kill: impl FnOnce(&World) -> Result<(), Skip>,
) -> Result<(), Skip> {
    let world = World::new(settings)?;
    let to = destinations(&world);
    let all = EACH * to.len();
    let mut server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&[])?;
    let _clients = connections(&world, &to);
    // Then nothing is under way any more, and nobody answers at the server's addresses.
    world.wait_until_over(Side::Server);
    server.release();
    server.wait(SOON).unwrap();
    kill(&world)?;
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 0);
    let trace = tracer.stop();
    trace.assert_whole();
    let netns = world.pair.inode(Side::Client);
    assert_eq!(trace.of("time_wait", netns).len(), all);
    let ends = assert_ends(&trace, netns, &[("killed", all)]);
    let fields = json!({ "comm": "client", "exe": own_program(), "state": "TIME_WAIT" });
    assert_each(&ends, &fields);
    assert_no_drift(&world, &trace);
    assert_pools(&world, &trace)
}

/// How many of the client's sockets in FIN_WAIT2 are of the kind that TIME_WAITs are. One whose
/// close() was not over yet when the peer's ACK came stays a full socket.
fn minis(world: &World) -> usize {
    let mut sockets = world.sockets(Side::Client);
    sockets.retain(|socket| socket.state == tcp_state::FIN_WAIT2 && socket.left_ms.is_some());
    assert!(!sockets.is_empty(), "full sockets only");
    sockets.len()
}

/// The client's sockets in TIME_WAIT.
fn waiting(world: &World) -> Vec<TcpSocket> {
    let mut sockets = world.sockets(Side::Client);
    sockets.retain(|socket| socket.state == tcp_state::TIME_WAIT);
    sockets
}

/// A stray segment makes each TIME_WAIT send an ACK, which the peer answers with a RST that fits.
fn killed_by_a_reset() -> Result<(), Skip> {
    let settings = Settings::default()
        .client_sysctl("net/ipv4/tcp_rfc1337", "0")
        // Else it answers once in half a second.
        .client_sysctl("net/ipv4/tcp_invalid_ratelimit", "0");
    killed(
        &settings,
        |_| vec![server_v4()],
        |world| {
            let deadline = Instant::now() + SOON;
            loop {
                let waiting = waiting(world);
                if waiting.is_empty() {
                    return Ok(());
                }
                assert!(Instant::now() < deadline, "a RST left {waiting:?}");
                let send = || {
                    for socket in waiting {
                        let from = SocketAddrV4::new(SERVER_V4, socket.remote.port());
                        let to = SocketAddrV4::new(CLIENT_V4, socket.local.port());
                        segment::send_stray_ack(from, to);
                    }
                };
                world.pair.run_in(Side::Server, send).unwrap();
            }
        },
    )
}

/// The peer resets a connection whose FIN it had acknowledged: TIME_WAIT in name only.
fn killed_by_a_reset_in_fin_wait2() -> Result<(), Skip> {
    let world = World::new(&Settings::default())?;
    let to = destinations(&world);
    let all = EACH * to.len();
    let mut server = world.server(Manner::KeepThenReset);
    let tracer = Tracer::watch(&[])?;
    let _clients = connections(&world, &to);
    world.wait_for(Side::Client, tcp_state::FIN_WAIT2, all);
    world.wait_for(Side::Server, tcp_state::CLOSE_WAIT, all);
    let all = minis(&world);
    server.release();
    server.wait(SOON).unwrap();
    world.wait_for(Side::Client, tcp_state::FIN_WAIT2, 0);
    let trace = tracer.stop();
    trace.assert_whole();
    let netns = world.pair.inode(Side::Client);
    assert_eq!(trace.of("time_wait", netns).len(), all);
    let ends = assert_ends(&trace, netns, &[("killed", all)]);
    assert_each(&ends, &json!({ "comm": "client", "state": "FIN_WAIT2" }));
    assert_pools(&world, &trace)
}

/// The server closes first, and the client comes again from the same port: it has only one.
fn killed_by_a_new_syn() -> Result<(), Skip> {
    let world = World::with_ports(1)?;
    let to = destinations(&world);
    let server = world.server(Manner::CloseFirst);
    let tracer = Tracer::watch(&[])?;
    for &to in &to {
        world.pair.run_in(Side::Client, || visit(to)).unwrap();
    }
    world.wait_for(Side::Server, tcp_state::TIME_WAIT, to.len());
    let trace = tracer.stop();
    trace.assert_whole();
    let netns = world.pair.inode(Side::Server);
    let all = EACH * to.len();
    assert_eq!(trace.of("time_wait", netns).len(), all);
    // The last of each family is there still.
    let ends = assert_ends(&trace, netns, &[("killed", all - to.len())]);
    let fields = json!({ "pid": server.pid(), "comm": "server", "direction": "in", "sport": 7000 });
    assert_each(&ends, &fields);
    Ok(())
}

/// Connects `EACH` times to a server that closes, each time as soon as the port is free.
fn visit(to: SocketAddr) {
    let deadline = Instant::now() + SOON;
    let mut visits = 0;
    while visits < EACH {
        match TcpStream::connect(to) {
            Ok(mut stream) => {
                assert_eq!(
                    stream.read(&mut [0]).unwrap(),
                    0,
                    "the server said something"
                );
                visits += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");
                assert!(Instant::now() < deadline, "the port does not get free");
                look_away();
            }
        }
    }
}

fn killed_by_sock_destroy() -> Result<(), Skip> {
    let ss = find("ss", "iproute2")?;
    killed(&Settings::default(), destinations, |world| {
        let before = waiting(world).len();
        let mut command = Command::new(&ss);
        command.args(["-K", "-tan", "state", "time-wait"]);
        let run = || command.output().unwrap();
        let output = world.pair.run_in(Side::Client, run).unwrap();
        if waiting(world).len() < before {
            return Ok(());
        }
        eprintln!("ss said {}", String::from_utf8_lossy(&output.stderr));
        Err(Skip(
            "this kernel does not let ss -K end a TIME_WAIT".to_owned(),
        ))
    })
}

/// Nobody is left in a namespace but TIME_WAITs.
fn removed_with_their_namespace() -> Result<(), Skip> {
    let world = World::new(&Settings::default())?;
    let to = destinations(&world);
    let all = EACH * to.len();
    let server = world.server(Manner::Echo);
    let mut tracer = Tracer::watch(&[])?;
    let clients = connections(&world, &to);
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, all);
    let netns = world.pair.inode(Side::Client);
    drop((clients, server));
    drop(world);
    if tracer.sees("time_wait_end") == Some("trampolines") {
        tracer.until("every TIME_WAIT ends", |lines| count(lines, netns) == all);
    }
    let trace = tracer.stop();
    trace.assert_whole();
    assert_eq!(trace.of("time_wait", netns).len(), all);
    let ends = assert_ends(&trace, netns, &[("netns_removed", all)]);
    assert_each(&ends, &json!({ "comm": "client", "direction": "out" }));
    Ok(())
}

/// Lines on ends in a namespace.
fn count(lines: &[Value], netns: u32) -> usize {
    let ends = lines
        .iter()
        .filter(|line| line["type"] == "time_wait_end" && line["netns"] == netns);
    ends.count()
}
