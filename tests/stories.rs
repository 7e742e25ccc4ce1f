/*!
The two stories that started the project, with the real programs: a service
that opens a PgBouncer connection per query, and a web server that opens a
broker connection per request and keeps it alive. Then what their authors did
about it.
*/

mod acts;
mod broker;
mod daemon;
mod database;
mod queries;
mod web;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};
use tracer::host::sock_diag::TcpSocket;
use tracer::sandbox::workload::Report;
use tracer::sandbox::{CLIENT_V4, Process, SERVER_V4, Side};
use tracer_ebpf::tcp_state;

use crate::Scenario;
use crate::findings::{alarms, assert_verdict, last_verdict, number, pool, verdicts};
use crate::trace::{Trace, Tracer, assert_each, sum};
use crate::world::{SOON, Skip, World, look_away, own_program};
use acts::Act;
pub(crate) use acts::from_args;
use broker::Broker;
use database::{Database, PGBOUNCER};
use queries::{Pooled, Queries};
use web::{Visits, Web};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    // First, as it takes longest.
    ("a_connection_per_request_is_a_leak", connection_per_request),
    ("a_connection_per_query_is_churn", connection_per_query),
    ("more_pgbouncer_ports_bear_more", more_ports),
    (
        "a_pool_of_connections_holds_its_ports_only",
        pool_of_connections,
    ),
    (
        "one_connection_for_all_requests_holds_one_port",
        one_connection,
    ),
];

/// Source ports of a client: few, so that an emulated machine too has used them up before the first
/// TIME_WAIT ends, after a minute.
const PORTS: u16 = 200;

/// The name of the Rust service in story (b).
const SERVICE: &str = "line-service";

fn pgbouncer(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER_V4.into(), port)
}

/// Starts the service, and returns it, not yet released, with its count.
fn serve(world: &World, act: &Act) -> (Process, Report) {
    let mut service = act.start(world, Side::Client, SERVICE);
    service.go().unwrap();
    let report = service.report(SOON).unwrap();
    (service, report)
}

/// The sockets of the client's side, once no connection is about to close any more.
fn settled(world: &World) -> Vec<TcpSocket> {
    let deadline = Instant::now() + SOON;
    loop {
        let sockets = world.sockets(Side::Client);
        let settled = [
            tcp_state::TIME_WAIT,
            tcp_state::ESTABLISHED,
            tcp_state::LISTEN,
        ];
        if sockets.iter().all(|socket| settled.contains(&socket.state)) {
            return sockets;
        }
        assert!(Instant::now() < deadline, "never settled: {sockets:?}");
        look_away();
    }
}

/// The source ports of those towards `to` in a state.
fn ports(sockets: &[TcpSocket], to: SocketAddr, state: u8) -> BTreeSet<u16> {
    let there = sockets
        .iter()
        .filter(|socket| socket.remote == to && socket.state == state);
    there.map(|socket| socket.local.port()).collect()
}

/// The tracer must have seen just the TIME_WAITs the kernel has towards `to`, all of `service`.
fn assert_time_waits(
    trace: &Trace,
    netns: u32,
    service: &Process,
    kernel: &[TcpSocket],
    to: &[SocketAddr],
) {
    let lines = trace.of("time_wait", netns);
    assert_each(
        &lines,
        &json!({ "pid": service.pid(), "comm": SERVICE, "exe": own_program(), "direction": "out" }),
    );
    for &to in to {
        let mut seen = BTreeSet::new();
        for line in &lines {
            if line["dst"] == json!(to.ip()) && line["dport"] == to.port() {
                let port = line["sport"].as_u64().unwrap();
                seen.insert(u16::try_from(port).unwrap());
            }
        }
        assert_eq!(seen, ports(kernel, to, tcp_state::TIME_WAIT), "{to}");
    }
}

