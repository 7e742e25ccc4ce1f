/*! The owned event: what one record of the ring buffer states, checked and typed. */

mod errno;
mod wire;

use std::borrow::Cow;
use std::net::IpAddr;

use nix::errno::Errno;

pub use wire::Malformed;

/// Lifetime of a TIME_WAIT, ns: `TCP_TIMEWAIT_LEN`, compiled into the kernel.
pub const TIME_WAIT_NS: u64 = 60_000_000_000;

/// What an [`Event`] states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A connection was established after our connect().
    Opened,
    /// A traced connection left its last state.
    Closed,
    /// A TIME_WAIT, or a FIN_WAIT2 mini-socket, was born.
    TimeWait,
    /// A TIME_WAIT, or a FIN_WAIT2 mini-socket, gave its port back.
    TimeWaitEnd,
    /// connect() failed.
    ConnectFailed,
    /// bind() failed.
    BindFailed,
}

impl Kind {
    /// The name of the JSON schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::TimeWait => "time_wait",
            Self::TimeWaitEnd => "time_wait_end",
            Self::ConnectFailed => "connect_failed",
            Self::BindFailed => "bind_failed",
        }
    }

    /// Whether the event is a call that returned an errno.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::ConnectFailed | Self::BindFailed)
    }
}

/// Why a connect() or bind() failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// No source port of the range is free.
    PortsExhausted,
    /// The chosen port makes a 4-tuple that exists, or conflicts.
    TupleInUse,
    /// The source address is not one of this host.
    AddressNotLocal,
    /// No route to the destination.
    NoRoute,
    /// The destination answered with RST.
    Refused,
    /// The destination did not answer.
    TimedOut,
    /// The connection was reset.
    Reset,
    /// Anything else; the errno says what.
    Other,
}

impl Cause {
    /// The name of the JSON schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::PortsExhausted => "ports_exhausted",
            Self::TupleInUse => "tuple_in_use",
            Self::AddressNotLocal => "address_not_local",
            Self::NoRoute => "no_route",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Reset => "reset",
            Self::Other => "other",
        }
    }

    /// Names the cause of a failure the kernel side did not classify.
    ///
    /// `sport` is the source port the call had chosen, 0 for none: with one, an
    /// address in use is a clash over that port, without one the range is dry.
    pub fn from_errno(kind: Kind, errno: u16, sport: u16) -> Self {
        match (kind, Errno::from_raw(i32::from(errno))) {
            (Kind::BindFailed, Errno::EADDRNOTAVAIL) => Self::AddressNotLocal,
            (_, Errno::EADDRNOTAVAIL | Errno::EADDRINUSE) if sport == 0 => Self::PortsExhausted,
            (_, Errno::EADDRNOTAVAIL | Errno::EADDRINUSE) => Self::TupleInUse,
            (_, Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Self::NoRoute,
            (_, Errno::ECONNREFUSED) => Self::Refused,
            (_, Errno::ETIMEDOUT) => Self::TimedOut,
            (_, Errno::ECONNRESET) => Self::Reset,
            _ => Self::Other,
        }
    }
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Closer {
    /// The owner's side sent the first FIN.
    Local,
    /// The peer sent the first FIN.
    Peer,
    /// A RST, a timeout or an abort ended it.
    Reset,
}

impl Closer {
    /// The name of the JSON schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Reset => "reset",
        }
    }
}

/// Which side opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// We called connect(): the socket holds a port of a pool.
    Out,
    /// We accepted it: it holds no port of a pool.
    In,
}

impl Direction {
    /// The name of the JSON schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// A state of the TCP state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of RFC 9293 and of ss")]
pub enum TcpState {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
}

impl TcpState {
    /// The state of a number of the kernel's ([`tracer_ebpf::tcp_state`]).
    pub fn of_kernel(number: u8) -> Option<Self> {
        wire::state_of(number).ok().flatten()
    }

    /// The name as the kernel spells it, without `TCP_`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

/// Why a TIME_WAIT ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndReason {
    /// Its timer ran out.
    Expired,
    /// Before its timer, by any of what follows: which is not known.
    Early,
    /// A connect() of the same addresses took its port over.
    Reused,
    /// A RST, a SYN or a late segment of the peer ended it, or `ss -K`.
    Killed,
    /// Its network namespace was being removed.
    NetnsRemoved,
}

impl EndReason {
    /// The name of the JSON schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Reused => "reused",
            Self::Killed => "killed",
            Self::NetnsRemoved => "netns_removed",
        }
    }

    /// Whether it ended before its time.
    pub fn is_early(self) -> bool {
        self != Self::Expired
    }
}

