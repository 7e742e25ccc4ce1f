/*!
The kernel skips a program that would interrupt itself. Here the tracer acts as
if that befell every change a softirq makes: what happened must be told all the
same, by the programs that see the socket's error and its end. Before Linux 5.14 nothing tells the error,
and what ended with one is counted as unseen.
*/

use std::net::SocketAddr;

use serde_json::{Value, json};
use tracer::kernel::preflight::Facts;
use tracer::sandbox::workload::{Connect, Manner, Then, Work};
use tracer::sandbox::{SERVER_V4, SILENT_V4, Settings, Side};

use crate::Scenario;
use crate::trace::{Trace, Tracer, assert_each, sum};
use crate::world::{SOON, Skip, World, connect, server_v4};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("refused", refused),
    ("refused_nonblocking", refused_nonblocking),
    ("timed_out", timed_out),
    ("time_wait", time_wait),
    ("passive_close", passive_close),
    ("reset_by_the_peer", reset_by_the_peer),
];

/// Whether the kernel tells of a socket's error.
fn tells_errors() -> bool {
    !Facts::read()
        .types
        .is_ok_and(|types| types.absent.contains(&"inet_sk_error_report"))
}

/// Runs `work` under a tracer that sees no change of a softirq. Nothing may be lost, and where
/// something was to be found, it was. Returns the trace, the client and how many ends were not seen.
fn traced(world: &World, work: &Work, found: bool) -> Result<(Trace, u32, u64), Skip> {
    let netns = world.pair.inode(Side::Client).to_string();
    let tracer = Tracer::watch(&["--all", "--skip-softirq", "--netns", &netns])?;
    let mut client = world.client("client", work);
    client.go().unwrap();
    client.report(SOON).unwrap();
    client.release();
    client.wait(SOON).unwrap();
    for side in [Side::Client, Side::Server] {
        world.wait_until_over(side);
    }
    let trace = tracer.stop();
    let number = |part: &str, field: &str| trace.summary()[part][field].as_u64().unwrap();
    let (rescued, unseen) = (number("recursion", "rescued"), number("lost", "unseen"));
    // Where state changes tell of births of TIME_WAITs, those are to be found too.
    let found = found || trace.summary()["backend"]["time_wait"] != "trampoline";
    if tells_errors() {
        trace.assert_whole();
        assert_eq!(rescued > 0, found, "{}", trace.summary());
    } else {
        trace.assert_whole_but(&["unseen"]);
        assert_eq!(rescued + unseen > 0, found, "{}", trace.summary());
    }
    Ok((trace, client.pid(), unseen))
}

fn fails(
    ip: std::net::Ipv4Addr,
    attempts: u64,
    nonblocking: bool,
    errno: &str,
) -> Result<(), Skip> {
    let settings = Settings::with_ports(100).client_sysctl("net/ipv4/tcp_syn_retries", "1");
    let world = World::new(&settings)?;
    let mut work = Connect::new(SocketAddr::new(ip.into(), 81), attempts);
    work.nonblocking = nonblocking;
    let (trace, pid, unseen) = traced(&world, &Work::Connect(work), true)?;
    let failures = trace.of("connect_failed", world.pair.inode(Side::Client));
    assert_eq!(sum(&failures) + unseen, attempts, "{failures:#?}");
    assert_each(
        &failures,
        &json!({ "pid": pid, "comm": "client", "errno": errno, "dst": ip, "dport": 81 }),
    );
    Ok(())
}

fn refused() -> Result<(), Skip> {
    fails(SERVER_V4, 20, false, "ECONNREFUSED")
}

fn refused_nonblocking() -> Result<(), Skip> {
    fails(SERVER_V4, 20, true, "ECONNREFUSED")
}

fn timed_out() -> Result<(), Skip> {
    fails(SILENT_V4, 2, false, "ETIMEDOUT")
}

/// 20 connections; returns the client's lines of `kind`.
fn closes(manner: Manner, then: Then, kind: &str, found: bool) -> Result<Vec<Value>, Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(manner);
    let (trace, pid, unseen) = traced(&world, &connect(server_v4(), 20, then), found)?;
    let netns = world.pair.inode(Side::Client);
    for kind in ["opened", "closed"] {
        let lines = trace.of(kind, netns);
        assert_eq!(lines.len() as u64 + unseen, 20, "{kind}");
        assert_each(&lines, &json!({ "pid": pid, "comm": "client" }));
    }
    Ok(trace.of(kind, netns).into_iter().cloned().collect())
}

fn time_wait() -> Result<(), Skip> {
    let lines = closes(Manner::Echo, Then::Close, "time_wait", false)?;
    assert_eq!(lines.len(), 20);
    Ok(())
}

fn passive_close() -> Result<(), Skip> {
    let lines = closes(Manner::CloseFirst, Then::AwaitPeer, "closed", true)?;
    assert_each(
        &lines.iter().collect::<Vec<_>>(),
        &json!({ "closer": "peer" }),
    );
    Ok(())
}

fn reset_by_the_peer() -> Result<(), Skip> {
    let lines = closes(Manner::Reset, Then::AwaitReset, "closed", true)?;
    assert_each(
        &lines.iter().collect::<Vec<_>>(),
        &json!({ "closer": "reset" }),
    );
    Ok(())
}
