/*!
Many connections at once, and a reader that does not read: every one is told,
or counted as lost, and the books are right again afterwards.
*/

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tracer::sandbox::workload::{Connect, Manner, Report, Serve, Then, Work};
use tracer::sandbox::{CLIENT_V4, Process, SERVER_V4, Settings, Side};
use tracer_ebpf::tcp_state::TIME_WAIT;

use crate::Scenario;
use crate::findings::verdicts;
use crate::trace::{Trace, Tracer, assert_each, sum};
use crate::world::{SOON, Skip, World, connect, own_program, server_v4};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("a_hundred_thousand_are_told_one_by_one", a_hundred_thousand),
    ("a_reader_that_sleeps_loses_nothing", asleep),
    ("what_a_full_ring_loses_is_counted", overrun),
    ("a_dry_pool_under_fire_is_counted_in_few_lines", under_fire),
];

/// Events that the smallest ring holds: 64 KiB of 160 bytes with a header of 8.
const SMALLEST_RING: u64 = (64 << 10) / 168;

fn settings() -> Settings {
    Settings {
        ports: 10_000..=59_999,
        ..Settings::default()
    }
}

/// Lets a client make its connections and waits until the kernel has a TIME_WAIT of each.
fn storm(world: &World, client: &mut Process, all: u64) -> Report {
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    assert_eq!((report.connected, report.failures()), (all, 0));
    world.wait_for(Side::Client, TIME_WAIT, usize::try_from(all).unwrap());
    report
}

/// The last line of a pool.
fn pool_of(trace: &Trace, netns: u32) -> &Value {
    let pools = trace.of("pool", netns);
    pools.last().expect("the pools are told at the end")
}

fn a_hundred_thousand() -> Result<(), Skip> {
    const PORTS: u16 = 4;
    const EACH: u64 = 25_000;
    let world = World::new(&settings())?;
    let at = |port| SocketAddr::new(SERVER_V4.into(), port);
    let serve = Work::Serve(Serve {
        at: (7000..7000 + PORTS).map(at).collect(),
        manner: Manner::Echo,
    });
    let server = world
        .pair
        .spawn(Side::Server, &own_program(), "server", &serve);
    let _server = server.unwrap();
    let tracer = Tracer::watch(&[])?;
    let mut clients: Vec<Process> = (0..PORTS)
        .map(|port| world.client("storm", &connect(at(7000 + port), EACH, Then::Close)))
        .collect();
    for client in &mut clients {
        client.go().unwrap();
    }
    for client in &mut clients {
        let report = client.report(SOON).unwrap();
        assert_eq!((report.connected, report.failures()), (EACH, 0));
    }
    let all = usize::from(PORTS) * usize::try_from(EACH).unwrap();
    world.wait_for(Side::Client, TIME_WAIT, all);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", world.pair.inode(Side::Client));
    assert_eq!(lines.len(), all);
    for (port, client) in (7000..).zip(&clients) {
        let own: Vec<&Value> = lines
            .iter()
            .filter(|line| line["dport"] == port)
            .copied()
            .collect();
        assert_eq!(own.len() as u64, EACH);
        assert_each(&own, &json!({ "pid": client.pid(), "comm": "storm" }));
    }
    Ok(())
}

/// 16,000 connections while the tracer is stopped for 5 s: its ring holds them all.
fn asleep() -> Result<(), Skip> {
    // Three events each where sockets have no cookies (before Linux 5.12), as opens and closes are
    // sent there: less than the 49,900 that the ring holds.
    const ALL: u64 = 16_000;
    let world = World::new(&settings())?;
    let _server = world.server(Manner::Echo);
    // Other scenarios' events would take the room.
    let netns = world.pair.inode(Side::Client);
    let tracer = Tracer::watch(&["--netns", &netns.to_string()])?;
    let mut client = world.client("storm", &connect(server_v4(), ALL, Then::Close));
    let since = Instant::now();
    tracer.signal(Signal::SIGSTOP);
    storm(&world, &mut client, ALL);
    std::thread::sleep(Duration::from_secs(5).saturating_sub(since.elapsed()));
    tracer.signal(Signal::SIGCONT);
    let trace = tracer.stop();
    trace.assert_whole();
    let lines = trace.of("time_wait", netns);
    assert_eq!(lines.len() as u64, ALL);
    assert_each(&lines, &json!({ "pid": client.pid(), "comm": "storm" }));
    let pool = pool_of(&trace, netns);
    assert_eq!(pool["used"], ALL, "{pool}");
    assert_eq!(pool["drift"], 0, "{pool}");
    Ok(())
}

