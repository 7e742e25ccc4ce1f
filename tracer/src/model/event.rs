/*! One fact about one socket, and failures with their exact count. */

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cause, Error, Process, TcpState};

/// Lifetime of a TIME_WAIT, ns: `TCP_TIMEWAIT_LEN`, compiled into the kernel.
pub const TIME_WAIT_NS: u64 = 60_000_000_000;

/// What an [`Event`] states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

    /// Whether it is of a connection that opened or closed, of which there are many and most say
    /// little.
    pub fn is_detail(self) -> bool {
        matches!(self, Self::Opened | Self::Closed)
    }

    /// Whether the event is a call that returned an errno.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::ConnectFailed | Self::BindFailed)
    }
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

/// Why a TIME_WAIT ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ownership {
    /// It called connect(), and was seen to; or it accepted and closed.
    Seen,
    /// It closed the connection; who opened it was not seen.
    AtClose,
    /// No owner is known.
    Unknown,
}

/// Where a connection goes from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, ns of `CLOCK_MONOTONIC`.
    pub ts_ns: u64,
    /// What happened.
    pub kind: Kind,
    /// The process behind the socket: [`Process::nobody`] where the ownership is unknown.
    pub process: Arc<Process>,
    /// How sure that is.
    pub ownership: Ownership,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
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

/// New failures of one owner, pool, errno and cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// How many since the last drain that reported this key: at least 1.
    pub count: u64,
    /// Time of the newest, ns of `CLOCK_MONOTONIC`.
    pub last_ns: u64,
    /// Sum of the port-search times of these failures, ns.
    pub search_sum_ns: u64,
    /// The first failure of this key ever seen. Its owner, destination, errno and cause are
    /// those of all; its thread, time and source port only its own.
    pub first: Event,
    /// Whether `first` is among the `count`.
    pub fresh: bool,
}

impl Failure {
    /// A failure that counts one by itself.
    pub fn single(event: Event) -> Self {
        Self {
            count: 1,
            last_ns: event.ts_ns,
            search_sum_ns: event.search_ns.unwrap_or(0),
            first: event,
            fresh: true,
        }
    }
}