/// Story (b) as it happened: os error 99 after a while, and Postgres and PgBouncer get tuned.
fn connection_per_query() -> Result<(), Skip> {
    let world = World::with_ports(PORTS)?;
    let _database = Database::behind(&world, &[PGBOUNCER])?;
    let to = pgbouncer(PGBOUNCER);
    let tracer = Tracer::watch(&[])?;
    let act = Act::Queries(Queries {
        to: vec![to],
        queries: 5000,
        stop_after: Some(50),
    });
    let (service, report) = serve(&world, &act);
    let kernel = settled(&world);
    let trace = tracer.stop();
    trace.assert_whole();
    let netns = world.pair.inode(Side::Client);
    assert_eq!(report.failed.get("EADDRNOTAVAIL"), Some(&50), "{report:?}");
    assert_eq!(report.failures(), 50, "{report:?}");
    assert_eq!(report.connected, u64::from(PORTS), "{report:?}");
    let failed = trace.of("connect_failed", netns);
    assert_eq!(sum(&failed), 50);
    let fields = json!({
        "pid": service.pid(), "comm": SERVICE, "exe": own_program(),
        "errno": "EADDRNOTAVAIL", "cause": "ports_exhausted",
        "src": CLIENT_V4, "dst": SERVER_V4, "dport": PGBOUNCER,
    });
    assert_each(&failed, &fields);
    assert_time_waits(&trace, netns, &service, &kernel, &[to]);
    // PgBouncer's own connections to PostgreSQL, and what is asked of it, are nobody's problem.
    assert_eq!(
        alarms(&trace.lines, world.pair.inode(Side::Server)),
        Vec::<&Value>::new()
    );
    let verdict = last_verdict(&trace.lines, netns);
    assert_verdict(verdict, "churn", &service, to);
    assert_eq!(verdict["urgency"], "failing", "{verdict}");
    let level = json!({ "used": PORTS, "capacity": PORTS, "by_state": { "TIME_WAIT": PORTS } });
    assert_each(&[&verdict["pool"]], &level);
    let victim = json!({ "pid": service.pid(), "errno": "EADDRNOTAVAIL", "count": 50 });
    assert_each(&[&verdict["victims"][0]], &victim);
    Ok(())
}

/// Its author's way out: more quadruplets, by several PgBouncers, each on a port of its own.
fn more_ports() -> Result<(), Skip> {
    const BOUNCERS: [u16; 3] = [PGBOUNCER, PGBOUNCER + 1, PGBOUNCER + 2];
    // More than one of them bears, and all done before the first TIME_WAIT ends.
    const PORTS: u16 = 100;
    const QUERIES: usize = 150;
    let world = World::with_ports(PORTS)?;
    let _database = Database::behind(&world, &BOUNCERS)?;
    let to = BOUNCERS.map(pgbouncer);
    let tracer = Tracer::watch(&[])?;
    let act = Act::Queries(Queries {
        to: to.to_vec(),
        queries: QUERIES,
        stop_after: Some(1),
    });
    let (service, report) = serve(&world, &act);
    let kernel = settled(&world);
    let trace = tracer.stop();
    trace.assert_whole();
    let netns = world.pair.inode(Side::Client);
    assert_eq!(
        (report.connected, report.failures()),
        (QUERIES as u64, 0),
        "{report:?}"
    );
    assert_eq!(trace.of("connect_failed", netns), Vec::<&Value>::new());
    assert_time_waits(&trace, netns, &service, &kernel, &to);
    assert_eq!(alarms(&trace.lines, netns), Vec::<&Value>::new());
    for to in to {
        let pool = pool(&trace.lines, netns, to);
        let used = ports(&kernel, to, tcp_state::TIME_WAIT).len();
        assert_eq!(
            (&pool["used"], &pool["capacity"]),
            (&json!(used), &json!(PORTS)),
            "{pool}"
        );
    }
    Ok(())
}

/// What he left for later: a pool inside the service.
fn pool_of_connections() -> Result<(), Skip> {
    const CONNECTIONS: u32 = 20;
    const QUERIES: usize = 100;
    let world = World::with_ports(PORTS)?;
    let _database = Database::behind(&world, &[PGBOUNCER])?;
    let to = pgbouncer(PGBOUNCER);
    let tracer = Tracer::watch(&[])?;
    let act = Act::Pooled(Pooled {
        to,
        queries: QUERIES,
        connections: CONNECTIONS,
    });
    let (service, report) = serve(&world, &act);
    let kernel = settled(&world);
    let trace = tracer.stop();
    trace.assert_whole();
    let netns = world.pair.inode(Side::Client);
    let queries = QUERIES as u64 * u64::from(CONNECTIONS);
    assert_eq!(
        (report.connected, report.failures()),
        (queries, 0),
        "{report:?}"
    );
    assert_eq!(kernel.len(), CONNECTIONS as usize, "{kernel:?}");
    assert_eq!(trace.of("connect_failed", netns), Vec::<&Value>::new());
    assert_eq!(trace.of("time_wait", netns), Vec::<&Value>::new());
    assert_eq!(verdicts(&trace.lines, netns), Vec::<&Value>::new());
    let pool = pool(&trace.lines, netns, to);
    let fields = json!({
        "used": CONNECTIONS, "peak": CONNECTIONS, "capacity": PORTS,
        "by_state": { "ESTABLISHED": CONNECTIONS },
    });
    assert_each(&[pool], &fields);
    assert_each(
        &[&pool["holders"][0]],
        &json!({ "pid": service.pid(), "comm": SERVICE }),
    );
    Ok(())
}

