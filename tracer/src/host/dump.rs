/*!
A look at the machine without BPF: every network namespace with its settings and TCP sockets, and
who holds them.

Each namespace is entered once, each process looked into once. Nothing is asked for a single
socket, so a million of them cost a few netlink messages each and 160 bytes of memory.
*/

mod missed;
mod mounts;
mod namespaces;
mod owners;
mod stat;

use std::io;

use anyhow::Context as _;
use foldhash::HashSet;
use nix::time::{ClockId, clock_gettime};

use super::netns::{Netns, NetnsError};
use super::process::Identities;
use super::sock_diag::{Family, Mask, TcpSocket, each_tcp_socket};
use super::sysctl::{self, FinTimeout, PortRange, ReservedPorts, SysctlError, TwReuse};
use crate::event::TcpState;
use crate::ledger::dump::{Dump, Listed, Namespace};

pub use self::missed::{Miss, Missed, What};
pub use self::namespaces::{Found, namespaces};
pub use self::owners::Owners;

/// What one look gave.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Each namespace, our own first.
    pub dumps: Vec<Dump>,
    /// What could not be seen.
    pub missed: Missed,
}

/// Looks at every network namespace, or at those of the inodes in `only`, and finds the owners of
/// live sockets. What cannot be seen is in [`Snapshot::missed`] and spoils nothing else.
///
/// The sockets are listed first and their owners looked for then: a socket opened in between is
/// not listed, one closed in between has no owner.
pub fn snapshot(only: Option<&[u32]>, people: &mut Identities) -> Snapshot {
    let mut missed = Missed::default();
    let wanted = |inode: u32| only.is_none_or(|only| only.contains(&inode));
    let mut seen = HashSet::default();
    let mut listings = Vec::new();
    for found in namespaces(&mut missed) {
        seen.insert(found.inode);
        if wanted(found.inode) {
            listings.extend(looked_at(&found, &mut missed));
        }
    }
    let mut owners = Owners::read(&mut missed);
    let mut held: Vec<_> = owners.namespaces().cloned().collect();
    held.sort_by_key(|found| found.inode);
    for found in held {
        if wanted(found.inode) && !seen.contains(&found.inode) {
            listings.extend(looked_at(&found, &mut missed));
        }
    }
    let dumps = listings
        .into_iter()
        .map(|listing| listing.owned(&mut owners, people))
        .collect();
    Snapshot { dumps, missed }
}

/// The same without owners: no process's files are looked at. For a look that is repeated. A
/// namespace of `only` may also be one that nothing but a file of this process keeps alive.
pub fn sockets(only: Option<&[u32]>) -> Snapshot {
    let mut missed = Missed::default();
    let mut dumps: Vec<Dump> = Vec::new();
    for found in namespaces(&mut missed) {
        if only.is_none_or(|only| only.contains(&found.inode)) {
            dumps.extend(looked_at(&found, &mut missed).map(|listing| listing.dump));
        }
    }
    for &inode in only.unwrap_or_default() {
        if !dumps.iter().any(|dump| dump.namespace.inode == inode)
            && let Ok(netns) = Netns::of_inode(inode)
        {
            dumps.extend(dump(&netns, format!("net:[{inode}]")).ok());
        }
    }
    Snapshot { dumps, missed }
}

/// Looks at one namespace, called `name`; no socket has an owner.
///
/// # Errors
/// When it cannot be entered, or its settings or sockets are not to be read.
pub fn dump(netns: &Netns, name: String) -> anyhow::Result<Dump> {
    list(netns, name).map(|listing| listing.dump)
}

/// A dump, and what leads from its sockets to their owners.
#[derive(Debug)]
struct Listing {
    dump: Dump,
    /// Inode of each socket, in the same order.
    inodes: Vec<u32>,
}

impl Listing {
    fn owned(mut self, owners: &mut Owners, people: &mut Identities) -> Dump {
        for (socket, inode) in self.dump.sockets.iter_mut().zip(self.inodes) {
            socket.owner = owners.of(inode, people);
        }
        self.dump
    }
}

/// One namespace of several: gone is none, refused is missed.
fn looked_at(found: &Found, missed: &mut Missed) -> Option<Listing> {
    let listing = found.open().map_err(anyhow::Error::from).and_then(|netns| {
        netns
            .map(|netns| list(&netns, found.name.clone()))
            .transpose()
    });
    listing.unwrap_or_else(|error| {
        missed.note(What::Namespace, &why(&error), || found.name.clone());
        None
    })
}

