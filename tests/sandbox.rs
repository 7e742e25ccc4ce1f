/*! The sandbox itself: what workloads count is what the kernel lists, no tracer involved. */

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tracer::sandbox::workload::{Bind, Collide, Connect, Manner, Ring, Then, Work};
use tracer::sandbox::{CLIENT_V4, FOREIGN_V4, SERVER_V4, SILENT_V4, Settings, Side, UNROUTED_V4};
use tracer_ebpf::tcp_state;

use crate::Scenario;
use crate::world::{SOON, Skip, World, connect, server_mapped, server_v4, server_v6};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "held_connections_exhaust_the_range",
        held_connections_exhaust_the_range,
    ),
    (
        "closed_connections_fill_the_range_with_time_wait",
        closed_fill_the_range,
    ),
    ("every_family_connects", every_family_connects),
    ("every_failure_has_its_errno", every_failure_has_its_errno),
    (
        "only_the_first_closer_keeps_time_wait",
        only_the_first_closer_keeps_time_wait,
    ),
    ("resets_leave_no_time_wait", resets_leave_no_time_wait),
    (
        "a_dropped_world_leaves_nothing",
        a_dropped_world_leaves_nothing,
    ),
    ("io_uring_connects", io_uring_connects),
];

fn held_connections_exhaust_the_range() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    let mut client = world.client("holder", &connect(server_v4(), 250, Then::PingAndKeep));
    client.go().unwrap();
    let report = client.report(SOON).unwrap();
    assert_eq!((report.connected, report.failures()), (100, 150));
    assert_eq!(report.failed["EADDRNOTAVAIL"], 150);
    assert_eq!(report.pid, client.pid());
    assert_eq!(world.states(Side::Client)[&tcp_state::ESTABLISHED], 100);
    Ok(())
}

fn closed_fill_the_range() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    let work = Connect::new(server_v4(), 1000).stop_after(7);
    let report = world
        .client("churner", &Work::Connect(work))
        .finish(SOON)
        .unwrap();
    assert_eq!((report.connected, report.failed["EADDRNOTAVAIL"]), (100, 7));
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 100);
    Ok(())
}

fn every_family_connects() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    let mut addresses = vec![server_v4()];
    if world.pair.has_v6() {
        addresses.extend([server_v6(), server_mapped()]);
    }
    for &to in &addresses {
        let work = Work::Connect(Connect::new(to, 10).nonblocking());
        let report = world.client("client", &work).finish(SOON).unwrap();
        assert_eq!((report.connected, report.failures()), (10, 0), "{to}");
    }
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 10 * addresses.len());
    Ok(())
}

fn every_failure_has_its_errno() -> Result<(), Skip> {
    let world =
        World::new(&Settings::with_ports(100).client_sysctl("net/ipv4/tcp_syn_retries", "1"))?;
    let _server = world.server(Manner::Keep);
    let at = |ip, port| SocketAddr::new(std::net::IpAddr::V4(ip), port);
    let cases = [
        (connect(at(SERVER_V4, 1), 3, Then::Keep), "ECONNREFUSED", 3),
        (connect(at(SILENT_V4, 1), 1, Then::Keep), "ETIMEDOUT", 1),
        (connect(at(UNROUTED_V4, 1), 3, Then::Keep), "ENETUNREACH", 3),
        (
            Work::Bind(Bind {
                at: at(FOREIGN_V4, 0),
                times: 3,
            }),
            "EADDRNOTAVAIL",
            3,
        ),
        (
            Work::Bind(Bind {
                at: at(CLIENT_V4, 0),
                times: 130,
            }),
            "EADDRINUSE",
            30,
        ),
        (
            Work::Collide(Collide {
                from: at(CLIENT_V4, 30_000),
                to: server_v4(),
                times: 4,
            }),
            "EADDRNOTAVAIL",
            4,
        ),
    ];
    for (work, errno, count) in cases {
        let report = world.client("client", &work).finish(SOON).unwrap();
        assert_eq!(
            report.failed.get(errno),
            Some(&count),
            "{work:?}: {report:?}"
        );
        assert_eq!(report.failures(), count, "{work:?}: {report:?}");
    }
    Ok(())
}

fn only_the_first_closer_keeps_time_wait() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::CloseFirst);
    let work = Connect::new(server_v4(), 20)
        .then(Then::AwaitPeer)
        .list_ports();
    let report = world
        .client("client", &Work::Connect(work))
        .finish(SOON)
        .unwrap();
    assert_eq!((report.connected, report.reset), (20, 0));
    // A source port is free again at once here, and a SYN from it takes the
    // server's TIME_WAIT away.
    let distinct: BTreeSet<_> = report.ports.iter().collect();
    world.wait_for(Side::Server, tcp_state::TIME_WAIT, distinct.len());
    assert_eq!(world.sockets(Side::Client), []);
    Ok(())
}

fn resets_leave_no_time_wait() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let cases = [
        (Manner::Reset, Then::AwaitReset, 20),
        (Manner::ResetAtEof, Then::HalfCloseReset, 20),
        (Manner::TalkAtEof, Then::HalfCloseUnread, 0),
    ];
    for (manner, then, resets) in cases {
        let mut server = world.server(manner);
        let report = world
            .client("client", &connect(server_v4(), 20, then))
            .finish(SOON)
            .unwrap();
        assert_eq!(
            (report.connected, report.reset),
            (20, resets),
            "{then:?}: {report:?}"
        );
        assert_eq!(world.sockets(Side::Client), [], "{then:?}");
        server.release();
        server.wait(SOON).unwrap();
    }
    Ok(())
}

fn a_dropped_world_leaves_nothing() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let server = world.server(Manner::Keep);
    let mut client = world.client("client", &connect(server_v4(), 10, Then::ForkClose));
    let report = client.finish(SOON).unwrap();
    assert_eq!(report.children.len(), 10);
    let pids = [server.pid(), client.pid()];
    let inodes = [
        world.pair.inode(Side::Client),
        world.pair.inode(Side::Server),
    ];
    drop((server, client, world));
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
    for process in procfs::process::all_processes().unwrap().flatten() {
        let Ok(namespaces) = process.namespaces() else {
            continue;
        };
        let net = namespaces
            .0
            .values()
            .find(|namespace| namespace.ns_type == "net");
        assert!(
            net.is_none_or(|net| !inodes.map(u64::from).contains(&net.identifier)),
            "{process:?}"
        );
    }
    Ok(())
}

fn io_uring_connects() -> Result<(), Skip> {
    let world = World::with_ports(10)?;
    let _server = world.server(Manner::Echo);
    let mut client = world.client(
        "ring",
        &Work::Ring(Ring {
            to: server_v4(),
            attempts: 15,
        }),
    );
    let report = client.finish(SOON).unwrap();
    if let Some(reason) = report.refused {
        return Err(Skip(reason));
    }
    assert_eq!((report.connected, report.failed["EADDRNOTAVAIL"]), (10, 5));
    Ok(())
}
