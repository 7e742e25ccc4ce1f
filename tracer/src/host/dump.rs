/*!
A look at the machine without BPF: every network namespace with its settings and TCP sockets, and
who holds them.

Each namespace is listed once, each process looked into once. Nothing is asked for a single
socket; a socket takes 160 bytes of memory while the look lasts.
*/

mod lookout;
mod missed;
mod mounts;
mod namespaces;
mod owners;
mod stat;

use std::cmp::Reverse;
use std::io;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use foldhash::HashSet;
use nix::time::{ClockId, clock_gettime};

use super::netns::{Netns, NetnsError};
use super::process::Processes;
use super::sock_diag::{Mask, TcpSocket, each_tcp_socket};
use super::sysctl::{self, FinTimeout, ReservedPorts, SysctlError};
use crate::model::{DueIn, Dump, Listed, Namespace, PortRange, TcpState, TwReuse};

use self::lookout::{Busy, Glance};

pub use self::lookout::Lookout;
pub use self::missed::{Miss, Missed, What};
pub use self::namespaces::{Found, namespaces};
pub use self::owners::Owners;

/// Longest look at a machine; namespaces with few sockets are left out then.
const PATIENCE: Duration = Duration::from_secs(10);

const LATE: &str = "to list the sockets of one the kernel walks those of all";

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
pub fn snapshot(only: Option<&[u32]>, people: &mut Processes) -> Snapshot {
    let mut missed = Missed::default();
    let deadline = Instant::now() + PATIENCE;
    let wanted = |found: &Found| only.is_none_or(|only| only.contains(&found.inode));
    let mut found = find(only, &mut missed);
    let seen: HashSet<u32> = found.iter().map(|found| found.inode).collect();
    found.retain(wanted);
    let mut lookout = Lookout::default();
    let mut listings = look_at(found, deadline, &mut missed, &mut lookout);
    let mut owners = Owners::read(&mut missed);
    let held = owners
        .namespaces()
        .filter(|held| !seen.contains(&held.inode));
    let mut held: Vec<_> = held.filter(|held| wanted(held)).cloned().collect();
    held.sort_by_key(|found| found.inode);
    listings.extend(look_at(held, deadline, &mut missed, &mut lookout));
    for listing in &mut listings {
        listing.find_owners(&mut owners, people);
    }
    Snapshot::of(listings, missed)
}

/// The same without owners: no process's files are looked at. For a look that is repeated. A
/// namespace of `only` may also be one that nothing but a file of this process keeps alive.
pub fn sockets(only: Option<&[u32]>) -> Snapshot {
    look(only, &mut Lookout::default())
}

/// The same but for those whose last list will do.
fn look(only: Option<&[u32]>, lookout: &mut Lookout) -> Snapshot {
    let mut missed = Missed::default();
    let mut found = find(only, &mut missed);
    found.retain(|found| only.is_none_or(|only| only.contains(&found.inode)));
    let deadline = Instant::now() + PATIENCE;
    let seen: HashSet<u32> = found.iter().map(|found| found.inode).collect();
    let mut listings = look_at(found, deadline, &mut missed, lookout);
    for &inode in only.unwrap_or_default() {
        if !seen.contains(&inode)
            && let Ok(netns) = Netns::of_inode(inode)
        {
            let listing = enter(&netns, |inode| list_here(inode, format!("net:[{inode}]")));
            listings.extend(listing.ok());
        }
    }
    Snapshot::of(listings, missed)
}

/// Finds namespaces; for whom only some matter, those that could not be found are not missed.
fn find(only: Option<&[u32]>, missed: &mut Missed) -> Vec<Found> {
    match only {
        None => namespaces(missed),
        Some(_) => namespaces(&mut Missed::default()),
    }
}

/// Looks at several namespaces, those with most sockets first, until the deadline, but not at those
/// whose last list will do; the dumps come in the order of `found`.
///
/// To list one, the kernel walks the sockets of *all*, so 500 namespaces on a machine with a
/// million sockets take minutes. How many sockets there are costs next to nothing, and a pool that
/// is running dry is never in a namespace with few.
fn look_at(
    found: Vec<Found>,
    deadline: Instant,
    missed: &mut Missed,
    lookout: &mut Lookout,
) -> Vec<Listing> {
    let mut order: Vec<(Glance, usize, Found)> = Vec::new();
    for (place, found) in found.into_iter().enumerate() {
        if let Some(glance) = in_it(&found, missed, |_| Ok(Glance::take()))
            && !lookout.is_calm(found.inode, glance)
        {
            order.push((glance, place, found));
        }
    }
    order.sort_by_key(|&(glance, place, _)| (Reverse(glance.busy.count()), place));
    let mut listings = Vec::new();
    for (glance, place, found) in order {
        let count = glance.busy.count();
        if count > 0 && !listings.is_empty() && Instant::now() > deadline {
            missed.note(What::Late, &LATE, || {
                format!("{} with {count} TCP sockets", found.name)
            });
            continue;
        }
        let listing = in_it(&found, missed, |inode| list_here(inode, found.name.clone()));
        if let Some(listing) = listing {
            lookout.listed(found.inode, glance);
            listings.push((place, listing));
        }
    }
    listings.sort_by_key(|&(place, _)| place);
    listings.into_iter().map(|(_, listing)| listing).collect()
}

/// Looks at one namespace, called `name`; no socket has an owner.
///
/// # Errors
/// When it cannot be entered, or its settings or sockets are not to be read.
pub fn dump(netns: &Netns, name: String) -> anyhow::Result<Dump> {
    enter(netns, |inode| list_here(inode, name)).map(|listing| listing.dump)
}

/// A dump, and what leads from its sockets to their owners.
#[derive(Debug)]
struct Listing {
    dump: Dump,
    /// Inode of each socket, in the same order.
    inodes: Vec<u32>,
}

impl Listing {
    fn find_owners(&mut self, owners: &mut Owners, people: &mut Processes) {
        for (socket, &inode) in self.dump.sockets.iter_mut().zip(&self.inodes) {
            socket.process = owners.of(inode, people);
        }
    }
}

impl Snapshot {
    fn of(listings: Vec<Listing>, missed: Missed) -> Self {
        let dumps = listings.into_iter().map(|listing| listing.dump);
        Self {
            dumps: dumps.collect(),
            missed,
        }
    }
}

/// Runs `look` in one namespace of several: gone is none, refused is missed.
fn in_it<T: Send>(
    found: &Found,
    missed: &mut Missed,
    look: impl FnOnce(u32) -> anyhow::Result<T> + Send,
) -> Option<T> {
    let seen = found
        .open()
        .map_err(anyhow::Error::from)
        .and_then(|netns| netns.map(|netns| enter(&netns, look)).transpose());
    seen.unwrap_or_else(|error| {
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

/// Runs `look` in a namespace and hands it the inode.
fn enter<T: Send>(
    netns: &Netns,
    look: impl FnOnce(u32) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let inode = netns.inode();
    // To enter even one's own namespace takes privileges, to look at it does not.
    if Netns::current().is_ok_and(|current| current.inode() == inode) {
        return look(inode);
    }
    netns.run_in(|| look(inode))?
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
            process: None,
            due_in: socket.left_ms.map(DueIn::from_ms),
        });
    };
    // Sockets that are only bound are not counted: where there is no other they are left out, there
    // being no pool that could want their port.
    if Busy::read().count() > 0 {
        each_tcp_socket(Mask::CONNECTED.and(Mask::BOUND), &mut take)
            .context("cannot list TCP sockets")?;
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

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock exists on every Linux");
    Duration::from(now)
        .as_nanos()
        .try_into()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
