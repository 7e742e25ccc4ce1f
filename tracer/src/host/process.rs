/*!
Who a process is, beyond what the kernel event carries: its executable, cgroup,
container and pod, read once from /proc and kept.

/proc answers for whoever has the pid *now*. The start time in the event tells a
process from a later one with the same pid; where it does not match, nothing of
/proc is believed and only the cgroup id of the event speaks.
*/

use std::collections::VecDeque;
use std::fmt::Write;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use foldhash::HashMap;
use procfs::process::Process;

use super::cgroup::{self, Index, Lookup, Runtime};

/// Most identities kept; at about 500 bytes each, 8 MB. The oldest goes first.
const MOST: usize = 16_384;

/// Most bytes read of one `/proc/PID/cgroup`: a line a hierarchy, each below `PATH_MAX`.
const MOST_CGROUP_BYTES: u64 = 128 * 1024;

/// What is known of a process. Every string is as another process chose it: escape it on output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Path of the executable in the process's own mount namespace, without the kernel's
    /// ` (deleted)`; `None` for kernel threads and for processes that could not be asked.
    pub exe: Option<String>,
    /// The cgroup path that says most about the process.
    pub cgroup: Option<String>,
    /// Container id out of that path.
    pub container: Option<String>,
    /// Runtime of that container.
    pub runtime: Option<Runtime>,
    /// Pod uid out of that path.
    pub pod: Option<String>,
}

/// One process in one cgroup: a process that moves is read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    tgid: u32,
    start_ns: u64,
    cgroup_id: u64,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<Identity>,
    /// Set while the cgroup's path may still turn up.
    retry: Option<Instant>,
}

/// The identities of processes, each read once; bounded to 16,384.
#[derive(Debug)]
pub struct Identities {
    proc: PathBuf,
    ns_per_tick: u64,
    entries: HashMap<Key, Entry>,
    /// Keys in the order they came, the oldest in front; each once.
    order: VecDeque<Key>,
    most: usize,
    cgroups: Index,
}

impl Identities {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        let ticks_per_second = procfs::ticks_per_second().max(1);
        Self {
            proc: PathBuf::from("/proc"),
            ns_per_tick: (1_000_000_000 / ticks_per_second).max(1),
            entries: HashMap::default(),
            order: VecDeque::new(),
            most: MOST,
            cgroups: Index::new(),
        }
    }

    /// The identity of process `tgid` that started at `start_ns` (its group leader, ns of
    /// `CLOCK_BOOTTIME`) and was in cgroup v2 `cgroup_id` (0 when unknown). A process that is
    /// gone, hidden or in another pid namespace keeps what `cgroup_id` gives; that answer is
    /// kept too.
    pub fn identify(&mut self, tgid: u32, start_ns: u64, cgroup_id: u64) -> Arc<Identity> {
        self.identify_at(tgid, start_ns, cgroup_id, Instant::now())
    }

    fn identify_at(
        &mut self,
        tgid: u32,
        start_ns: u64,
        cgroup_id: u64,
        now: Instant,
    ) -> Arc<Identity> {
        let key = Key {
            tgid,
            start_ns,
            cgroup_id,
        };
        if let Some(entry) = self.entries.get(&key)
            && entry.retry.is_none_or(|retry| now < retry)
        {
            return Arc::clone(&entry.identity);
        }
        let (identity, retry) = match self.read(tgid, start_ns) {
            Some(identity) => (identity, None),
            None => self.by_cgroup(cgroup_id, now),
        };
        let identity = Arc::new(identity);
        self.keep(
            key,
            Entry {
                identity: Arc::clone(&identity),
                retry,
            },
        );
        identity
    }

    fn keep(&mut self, key: Key, entry: Entry) {
        if self.entries.insert(key, entry).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    /// What /proc says, when it speaks of the process that started at `start_ns`.
    fn read(&self, tgid: u32, start_ns: u64) -> Option<Identity> {
        if tgid == 0 {
            return None;
        }
        // The directory stays that of one process, whoever gets the pid after it.
        let process = Process::new_with_root(self.proc.join(tgid.to_string())).ok()?;
        if process.stat().ok()?.starttime != start_ns / self.ns_per_tick {
            return None;
        }
        let exe = process.exe().ok().map(|path| {
            let path = path.as_os_str().as_bytes();
            readable(path.strip_suffix(b" (deleted)").unwrap_or(path))
        });
        let (cgroup, membership) = cgroup_lines(&process)
            .and_then(|lines| cgroup::parse_process(&lines))
            .map_or_else(Default::default, |(path, membership)| {
                (Some(path), membership)
            });
        if exe.is_none() && cgroup.is_none() {
            // It ended between two reads; the event's cgroup id still speaks for it.
            return None;
        }
        Some(Identity {
            exe,
            cgroup,
            container: membership.container,
            runtime: membership.runtime,
            pod: membership.pod,
        })
    }

    /// What the cgroup id alone says, and from when on asking again may say more.
    fn by_cgroup(&mut self, id: u64, now: Instant) -> (Identity, Option<Instant>) {
        match self.cgroups.path(id, now) {
            Lookup::Found(path) => {
                let membership = cgroup::parse_path(&path);
                let identity = Identity {
                    exe: None,
                    cgroup: Some(path),
                    container: membership.container,
                    runtime: membership.runtime,
                    pod: membership.pod,
                };
                (identity, None)
            }
            Lookup::Absent => (Identity::default(), None),
            Lookup::NotBefore(retry) => (Identity::default(), Some(retry)),
        }
    }
}

impl Default for Identities {
    fn default() -> Self {
        Self::new()
    }
}

fn cgroup_lines(process: &Process) -> Option<String> {
    let mut lines = Vec::new();
    process
        .open_relative("cgroup")
        .ok()?
        .take(MOST_CGROUP_BYTES)
        .read_to_end(&mut lines)
        .ok()?;
    Some(readable(&lines))
}

/// Bytes of a path as text: what is UTF-8 stays, any other byte becomes `\xNN`, so that two
/// different paths stay different.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    text
}

#[cfg(test)]
mod tests;
