/*! What the ledger tells of one pool: plain data, for diagnosis and views. */

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cause, Error, Process, States, Tuple};

/// Which source ports: those one (namespace, source, destination, port) can draw on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolId {
    /// Inode of the network namespace.
    pub netns: u32,
    /// Source address; IPv4 also for v4-mapped sockets, which share its ports.
    pub src: IpAddr,
    /// Destination address, the same way.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
}

impl PoolId {
    /// The pool a tuple draws on.
    pub fn of(tuple: &Tuple) -> Self {
        Self {
            netns: tuple.netns,
            src: tuple.src,
            dst: tuple.dst,
            dport: tuple.dport,
        }
    }

    /// What stands for all pools of a namespace that found no room: addresses unspecified, port 0.
    pub fn beyond(netns: u32) -> Self {
        Self {
            netns,
            src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            dport: 0,
        }
    }

    /// Whether it stands for more than one pool: it has no capacity then.
    pub fn is_beyond(&self) -> bool {
        self.dport == 0 && self.dst.is_unspecified()
    }
}

/// Which process: unique also after its id was given to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerId {
    /// Process id; 0 for nobody known: opened before tracing.
    pub tgid: u32,
    /// Start of the process in the ticks of `/proc/PID/stat` (10 ms since boot): events know it in
    /// nanoseconds, `/proc` does not.
    pub start_ticks: u64,
}

impl OwnerId {
    /// Nobody known.
    pub const UNKNOWN: Self = Self {
        tgid: 0,
        start_ticks: 0,
    };

    /// All those beyond the limit of owners kept apart, together; never a process.
    pub const BEYOND: Self = Self {
        tgid: 0,
        start_ticks: u64::MAX,
    };

    /// The id of a process.
    pub fn of(process: &Process) -> Self {
        Self {
            tgid: process.tgid,
            start_ticks: process.start_ns / 10_000_000,
        }
    }
}

/// A rate over three windows, per second. A window not yet full counts the time there was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Over the last second.
    pub second: f64,
    /// Over the last 10 seconds.
    pub ten: f64,
    /// Over the last minute.
    pub minute: f64,
    /// The most within any 100 ms so far, per second.
    pub peak: f64,
}

/// How connections ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Our side sent the first FIN: these leave a TIME_WAIT.
    pub local: u64,
    /// The peer did.
    pub peer: u64,
    /// A RST, a timeout or an abort.
    pub reset: u64,
}

/// One owner's part of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// The process; `tgid` 0 when unknown: opened before tracing.
    pub process: Arc<Process>,
    /// The ports it holds, by state.
    pub states: States,
    /// Connections it opened since tracing began.
    pub opened: u64,
    /// The same per second.
    pub open_rate: Rates,
    /// How its connections ended since tracing began.
    pub ends: Ends,
    /// Change of `states.total()` without TIME_WAIT, per second, over the last minute: a leak's slope.
    pub net_rate: f64,
    /// Connections of this owner whose port was bound before connect(): such a port is lost to every
    /// destination.
    pub bound: u64,
}

/// Failures of one owner, errno and cause in a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The process whose call failed.
    pub process: Arc<Process>,
    /// What the call returned.
    pub errno: Option<Error>,
    /// Why.
    pub cause: Cause,
    /// Whether it was bind() and not connect().
    pub bind: bool,
    /// How often: exact.
    pub count: u64,
    /// The first, ns of `CLOCK_MONOTONIC`.
    pub first_ns: u64,
    /// The last.
    pub last_ns: u64,
}

/// Failures without a pool: those of bind(), which has a source and no destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Elsewhere {
    /// Inode of the network namespace.
    pub netns: u32,
    /// The address asked for.
    pub src: IpAddr,
    /// The port asked for; 0 for any.
    pub sport: u16,
    /// Who, what and how often.
    pub failed: Failed,
}

/// How many source ports there are, and why not more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// `ip_local_port_range`, as (low, high), both included.
    pub range: (u16, u16),
    /// Ports of the range that `ip_local_reserved_ports` takes out.
    pub reserved: u32,
    /// Ports of the range that bound sockets and listeners block, whatever their address; those of
    /// this pool's own connections are not among them.
    pub blocked: u32,
}

impl Capacity {
    /// Ports connect() can choose from.
    pub fn ports(&self) -> u64 {
        let range = (u32::from(self.range.1) + 1).saturating_sub(u32::from(self.range.0));
        u64::from(range.saturating_sub(self.reserved + self.blocked))
    }
}

/// Where a pool is heading under the present net rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// When it was made, ns of `CLOCK_MONOTONIC`.
    pub made_ns: u64,
    /// Seconds from then until the pool is dry; `None` when it will not run dry.
    pub dry_in_s: Option<f64>,
    /// Ports it will hold in the long run at this rate: churn settles at rate times 60 s.
    pub settles_at: Option<f64>,
}

/// What had been forecast of a pool that then ran dry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foretold {
    /// The forecast: the first made at or above a quarter of the capacity.
    pub forecast: Forecast,
    /// Ports in use when it was made.
    pub used: u64,
    /// When the pool really ran dry, ns of `CLOCK_MONOTONIC`.
    pub dry_ns: u64,
}

impl Foretold {
    /// Forecast minus truth, seconds; `None` when no end had been forecast.
    pub fn off_s(&self) -> Option<f64> {
        let took = self.dry_ns.saturating_sub(self.forecast.made_ns) as f64 / 1e9;
        self.forecast.dry_in_s.map(|forecast| forecast - took)
    }
}

/// A pool as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Which.
    pub id: PoolId,
    /// Its ports; `None` while its namespace could not be looked at.
    pub capacity: Option<Capacity>,
    /// Ports held, by state.
    pub states: States,
    /// The most ports held at a time so far, and when (ns of `CLOCK_MONOTONIC`).
    pub peak: (u64, u64),
    /// Who holds them: most ports first.
    pub holders: Vec<Holder>,
    /// Failures, most first.
    pub failures: Vec<Failed>,
    /// Connections opened, all owners.
    pub open_rate: Rates,
    /// Connections opened since tracing began, all owners, those that are no longer kept apart too.
    pub opened: u64,
    /// Change of the ports held, per second, over the last 10 seconds.
    pub net_rate: f64,
    /// How connections ended since tracing began.
    pub ends: Ends,
    /// Connection lifetimes since tracing began, ns: median and 99th percentile.
    pub lifetime_ns: Option<(u64, u64)>,
    /// Time connect() spent looking for a port, ns: mean of the first thousand and of the last second.
    pub search_ns: Option<(u64, u64)>,
    /// Time connect() spent looking for a port since tracing began: ns, and of how many searches.
    pub searched: (u64, u64),
    /// Since the last judgement: the most ports held at a time, and the most opened within any 100 ms.
    pub high: (u64, u32),
    /// Ledger minus the kernel's list at the last dump: events that were not seen.
    pub drift: i64,
    /// Where it is heading.
    pub forecast: Option<Forecast>,
    /// What had been forecast, once it ran dry.
    pub foretold: Option<Foretold>,
}

impl Pool {
    /// Ports held.
    pub fn used(&self) -> u64 {
        self.states.total()
    }

    /// Ports held as a part of the capacity; 0 without a capacity.
    pub fn utilization(&self) -> f64 {
        match self.capacity.map(|capacity| capacity.ports()) {
            Some(ports) if ports > 0 => self.used() as f64 / ports as f64,
            _ => 0.0,
        }
    }
}
