/*! Why a call failed. */

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Kind;

/// Why a connect() or bind() failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
