/*! Namespaces made for the test against what `ss` says of them, and sockets of known owners. */

mod ss;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use socket2::{Domain, Socket, Type};

use super::{Busy, Lookout, Missed, Snapshot, dump, namespaces, snapshot};
use crate::host::netns::Netns;
use crate::host::process::Processes;
use crate::host::sysctl;
use crate::model::{Listed, PortRange, TcpState};

const RANGE: PortRange = PortRange {
    low: 20_000,
    high: 20_999,
};

/// A namespace of this test's own, with the range [`RANGE`].
fn space(test: &str) -> Option<Netns> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipping {test}: making a network namespace needs root");
        return None;
    }
    let netns = Netns::anonymous().unwrap();
    netns
        .run_in(|| {
            RANGE.write().unwrap();
            sysctl::write("net/ipv4/tcp_tw_reuse", 0).unwrap();
        })
        .unwrap();
    Some(netns)
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn only(netns: &Netns) -> Snapshot {
    snapshot(Some(&[netns.inode()]), &mut Processes::new())
}

/// Both ends of a connection: client, server.
fn connected(listener: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(to).unwrap();
    (client, listener.accept().unwrap().0)
}

fn at(snapshot: &Snapshot, local: SocketAddr) -> &Listed {
    snapshot.dumps[0]
        .sockets
        .iter()
        .find(|socket| socket.local == local)
        .unwrap()
}

#[test]
fn live_sockets_have_their_owner_and_a_time_wait_has_none() {
    let Some(netns) = space("live_sockets_have_their_owner_and_a_time_wait_has_none") else {
        return;
    };
    let (listener, client, server, closed) = netns
        .run_in(|| {
            let listener = TcpListener::bind("127.0.0.1:5432").unwrap();
            let to = listener.local_addr().unwrap();
            let (gone, peer) = connected(&listener, to);
            let closed = gone.local_addr().unwrap();
            drop((gone, peer));
            let (client, server) = connected(&listener, to);
            (listener, client, server, closed)
        })
        .unwrap();
    eventually("no TIME_WAIT", || {
        at(&only(&netns), closed).state == TcpState::TimeWait
    });
    let snapshot = only(&netns);
    assert_eq!(snapshot.dumps.len(), 1);
    assert!(at(&snapshot, closed).process.is_none());
    let me = procfs::process::Process::myself().unwrap().stat().unwrap();
    for local in [client.local_addr().unwrap(), listener.local_addr().unwrap()] {
        let process = at(&snapshot, local).process.as_ref().unwrap();
        assert_eq!(process.tgid, std::process::id());
        assert_eq!(process.start_ns, me.starttime * 10_000_000);
        assert_eq!(process.uid, nix::unistd::getuid().as_raw());
        assert_eq!(process.comm.bytes(), me.comm.as_bytes());
        let exe = std::env::current_exe().unwrap();
        assert_eq!(process.exe.as_deref(), exe.to_str());
        assert!(process.cgroup.is_some());
    }
    drop(server);
}

