/*! What `ss` says of a namespace, and that a dump says the same. */

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Command;

use socket2::{Domain, Socket, Type};

use super::{RANGE, connected, eventually, space};
use crate::host::dump::dump;
use crate::model::{Dump, TcpState};

/// Sockets in every state that rests, until the list is dropped.
fn every_state() -> Vec<OwnedFd> {
    let mut kept: Vec<OwnedFd> = Vec::new();
    let v4 = TcpListener::bind("127.0.0.1:5432").unwrap();
    let mut targets = vec![(v4, "127.0.0.1:5432")];
    // Talks IPv6 and IPv4, as most servers.
    if let Ok(both) = TcpListener::bind("[::]:6432") {
        targets.push((both.try_clone().unwrap(), "[::1]:6432"));
        targets.push((both, "127.0.0.1:6432"));
    }
    for (listener, to) in targets {
        let to = to.parse().unwrap();
        for _ in 0..7 {
            let (client, server) = connected(&listener, to);
            kept.extend([client.into(), server.into()]);
        }
        for _ in 0..5 {
            // The client's end is FIN_WAIT2, that of the server CLOSE_WAIT.
            let (client, server) = connected(&listener, to);
            drop(client);
            kept.push(server.into());
        }
        for _ in 0..11 {
            let (client, server) = connected(&listener, to);
            drop(client);
            drop(server);
        }
        kept.push(listener.into());
    }
    // Nobody accepts here: what does not fit into the backlog stays SYN_SENT.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let at: SocketAddr = "127.0.0.1:7432".parse().unwrap();
    full.bind(&at.into()).unwrap();
    full.listen(0).unwrap();
    for _ in 0..4 {
        let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        waiting.set_nonblocking(true).unwrap();
        waiting.connect(&at.into()).ok();
        kept.push(waiting.into());
    }
    kept.push(full.into());
    kept
}

type Counts = BTreeMap<(String, SocketAddr, SocketAddr), usize>;

/// What `ss` says of this thread's namespace.
fn by_ss() -> Counts {
    let ss = Command::new("ss").arg("-Htan").output().unwrap();
    assert!(ss.status.success());
    let mut counts = Counts::new();
    for line in String::from_utf8(ss.stdout).unwrap().lines() {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let address = |text: &str| -> SocketAddr {
            let (ip, port) = text.rsplit_once(':').unwrap();
            // A listener of both families.
            let ip = if ip == "*" {
                "::"
            } else {
                ip.trim_matches(['[', ']'])
            };
            let ip: std::net::IpAddr = ip.parse().unwrap();
            SocketAddr::new(ip.to_canonical(), port.parse().unwrap_or(0))
        };
        let state = match fields[0] {
            "ESTAB" => "ESTABLISHED".to_owned(),
            "UNCONN" => continue,
            other => other.replace("FIN-WAIT-", "FIN-WAIT").replace('-', "_"),
        };
        *counts
            .entry((state, address(fields[3]), address(fields[4])))
            .or_default() += 1;
    }
    counts
}

fn counts(dump: &Dump) -> Counts {
    let mut counts = Counts::new();
    for socket in &dump.sockets {
        if socket.state != TcpState::Close {
            let key = (socket.state.name().to_owned(), socket.local, socket.remote);
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
}

#[test]
fn equals_ss_state_by_state_and_to_the_socket() {
    let test = "equals_ss_state_by_state_and_to_the_socket";
    let Some(netns) = space(test) else {
        return;
    };
    if Command::new("ss").arg("-V").output().is_err() {
        eprintln!("skipping {test}: there is no ss");
        return;
    }
    let _kept = netns.run_in(every_state).unwrap();
    let look = || dump(&netns, "test".to_owned()).unwrap();
    // Until the last FIN came through and nothing changes any more.
    eventually("ss and the dump differ", || {
        let before = netns.run_in(by_ss).unwrap();
        let ours = counts(&look());
        let after = netns.run_in(by_ss).unwrap();
        before == after && ours == after
    });
    let dump = look();
    let states = |state| dump.sockets.iter().filter(|s| s.state == state).count();
    let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    let targets = if has_v6 { 3 } else { 1 };
    assert_eq!(states(TcpState::TimeWait), 11 * targets);
    assert_eq!(states(TcpState::CloseWait), 5 * targets);
    assert_eq!(states(TcpState::FinWait2), 5 * targets);
    assert!(states(TcpState::Established) >= 14 * targets);
    assert!(states(TcpState::SynSent) >= 1);
    assert!(states(TcpState::Listen) >= 2);
    assert!(dump.sockets.iter().all(|socket| socket.cookie != 0));
    assert!(dump.began_ns < dump.ended_ns);
    assert_eq!(dump.namespace.inode, netns.inode());
    assert_eq!(dump.namespace.range, RANGE);
    assert_eq!(dump.namespace.name, "test");
    assert!(dump.namespace.max_tw_buckets.is_some_and(|most| most > 0));
}
