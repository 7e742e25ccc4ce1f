/*! bind() that fails. */

use std::net::SocketAddr;

use serde_json::{Value, json};
use tracer::sandbox::workload::{Bind, Work};
use tracer::sandbox::{CLIENT_V4, FOREIGN_V4, Side};

use crate::Scenario;
use crate::trace::{Tracer, assert_each, sum};
use crate::world::{SOON, Skip, World, own_program};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("foreign_address", foreign_address),
    ("range_exhausted", range_exhausted),
    ("port_taken", port_taken),
];

/// Binds to `at` again and again: `bound` times well, then `failed` times not.
fn binds(at: SocketAddr, bound: u64, failed: u64, errno: &str, cause: &str) -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let tracer = Tracer::watch(&[])?;
    let work = Work::Bind(Bind {
        at,
        times: bound + failed,
    });
    let mut client = world.client("binder", &work);
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    assert_eq!(
        (report.bound, report.failed.get(errno)),
        (bound, Some(&failed))
    );
    let trace = tracer.stop();
    trace.assert_whole();
    let netns = world.pair.inode(Side::Client);
    let failures = trace.of("bind_failed", netns);
    assert_eq!(sum(&failures), failed, "{failures:#?}");
    let fields = json!({
        "pid": client.pid(), "tid": client.pid(), "comm": "binder", "exe": own_program(),
        "src": at.ip(), "errno": errno, "cause": cause,
    });
    assert_each(&failures, &fields);
    assert_eq!(trace.of("connect_failed", netns), Vec::<&Value>::new());
    Ok(())
}

fn foreign_address() -> Result<(), Skip> {
    let at = SocketAddr::new(FOREIGN_V4.into(), 0);
    binds(at, 0, 20, "EADDRNOTAVAIL", "address_not_local")
}

fn range_exhausted() -> Result<(), Skip> {
    binds(
        SocketAddr::new(CLIENT_V4.into(), 0),
        100,
        30,
        "EADDRINUSE",
        "ports_exhausted",
    )
}

fn port_taken() -> Result<(), Skip> {
    binds(
        SocketAddr::new(CLIENT_V4.into(), 31_000),
        1,
        20,
        "EADDRINUSE",
        "tuple_in_use",
    )
}
