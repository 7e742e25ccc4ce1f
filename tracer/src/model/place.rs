/*! What an event is about: a pool, a listener, or the address of a bind(). */

use std::net::IpAddr;

use super::{Direction, Event, Kind};

/// What events of one process are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Outbound: the source ports towards one destination.
    Pool {
        /// Inode of the network namespace.
        netns: u32,
        /// Source address.
        src: IpAddr,
        /// Destination address.
        dst: IpAddr,
        /// Destination port.
        dport: u16,
    },
    /// Inbound: connections accepted on one address; they hold no port of a pool.
    Listener {
        /// Inode of the network namespace.
        netns: u32,
        /// Local address.
        address: IpAddr,
        /// Local port.
        port: u16,
    },
    /// A failed bind().
    Bind {
        /// Inode of the network namespace.
        netns: u32,
        /// Address asked for.
        address: IpAddr,
        /// Port asked for; 0 for any.
        port: u16,
    },
}

impl Place {
    /// Where `event` belongs.
    pub fn of(event: &Event) -> Self {
        let tuple = &event.tuple;
        let netns = tuple.netns;
        if event.kind == Kind::BindFailed {
            return Self::Bind {
                netns,
                address: tuple.src,
                port: tuple.sport,
            };
        }
        match event.direction {
            Some(Direction::In) => Self::Listener {
                netns,
                address: tuple.src,
                port: tuple.sport,
            },
            Some(Direction::Out) | None => Self::Pool {
                netns,
                src: tuple.src,
                dst: tuple.dst,
                dport: tuple.dport,
            },
        }
    }
}
