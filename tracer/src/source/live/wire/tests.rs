/*! Decoding: every field, every refusal, and random bytes. */

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tracer_ebpf::{cause, closer, direction, flags, kind, reason, tcp_state};

use super::Malformed;
use crate::model::{
    Cause, Closer, Direction, EndReason, Error, Event, Kind, Ownership, Process, Task, TaskName,
    TcpState,
};

fn v4(a: u8, b: u8, c: u8, d: u8) -> [u8; 16] {
    Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().octets()
}

fn name(text: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    name[..text.len()].copy_from_slice(text);
    name
}

/// An event with a different number in every field.
fn wire() -> tracer_ebpf::Event {
    tracer_ebpf::Event {
        ts_ns: 0x0102_0304_0506_0708,
        cookie: 11,
        duration_ns: 12,
        search_ns: 13,
        owner: tracer_ebpf::Owner {
            start_ns: 14,
            cgroup_id: 15,
            tgid: 16,
            tid: 17,
            uid: 18,
            reserved: 0,
            comm: name(b"web"),
            thread: name(b"worker\xff"),
        },
        tuple: tracer_ebpf::Tuple {
            netns: 19,
            ifindex: 20,
            family: tracer_ebpf::AF_INET,
            sport: 40001,
            dport: 6432,
            reserved: 0,
            src: v4(10, 0, 0, 1),
            dst: v4(10, 0, 0, 2),
        },
        flags: flags::INFERRED | flags::OWNER_AT_CLOSE,
        errno: 104,
        kind: kind::TIME_WAIT,
        cause: cause::UNKNOWN,
        closer: closer::PEER,
        direction: direction::OUT,
        state: tcp_state::FIN_WAIT2,
        reason: reason::EARLY,
        reserved: 0,
    }
}

fn bytes(wire: &tracer_ebpf::Event) -> [u8; 160] {
    // SAFETY: the struct is repr(C), 160 bytes of integers without padding.
    unsafe { std::mem::transmute_copy(wire) }
}

fn read(bytes: &[u8]) -> Result<Event, Malformed> {
    super::decode(bytes, &mut |task: &Task| Arc::new(Process::of(task)))
}

fn decode(change: impl FnOnce(&mut tracer_ebpf::Event)) -> Result<Event, Malformed> {
    let mut wire = wire();
    change(&mut wire);
    read(&bytes(&wire))
}

#[test]
fn every_field_arrives() {
    let event = decode(|_| ()).unwrap();
    assert_eq!(event.ts_ns, 0x0102_0304_0506_0708);
    assert_eq!(event.kind, Kind::TimeWait);
    assert_eq!(
        (event.cookie, event.duration_ns, event.search_ns),
        (Some(11), Some(12), Some(13))
    );
    let process = &event.process;
    assert_eq!((process.start_ns, process.cgroup_id), (14, 15));
    assert_eq!((process.tgid, event.tid, process.uid), (16, 17, 18));
    assert_eq!(process.comm.bytes(), b"web");
    assert_eq!(process.thread.bytes(), b"worker\xff");
    assert_eq!(event.ownership, Ownership::AtClose);
    let tuple = event.tuple;
    assert_eq!((tuple.netns, tuple.ifindex, tuple.mapped), (19, 20, false));
    assert_eq!((tuple.sport, tuple.dport), (40001, 6432));
    assert_eq!(tuple.src.to_string(), "10.0.0.1");
    assert_eq!(tuple.dst.to_string(), "10.0.0.2");
    assert_eq!(event.errno, Some(Error(104)));
    assert_eq!(event.cause, None);
    assert_eq!(event.closer, Some(Closer::Peer));
    assert_eq!(event.direction, Some(Direction::Out));
    assert_eq!(event.state, Some(TcpState::FinWait2));
    assert_eq!(event.end_reason, Some(EndReason::Early));
    assert!(event.inferred && !event.sample);
}

