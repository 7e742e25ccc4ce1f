/*!
Every network namespace there is, found once: through the processes that live
in it and the files it is bind-mounted on.
*/

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use foldhash::HashMap;
use nix::libc;

use super::missed::{Missed, What, person};
use super::mounts;
use super::stat::Stat;
use crate::host::netns::{Netns, NetnsError};
use crate::host::process::readable;

/// Ways kept to open one namespace: processes end between being seen and being asked.
const WAYS: usize = 8;

/// A network namespace that is known of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its inode.
    pub inode: u32,
    /// What people call it: `host` for that of pid 1; the file it is bind-mounted on, such as
    /// `/run/netns/web`; or else a process that lives in it, such as `pid 4242 nginx`. Escape it
    /// on output.
    pub name: String,
    ways: Vec<PathBuf>,
}

impl Found {
    /// Opens it; `None` when it is gone.
    ///
    /// # Errors
    /// [`NetnsError::Open`] without the right to look.
    pub fn open(&self) -> Result<Option<Netns>, NetnsError> {
        let mut denied = None;
        for way in &self.ways {
            match Netns::from_path(way) {
                // Another process may have the pid by now, or the file another mount.
                Ok(netns) if netns.inode() == self.inode => return Ok(Some(netns)),
                Ok(_) | Err(NetnsError::NotANetns(_)) => {}
                Err(NetnsError::Open { source, .. }) if is_gone(&source) => {}
                Err(error) => denied = Some(error),
            }
        }
        match (denied, Netns::of_inode(self.inode)) {
            (_, Ok(netns)) => Ok(Some(netns)),
            (Some(error), Err(_)) => Err(error),
            (None, Err(_)) => Ok(None),
        }
    }

    /// One that only an open file of a process keeps alive.
    pub(super) fn held(inode: u32, way: PathBuf, tgid: u32, comm: &[u8]) -> Self {
        Self {
            inode,
            name: format!("held by {}", person(tgid, comm)),
            ways: vec![way],
        }
    }
}

/// The processes and ways seen of one namespace.
#[derive(Default)]
struct Seen {
    pids: Vec<u32>,
    ways: Vec<PathBuf>,
}

impl Seen {
    fn process(&mut self, pid: u32, way: PathBuf) {
        if self.pids.last() != Some(&pid) {
            self.pids.push(pid);
        }
        if self.ways.len() < WAYS {
            self.ways.push(way);
        }
    }
}

/// Finds the network namespaces that processes, their threads and mounts show to this process,
/// each once, its own first. Those that nothing but an open file or a socket keeps alive are not
/// among them.
pub fn namespaces(missed: &mut Missed) -> Vec<Found> {
    let mut seen: BTreeMap<u32, Seen> = BTreeMap::new();
    for pid in processes(missed) {
        let way = PathBuf::from(format!("/proc/{pid}/ns/net"));
        match link(&way) {
            Ok(Some(inode)) => seen.entry(inode).or_default().process(pid, way),
            Ok(None) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                let stat = stat(pid);
                if !stat.is_some_and(|stat| stat.kernel) {
                    missed.note(What::Process, &error, || name_of(pid));
                }
                continue;
            }
        }
        for (inode, way) in threads(pid) {
            seen.entry(inode).or_default().process(pid, way);
        }
    }
    let mut names = mounted(missed);
    for (&inode, paths) in &names {
        let seen = seen.entry(inode).or_default();
        // A mount stays where a process may end.
        seen.ways.splice(0..0, paths.iter().cloned());
    }
    let own = link(Path::new("/proc/thread-self/ns/net")).ok().flatten();
    if let Some(own) = own {
        seen.entry(own).or_default();
    }
    let host = host(&seen, own);
    let mut found: Vec<_> = seen
        .into_iter()
        .map(|(inode, Seen { pids, ways })| {
            let name = if Some(inode) == host {
                "host".to_owned()
            } else if let Some(path) = names.remove(&inode).and_then(best) {
                readable(path.as_os_str().as_encoded_bytes())
            } else {
                oldest(&pids).map_or_else(|| format!("net:[{inode}]"), name_of)
            };
            Found { inode, name, ways }
        })
        .collect();
    found.sort_by_key(|found| (Some(found.inode) != own, found.inode));
    found
}

