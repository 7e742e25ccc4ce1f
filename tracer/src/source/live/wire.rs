/*! Bytes of the ring buffer to the wire struct to the owned event, each field checked. */

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bytes::Buf;
use tracer_ebpf::{COMM_LEN, cause, closer, direction, flags, kind, reason};

use crate::model::{
    Cause, Closer, Direction, EndReason, Error, Event, Kind, Ownership, Process, Task, TaskName,
    TcpState, Tuple,
};

/// Bytes of a record.
const LENGTH: usize = size_of::<tracer_ebpf::Event>();

const _: () = assert!(COMM_LEN == crate::model::COMM_LEN && LENGTH == 160);

/// Says which process a task of the kernel's is of.
pub trait Resolve {
    /// The process of a task; asked for every event, so it must be quick the second time.
    fn resolve(&mut self, task: &Task) -> Arc<Process>;
}

impl<F: FnMut(&Task) -> Arc<Process>> Resolve for F {
    fn resolve(&mut self, task: &Task) -> Arc<Process> {
        self(task)
    }
}

/// Why a record is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not the size of the wire struct.
    #[error("a record of {0} bytes is not an event, which has 160")]
    Length(usize),
    /// A coded field holds a number that means nothing.
    #[error("the event's {field} is {value}, which has no meaning")]
    Code {
        /// Name of the field.
        field: &'static str,
        /// What it holds.
        value: u32,
    },
    /// An IPv4 socket with an address that is not in IPv4 form.
    #[error("the event's family is IPv4 but its address is {0}")]
    Address(Ipv6Addr),
}

const ALL_FLAGS: u32 = flags::INFERRED
    | flags::OWNER_AT_CLOSE
    | flags::OWNER_UNKNOWN
    | flags::SAMPLE
    | flags::COUNTED_HERE
    | flags::BOUND;

/// Reads one ring buffer record.
///
/// # Errors
/// [`Malformed`] when the length or any coded field is not one of the wire contract.
pub fn decode(bytes: &[u8], people: &mut impl Resolve) -> Result<Event, Malformed> {
    event(&read(bytes)?, people)
}

/// Reads the wire struct out of its native-endian bytes, in field order.
fn read(mut bytes: &[u8]) -> Result<tracer_ebpf::Event, Malformed> {
    if bytes.len() != LENGTH {
        return Err(Malformed::Length(bytes.len()));
    }
    let bytes = &mut bytes;
    Ok(tracer_ebpf::Event {
        ts_ns: bytes.get_u64_ne(),
        cookie: bytes.get_u64_ne(),
        duration_ns: bytes.get_u64_ne(),
        search_ns: bytes.get_u64_ne(),
        owner: tracer_ebpf::Owner {
            start_ns: bytes.get_u64_ne(),
            cgroup_id: bytes.get_u64_ne(),
            tgid: bytes.get_u32_ne(),
            tid: bytes.get_u32_ne(),
            uid: bytes.get_u32_ne(),
            reserved: bytes.get_u32_ne(),
            comm: array::<COMM_LEN>(bytes),
            thread: array::<COMM_LEN>(bytes),
        },
        tuple: tracer_ebpf::Tuple {
            netns: bytes.get_u32_ne(),
            ifindex: bytes.get_u32_ne(),
            family: bytes.get_u16_ne(),
            sport: bytes.get_u16_ne(),
            dport: bytes.get_u16_ne(),
            reserved: bytes.get_u16_ne(),
            src: array::<16>(bytes),
            dst: array::<16>(bytes),
        },
        flags: bytes.get_u32_ne(),
        errno: bytes.get_u16_ne(),
        kind: bytes.get_u8(),
        cause: bytes.get_u8(),
        closer: bytes.get_u8(),
        direction: bytes.get_u8(),
        state: bytes.get_u8(),
        reason: bytes.get_u8(),
        reserved: bytes.get_u32_ne(),
    })
}

fn array<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let mut array = [0; N];
    bytes.copy_to_slice(&mut array);
    array
}

/// The same from the struct, as the failures map holds it: checks every coded field and names it.
///
/// # Errors
/// As [`decode`].
pub fn event(wire: &tracer_ebpf::Event, people: &mut impl Resolve) -> Result<Event, Malformed> {
    if wire.flags & !ALL_FLAGS != 0 {
        return Err(code("flags", wire.flags));
    }
    let kind = kind_of(wire.kind)?;
    let named = cause_of(wire.cause)?;
    let cause = kind
        .is_failure()
        .then(|| named.unwrap_or_else(|| Cause::from_errno(kind, wire.errno, wire.tuple.sport)));
    let ownership = if wire.flags & flags::OWNER_UNKNOWN != 0 || wire.owner.tgid == 0 {
        Ownership::Unknown
    } else if wire.flags & flags::OWNER_AT_CLOSE != 0 {
        Ownership::AtClose
    } else {
        Ownership::Seen
    };
    let tuple = tuple_of(&wire.tuple)?;
    let (closer, direction) = (closer_of(wire.closer)?, direction_of(wire.direction)?);
    let (state, end_reason) = (state_of(wire.state)?, reason_of(wire.reason)?);
    // Last, so that nobody is looked up for a record that is none.
    let process = match ownership {
        Ownership::Unknown => Process::nobody(),
        Ownership::Seen | Ownership::AtClose => people.resolve(&task(&wire.owner)),
    };
    Ok(Event {
        ts_ns: wire.ts_ns,
        kind,
        process,
        ownership,
        tid: wire.owner.tid,
        tuple,
        cookie: known(wire.cookie),
        duration_ns: known(wire.duration_ns),
        search_ns: known(wire.search_ns),
        errno: (wire.errno != 0).then_some(Error(wire.errno)),
        cause,
        closer,
        direction,
        state,
        end_reason,
        inferred: wire.flags & flags::INFERRED != 0,
        bound: wire.flags & flags::BOUND != 0,
        sample: wire.flags & flags::SAMPLE != 0,
    })
}