#[test]
fn states_are_numbered_as_the_kernel_numbers_them() {
    for (number, state) in [
        (tcp_state::ESTABLISHED, TcpState::Established),
        (tcp_state::SYN_SENT, TcpState::SynSent),
        (tcp_state::SYN_RECV, TcpState::SynRecv),
        (tcp_state::FIN_WAIT1, TcpState::FinWait1),
        (tcp_state::FIN_WAIT2, TcpState::FinWait2),
        (tcp_state::TIME_WAIT, TcpState::TimeWait),
        (tcp_state::CLOSE, TcpState::Close),
        (tcp_state::CLOSE_WAIT, TcpState::CloseWait),
        (tcp_state::LAST_ACK, TcpState::LastAck),
        (tcp_state::LISTEN, TcpState::Listen),
        (tcp_state::CLOSING, TcpState::Closing),
    ] {
        assert_eq!(
            decode(|wire| wire.state = number).unwrap().state,
            Some(state)
        );
    }
}

#[test]
fn zero_means_not_known() {
    let event = decode(|wire| {
        (wire.cookie, wire.duration_ns, wire.search_ns) = (0, 0, 0);
        (wire.errno, wire.closer, wire.direction) = (0, 0, 0);
        (wire.state, wire.reason) = (0, 0);
        wire.owner.tgid = 0;
    })
    .unwrap();
    assert_eq!(
        (event.cookie, event.duration_ns, event.search_ns),
        (None, None, None)
    );
    assert_eq!(
        (event.errno, event.closer, event.direction),
        (None, None, None)
    );
    assert_eq!((event.state, event.end_reason), (None, None));
    assert_eq!(event.ownership, Ownership::Unknown);
}

#[test]
fn v4_mapped_sockets_show_ipv4() {
    let event = decode(|wire| wire.tuple.family = tracer_ebpf::AF_INET6).unwrap();
    assert!(event.tuple.mapped);
    assert_eq!(event.tuple.dst, IpAddr::from([10, 0, 0, 2]));

    let event = decode(|wire| {
        wire.tuple.family = tracer_ebpf::AF_INET6;
        wire.tuple.src = [0; 16];
    })
    .unwrap();
    assert_eq!(event.tuple.src, IpAddr::from([0, 0, 0, 0]));

    let event = decode(|wire| {
        wire.tuple.family = tracer_ebpf::AF_INET6;
        wire.tuple.src = Ipv6Addr::LOCALHOST.octets();
        wire.tuple.dst = Ipv6Addr::LOCALHOST.octets();
    })
    .unwrap();
    assert!(!event.tuple.mapped);
    assert_eq!(event.tuple.dst.to_string(), "::1");
}

#[test]
fn a_failed_bind_has_no_destination() {
    let event = decode(|wire| {
        wire.kind = kind::BIND_FAILED;
        wire.errno = 99;
        (wire.tuple.dst, wire.tuple.dport) = ([0; 16], 0);
    })
    .unwrap();
    assert_eq!(event.tuple.dst, IpAddr::from([0, 0, 0, 0]));
    assert_eq!(event.cause, Some(Cause::AddressNotLocal));
}

#[test]
fn the_kernel_sides_cause_wins_over_the_errno() {
    let event = decode(|wire| {
        wire.kind = kind::CONNECT_FAILED;
        wire.errno = 99;
        wire.cause = cause::ADDRESS_NOT_LOCAL;
    })
    .unwrap();
    assert_eq!(event.cause, Some(Cause::AddressNotLocal));
}

#[test]
fn an_unclassified_failure_is_named_from_its_errno() {
    use Kind::{BindFailed, ConnectFailed};
    for (kind, errno, sport, expected) in [
        (ConnectFailed, 99, 0, Cause::PortsExhausted),
        (ConnectFailed, 99, 4000, Cause::TupleInUse),
        (BindFailed, 98, 0, Cause::PortsExhausted),
        (BindFailed, 98, 80, Cause::TupleInUse),
        (BindFailed, 99, 0, Cause::AddressNotLocal),
        (ConnectFailed, 101, 0, Cause::NoRoute),
        (ConnectFailed, 113, 0, Cause::NoRoute),
        (ConnectFailed, 111, 0, Cause::Refused),
        (ConnectFailed, 110, 0, Cause::TimedOut),
        (ConnectFailed, 104, 0, Cause::Reset),
        (ConnectFailed, 13, 0, Cause::Other),
        (BindFailed, 13, 80, Cause::Other),
    ] {
        assert_eq!(
            Cause::from_errno(kind, errno, sport),
            expected,
            "{kind:?} errno {errno} sport {sport}"
        );
    }
}

