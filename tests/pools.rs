/*! The books: pools equal the kernel's own list, and a forecast comes true. */

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tracer::sandbox::workload::{Connect, Manner, Serve, Then, Work};
use tracer::sandbox::{CLIENT_V4, Process, SERVER_V4, SERVER_V6, SILENT_V4, Settings, Side};
use tracer_ebpf::tcp_state;

use crate::Scenario;
use crate::findings::{assert_verdict, last_verdict, number, pool, pools, verdicts};
use crate::trace::{Trace, Tracer, program};
use crate::world::{SOON, Skip, World, find, own_program, server_v4};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("pools_equal_ss_to_the_socket", equal_ss),
    ("ten_a_second_are_sustainable", sustainable),
    ("churn_runs_dry_when_foretold", churn_runs_dry),
    ("leak_runs_dry_when_foretold", leak_runs_dry),
];

/// Ports held, by state, in each pool: source, destination, its port.
pub(crate) type Pools = BTreeMap<(IpAddr, IpAddr, u16), BTreeMap<String, u64>>;

/// What `ss` lists of the client's side, less what was accepted there: that holds no port.
pub(crate) fn ss(world: &World, program: &Path) -> Pools {
    let list = || Command::new(program).args(["-Htan"]).output();
    let output = world.pair.run_in(Side::Client, list).unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<[&str; 5]> = text
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().take(5).collect();
            words.try_into().unwrap()
        })
        .collect();
    let listening = rows.iter().filter(|[state, ..]| *state == "LISTEN");
    let listening: BTreeSet<_> = listening
        .map(|[.., local, _]| address(local).port())
        .collect();
    let mut pools = Pools::new();
    for [state, _, _, local, remote] in rows {
        if state == "LISTEN" || listening.contains(&address(local).port()) {
            continue;
        }
        let (local, remote) = (address(local), address(remote));
        let pool = pools
            .entry((local.ip(), remote.ip(), remote.port()))
            .or_default();
        *pool.entry(state_name(state)).or_default() += 1;
    }
    pools
}

/// The address of a socket as `ss` writes it; IPv4 where it is v4-mapped.
fn address(text: &str) -> SocketAddr {
    let (ip, port) = text.rsplit_once(':').unwrap();
    let ip = ip.trim_matches(['[', ']']);
    let ip: IpAddr = ip.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
    SocketAddr::new(ip.to_canonical(), port.parse().unwrap())
}

/// `ESTAB` and `FIN-WAIT-2` are `ESTABLISHED` and `FIN_WAIT2` to the rest of the world.
fn state_name(ss: &str) -> String {
    match ss {
        "ESTAB" => "ESTABLISHED".to_owned(),
        "FIN-WAIT-1" => "FIN_WAIT1".to_owned(),
        "FIN-WAIT-2" => "FIN_WAIT2".to_owned(),
        other => other.replace('-', "_"),
    }
}

/// The pools of a namespace as they were last told, without the empty ones.
pub(crate) fn told(lines: &[Value], netns: u32) -> Pools {
    let pools = pools(lines, netns).into_iter();
    let held = pools.filter(|pool| pool["used"] != 0);
    held.map(|pool| {
        let ip = |field: &str| pool[field].as_str().unwrap().parse().unwrap();
        let dport = u16::try_from(pool["dport"].as_u64().unwrap()).unwrap();
        let states = serde_json::from_value(pool["by_state"].clone()).unwrap();
        ((ip("src"), ip("dst"), dport), states)
    })
    .collect()
}

