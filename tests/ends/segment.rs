/*! A TCP segment that belongs to no connection, as a lost sender of long ago might repeat it. */

use std::net::SocketAddrV4;

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of a TCP header without options.
const HEADER: u8 = 20;

/// Sends an ACK out of any window from this thread's namespace. The kernel there knows no socket
/// for it, so it will answer what the receiver answers with a RST that fits.
pub(super) fn send_stray_ack(from: SocketAddrV4, to: SocketAddrV4) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
    let sent = socket.send_to(&stray_ack(from, to), &to.into()).unwrap();
    assert_eq!(sent, usize::from(HEADER));
}

fn stray_ack(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    // Sequence and acknowledgement numbers that are nobody's.
    segment.extend(7_u32.to_be_bytes());
    segment.extend(7_u32.to_be_bytes());
    let ack = 0x10;
    segment.extend([(HEADER / 4) << 4, ack]);
    // No window, the checksum to come, nothing urgent.
    segment.extend([0; 6]);
    let pseudo = [from.ip().octets(), to.ip().octets(), [0, 6, 0, HEADER]].concat();
    let checksum = checksum(&[pseudo, segment.clone()].concat());
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// The checksum of the Internet, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to sixteen bits")
}
