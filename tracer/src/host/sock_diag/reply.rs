/*!
What the kernel answers to a dump of `inet_diag`, read in place.

Listings run to a million sockets, and a general netlink parser allocates for the attributes of
each; only fixed fields of `struct inet_diag_msg` are wanted here, which the ABI keeps where they are.
*/

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tracer_ebpf::{AF_INET, AF_INET6};

use super::TcpSocket;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_msg`.
const MESSAGE: usize = 72;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Of the question, and of each socket that answers it.
pub(super) const TCPDIAG_GETSOCK: u16 = 18;

/// `idiag_timer` of what is not a whole socket any more.
const TIMER_TIME_WAIT: u8 = 3;

/// One message of the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A socket.
    Socket(TcpSocket),
    /// The last one.
    Done,
    /// Nothing that was asked for.
    Other,
}

/// The messages in one datagram; nothing after an error.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<Reply>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = first(rest);
        // The header's length is unpadded; messages start at multiples of four.
        rest = match message {
            Ok((_, length)) => rest.get(length.next_multiple_of(4)..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(message.map(|(reply, _)| reply))
    })
}

/// The first message, and its length with its header.
fn first(bytes: &[u8]) -> io::Result<(Reply, usize)> {
    let length = array(bytes, 0).map(u32::from_ne_bytes).ok_or_else(torn)? as usize;
    let kind = array(bytes, 4).map(u16::from_ne_bytes).ok_or_else(torn)?;
    let payload = bytes.get(HEADER..length).ok_or_else(torn)?;
    let reply = match kind {
        TCPDIAG_GETSOCK => Reply::Socket(socket(payload).ok_or_else(torn)?),
        NLMSG_ERROR | NLMSG_DONE => {
            // DONE has the errno at which the listing broke off; some kernels leave out its zero.
            match array(payload, 0).map_or(0, i32::from_ne_bytes) {
                0 if kind == NLMSG_DONE => Reply::Done,
                0 => Reply::Other,
                errno => return Err(io::Error::from_raw_os_error(errno.saturating_neg())),
            }
        }
        _ => Reply::Other,
    };
    Ok((reply, length))
}

/// Reads a `struct inet_diag_msg`: addresses and ports in network order, the rest native.
fn socket(message: &[u8]) -> Option<TcpSocket> {
    let message: &[u8; MESSAGE] = message.first_chunk()?;
    let family = u16::from(message[0]);
    let address = |port: usize, ip: usize| {
        let ip = match family {
            AF_INET => IpAddr::V4(Ipv4Addr::from(array::<4>(message, ip)?)),
            AF_INET6 => IpAddr::V6(Ipv6Addr::from(array::<16>(message, ip)?)).to_canonical(),
            _ => return None,
        };
        let port = array(message, port).map(u16::from_be_bytes)?;
        Some(SocketAddr::new(ip, port))
    };
    Some(TcpSocket {
        family,
        state: message[1],
        local: address(4, 8)?,
        remote: address(6, 24)?,
        cookie: array(message, 44).map(u64::from_ne_bytes)?,
        inode: array(message, 68).map(u32::from_ne_bytes)?,
        left_ms: array(message, 52)
            .map(u32::from_ne_bytes)
            .filter(|_| message[2] == TIMER_TIME_WAIT),
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn torn() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's list of sockets is not in the form of inet_diag",
    )
}

#[cfg(test)]
mod tests {
    use netlink_packet_sock_diag::SockDiagMessage;
    use netlink_packet_sock_diag::inet::{InetResponse, InetResponseHeader, SocketId};
    use rtnetlink::packet_core::{NetlinkHeader, NetlinkMessage};
    use tracer_ebpf::AF_INET6;

    use super::{Reply, messages};

    /// What the kept netlink crate writes for one socket.
    fn response(family: u8, source: &str, inode: u32) -> Vec<u8> {
        let header = InetResponseHeader {
            family,
            state: 6,
            timer: None,
            socket_id: SocketId {
                source_port: 40_001,
                destination_port: 5432,
                source_address: source.parse().unwrap(),
                destination_address: source.parse().unwrap(),
                interface_id: 3,
                cookie: 0x1122_3344_5566_7788_u64.to_ne_bytes(),
            },
            recv_queue: 1,
            send_queue: 2,
            uid: 4,
            inode,
        };
        let message = SockDiagMessage::InetResponse(Box::new(InetResponse {
            header,
            nlas: Default::default(),
        }));
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), message.into());
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        // The crate knows the newer question only, whose answers are the same but for this.
        bytes[4..6].copy_from_slice(&super::TCPDIAG_GETSOCK.to_ne_bytes());
        bytes
    }

    fn plain(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(super::HEADER + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn reads_what_the_netlink_crate_writes() {
        let mut datagram = response(2, "192.0.2.1", 77);
        datagram.extend(response(10, "2001:db8::1", 0));
        datagram.extend(response(10, "::ffff:192.0.2.9", 5));
        datagram.extend(plain(super::NLMSG_DONE, &0_i32.to_ne_bytes()));
        let replies: Vec<_> = messages(&datagram).map(Result::unwrap).collect();
        let [
            Reply::Socket(v4),
            Reply::Socket(v6),
            Reply::Socket(mapped),
            Reply::Done,
        ] = replies.as_slice()
        else {
            panic!("{replies:?}");
        };
        assert_eq!(v4.local, "192.0.2.1:40001".parse().unwrap());
        assert_eq!(v4.remote, "192.0.2.1:5432".parse().unwrap());
        assert_eq!((v4.state, v4.inode, v4.left_ms), (6, 77, None));
        assert_eq!(v4.cookie, 0x1122_3344_5566_7788);
        assert_eq!(v6.local, "[2001:db8::1]:40001".parse().unwrap());
        assert_eq!(mapped.local, "192.0.2.9:40001".parse().unwrap());
        assert_eq!(mapped.family, AF_INET6);
    }

    #[test]
    fn only_the_timer_of_a_time_wait_counts() {
        let mut bytes = response(2, "192.0.2.1", 0);
        bytes[super::HEADER + 52..][..4].copy_from_slice(&42_000_u32.to_ne_bytes());
        for (timer, expected) in [
            (0, None),
            (1, None),
            (2, None),
            (3, Some(42_000)),
            (4, None),
        ] {
            bytes[super::HEADER + 2] = timer;
            let Some(Ok(Reply::Socket(socket))) = messages(&bytes).next() else {
                panic!("no socket");
            };
            assert_eq!(socket.left_ms, expected);
        }
    }

    #[test]
    fn an_errno_is_an_error_wherever_it_comes() {
        for kind in [super::NLMSG_ERROR, super::NLMSG_DONE] {
            let datagram = plain(kind, &(-2_i32).to_ne_bytes());
            let replies: Vec<_> = messages(&datagram).collect();
            let [Err(error)] = replies.as_slice() else {
                panic!("{replies:?}");
            };
            assert_eq!(error.raw_os_error(), Some(2));
        }
    }

    #[test]
    fn torn_datagrams_are_errors_and_end() {
        let whole = response(2, "192.0.2.1", 77);
        for length in 1..whole.len() {
            let replies: Vec<_> = messages(&whole[..length]).collect();
            assert!(
                matches!(replies.as_slice(), [Err(_)]),
                "{length}: {replies:?}"
            );
        }
        let mut endless = whole.clone();
        endless[..4].copy_from_slice(&0_u32.to_ne_bytes());
        assert_eq!(messages(&endless).count(), 1);
        let mut other_family = whole;
        other_family[super::HEADER] = 1;
        assert!(matches!(messages(&other_family).next(), Some(Err(_))));
    }
}