/// The reason alone, which is the same for all namespaces it keeps us out of.
fn why(error: &anyhow::Error) -> String {
    match error.downcast_ref::<NetnsError>() {
        Some(NetnsError::Open { source, .. }) => source.to_string(),
        Some(NetnsError::Enter { source, .. }) => io::Error::from(*source).to_string(),
        _ => format!("{error:#}"),
    }
}

fn list(netns: &Netns, name: String) -> anyhow::Result<Listing> {
    let inode = netns.inode();
    // To enter even one's own namespace takes privileges, to look at it does not.
    if Netns::current().is_ok_and(|current| current.inode() == inode) {
        return list_here(inode, name);
    }
    netns.run_in(|| list_here(inode, name))?
}

/// The namespace of this thread.
fn list_here(inode: u32, name: String) -> anyhow::Result<Listing> {
    let began_ns = now_ns();
    let range = PortRange::read()?;
    let reserved = ReservedPorts::read()?;
    let mut sockets = Vec::new();
    let mut inodes = Vec::new();
    let mut take = |socket: TcpSocket| {
        let Some(state) = TcpState::of_kernel(socket.state) else {
            log::warn!(
                "The kernel lists a socket in the unknown TCP state {}.",
                socket.state
            );
            return;
        };
        inodes.push(socket.inode);
        sockets.push(Listed {
            state,
            local: socket.local,
            remote: socket.remote,
            cookie: socket.cookie,
            owner: None,
        });
    };
    let busy = Busy::read();
    for (family, busy) in [(Family::V4, busy.v4), (Family::V6, busy.v6)] {
        // The walk over the connections of the whole machine is what costs; sockets that are only
        // bound are in another table, and not counted.
        let mask = if busy {
            Mask::CONNECTED.and(Mask::BOUND)
        } else {
            Mask::BOUND
        };
        match each_tcp_socket(family, mask, &mut take) {
            // A kernel without IPv6.
            Err(error) if family == Family::V6 && is_unknown(&error) => {}
            result => result.context("cannot list TCP sockets")?,
        }
    }
    let mut dump = Dump {
        began_ns,
        ended_ns: now_ns(),
        namespace: Namespace {
            inode,
            name,
            range,
            reserved: 0,
            tw_reuse: TwReuse::read().ok(),
            fin_timeout_s: FinTimeout::read().ok().map(|FinTimeout(seconds)| seconds),
            max_tw_buckets: sysctl::number("net/ipv4/tcp_max_tw_buckets").ok(),
            conntrack: conntrack().ok(),
        },
        sockets,
    };
    let twice = dump.blocked_ports();
    let twice = twice
        .iter()
        .filter(|&&port| reserved.contains(port))
        .count();
    dump.namespace.reserved = reserved.within(range) - u32::try_from(twice).unwrap_or(u32::MAX);
    Ok(Listing { dump, inodes })
}

fn conntrack() -> Result<(u32, u32), SysctlError> {
    Ok((
        sysctl::number("net/netfilter/nf_conntrack_count")?,
        sysctl::number("net/netfilter/nf_conntrack_max")?,
    ))
}

/// Whether a namespace has any TCP socket that is not just bound, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Busy {
    v4: bool,
    v6: bool,
}

impl Busy {
    /// That of this thread's namespace; yes where that cannot be told.
    fn read() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        match (read("sockstat"), read("sockstat6")) {
            (Ok(v4), Ok(v6)) => Self::parse(&v4, &v6),
            _ => Self { v4: true, v6: true },
        }
    }

    /// From `TCP: inuse 5 orphan 0 tw 3 alloc 9 mem 1` and `TCP6: inuse 2`. TIME_WAITs of both
    /// families are in the first.
    fn parse(v4: &str, v6: &str) -> Self {
        let count = |text: &str, protocol: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(protocol));
            let mut words = line?.split_ascii_whitespace();
            words.find(|&word| word == key)?;
            words.next()?.parse::<u64>().ok()
        };
        let some = |count: Option<u64>| count != Some(0);
        let time_wait = some(count(v4, "TCP:", "tw"));
        Self {
            v4: time_wait || some(count(v4, "TCP:", "inuse")),
            v6: time_wait || some(count(v6, "TCP6:", "inuse")),
        }
    }
}

/// Whether the kernel's refusal means that it has no such sockets.
fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(nix::libc::ENOENT | nix::libc::EINVAL | nix::libc::EAFNOSUPPORT)
    )
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock exists on every Linux");
    std::time::Duration::from(now)
        .as_nanos()
        .try_into()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
