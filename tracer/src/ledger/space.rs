/*! One network namespace: its settings, who listens, which ports are lost to all, and what came since the last dump. */

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::{HashMap, HashSet};

use super::account::WAITS;
use crate::model::{Capacity, Dump, Listed, Namespace, OwnerId, PoolId, TcpState};

/// Most changes kept of one namespace between two dumps, at 96 bytes each: 6.3 MB. More than the
/// ring holds by default: a tracer that was stopped while it read a list has them all to fold. With
/// more, the next dump cannot tell drift from what it raced with, and reports none.
const MOST_CHANGES: usize = 65_536;

/// Most open connections of a dump remembered by their cookies until the next but one, at about
/// 20 bytes each: 1.3 MB a dump. With more, those that began while it ran are taken to be not in it.
const MOST_LISTED: usize = 65_536;

/// Changes of a namespace nobody dumps are kept this long.
const KEEP_NS: u64 = 5_000_000_000;

/// One holding more or less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) at_ns: u64,
    pub(super) pool: PoolId,
    pub(super) owner: OwnerId,
    pub(super) cookie: Option<u64>,
    pub(super) state: TcpState,
    pub(super) more: bool,
}

/// Where an event stands to the last dump of its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The dump has it.
    Before,
    /// The dump may have it.
    Within,
    /// The dump does not have it.
    After,
}

#[derive(Debug, Default)]
pub(super) struct Space {
    pub(super) namespace: Option<Namespace>,
    /// Began and ended, of the last dump and of the one before.
    pub(super) dumped: Option<(u64, u64)>,
    pub(super) dumped_before: Option<(u64, u64)>,
    /// Cookies of the open connections in those dumps.
    listed: HashSet<u64>,
    listed_before: HashSet<u64>,
    /// The rows of this namespace.
    pub(super) pools: Vec<PoolId>,
    listeners: HashSet<(u16, IpAddr)>,
    /// Ports of the range that listeners and bound, unconnected sockets block.
    blocked: HashSet<u16>,
    /// Ports of the range that connections block which were bound before connect(), with the pool
    /// that uses the port itself. At most one entry a port of the range.
    bound: HashMap<u16, PoolId>,
    changes: VecDeque<Change>,
    /// Changes up to this time are missing from `changes`.
    torn_ns: u64,
}

impl Space {
    /// Where an event of this time stands to the last dump.
    pub(super) fn phase(&self, at_ns: u64) -> Phase {
        match self.dumped {
            Some((began, _)) if at_ns < began => Phase::Before,
            Some((_, ended)) if at_ns <= ended => Phase::Within,
            _ => Phase::After,
        }
    }

    /// Whether a connection that began at `opened_ns` and changes in `phase` had been counted by a
    /// dump before that change.
    pub(super) fn counted(&self, opened_ns: u64, cookie: Option<u64>, phase: Phase) -> bool {
        let (dump, listed) = match phase {
            Phase::After => (self.dumped, &self.listed),
            Phase::Before | Phase::Within => (self.dumped_before, &self.listed_before),
        };
        dump.is_some_and(|(began, ended)| {
            opened_ns < began
                || opened_ns <= ended && cookie.is_some_and(|cookie| listed.contains(&cookie))
        })
    }

    /// Whether the last dump has this connection as open.
    pub(super) fn lists_open(&self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.listed.contains(&cookie))
    }

    /// Whether it is known of every connection if the last dump has it as open.
    pub(super) fn lists_all(&self) -> bool {
        self.listed.len() < MOST_LISTED
    }

    /// Whether a socket of this local address holds a port of a pool: it was not accepted, and its
    /// port is one connect() chooses from.
    pub(super) fn draws(&self, ip: IpAddr, port: u16) -> bool {
        self.in_range(port) && !self.listens(ip, port)
    }

    fn in_range(&self, port: u16) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|namespace| (namespace.range.low..=namespace.range.high).contains(&port))
    }

    fn listens(&self, ip: IpAddr, port: u16) -> bool {
        !self.listeners.is_empty()
            && [ip, IpAddr::from([0_u8; 4]), IpAddr::from([0_u8; 16])]
                .into_iter()
                .any(|ip| self.listeners.contains(&(port, ip)))
    }

    /// Takes over what a dump says of the namespace itself.
    pub(super) fn update(&mut self, dump: &Dump) {
        self.namespace = Some(dump.namespace.clone());
        self.dumped_before = self.dumped;
        self.dumped = Some((dump.began_ns, dump.ended_ns));
        self.listeners.clear();
        self.blocked.clear();
        std::mem::swap(&mut self.listed, &mut self.listed_before);
        self.listed.clear();
        let mut connected: HashSet<u16> = HashSet::default();
        for socket in &dump.sockets {
            let port = socket.local.port();
            if is_connected(socket) {
                let is_open = !WAITS.contains(&socket.state);
                if is_open && socket.cookie != 0 && self.listed.len() < MOST_LISTED {
                    self.listed.insert(socket.cookie);
                }
                if self.bound.contains_key(&port) {
                    connected.insert(port);
                }
                continue;
            }
            if socket.state == TcpState::Listen {
                self.listeners.insert((port, socket.local.ip()));
            }
            if self.in_range(port) {
                self.blocked.insert(port);
            }
        }
        let blocked = &self.blocked;
        self.bound
            .retain(|port, _| connected.contains(port) && !blocked.contains(port));
    }

    /// A connection of `pool` was bound to `port` before connect().
    pub(super) fn bind(&mut self, port: u16, pool: PoolId) {
        if self.in_range(port) && !self.blocked.contains(&port) {
            self.bound.entry(port).or_insert(pool);
        }
    }

    /// A connection of `pool` gave `port` back.
    pub(super) fn release(&mut self, port: u16, pool: &PoolId) {
        if !self.bound.is_empty() && self.bound.get(&port) == Some(pool) {
            self.bound.remove(&port);
        }
    }

    /// What connect() of `pool` can choose from: the kernel passes over every port whose bucket
    /// bind() made (`__inet_hash_connect`: `fastreuse >= 0`), whatever address it was bound to
    /// and whoever it talks to.
    pub(super) fn capacity(&self, pool: &PoolId) -> Option<Capacity> {
        let namespace = self.namespace.as_ref().filter(|_| !pool.is_beyond())?;
        let by_others = self.bound.values().filter(|&by| by != pool).count();
        Some(Capacity {
            range: (namespace.range.low, namespace.range.high),
            reserved: namespace.reserved,
            blocked: u32::try_from(self.blocked.len() + by_others).unwrap_or(u32::MAX),
        })
    }

    /// Notes a change, for a dump that was begun before it.
    pub(super) fn note(&mut self, change: Change) {
        while let Some(first) = self.changes.front()
            && (self.changes.len() >= MOST_CHANGES
                || (self.dumped.is_none() && first.at_ns + KEEP_NS < change.at_ns))
        {
            self.torn_ns = self.torn_ns.max(first.at_ns);
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    /// Takes the changes since the last dump out, and whether they are all that happened since
    /// `began_ns`.
    pub(super) fn take_changes(&mut self, began_ns: u64) -> (VecDeque<Change>, bool) {
        (std::mem::take(&mut self.changes), self.torn_ns < began_ns)
    }

    /// Puts those back that a dump ended before.
    pub(super) fn keep_changes(&mut self, changes: VecDeque<Change>) {
        self.changes = changes;
    }
}

/// Whether a listed socket has a remote.
pub(super) fn is_connected(socket: &Listed) -> bool {
    socket.remote.port() != 0 && !matches!(socket.state, TcpState::Listen | TcpState::Close)
}