#[test]
fn errnos_have_their_symbolic_names() {
    for (number, expected) in [
        (99, "EADDRNOTAVAIL"),
        (98, "EADDRINUSE"),
        (111, "ECONNREFUSED"),
        (110, "ETIMEDOUT"),
        (24, "EMFILE"),
        (512, "E512"),
        (65535, "E65535"),
    ] {
        assert_eq!(Error(number).name(), expected);
        assert_eq!(
            format!("{:<15}|", Error(number)),
            format!("{expected:<15}|")
        );
    }
}

#[test]
fn reasons_of_ends_have_their_names() {
    for (code, name, is_early) in [
        (reason::EXPIRED, "expired", false),
        (reason::EARLY, "early", true),
        (reason::REUSED, "reused", true),
        (reason::KILLED, "killed", true),
        (reason::NETNS_REMOVED, "netns_removed", true),
    ] {
        let event = decode(|wire| {
            wire.kind = kind::TIME_WAIT_END;
            wire.reason = code;
        });
        let end = event.unwrap().end_reason.unwrap();
        assert_eq!((end.name(), end.is_early()), (name, is_early));
    }
}

#[test]
fn each_wrong_code_is_refused_by_name() {
    let refused = |change: fn(&mut tracer_ebpf::Event), field: &'static str, value: u32| {
        assert_eq!(decode(change), Err(Malformed::Code { field, value }));
    };
    refused(|wire| wire.kind = 0, "kind", 0);
    refused(|wire| wire.kind = 7, "kind", 7);
    refused(|wire| wire.cause = 9, "cause", 9);
    refused(|wire| wire.closer = 4, "closer", 4);
    refused(|wire| wire.direction = 3, "direction", 3);
    refused(|wire| wire.state = 12, "state", 12);
    refused(|wire| wire.reason = 6, "reason", 6);
    refused(|wire| wire.flags = 1 << 6, "flags", 64);
    refused(|wire| wire.tuple.family = 1, "family", 1);
    assert_eq!(
        decode(|wire| wire.tuple.dst = Ipv6Addr::LOCALHOST.octets()),
        Err(Malformed::Address(Ipv6Addr::LOCALHOST))
    );
}

#[test]
fn only_160_bytes_are_an_event() {
    let good = bytes(&wire());
    for length in 0..good.len() {
        assert_eq!(read(&good[..length]), Err(Malformed::Length(length)));
    }
    let long = [good.as_slice(), &[0]].concat();
    assert_eq!(read(&long), Err(Malformed::Length(161)));
}

#[test]
fn a_name_ends_at_its_zero() {
    let event = decode(|wire| wire.owner.comm = *b"sh\0leftover bits").unwrap();
    assert_eq!(event.process.comm.bytes(), b"sh");
    assert_eq!(event.process.comm, TaskName::new(name(b"sh")));
    let event = decode(|wire| wire.owner.comm = [b'x'; 16]).unwrap();
    assert_eq!(event.process.comm.bytes(), [b'x'; 16]);
}

#[test]
fn a_process_without_a_name_has_that_of_its_thread() {
    let named = |comm| {
        let event = decode(|wire| {
            wire.owner.comm = name(comm);
            wire.owner.thread = name(b"worker");
        });
        event.unwrap().process.comm
    };
    assert_eq!(named(b"").bytes(), b"worker");
    assert_eq!(named(b"web").bytes(), b"web");
}

/// splitmix64: enough randomness for a fuzz that fails the same way every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

#[test]
fn random_bytes_decode_or_are_malformed() {
    let mut random = Random(1);
    let (mut decoded, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let noise: Vec<u8> = (0..random.below(320)).map(|_| random.byte()).collect();
        refused += u32::from(read(&noise).is_err());
    }
    for _ in 0..20_000 {
        // A few flipped bytes of a good event reach deeper than noise does.
        let mut event = bytes(&wire());
        for _ in 0..=random.below(3) {
            event[random.below(160)] = random.byte();
        }
        match read(&event) {
            Ok(event) => {
                decoded += 1;
                assert_eq!(event.cause.is_some(), event.kind.is_failure());
                assert!(event.process.comm.bytes().len() <= 16);
                assert!(!event.errno.is_some_and(|errno| errno.name().is_empty()));
            }
            Err(malformed) => {
                refused += 1;
                assert!(!malformed.to_string().is_empty());
            }
        }
    }
    assert!(
        decoded > 1000 && refused > 20_000,
        "{decoded} and {refused}"
    );
}
