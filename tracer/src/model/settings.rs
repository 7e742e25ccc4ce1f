/*! A network namespace and its settings for source ports. */

use std::fmt;

use serde::{Deserialize, Serialize};

/// A network namespace: its settings for source ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its inode.
    pub inode: u32,
    /// What people call it: a bind-mounted name (`/run/netns/web`), or a process that lives in it
    /// (`pid 4242 nginx`); `host` for that of pid 1.
    pub name: String,
    /// `net.ipv4.ip_local_port_range`.
    pub range: PortRange,
    /// How many ports of the range `net.ipv4.ip_local_reserved_ports` takes out, but for those
    /// that [`Dump::blocked_ports`](super::Dump::blocked_ports) has, which must not be subtracted twice.
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

/// `ip_local_port_range`: the ports `connect()` and `bind(0)` choose from, both ends included.
/// IPv6 draws from the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// Lowest port.
    pub low: u16,
    /// Highest port.
    pub high: u16,
}

impl PortRange {
    /// True when `port` is one of it.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }

    /// How many ports it has, reserved ones included.
    #[must_use]
    pub fn ports(self) -> u32 {
        (u32::from(self.high) + 1).saturating_sub(u32::from(self.low))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.low, self.high)
    }
}

/// `tcp_tw_reuse`: whether `connect()` may take over a port in `TIME_WAIT` that is a second old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TwReuse {
    /// 0: never.
    Off,
    /// 1: towards any destination.
    On,
    /// 2, the kernel's default: over loopback only.
    LoopbackOnly,
}
