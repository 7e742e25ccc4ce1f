/*! The kernel's own list of TCP sockets, TIME_WAIT included, by `NETLINK_SOCK_DIAG`. */

mod reply;

use std::io;
use std::net::SocketAddr;

use netlink_packet_sock_diag::inet::StateFlags;
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use rtnetlink::sys::{Socket, SocketAddr as NetlinkAddr};

use self::reply::{Reply, TCPDIAG_GETSOCK};
use super::netns::Netns;

/// The kernel fills at most this much at once when the reader offers it.
const BUFFER: usize = 64 * 1024;

/// One TCP socket, or what is left of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Address family of the socket: AF_INET6 also where it is v4-mapped.
    pub family: u16,
    /// State as the kernel numbers it ([`tracer_ebpf::tcp_state`]).
    pub state: u8,
    /// Local address; IPv4 where the socket is v4-mapped.
    pub local: SocketAddr,
    /// Remote address, the same way.
    pub remote: SocketAddr,
    /// Socket cookie, as tracing programs see it.
    pub cookie: u64,
    /// Inode of the socket; 0 for TIME_WAIT and other orphans.
    pub inode: u32,
    /// Time until a TIME_WAIT (or FIN_WAIT2 mini-socket) is due to end, ms; `None` for others.
    pub left_ms: Option<u32>,
}

/// Which states to list: bits numbered as [`tracer_ebpf::tcp_state`] numbers states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(u32);

impl Mask {
    /// Every state of a connection, and listeners.
    pub const CONNECTED: Self = Self(StateFlags::all().bits());
    /// Sockets that have a port by bind() and neither connected nor listen (`TCP_BOUND_INACTIVE`,
    /// Linux 6.8; an older kernel lists none). They come with the state CLOSE.
    pub const BOUND: Self = Self(1 << 13);

    /// The same but for one state.
    #[must_use]
    pub const fn without(self, state: u8) -> Self {
        Self(self.0 & !(1 << state))
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Lists the TCP sockets of this thread's network namespace, both families,
/// in any state; those that are only bound are left out.
///
/// # Errors
/// What the kernel answered, or that its answer was not understood.
pub fn tcp_sockets() -> io::Result<Vec<TcpSocket>> {
    let mut list = Vec::new();
    each_tcp_socket(Mask::CONNECTED, |socket| list.push(socket))?;
    Ok(list)
}

/// Lists the TCP sockets of the network namespace with this inode.
///
/// # Errors
/// When the namespace is not to be found or entered, and as [`tcp_sockets`].
pub fn tcp_sockets_of(netns: u32) -> anyhow::Result<Vec<TcpSocket>> {
    Ok(Netns::of_inode(netns)?.run_in(tcp_sockets)??)
}

/// Hands each TCP socket of this thread's network namespace to `take`. Each call makes the kernel
/// walk its table of *all* sockets, whatever namespace they are in.
///
/// # Errors
/// As [`tcp_sockets`].
pub fn each_tcp_socket(states: Mask, mut take: impl FnMut(TcpSocket)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(BothFamilies { states }));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        for message in reply::messages(&buffer) {
            match message? {
                Reply::Socket(socket) => take(socket),
                Reply::Done => return Ok(()),
                Reply::Other => {}
            }
        }
    }
}

/// `struct inet_diag_req`: the older form of the question, which asks for both families in one walk
/// (`inet_diag_dump_compat`, net/ipv4/inet_diag.c), where the newer one takes a walk for each.
struct BothFamilies {
    states: Mask,
}

impl BothFamilies {
    /// Where the states are, after lengths and a `struct inet_diag_sockid` that match everything.
    const STATES: usize = 52;
    const LENGTH: usize = 60;
}

impl NetlinkSerializable for BothFamilies {
    fn message_type(&self) -> u16 {
        TCPDIAG_GETSOCK
    }

    fn buffer_len(&self) -> usize {
        Self::LENGTH
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
        buffer[Self::STATES..][..4].copy_from_slice(&self.states.0.to_ne_bytes());
    }
}

impl From<BothFamilies> for NetlinkPayload<BothFamilies> {
    fn from(request: BothFamilies) -> Self {
        Self::InnerMessage(request)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use tracer_ebpf::tcp_state;

    use super::{Mask, each_tcp_socket, tcp_sockets};

    #[test]
    fn finds_a_connection_and_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let stream = TcpStream::connect(at).unwrap();
        let sockets = tcp_sockets().unwrap();
        assert!(
            sockets
                .iter()
                .any(|s| s.local == at && s.state == tcp_state::LISTEN)
        );
        assert!(
            sockets
                .iter()
                .any(|s| s.local == stream.local_addr().unwrap()
                    && s.remote == at
                    && s.state == tcp_state::ESTABLISHED
                    && s.inode != 0)
        );
    }

    #[test]
    fn lists_both_families_each_socket_once() {
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(|at| TcpListener::bind(at).ok());
        let sockets = tcp_sockets().unwrap();
        for listener in listeners.into_iter().flatten() {
            let at = listener.local_addr().unwrap();
            let found = sockets.iter().filter(|socket| socket.local == at);
            assert_eq!(found.count(), 1, "{at}");
        }
    }

    #[test]
    fn finds_a_bound_socket_where_the_kernel_lists_them() {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let at: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&at.into()).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        let listed = |mask| {
            let mut found = false;
            each_tcp_socket(mask, |socket| {
                found |= socket.local == at
                    && socket.state == tcp_state::CLOSE
                    && socket.remote.port() == 0;
            })
            .unwrap();
            found
        };
        assert!(!listed(Mask::CONNECTED));
        let release = nix::sys::utsname::uname().unwrap();
        let release = release.release().to_string_lossy().into_owned();
        let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
        if (numbers.next(), numbers.next()) < (Some(6), Some(8)) {
            eprintln!(
                "skipping finds_a_bound_socket_where_the_kernel_lists_them: Linux {release} does not"
            );
            return;
        }
        assert!(listed(Mask::BOUND));
        assert!(listed(Mask::CONNECTED.and(Mask::BOUND)));
    }
}
