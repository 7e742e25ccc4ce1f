/*! Namespaces made for the test, and every wrong way to name one. */

use std::fs::File;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use super::{Netns, NetnsError, Selector};
use crate::model::PortRange;

fn anonymous(test: &str) -> Option<Netns> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipping {test}: making a network namespace needs root");
        return None;
    }
    Some(Netns::anonymous().unwrap())
}

/// What only a working loopback does: a connection from an address to itself.
fn connects(address: SocketAddr) -> bool {
    let listener = TcpListener::bind(address).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (served, _) = listener.accept().unwrap();
    served.peer_addr().unwrap() == client.local_addr().unwrap()
}

#[test]
fn a_new_namespace_is_another_one_with_lo_up() {
    let Some(ns) = anonymous("a_new_namespace_is_another_one_with_lo_up") else {
        return;
    };
    let ours = Netns::current().unwrap().inode();
    assert_ne!(ns.inode(), ours);
    let inside = ns
        .run_in(|| {
            assert!(connects("127.0.0.1:0".parse().unwrap()));
            Netns::current().unwrap().inode()
        })
        .unwrap();
    assert_eq!(inside, ns.inode());
    assert_eq!(Netns::current().unwrap().inode(), ours, "the caller moved");
}

#[test]
fn the_loopback_has_ipv6_where_the_kernel_has() {
    let name = "the_loopback_has_ipv6_where_the_kernel_has";
    let Some(ns) = anonymous(name) else {
        return;
    };
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        eprintln!("skipping {name}: this kernel has no IPv6");
        return;
    }
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    assert!(ns.run_in(|| connects(address)).unwrap());
}

#[test]
fn a_socket_stays_in_its_namespace() {
    let Some(ns) = anonymous("a_socket_stays_in_its_namespace") else {
        return;
    };
    let listener = ns
        .run_in(|| TcpListener::bind("127.0.0.1:0").unwrap())
        .unwrap();
    let address = listener.local_addr().unwrap();
    let client = ns.run_in(|| TcpStream::connect(address).unwrap()).unwrap();
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
}

#[test]
fn nothing_is_left_when_the_file_closes() {
    let Some(ns) = anonymous("nothing_is_left_when_the_file_closes") else {
        return;
    };
    let inode = ns.inode();
    let found = Netns::of_inode(inode).unwrap();
    assert_eq!(found.inode(), inode, "by the descriptor that holds it");
    assert_ne!(ns.file.as_raw_fd(), found.file.as_raw_fd());
    let mark = PortRange {
        low: 41_007,
        high: 41_011,
    };
    ns.run_in(|| mark.write().unwrap()).unwrap();
    drop((ns, found));
    // A later namespace may get the inode of an earlier one, but not what was set in it. Another
    // test may hold a copy of the file for a moment: a child between fork and exec, a search.
    let mark_is_left = || match Netns::of_inode(inode) {
        Ok(other) => other.run_in(|| PortRange::read().unwrap() == mark).unwrap(),
        Err(NetnsError::NoSuchInode(missing)) => missing != inode,
        Err(error) => panic!("{error}"),
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while mark_is_left() {
        assert!(Instant::now() < deadline, "the namespace is still there");
        std::thread::yield_now();
    }
}

#[test]
fn a_thread_shows_its_namespace() {
    let Some(ns) = anonymous("a_thread_shows_its_namespace") else {
        return;
    };
    let inode = ns.inode();
    let found = ns.run_in(move || Netns::of_inode(inode).unwrap().inode());
    assert_eq!(found.unwrap(), inode);
}

#[test]
fn a_panic_inside_goes_on_outside() {
    let Some(ns) = anonymous("a_panic_inside_goes_on_outside") else {
        return;
    };
    let outside = catch_unwind(|| ns.run_in(|| panic!("inside")).is_ok());
    let panic = outside.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
}

#[test]
fn opens_what_people_name() {
    let ours = Netns::current().unwrap().inode();
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("ns");
    symlink("/proc/self/ns/net", &link).unwrap();
    for text in [
        ours.to_string(),
        format!("net:[{ours}]"),
        format!("pid:{}", std::process::id()),
        "/proc/self/ns/net".to_owned(),
        link.to_str().unwrap().to_owned(),
    ] {
        let selector: Selector = text.parse().unwrap();
        assert_eq!(selector.open().unwrap().inode(), ours, "{text}");
    }
}

#[test]
fn refuses_what_names_nothing() {
    for text in [
        "",
        "web",
        "pid:",
        "pid:web",
        "pid:0",
        "pid:-1",
        "-5",
        "+5",
        "0",
        "net:[x]",
        "99999999999",
        "1 2",
    ] {
        let error = text.parse::<Selector>().unwrap_err();
        assert!(matches!(error, NetnsError::Selector(_)), "{text}: {error}");
        assert!(error.to_string().contains("pid:N"), "{error}");
    }
}

#[test]
fn says_what_was_wrong() {
    let error = |text: &str| text.parse::<Selector>().unwrap().open().unwrap_err();
    assert!(matches!(
        error("pid:4194304"),
        NetnsError::NoSuchPid(4_194_304)
    ));
    assert!(matches!(
        error("4294967295"),
        NetnsError::NoSuchInode(u32::MAX)
    ));
    assert!(matches!(
        error("/proc/self/ns/mnt"),
        NetnsError::NotANetns(_)
    ));
    assert!(matches!(
        error("/proc/self/status"),
        NetnsError::NotANetns(_)
    ));
    let missing = error("/nonexistent/ns");
    assert!(matches!(missing, NetnsError::Open { .. }));
    assert!(missing.to_string().contains("/nonexistent/ns"), "{missing}");

    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let file = directory.path().join("file");
    File::create(&file).unwrap();
    for path in [fifo, file, directory.path().to_owned()] {
        let error = error(path.to_str().unwrap());
        assert!(matches!(error, NetnsError::NotANetns(_)), "{error}");
    }
}
