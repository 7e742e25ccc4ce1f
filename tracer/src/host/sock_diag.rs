/*! The kernel's own list of TCP sockets, TIME_WAIT included, by `NETLINK_SOCK_DIAG`. */

use std::io;
use std::net::SocketAddr;

use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use rtnetlink::sys::{Socket, SocketAddr as NetlinkAddr};

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
}

/// Lists the TCP sockets of this thread's network namespace, both families,
/// in any state.
///
/// # Errors
/// What the kernel answered, or that its answer was not understood.
pub fn tcp_sockets() -> io::Result<Vec<TcpSocket>> {
    let mut list = Vec::new();
    for (family, socket_id) in [
        (AF_INET, SocketId::new_v4()),
        (AF_INET6, SocketId::new_v6()),
    ] {
        dump(
            InetRequest {
                family,
                protocol: IPPROTO_TCP,
                extensions: ExtensionFlags::empty(),
                states: StateFlags::all(),
                socket_id,
            },
            &mut list,
        )?;
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

fn dump(request: InetRequest, list: &mut Vec<TcpSocket>) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut packet = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            // The header's length is unpadded; messages start at multiples of four.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    let id = &response.header.socket_id;
                    list.push(TcpSocket {
                        family: u16::from(response.header.family),
                        state: response.header.state,
                        local: address(id.source_address, id.source_port),
                        remote: address(id.destination_address, id.destination_port),
                        cookie: u64::from_ne_bytes(id.cookie),
                        inode: response.header.inode,
                    });
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
        }
    }
}

fn address(ip: std::net::IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use tracer_ebpf::tcp_state;

    use super::tcp_sockets;

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
}
