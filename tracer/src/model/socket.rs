/*! Sockets and their states, one by one and as the kernel lists them. */

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Namespace, Process};

/// A state of the TCP state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// The state of a number of the kernel's (`include/net/tcp_states.h`).
    pub fn of_kernel(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
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

/// Sockets by TCP state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct States([u64; 9]);

impl States {
    /// The states a socket can hold a source port in, in the order of a connection's life.
    pub const ALL: [TcpState; 9] = [
        TcpState::SynSent,
        TcpState::SynRecv,
        TcpState::Established,
        TcpState::FinWait1,
        TcpState::FinWait2,
        TcpState::Closing,
        TcpState::TimeWait,
        TcpState::CloseWait,
        TcpState::LastAck,
    ];

    fn index(state: TcpState) -> Option<usize> {
        Self::ALL.iter().position(|&one| one == state)
    }

    /// How many are in `state`; 0 for one that holds no port.
    pub fn get(&self, state: TcpState) -> u64 {
        Self::index(state).map_or(0, |index| self.0[index])
    }

    /// The count of `state`, to change; `None` for one that holds no port.
    pub fn get_mut(&mut self, state: TcpState) -> Option<&mut u64> {
        Self::index(state).map(|index| &mut self.0[index])
    }

    /// All of them: the source ports held.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The states with at least one socket, most first.
    pub fn most_first(&self) -> Vec<(TcpState, u64)> {
        let mut list: Vec<_> = Self::ALL.into_iter().zip(self.0).collect();
        list.retain(|&(_, count)| count > 0);
        list.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        list
    }
}

/// Everything one look at a namespace gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// When it was begun, ns of `CLOCK_MONOTONIC`: an event after this may or may not be in it.
    pub began_ns: u64,
    /// When it was complete, the same clock.
    pub ended_ns: u64,
    /// The namespace.
    pub namespace: Namespace,
    /// Its TCP sockets in any state, listeners too.
    pub sockets: Vec<Listed>,
}

impl Dump {
    /// Ports of the range that connect() cannot choose because a socket listens at them or is bound
    /// to them without a connection. The kernel looks at the port alone: neither address nor family
    /// of such a socket matter, so they are taken from every pool of the namespace.
    ///
    /// What is not to be seen in the kernel's list, and not here: ports that were bound *before* a
    /// connect() (the event of that connection says so), sockets that are only bound before
    /// Linux 6.8, and a range of its own that a socket was given by `IP_LOCAL_PORT_RANGE`.
    pub fn blocked_ports(&self) -> BTreeSet<u16> {
        self.sockets
            .iter()
            .filter(|socket| matches!(socket.state, TcpState::Listen | TcpState::Close))
            .map(|socket| socket.local.port())
            .filter(|&port| self.namespace.range.contains(port))
            .collect()
    }
}

/// A time until a timer is due, in whole milliseconds; four bytes, with or without [`Option`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueIn(NonZero<u32>);

impl DueIn {
    /// In so many milliseconds; the longest is 49 days.
    pub fn from_ms(ms: u32) -> Self {
        Self(NonZero::<u32>::MIN.saturating_add(ms))
    }

    /// The milliseconds.
    pub fn ms(self) -> u32 {
        self.0.get() - 1
    }
}

/// One TCP socket, or a TIME_WAIT, as the kernel lists it. There may be a million: 88 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its state. A FIN_WAIT2 mini-socket is listed as FIN_WAIT2, one that is only bound as CLOSE.
    pub state: TcpState,
    /// Local address; IPv4 where the socket is v4-mapped.
    pub local: SocketAddr,
    /// Remote address, the same way; port 0 when there is none (listeners, bound sockets).
    pub remote: SocketAddr,
    /// Socket cookie; 0 where the kernel gives none.
    pub cookie: u64,
    /// The process that holds it, where one could be found; never for a TIME_WAIT that nobody traced.
    pub process: Option<Arc<Process>>,
    /// Time until a TIME_WAIT (or FIN_WAIT2 mini-socket) is due to end; its timer may fire 6 s later.
    pub due_in: Option<DueIn>,
}

const _: () = assert!(size_of::<Listed>() <= 88);
