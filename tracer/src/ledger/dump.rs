/*! What the kernel lists in one network namespace at one moment, as the ledger takes it. */

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::event::{Owner, TcpState};
use crate::host::process::Identity;
use crate::host::sysctl::{PortRange, TwReuse};

/// A network namespace: its settings for source ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its inode.
    pub inode: u32,
    /// What people call it: a bind-mounted name (`/run/netns/web`), or a process that lives in it
    /// (`pid 4242 nginx`); `host` for that of pid 1.
    pub name: String,
    /// `net.ipv4.ip_local_port_range`.
    pub range: PortRange,
    /// How many ports of the range `net.ipv4.ip_local_reserved_ports` takes out, but for those
    /// that [`Dump::blocked_ports`] has, which must not be subtracted twice.
    pub reserved: u32,
    /// `net.ipv4.tcp_tw_reuse`.
    pub tw_reuse: Option<TwReuse>,
    /// `net.ipv4.tcp_fin_timeout`, seconds: FIN_WAIT2 of orphans only, never TIME_WAIT.
    pub fin_timeout_s: Option<u32>,
    /// `net.ipv4.tcp_max_tw_buckets`.
    pub max_tw_buckets: Option<u32>,
    /// `net.netfilter.nf_conntrack_count` and `_max`, where conntrack is loaded.
    pub conntrack: Option<(u32, u32)>,
}

/// Everything one look at a namespace gave.
#[derive(Clone, Debug)]
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

/// A process that holds sockets, with its names: one for all of them.
pub type Holder = Arc<(Owner, Arc<Identity>)>;

/// One TCP socket, or a TIME_WAIT, as the kernel lists it. There may be a million: 88 bytes.
#[derive(Clone, Debug)]
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
    pub owner: Option<Holder>,
}

const _: () = assert!(size_of::<Listed>() <= 88);