/// What `tracer snapshot` prints of a namespace.
fn snapshot(netns: u32) -> Vec<Value> {
    let mut command = Command::new(program());
    command
        .args(["snapshot", "-o", "json", "--netns", &netns.to_string()])
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// One of the ten destinations, what its clients do, and how often: the one that begins before
/// the tracer does, and the one that begins after.
struct Destination {
    to: SocketAddr,
    before: (Then, u64),
    after: (Then, u64),
}

impl Destination {
    fn new(ip: impl Into<IpAddr>, port: u16, before: (Then, u64), after: (Then, u64)) -> Self {
        let to = SocketAddr::new(ip.into(), port);
        Self { to, before, after }
    }

    fn client(&self, world: &World, (then, attempts): (Then, u64), number: usize) -> Process {
        let work = Work::Connect(Connect::new(self.to, attempts).then(then));
        let mut client = world.client(&format!("client-{number}"), &work);
        client.go().unwrap();
        // One that gets no answer has nothing to report: it stays in SYN_SENT.
        if self.to.ip() != IpAddr::V4(SILENT_V4) {
            let report = client.report(SOON).unwrap();
            assert_eq!((report.connected, report.failures()), (attempts, 0));
        }
        client
    }
}

/// Every state a connection stays in, both families, and IPv4 by way of IPv6.
fn destinations() -> [Destination; 10] {
    let mapped = SERVER_V4.to_ipv6_mapped();
    [
        Destination::new(SERVER_V4, 7000, (Then::Keep, 40), (Then::Close, 60)),
        Destination::new(SERVER_V4, 7001, (Then::Close, 30), (Then::PingAndKeep, 25)),
        Destination::new(
            SERVER_V4,
            7002,
            (Then::PingAndKeep, 10),
            (Then::PingAndKeep, 12),
        ),
        Destination::new(mapped, 7003, (Then::PingAndKeep, 14), (Then::Close, 16)),
        Destination::new(SERVER_V6, 7000, (Then::PingAndKeep, 11), (Then::Close, 21)),
        Destination::new(SERVER_V6, 7001, (Then::Close, 9), (Then::Close, 19)),
        Destination::new(SERVER_V4, 7010, (Then::Keep, 13), (Then::Keep, 17)),
        Destination::new(SERVER_V6, 7010, (Then::Keep, 7), (Then::AwaitPeer, 5)),
        Destination::new(SERVER_V4, 7020, (Then::Close, 8), (Then::Close, 18)),
        Destination::new(SILENT_V4, 7000, (Then::Keep, 1), (Then::Keep, 1)),
    ]
}

/// Servers for them: of good manners from 7000, closing first at 7010, never closing at 7020.
fn servers(world: &World) -> [Process; 3] {
    let serve = |name: &str, ports: &[u16], manner: Manner| {
        let ips = [IpAddr::V4(SERVER_V4), IpAddr::V6(SERVER_V6)];
        let at = ips
            .into_iter()
            .flat_map(|ip| ports.iter().map(move |&port| SocketAddr::new(ip, port)));
        serve(world, Side::Server, name, at.collect(), manner)
    };
    [
        serve("echo", &[7000, 7001, 7002, 7003], Manner::Echo),
        serve("hasty", &[7010], Manner::CloseFirst),
        serve("lazy", &[7020], Manner::Keep),
    ]
}

fn serve(world: &World, side: Side, name: &str, at: Vec<SocketAddr>, manner: Manner) -> Process {
    let work = Work::Serve(Serve { at, manner });
    world.pair.spawn(side, &own_program(), name, &work).unwrap()
}

/// Connections accepted on the client's side, open and in TIME_WAIT: none holds a port.
fn inbound(world: &World) -> [Process; 4] {
    let at = |port| SocketAddr::new(CLIENT_V4.into(), port);
    let visit = |to, then| {
        let work = Work::Connect(Connect::new(to, 15).then(then));
        let mut visitor = world
            .pair
            .spawn(Side::Server, &own_program(), "visitor", &work)
            .unwrap();
        visitor.go().unwrap();
        assert_eq!(visitor.report(SOON).unwrap().connected, 15);
        visitor
    };
    [
        serve(world, Side::Client, "open", vec![at(7100)], Manner::Echo),
        serve(
            world,
            Side::Client,
            "closing",
            vec![at(7101)],
            Manner::CloseFirst,
        ),
        visit(at(7100), Then::PingAndKeep),
        visit(at(7101), Then::AwaitPeer),
    ]
}

/// Twenty processes, ten destinations: those that began before the tracer too.
fn equal_ss() -> Result<(), Skip> {
    let program = find("ss", "iproute2")?;
    // FIN_WAIT2 stays a full socket, and longer than the test takes.
    let settings = Settings::default().client_sysctl("net/ipv4/tcp_fin_timeout", "120");
    let world = World::new(&settings)?;
    if !world.pair.has_v6() {
        return Err(Skip("this kernel does no IPv6".to_owned()));
    }
    let _servers = servers(&world);
    let destinations = destinations();
    let numbered = || destinations.iter().enumerate();
    let mut before: Vec<_> = numbered()
        .map(|(number, destination)| destination.client(&world, destination.before, number))
        .collect();
    let tracer = Tracer::watch(&[])?;
    let _inbound = inbound(&world);
    let _after: Vec<_> = numbered()
        .map(|(number, destination)| destination.client(&world, destination.after, number + 10))
        .collect();
    // Connections that were open when the tracer began, closed before its eyes.
    before[0].release();
    world.wait_for(Side::Client, tcp_state::SYN_SENT, 2);
    world.wait_for(Side::Client, tcp_state::FIN_WAIT2, 8 + 18);
    world.wait_for(Side::Client, tcp_state::CLOSE_WAIT, 13 + 17 + 7);
    // The last 15 are inbound.
    world.wait_for(
        Side::Client,
        tcp_state::TIME_WAIT,
        40 + 60 + 30 + 16 + 21 + 9 + 19 + 15,
    );
    let kernel = ss(&world, &program);
    assert_eq!(kernel.len(), destinations.len(), "{kernel:?}");
    let netns = world.pair.inode(Side::Client);
    let trace = tracer.stop();
    trace.assert_whole();
    assert_eq!(told(&snapshot(netns), netns), kernel, "snapshot and ss");
    assert_eq!(ss(&world, &program), kernel, "ss and ss a moment later");
    assert_eq!(told(&trace.lines, netns), kernel, "watch and ss");
    for pool in pools(&trace.lines, netns) {
        assert_eq!(pool["drift"], 0, "{pool}");
        assert_eq!(pool["capacity"], 10_000, "{pool}");
    }
    Ok(())
}

/// A client at a steady rate in a namespace of a thousand ports, to the end of its attempts or
/// to the fifth failure.
fn steady(attempts: u64, per_second: f64, then: Then) -> Result<(World, Process, Trace), Skip> {
    let world = World::with_ports(1000)?;
    let _server = world.server(Manner::Echo);
    // Of this namespace alone: with those of other scenarios a list of sockets may cost so much that
    // the next one is ten seconds away.
    let netns = world.pair.inode(Side::Client).to_string();
    let tracer = Tracer::watch(&["--netns", &netns])?;
    let work = Connect::new(server_v4(), attempts);
    let work = work.then(then).paced(per_second).stop_after(5);
    let mut client = world.client("steady", &Work::Connect(work));
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    assert_eq!(report.connected, attempts.min(1000));
    let trace = tracer.stop();
    trace.assert_whole();
    Ok((world, client, trace))
}

/// 10/s leave 600 in TIME_WAIT, for ever.
fn sustainable() -> Result<(), Skip> {
    let (world, _client, trace) = steady(100, 10.0, Then::Close)?;
    let netns = world.pair.inode(Side::Client);
    for verdict in verdicts(&trace.lines, netns) {
        assert_eq!(verdict["urgency"], "watch", "{verdict}");
    }
    for line in trace.of("pool", netns) {
        assert_eq!(
            line["forecast_s"],
            Value::Null,
            "an end was forecast: {line}"
        );
    }
    let pool = pool(&trace.lines, netns, server_v4());
    assert_eq!(pool["used"], 100, "{pool}");
    let settles_at = number(pool, "settles_at");
    assert!((500.0..=700.0).contains(&settles_at), "{pool}");
    Ok(())
}

fn churn_runs_dry() -> Result<(), Skip> {
    runs_dry("churn", 80.0, Then::Close)
}

fn leak_runs_dry() -> Result<(), Skip> {
    runs_dry("leak", 60.0, Then::PingAndKeep)
}

/// What was forecast when a quarter was full is off by a fifth at most.
fn runs_dry(kind: &str, per_second: f64, then: Then) -> Result<(), Skip> {
    let (world, client, trace) = steady(2000, per_second, then)?;
    let netns = world.pair.inode(Side::Client);
    let verdict = last_verdict(&trace.lines, netns);
    assert_verdict(verdict, kind, &client, server_v4());
    let foretold = &verdict["foretold"];
    assert_ne!(foretold, &Value::Null, "{verdict}");
    let used = number(foretold, "used");
    assert!((250.0..=350.0).contains(&used), "{foretold}");
    let (made, dry) = (seconds(foretold, "made"), seconds(foretold, "dry"));
    let took = dry - made;
    let off = number(foretold, "forecast_s") - took;
    assert!(
        off.abs() <= took / 5.0,
        "off by {off:.1} s of {took:.1} s: {foretold}"
    );
    // It really took as long as the client's timetable says, and was dry when calls failed.
    let timetable = (1000.0 - used) / per_second;
    assert!(
        (took - timetable).abs() < 1.0,
        "{timetable:.1} s: {foretold}"
    );
    let failed = trace.of("connect_failed", netns);
    let first = seconds(failed.first().expect("no failure"), "ts");
    assert!((first - dry).abs() < 1.0, "{first}: {foretold}");
    assert_eq!(json!(1000), verdict["peak"], "{verdict}");
    Ok(())
}

/// A time of a line, in seconds since 1970.
fn seconds(line: &Value, field: &str) -> f64 {
    let text = line[field]
        .as_str()
        .unwrap_or_else(|| panic!("no time {field} in {line}"));
    let time: jiff::Timestamp = text.parse().unwrap();
    time.as_nanosecond() as f64 / 1e9
}