#[test]
fn a_forked_holder_owns_once_the_older_one_closed() {
    let Some(netns) = space("a_forked_holder_owns_once_the_older_one_closed") else {
        return;
    };
    let (_listener, client, _server) = netns
        .run_in(|| {
            let listener = TcpListener::bind("127.0.0.1:5432").unwrap();
            let (client, server) = connected(&listener, listener.local_addr().unwrap());
            (listener, client, server)
        })
        .unwrap();
    let local = client.local_addr().unwrap();
    let shared = OwnedFd::from(client.try_clone().unwrap());
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(shared)
        .spawn()
        .unwrap();
    let owner = || {
        at(&only(&netns), local)
            .process
            .as_ref()
            .map(|known| known.tgid)
    };
    eventually("the child does not hold it", || {
        let fd = std::fs::read_link(format!("/proc/{}/fd/1", child.id()));
        let exe = std::fs::read_link(format!("/proc/{}/exe", child.id()));
        fd.is_ok_and(|fd| fd.to_string_lossy().starts_with("socket:"))
            && exe.ok() != std::env::current_exe().ok()
    });
    assert_eq!(
        owner(),
        Some(std::process::id()),
        "of two holders the older"
    );
    drop(client);
    // Another test may fork at this moment; its child holds a copy until it executes.
    eventually("the child is not the owner", || owner() == Some(child.id()));
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// Takes a mount away again.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}

#[test]
fn a_namespace_is_found_once_and_by_the_name_of_its_mount() {
    let Some(netns) = space("a_namespace_is_found_once_and_by_the_name_of_its_mount") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web\nof (us) ");
    std::fs::File::create(&path).unwrap();
    let source = PathBuf::from("/proc/thread-self/ns/net");
    let mounted = netns
        .run_in(|| {
            mount(
                Some(&source),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
        })
        .unwrap();
    if let Err(error) = mounted {
        eprintln!("skipping a_namespace_is_found_once_…: mount(2) was refused: {error}");
        return;
    }
    let _mounted = Mounted(path.clone());
    // A process lives in it too, and does not give it its name.
    let mut child = netns
        .run_in(|| Command::new("cat").stdin(Stdio::piped()).spawn())
        .unwrap()
        .unwrap();
    let mut missed = Missed::default();
    let found = namespaces(&mut missed);
    let ours: Vec<_> = found
        .iter()
        .filter(|found| found.inode == netns.inode())
        .collect();
    let [ours] = ours.as_slice() else {
        panic!("{ours:?}");
    };
    assert_eq!(ours.name, path.to_str().unwrap());
    assert_eq!(ours.open().unwrap().unwrap().inode(), netns.inode());
    assert_eq!(found[0].inode, Netns::current().unwrap().inode());
    assert!(found.iter().filter(|found| found.name == "host").count() <= 1);
    assert_eq!(only(&netns).dumps[0].namespace.name, path.to_str().unwrap());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_namespace_without_a_mount_is_called_by_who_lives_in_it() {
    let Some(netns) = space("a_namespace_without_a_mount_is_called_by_who_lives_in_it") else {
        return;
    };
    let name = || only(&netns).dumps[0].namespace.name.clone();
    assert!(name().starts_with("held by pid "), "{}", name());
    let mut child = netns
        .run_in(|| Command::new("cat").stdin(Stdio::piped()).spawn())
        .unwrap()
        .unwrap();
    let expected = format!("pid {} cat", child.id());
    eventually("the name is another", || name() == expected);
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_namespace_that_is_gone_is_not_missed() {
    let Some(netns) = space("a_namespace_that_is_gone_is_not_missed") else {
        return;
    };
    let mut child = netns
        .run_in(|| Command::new("cat").stdin(Stdio::piped()).spawn())
        .unwrap()
        .unwrap();
    let inode = netns.inode();
    let found = namespaces(&mut Missed::default());
    let found = found.iter().find(|found| found.inode == inode).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    drop(netns);
    eventually("it is still there", || {
        found.open().unwrap().is_none_or(|other| {
            // A namespace that is new may get the inode.
            other
                .run_in(|| PortRange::read().unwrap() != RANGE)
                .unwrap()
        })
    });
}

#[test]
fn listeners_and_bound_sockets_block_ports_once() {
    let Some(netns) = space("listeners_and_bound_sockets_block_ports_once") else {
        return;
    };
    let kept = netns
        .run_in(|| {
            sysctl::write("net/ipv4/ip_local_reserved_ports", "20001-20010,40000").unwrap();
            let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let at: SocketAddr = "127.0.0.9:20500".parse().unwrap();
            bound.bind(&at.into()).unwrap();
            let listeners = [
                "127.0.0.1:20001",
                "127.0.0.1:20100",
                "127.0.0.2:20100",
                "127.0.0.1:80",
            ]
            .map(|at| TcpListener::bind(at).unwrap());
            (bound, listeners)
        })
        .unwrap();
    let dump = dump(&netns, String::new()).unwrap();
    let mut expected = vec![20_001, 20_100];
    if dump
        .sockets
        .iter()
        .any(|socket| socket.state == TcpState::Close)
    {
        expected.push(20_500);
    }
    assert_eq!(Vec::from_iter(dump.blocked_ports()), expected);
    // 20001 is reserved and blocked: it is only one port.
    assert_eq!(dump.namespace.reserved, 9);
    let blocked = u64::try_from(expected.len()).unwrap();
    let capacity = u64::from(RANGE.ports()) - 9 - blocked;
    // What connect() can really choose, counted by trying.
    let chosen = netns
        .run_in(|| {
            let server = TcpListener::bind("127.0.0.1:5432").unwrap();
            let mut clients = Vec::new();
            loop {
                match TcpStream::connect("127.0.0.1:5432") {
                    Ok(client) => clients.push((client, server.accept().unwrap().0)),
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(nix::libc::EADDRNOTAVAIL));
                        return clients.len();
                    }
                }
            }
        })
        .unwrap();
    let unseen = u64::from(expected.len() == 2);
    assert_eq!(chosen as u64, capacity - unseen);
    drop(kept);
}

#[test]
fn sockets_are_counted_without_listing_them() {
    let busy = |inuse_v4, inuse_v6, time_wait| Busy {
        inuse_v4,
        inuse_v6,
        time_wait,
    };
    let v4 = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 3 alloc 9 mem 0\nUDP: inuse 2 mem 1\n";
    let v6 = "TCP6: inuse 2\nUDP6: inuse 3\n";
    assert_eq!(Busy::parse(v4, v6), busy(5, 2, 3));
    assert_eq!(Busy::parse(v4, v6).count(), 10);
    assert_eq!(Busy::parse("", ""), Busy::UNKNOWN);
    assert_eq!(Busy::parse("TCP: inuse x", "TCP6: inuse"), Busy::UNKNOWN);
}

#[test]
fn a_namespace_is_listed_again_when_something_changed() {
    let test = "a_namespace_is_listed_again_when_something_changed";
    let Some(netns) = space(test) else {
        return;
    };
    let listen = |port: u16| {
        let listener = netns.run_in(|| TcpListener::bind(("127.0.0.1", port)).unwrap());
        listener.unwrap()
    };
    let range = |low, high| {
        let set = move || PortRange { low, high }.write().unwrap();
        netns.run_in(set).unwrap();
    };
    let owners = super::Owners::read(&mut Missed::default());
    let held = owners.namespaces().find(|one| one.inode == netns.inode());
    let found = held.unwrap().clone();
    let mut lookout = Lookout::default();
    let mut listed = |deadline| {
        let (found, mut missed) = (vec![found.clone()], Missed::default());
        let listings = super::look_at(found, deadline, &mut missed, &mut lookout);
        assert!(missed.is_empty());
        listings.len()
    };
    let soon = || Instant::now() + Duration::from_secs(60);
    assert_eq!((listed(soon()), listed(soon())), (1, 0));
    let kept = listen(5000);
    assert_eq!((listed(soon()), listed(soon())), (1, 0));
    drop(kept);
    assert_eq!((listed(soon()), listed(soon())), (1, 0));
    // One that is listed for its settings' sake.
    range(20_000, 20_016);
    assert_eq!((listed(soon()), listed(soon())), (1, 0));
    let _kept = listen(5000);
    assert_eq!((listed(soon()), listed(soon())), (1, 0));
    // One listener could hold a sixteenth of these.
    range(20_000, 20_015);
    assert_eq!((listed(soon()), listed(soon())), (1, 1));
}

#[test]
fn without_time_the_busiest_namespace_is_looked_at_and_the_others_are_named() {
    let test = "without_time_the_busiest_namespace_is_looked_at_and_the_others_are_named";
    let Some(quiet) = space(test) else {
        return;
    };
    let (Some(busy), Some(empty)) = (space(test), space(test)) else {
        return;
    };
    let listen = |count: u16| {
        (0..count)
            .map(|port| TcpListener::bind(("127.0.0.1", 5000 + port)).unwrap())
            .collect::<Vec<_>>()
    };
    let kept =
        [(&quiet, 1), (&busy, 3)].map(|(netns, count)| netns.run_in(|| listen(count)).unwrap());
    let owners = super::Owners::read(&mut Missed::default());
    let found = |netns: &Netns| {
        let found = owners.namespaces().find(|one| one.inode == netns.inode());
        found.unwrap().clone()
    };
    let look = |deadline| {
        let mut missed = Missed::default();
        let order = vec![found(&empty), found(&quiet), found(&busy)];
        let seen: Vec<_> = super::look_at(order, deadline, &mut missed, &mut Lookout::default())
            .iter()
            .map(|listing| listing.dump.namespace.inode)
            .collect();
        (seen, missed)
    };
    let (seen, missed) = look(Instant::now() + Duration::from_secs(60));
    assert_eq!(seen, [empty.inode(), quiet.inode(), busy.inode()]);
    assert!(missed.is_empty(), "{missed:?}");
    let (seen, missed) = look(Instant::now());
    assert_eq!(seen, [empty.inode(), busy.inode()]);
    let words: Vec<_> = missed.iter().map(ToString::to_string).collect();
    let [words] = words.as_slice() else {
        panic!("{words:?}");
    };
    assert!(words.contains("with 1 TCP sockets"), "{words}");
    assert!(words.contains("--netns"), "{words}");
    drop(kept);
}
