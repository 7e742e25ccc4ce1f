/*!
Who a process is, beyond what the kernel event carries: its executable, cgroup,
container and pod, read once from /proc and kept.

/proc answers for whoever has the pid *now*. The start time in the event tells a
process from a later one with the same pid; where it does not match, nothing of
/proc is believed and only the cgroup id of the event speaks.
*/

use std::collections::VecDeque;
use std::fmt::Write;
use std::hash::Hash;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use foldhash::HashMap;

use super::cgroup::{self, Index, Lookup, Membership};
use crate::model::{Process, Task};

/// Most processes kept, at about 600 bytes each, 10 MB; and most names that their threads have, at
/// about 350 bytes each, 6 MB. The oldest goes first.
const MOST: usize = 16_384;

/// Most bytes read of one `/proc/PID/cgroup`: a line a hierarchy, each below `PATH_MAX`.
const MOST_CGROUP_BYTES: u64 = 128 * 1024;

/// One process in one cgroup: a process that moves is read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    tgid: u32,
    start_ns: u64,
    cgroup_id: u64,
}

#[derive(Debug)]
struct Entry {
    process: Arc<Process>,
    /// Set while the cgroup's path may still turn up.
    retry: Option<Instant>,
}

impl Entry {
    fn is_good(&self, now: impl Fn() -> Instant) -> bool {
        self.retry.is_none_or(|retry| now() < retry)
    }
}

/// What came first goes first, when there is more than `most`.
#[derive(Debug)]
struct Kept<K> {
    entries: HashMap<K, Entry>,
    /// Keys in the order they came, the oldest in front; each once.
    order: VecDeque<K>,
    most: usize,
}

impl<K: Copy + Eq + Hash> Kept<K> {
    fn new() -> Self {
        Self {
            entries: HashMap::default(),
            order: VecDeque::new(),
            most: MOST,
        }
    }

    fn keep(&mut self, key: K, process: Arc<Process>, retry: Option<Instant>) {
        if self.entries.insert(key, Entry { process, retry }).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

/// The processes that tasks belong to, each read once; bounded to 16,384, as are their names.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    ns_per_tick: u64,
    known: Kept<Key>,
    /// The same by each name and user that its threads had.
    named: Kept<Task>,
    cgroups: Index,
}

impl Processes {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        let ticks_per_second = procfs::ticks_per_second().max(1);
        Self {
            proc: PathBuf::from("/proc"),
            ns_per_tick: (1_000_000_000 / ticks_per_second).max(1),
            known: Kept::new(),
            named: Kept::new(),
            cgroups: Index::new(),
        }
    }

    /// The process that a task is of, as /proc has it now or had it once. A process that is
    /// gone, hidden or in another pid namespace keeps what its cgroup id gives; that answer is kept
    /// too. Asked for every event, so it is quick the second time.
    pub fn resolve(&mut self, task: &Task) -> Arc<Process> {
        self.resolve_at(task, Instant::now)
    }

    fn resolve_at(&mut self, task: &Task, now: impl Fn() -> Instant) -> Arc<Process> {
        if let Some(entry) = self.named.entries.get(task)
            && entry.is_good(&now)
        {
            return Arc::clone(&entry.process);
        }
        let key = Key {
            tgid: task.tgid,
            start_ns: task.start_ns,
            cgroup_id: task.cgroup_id,
        };
        let (process, retry) = match self.known.entries.get(&key) {
            Some(entry) if entry.is_good(&now) => (Arc::clone(&entry.process), entry.retry),
            _ => {
                let (process, retry) = match self.read(task) {
                    Some(process) => (process, None),
                    None => self.by_cgroup(task, now()),
                };
                let process = Arc::new(process);
                self.known.keep(key, Arc::clone(&process), retry);
                (process, retry)
            }
        };
        // Where it runs is the same, whatever its threads are called.
        let same =
            (process.comm, process.thread, process.uid) == (task.comm, task.thread, task.uid);
        let process = if same {
            process
        } else {
            Arc::new(Process {
                comm: task.comm,
                thread: task.thread,
                uid: task.uid,
                ..Process::clone(&process)
            })
        };
        self.named.keep(*task, Arc::clone(&process), retry);
        process
    }

    /// What /proc says, when it speaks of the process that started when the task's did.
    fn read(&self, task: &Task) -> Option<Process> {
        if task.tgid == 0 {
            return None;
        }
        // The directory stays that of one process, whoever gets the pid after it.
        let process =
            procfs::process::Process::new_with_root(self.proc.join(task.tgid.to_string()));
        let process = process.ok()?;
        if process.stat().ok()?.starttime != task.start_ns / self.ns_per_tick {
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
        Some(Process {
            exe: exe.map(Into::into),
            cgroup: cgroup.map(Into::into),
            container: membership.container.map(Into::into),
            runtime: membership.runtime,
            pod: membership.pod.map(Into::into),
            ..Process::of(task)
        })
    }

    /// What the cgroup id alone says, and from when on asking again may say more.
    fn by_cgroup(&mut self, task: &Task, now: Instant) -> (Process, Option<Instant>) {
        let process = Process::of(task);
        match self.cgroups.path(task.cgroup_id, now) {
            Lookup::Found(path) => {
                let Membership {
                    container,
                    runtime,
                    pod,
                } = cgroup::parse_path(&path);
                let process = Process {
                    cgroup: Some(path.into()),
                    container: container.map(Into::into),
                    runtime,
                    pod: pod.map(Into::into),
                    ..process
                };
                (process, None)
            }
            Lookup::Absent => (process, None),
            Lookup::NotBefore(retry) => (process, Some(retry)),
        }
    }
}

impl Default for Processes {
    fn default() -> Self {
        Self::new()
    }
}

fn cgroup_lines(process: &procfs::process::Process) -> Option<String> {
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