/// How sure it is that the process named is the one behind the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ownership {
    /// It called connect(), and was seen to; or it accepted and closed.
    Seen,
    /// It closed the connection; who opened it was not seen.
    AtClose,
    /// No owner is known.
    Unknown,
}

/// A positive errno.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Error(pub u16);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&errno::name(self.0))
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// `EADDRNOTAVAIL`; `E123` where the number has no name.
    pub fn name(self) -> Cow<'static, str> {
        errno::name(self.0)
    }
}

/// A task's name as the kernel keeps it: up to 15 bytes of any kind.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TaskName([u8; tracer_ebpf::COMM_LEN]);

impl TaskName {
    /// Takes the kernel's form; what follows a zero byte does not belong to the name.
    pub fn new(mut name: [u8; tracer_ebpf::COMM_LEN]) -> Self {
        // Two names that read the same must compare the same.
        if let Some(end) = name.iter().position(|&byte| byte == 0) {
            name[end..].fill(0);
        }
        Self(name)
    }

    /// The name; not necessarily UTF-8, never to be printed as it is.
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0);
        &self.0[..end.unwrap_or(self.0.len())]
    }
}

impl std::fmt::Debug for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())
    }
}

/// The process that called connect(), as it was at that moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Process id in the initial pid namespace; 0 when unknown.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Start of the process, ns of `CLOCK_BOOTTIME`; with `tgid` it is unique.
    pub start_ns: u64,
    /// cgroup v2 id; 1 is the root, also on v1 hosts.
    pub cgroup_id: u64,
    /// Name of the process; of the thread where that cannot be read (before Linux 5.11, locked down
    /// to confidentiality).
    pub comm: TaskName,
    /// Name of the thread.
    pub thread: TaskName,
}

/// Where a connection goes from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Inode of the network namespace.
    pub netns: u32,
    /// Interface the socket is bound to; 0 for none.
    pub ifindex: u32,
    /// Whether an IPv6 socket talks IPv4 (`::ffff:a.b.c.d`); the addresses below are then IPv4.
    pub mapped: bool,
    /// Source address.
    pub src: IpAddr,
    /// Source port; 0 when none was found.
    pub sport: u16,
    /// Destination address; unspecified for a failed bind().
    pub dst: IpAddr,
    /// Destination port; 0 for a failed bind().
    pub dport: u16,
}

/// One fact about one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened, ns of `CLOCK_MONOTONIC`.
    pub ts_ns: u64,
    /// What happened.
    pub kind: Kind,
    /// The process behind the socket.
    pub owner: Owner,
    /// How sure that is.
    pub ownership: Ownership,
    /// The socket's addresses.
    pub tuple: Tuple,
    /// Socket cookie, as `inet_diag` shows it.
    pub cookie: Option<u64>,
    /// `Closed`, `TimeWait`: since connect(); `Opened`: the handshake. Nanoseconds.
    pub duration_ns: Option<u64>,
    /// Time the kernel spent looking for a source port, ns.
    pub search_ns: Option<u64>,
    /// What a failed call returned, or the error that closed a connection.
    pub errno: Option<Error>,
    /// Why a call failed: always there for a failure, never otherwise.
    pub cause: Option<Cause>,
    /// Who ended the connection.
    pub closer: Option<Closer>,
    /// Which side opened it.
    pub direction: Option<Direction>,
    /// `TimeWait`, `TimeWaitEnd`: the substate; `Closed`: the state it closed from.
    pub state: Option<TcpState>,
    /// Why a TIME_WAIT ended.
    pub end_reason: Option<EndReason>,
    /// Whether the fact was concluded from state changes, not seen.
    pub inferred: bool,
    /// Whether the socket had a port before connect().
    pub bound: bool,
    /// Whether this is a sample of a failure that the failures map counts.
    pub sample: bool,
}

impl Event {
    /// Reads one ring buffer record.
    ///
    /// # Errors
    /// [`Malformed`] when the length or any coded field is not one of the wire contract.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::from_wire(&wire::read(bytes)?)
    }

    /// The owner in the contract's form, as the sockets map holds it.
    pub fn owner_from_wire(wire: &tracer_ebpf::Owner) -> Owner {
        wire::owner_of(wire)
    }

    /// The same from the struct, as the failures map holds it.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn from_wire(wire: &tracer_ebpf::Event) -> Result<Self, Malformed> {
        wire::check(wire)
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
