/*! The kernel's own list of TCP sockets, TIME_WAIT included, by `NETLINK_SOCK_DIAG`. */

mod reply;

use std::io;
use std::net::SocketAddr;

use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use rtnetlink::sys::{Socket, SocketAddr as NetlinkAddr};

use self::reply::Reply;
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

/// Address families, as `inet_diag` knows them. A v4-mapped socket is one of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
}

/// Lists the TCP sockets of this thread's network namespace, both families,
/// in any state; those that are only bound are left out.
///
/// # Errors
/// What the kernel answered, or that its answer was not understood.
pub fn tcp_sockets() -> io::Result<Vec<TcpSocket>> {
    let mut list = Vec::new();
    for family in [Family::V4, Family::V6] {
        each_tcp_socket(family, Mask::CONNECTED, |socket| list.push(socket))?;
    }
    Ok(list)
}

/// Lists the TCP sockets of the network namespace with this inode.
///
/// # Errors
/// When the namespace is not to be found or entered, and as [`tcp_sockets`].
pub fn tcp_sockets_of(netns: u32) -> anyhow::Result<Vec<TcpSocket>> {
    Ok(Netns::of_inode(netns)?.run_in(tcp_sockets)??)
}

/// Hands each TCP socket of one family of this thread's network namespace to `take`. Each call
/// makes the kernel walk its table of *all* sockets, whatever namespace they are in.
///
/// # Errors
/// As [`tcp_sockets`].
pub fn each_tcp_socket(
    family: Family,
    states: Mask,
    mut take: impl FnMut(TcpSocket),
) -> io::Result<()> {
    let (family, socket_id) = match family {
        Family::V4 => (AF_INET, SocketId::new_v4()),
        Family::V6 => (AF_INET6, SocketId::new_v6()),
    };
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::from_bits_retain(states.0),
        socket_id,
    };
    let mut packet = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use tracer_ebpf::tcp_state;

    use super::{Family, Mask, each_tcp_socket, tcp_sockets};

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
    fn finds_a_bound_socket_where_the_kernel_lists_them() {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let at: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&at.into()).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        let listed = |mask| {
            let mut found = false;
            each_tcp_socket(Family::V4, mask, |socket| {
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