/// The web server in story (a).
const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(CLIENT_V4), 8080);
/// How fast its visitors come; an emulated machine keeps up with that.
const VISITS_PER_SECOND: f64 = 10.0;

/// Starts the web server, which is then listening.
fn web_server(world: &World, connection_per_request: bool) -> Process {
    let act = Act::Web(Web {
        at: WEB,
        broker: Broker::address(),
        connection_per_request,
    });
    let mut web = act.start(world, Side::Client, "web-server");
    web.go().unwrap();
    web.report(SOON).unwrap();
    web
}

/// Lets the visitors go, from the other side: `most` of them, or until released.
fn visitors(world: &World, most: u64) -> Process {
    let act = Act::Visits(Visits {
        to: WEB,
        most,
        per_second: VISITS_PER_SECOND,
    });
    let mut visitors = act.start(world, Side::Server, "visitors");
    visitors.go().unwrap();
    visitors
}

/// Story (a), and the tracer tells before anybody notices.
fn connection_per_request() -> Result<(), Skip> {
    // Connections that a server will keep are no leak for the first half minute: 300 visits.
    const PORTS: u16 = 1000;
    let world = World::with_ports(PORTS)?;
    let _broker = Broker::start(&world)?;
    let netns = world.pair.inode(Side::Client);
    let mut tracer = Tracer::watch(&[])?;
    let web = web_server(&world, true);
    let mut visitors = visitors(&world, u64::from(PORTS));
    tracer.until("nothing says that the web server leaks", |lines| {
        let mut verdicts = verdicts(lines, netns).into_iter();
        verdicts.any(|verdict| verdict["verdict"] == "leak")
    });
    visitors.release();
    let report = visitors.report(SOON).unwrap();
    let visits = report.connected;
    assert!(visits > 0 && report.failures() == 0, "{report:?}");
    let kernel = settled(&world);
    let trace = tracer.stop();
    trace.assert_whole();
    let open = ports(&kernel, Broker::address(), tcp_state::ESTABLISHED);
    assert_eq!(open.len() as u64, visits);
    assert_eq!(trace.of("connect_failed", netns), Vec::<&Value>::new());
    let verdicts = verdicts(&trace.lines, netns);
    for verdict in &verdicts {
        assert_verdict(verdict, "leak", &web, Broker::address());
    }
    let first = verdicts.first().expect("no verdict");
    assert!(
        number(&first["pool"], "used") < f64::from(PORTS) / 2.0,
        "{first}"
    );
    assert!(number(first, "forecast_s") > 0.0, "{first}");
    let pool = pool(&trace.lines, netns, Broker::address());
    assert_eq!(pool["by_state"], json!({ "ESTABLISHED": visits }), "{pool}");
    Ok(())
}

/// The way out of story (a).
fn one_connection() -> Result<(), Skip> {
    const VISITS: u64 = 100;
    let world = World::with_ports(PORTS)?;
    let _broker = Broker::start(&world)?;
    let netns = world.pair.inode(Side::Client);
    let tracer = Tracer::watch(&[])?;
    let web = web_server(&world, false);
    let report = visitors(&world, VISITS).report(SOON).unwrap();
    assert_eq!(
        (report.connected, report.failures()),
        (VISITS, 0),
        "{report:?}"
    );
    let kernel = settled(&world);
    let trace = tracer.stop();
    trace.assert_whole();
    let open = ports(&kernel, Broker::address(), tcp_state::ESTABLISHED);
    assert_eq!(open.len(), 1);
    assert_eq!(verdicts(&trace.lines, netns), Vec::<&Value>::new());
    let pool = pool(&trace.lines, netns, Broker::address());
    assert_eq!(
        (&pool["used"], &pool["peak"]),
        (&json!(1), &json!(1)),
        "{pool}"
    );
    assert_each(
        &[&pool["holders"][0]],
        &json!({ "pid": web.pid(), "comm": "web-server" }),
    );
    Ok(())
}