fn known(value: u64) -> Option<u64> {
    (value != 0).then_some(value)
}

fn code(field: &'static str, value: impl Into<u32>) -> Malformed {
    Malformed::Code {
        field,
        value: value.into(),
    }
}

fn kind_of(value: u8) -> Result<Kind, Malformed> {
    Ok(match value {
        kind::OPENED => Kind::Opened,
        kind::CLOSED => Kind::Closed,
        kind::TIME_WAIT => Kind::TimeWait,
        kind::TIME_WAIT_END => Kind::TimeWaitEnd,
        kind::CONNECT_FAILED => Kind::ConnectFailed,
        kind::BIND_FAILED => Kind::BindFailed,
        other => return Err(code("kind", other)),
    })
}

fn cause_of(value: u8) -> Result<Option<Cause>, Malformed> {
    Ok(Some(match value {
        cause::UNKNOWN => return Ok(None),
        cause::PORTS_EXHAUSTED => Cause::PortsExhausted,
        cause::TUPLE_IN_USE => Cause::TupleInUse,
        cause::ADDRESS_NOT_LOCAL => Cause::AddressNotLocal,
        cause::NO_ROUTE => Cause::NoRoute,
        cause::REFUSED => Cause::Refused,
        cause::TIMED_OUT => Cause::TimedOut,
        cause::RESET => Cause::Reset,
        cause::OTHER => Cause::Other,
        other => return Err(code("cause", other)),
    }))
}

fn closer_of(value: u8) -> Result<Option<Closer>, Malformed> {
    Ok(Some(match value {
        closer::UNKNOWN => return Ok(None),
        closer::LOCAL => Closer::Local,
        closer::PEER => Closer::Peer,
        closer::RESET => Closer::Reset,
        other => return Err(code("closer", other)),
    }))
}

fn direction_of(value: u8) -> Result<Option<Direction>, Malformed> {
    Ok(Some(match value {
        0 => return Ok(None),
        direction::OUT => Direction::Out,
        direction::IN => Direction::In,
        other => return Err(code("direction", other)),
    }))
}

fn state_of(value: u8) -> Result<Option<TcpState>, Malformed> {
    match value {
        0 => Ok(None),
        number => TcpState::of_kernel(number)
            .map(Some)
            .ok_or_else(|| code("state", number)),
    }
}

fn reason_of(value: u8) -> Result<Option<EndReason>, Malformed> {
    Ok(Some(match value {
        reason::UNKNOWN => return Ok(None),
        reason::EXPIRED => EndReason::Expired,
        reason::EARLY => EndReason::Early,
        reason::REUSED => EndReason::Reused,
        reason::KILLED => EndReason::Killed,
        reason::NETNS_REMOVED => EndReason::NetnsRemoved,
        other => return Err(code("reason", other)),
    }))
}

/// The task in the contract's form, as the sockets map holds it too.
pub fn task(wire: &tracer_ebpf::Owner) -> Task {
    // Before Linux 5.11, locked down to confidentiality, the task cannot be read: then the thread's
    // name, which a helper gives, is all there is.
    let comm = match wire.comm {
        [0, ..] => wire.thread,
        comm => comm,
    };
    Task {
        tgid: wire.tgid,
        uid: wire.uid,
        start_ns: wire.start_ns,
        cgroup_id: wire.cgroup_id,
        comm: TaskName::new(comm),
        thread: TaskName::new(wire.thread),
    }
}

fn tuple_of(wire: &tracer_ebpf::Tuple) -> Result<Tuple, Malformed> {
    let src = Ipv6Addr::from(wire.src);
    let dst = Ipv6Addr::from(wire.dst);
    let talks_v4 = [src, dst].iter().any(|ip| ip.to_ipv4_mapped().is_some());
    let (mapped, src, dst) = match wire.family {
        tracer_ebpf::AF_INET => (false, v4_of(src)?, v4_of(dst)?),
        tracer_ebpf::AF_INET6 if talks_v4 => (true, v4_of(src)?, v4_of(dst)?),
        tracer_ebpf::AF_INET6 => (false, IpAddr::V6(src), IpAddr::V6(dst)),
        other => return Err(code("family", other)),
    };
    Ok(Tuple {
        netns: wire.netns,
        ifindex: wire.ifindex,
        mapped,
        src,
        sport: wire.sport,
        dst,
        dport: wire.dport,
    })
}

/// The IPv4 address behind its IPv6 form; all zero bytes are an address not set.
fn v4_of(ip: Ipv6Addr) -> Result<IpAddr, Malformed> {
    match ip.to_ipv4_mapped() {
        Some(v4) => Ok(IpAddr::V4(v4)),
        None if ip.is_unspecified() => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        None => Err(Malformed::Address(ip)),
    }
}

#[cfg(test)]
mod tests;