/// The processes this one is shown, by number.
pub(super) fn processes(missed: &mut Missed) -> Vec<u32> {
    let mut pids = match fs::read_dir("/proc") {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect(),
        Err(error) => {
            missed.note(What::List, &error, || "/proc".to_owned());
            Vec::new()
        }
    };
    pids.sort_unstable();
    pids
}

/// What `/proc/PID/stat` says, while the process is there.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid N comm`.
pub(super) fn name_of(pid: u32) -> String {
    let stat = stat(pid);
    person(pid, stat.as_ref().map_or(&[], |stat| stat.comm.bytes()))
}

/// Whether an error of /proc means that the process ended, waited for or not.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The inode in a link of the form `net:[4026531840]`.
pub(super) fn inode_in(link: &[u8]) -> Option<u32> {
    let digits = link.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn link(path: &Path) -> io::Result<Option<u32>> {
    let target = fs::read_link(path)?;
    Ok(inode_in(target.as_os_str().as_encoded_bytes()))
}

/// The namespaces of a process's threads, where it has several.
fn threads(pid: u32) -> Vec<(u32, PathBuf)> {
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    // A directory has a link by each directory in it, and two of its own.
    if !fs::metadata(&tasks).is_ok_and(|tasks| tasks.nlink() > 3) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(&tasks) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let way = entry.path().join("ns/net");
            link(&way).ok().flatten().map(|inode| (inode, way))
        })
        .collect()
}

/// The namespace of pid 1. Where it is not shown to us, a file that each namespace has one of
/// tells whether it is ours or that of another process.
fn host(seen: &BTreeMap<u32, Seen>, own: Option<u32>) -> Option<u32> {
    if let Ok(host) = link(Path::new("/proc/1/ns/net")) {
        return host;
    }
    let file = |process: &str| {
        let file = fs::metadata(format!("/proc/{process}/net/tcp")).ok()?;
        Some((file.dev(), file.ino()))
    };
    let host = file("1")?;
    if file("thread-self") == Some(host) {
        return own;
    }
    let by_process = |seen: &Seen| seen.pids.first().and_then(|pid| file(&pid.to_string()));
    seen.iter()
        .find(|(_, seen)| by_process(seen) == Some(host))
        .map(|(&inode, _)| inode)
}

/// Where namespaces are bind-mounted, as `ip netns add` and container runtimes do.
fn mounted(missed: &mut Missed) -> HashMap<u32, Vec<PathBuf>> {
    let mut paths: HashMap<u32, Vec<PathBuf>> = HashMap::default();
    match fs::read("/proc/self/mountinfo") {
        Ok(lines) => {
            for (inode, path) in mounts::namespaces(&lines) {
                paths.entry(inode).or_default().push(path);
            }
        }
        Err(error) => missed.note(What::List, &error, || "/proc/self/mountinfo".to_owned()),
    }
    paths
}

/// The name people know among several mounts of one namespace.
fn best(paths: Vec<PathBuf>) -> Option<PathBuf> {
    paths.into_iter().min_by_key(|path| {
        let known = ["/run/netns", "/var/run/netns", "/run/docker/netns"];
        let rank = known.iter().position(|known| path.starts_with(known));
        (
            rank.unwrap_or(known.len()),
            path.as_os_str().len(),
            path.clone(),
        )
    })
}

fn oldest(pids: &[u32]) -> Option<u32> {
    pids.iter()
        .copied()
        .filter_map(|pid| Some((stat(pid)?.start_ticks, pid)))
        .min()
        .map(|(_, pid)| pid)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{best, inode_in};

    #[test]
    fn a_link_of_another_kind_is_none() {
        assert_eq!(inode_in(b"net:[4026531840]"), Some(4_026_531_840));
        for other in [
            "mnt:[1]",
            "net:[]",
            "net:[-1]",
            "net:[1",
            "socket:[1]",
            "net:[4294967296]",
        ] {
            assert_eq!(inode_in(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_name_of_ip_netns_comes_first() {
        let best = |paths: &[&str]| best(paths.iter().map(PathBuf::from).collect());
        let name = best(&["/run/docker/netns/ab", "/a", "/run/netns/web"]);
        assert_eq!(name, Some("/run/netns/web".into()));
        let name = best(&["/tmp/longer", "/tmp/b", "/tmp/a"]);
        assert_eq!(name, Some("/tmp/a".into()));
        assert_eq!(best(&[]), None);
    }
}
