/*! What a scenario stands in: a namespace pair, its clients and servers. */

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracer::exit::NotAllowed;
use tracer::host::sock_diag::{TcpSocket, tcp_sockets};
use tracer::sandbox::workload::{Connect, Manner, Serve, Then, Work};
use tracer::sandbox::{Pair, Process, SERVER_V4, SERVER_V6, Settings, Side};
use tracer_ebpf::tcp_state;

/// How long anything may take that should come at once: on an emulated machine, twenty times slower
/// than a real one, that is a while.
pub(crate) const SOON: Duration = Duration::from_secs(180);

/// Why a scenario cannot run here.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

/// A scenario's own two namespaces.
pub(crate) struct World {
    pub(crate) pair: Pair,
}

impl World {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Skip> {
        match Pair::create(settings) {
            Ok(pair) => Ok(Self { pair }),
            Err(error) if error.is::<NotAllowed>() => Err(Skip(format!("{error:#}"))),
            Err(error) => panic!("{error:#}"),
        }
    }

    /// With `count` source ports for the client.
    pub(crate) fn with_ports(count: u16) -> Result<Self, Skip> {
        Self::new(&Settings::with_ports(count))
    }

    /// A server at the server's addresses.
    pub(crate) fn server(&self, manner: Manner) -> Process {
        let mut at = vec![SocketAddr::new(SERVER_V4.into(), 7000)];
        if self.pair.has_v6() {
            at.push(SocketAddr::new(SERVER_V6.into(), 7000));
        }
        self.spawn(Side::Server, "server", &Work::Serve(Serve { at, manner }))
    }

    /// A client called `name` that waits for its go.
    pub(crate) fn client(&self, name: &str, work: &Work) -> Process {
        self.spawn(Side::Client, name, work)
    }

    fn spawn(&self, side: Side, name: &str, work: &Work) -> Process {
        self.pair.spawn(side, &own_program(), name, work).unwrap()
    }

    /// The kernel's list of a side's sockets.
    pub(crate) fn sockets(&self, side: Side) -> Vec<TcpSocket> {
        self.pair.run_in(side, tcp_sockets).unwrap().unwrap()
    }

    /// The kernel's count of a side's sockets by state.
    pub(crate) fn states(&self, side: Side) -> BTreeMap<u8, usize> {
        let mut states = BTreeMap::new();
        for socket in self.sockets(side) {
            *states.entry(socket.state).or_default() += 1;
        }
        states
    }

    /// Waits until every connection of a side is over, or a TIME_WAIT. That none is left in one
    /// state does not say so: it may not have come to that state yet.
    pub(crate) fn wait_until_over(&self, side: Side) {
        let deadline = Instant::now() + SOON;
        loop {
            let mut states = self.states(side);
            states.retain(|state, _| ![tcp_state::LISTEN, tcp_state::TIME_WAIT].contains(state));
            if states.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the connections of {side:?} were never over, last: {states:?}"
            );
            look_away();
        }
    }

    /// Waits until a side has exactly `count` sockets in `state`.
    pub(crate) fn wait_for(&self, side: Side, state: u8, count: usize) {
        let deadline = Instant::now() + SOON;
        loop {
            let states = self.states(side);
            if states.get(&state).copied().unwrap_or_default() == count {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{side:?} never had {count} sockets in state {state}, last: {states:?}"
            );
            look_away();
        }
    }
}

/// Leaves the processor to those that are waited for, between two looks whether they are done. (An
/// emulated machine passes over such time: one that never rests takes minutes for a minute.)
pub(crate) fn look_away() {
    std::thread::sleep(Duration::from_millis(2));
}

/// Where [`World::server`] listens by default.
pub(crate) fn server_v4() -> SocketAddr {
    SocketAddr::new(SERVER_V4.into(), 7000)
}

/// The same for IPv6.
pub(crate) fn server_v6() -> SocketAddr {
    SocketAddr::new(SERVER_V6.into(), 7000)
}

/// The same as an IPv6 socket sees IPv4.
pub(crate) fn server_mapped() -> SocketAddr {
    SocketAddr::new(IpAddr::V6(SERVER_V4.to_ipv6_mapped()), 7000)
}

/// `attempts` connections to `to`, each followed by `then`.
pub(crate) fn connect(to: SocketAddr, attempts: u64, then: Then) -> Work {
    Work::Connect(Connect::new(to, attempts).then(then))
}

/// The executable of the clients and servers.
pub(crate) fn own_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// Finds a program of a package in `PATH` or where Debian keeps daemons.
pub(crate) fn find(program: &str, package: &str) -> Result<PathBuf, Skip> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| missing(program, package))
}

/// What a machine without the packages says.
pub(crate) fn missing(what: &str, package: &str) -> Skip {
    Skip(format!(
        "{what} is missing; install Debian's package {package} (cargo xtask test --setup)"
    ))
}