/// The same with a ring that holds 390: each of the others is a loss, and the pool is as full as
/// the kernel says all the same.
fn overrun() -> Result<(), Skip> {
    const ALL: u64 = 5_000;
    let world = World::new(&settings())?;
    let _server = world.server(Manner::Echo);
    let netns = world.pair.inode(Side::Client);
    let tracer = Tracer::watch(&["--ring-size", "64K", "--netns", &netns.to_string()])?;
    let mut client = world.client("storm", &connect(server_v4(), ALL, Then::Close));
    tracer.signal(Signal::SIGSTOP);
    storm(&world, &mut client, ALL);
    tracer.signal(Signal::SIGCONT);
    let trace = tracer.stop();
    trace.assert_whole_but(&["ring_full"]);
    let lines = trace.of("time_wait", netns);
    let (told, lost) = (lines.len() as u64, &trace.summary()["lost"]["ring_full"]);
    let lost = lost.as_u64().unwrap();
    assert!((1..=SMALLEST_RING).contains(&told), "{told} lines");
    if lines.iter().all(|line| line["cookie"].is_u64()) {
        assert_eq!(told + lost, ALL);
    } else {
        // Opens and closes are events too, shown or not, where sockets have no cookies.
        assert!(told + lost > ALL, "{told} told, {lost} lost");
    }
    let mut lines = trace.lines.iter().rev();
    let last = lines.find(|line| line["type"] == "loss");
    let last = last.expect("a loss is told when it is found");
    assert_eq!(last["lost"]["ring_full"], lost, "{last}");
    let pool = pool_of(&trace, netns);
    assert_eq!(pool["used"], ALL, "{pool}");
    assert_eq!(pool["by_state"]["TIME_WAIT"], ALL, "{pool}");
    Ok(())
}

/// 100,000 failures of two threads on a pool without a free port: all of them counted, in lines
/// that come a few times a second and process.
fn under_fire() -> Result<(), Skip> {
    const ALL: u64 = 100_000;
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Keep);
    let mut holder = world.client("holder", &connect(server_v4(), 100, Then::Keep));
    holder.go().unwrap();
    assert_eq!(holder.report(SOON).unwrap().connected, 100);
    let tracer = Tracer::watch(&[])?;
    let work = Connect::new(server_v4(), ALL / 2).threads(2, "worker");
    let mut client = world.client("burner", &Work::Connect(work));
    let began = Instant::now();
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    let took = began.elapsed();
    assert_eq!(report.failures(), ALL);
    let trace = tracer.stop();
    let lines = trace.of("connect_failed", world.pair.inode(Side::Client));
    let backend = &trace.summary()["backend"];
    if backend["witness"].is_string() && backend["connect"] == "tracepoint" {
        // A task that is preempted within programs may keep both the change and the result of
        // another's call from them: one in some 100,000, which is counted.
        trace.assert_whole_but(&["unseen"]);
    } else {
        trace.assert_whole();
    }
    let unseen = trace.summary()["lost"]["unseen"].as_u64().unwrap();
    assert!(unseen < ALL / 1000, "{unseen}");
    assert_eq!(sum(&lines) + unseen, ALL);
    assert_each(
        &lines,
        &json!({
            "pid": client.pid(), "comm": "burner", "errno": "EADDRNOTAVAIL",
            "cause": "ports_exhausted"
        }),
    );
    // Counts are read five times a second, and once more at the end. Where a task that is preempted
    // within a program keeps the begin of others' calls from it, their source is not known.
    let sources: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| line["src"].as_str())
        .collect();
    let most = (5.0 * took.as_secs_f64() + 3.0) * sources.len() as f64;
    let own = CLIENT_V4.to_string();
    let known = |src: &&str| *src == own || *src == "0.0.0.0";
    assert!(sources.iter().all(known), "{sources:?}");
    // They are in the same pool all the same.
    for verdict in verdicts(&trace.lines, world.pair.inode(Side::Client)) {
        assert_eq!(verdict["pool"]["src"], own, "{verdict}");
    }
    assert!(
        lines.len() as f64 <= most,
        "{} lines in {took:?}",
        lines.len()
    );
    Ok(())
}
