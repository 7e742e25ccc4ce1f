/*!
Which process holds which socket: one pass over the open files of every process.

Only the links `/proc/PID/fd/N` are read: a name such as `socket:[1234]`, nothing of what flows
through. Sockets whose holder has no such link (those of the kernel itself, those on their way
from one process to another) have none here.
*/

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use foldhash::HashMap;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use super::missed::{Missed, What};
use super::namespaces::{self, Found, inode_in, is_gone};
use super::stat::{Stat, real_uid};
use crate::host::process::Processes;
use crate::model::{Process, Task};

/// Length of a tick of `/proc/PID/stat`, ns.
const TICK_NS: u64 = 10_000_000;

/// Most bytes read of one `/proc/PID/status`.
const MOST_STATUS_BYTES: u64 = 64 * 1024;

/// A process that holds a socket.
#[derive(Clone, Debug)]
struct Holder {
    tgid: u32,
    stat: Stat,
    uid: u32,
    /// Once somebody asked for it.
    known: Option<Arc<Process>>,
}

/// Who holds which socket, of all kinds. About 16 bytes a socket.
#[derive(Debug, Default)]
pub struct Owners {
    holders: Vec<Holder>,
    /// By inode of the socket: an index into `holders`.
    sockets: HashMap<u32, u32>,
    /// Network namespaces that are open files.
    namespaces: HashMap<u32, Found>,
}

impl Owners {
    /// Looks through the open files of every process this one may look into.
    pub fn read(missed: &mut Missed) -> Self {
        let mut owners = Self::default();
        for pid in namespaces::processes(missed) {
            match owners.add(pid) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    let stat = namespaces::stat(pid);
                    if stat.is_some_and(|stat| !stat.kernel) {
                        missed.note(What::Files, &error, || namespaces::name_of(pid));
                    }
                }
            }
        }
        owners
    }

    /// The process that holds the socket with this inode, and who it is; of several the oldest.
    /// `people` is asked once for each process. The process's name stands for the thread's too.
    pub fn of(&mut self, inode: u32, people: &mut Processes) -> Option<Arc<Process>> {
        // TIME_WAITs and orphans have no inode.
        let &index = (inode != 0).then(|| self.sockets.get(&inode)).flatten()?;
        let holder = self.holders.get_mut(index as usize)?;
        let known = holder.known.get_or_insert_with(|| {
            people.resolve(&Task {
                tgid: holder.tgid,
                uid: holder.uid,
                start_ns: holder.stat.start_ticks * TICK_NS,
                cgroup_id: 0,
                comm: holder.stat.comm,
                thread: holder.stat.comm,
            })
        });
        Some(Arc::clone(known))
    }

    /// The network namespaces that were met as open files, in no order.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Found> {
        self.namespaces.values()
    }

    /// Adds what one process holds. Everything is read below one open directory, which stays that
    /// of one process, whoever gets its pid after it.
    fn add(&mut self, pid: u32) -> io::Result<()> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let process = OwnedFd::from(File::open(format!("/proc/{pid}"))?);
        let files = openat(&process, "fd", flags, Mode::empty())?;
        let mut entries = Dir::from_fd(files.try_clone()?)?;
        let mut held = Vec::new();
        let mut spaces = Vec::new();
        for entry in entries.iter() {
            let entry = entry?;
            let name = entry.file_name();
            let target = match readlinkat(files.as_fd(), name) {
                Ok(target) => target,
                // A file closed since, or `.`, which is no link.
                Err(Errno::ENOENT | Errno::EINVAL) => continue,
                // The directory may be open to us where what it lists is not.
                Err(refused) => return Err(refused.into()),
            };
            let target = target.as_encoded_bytes();
            if let Some(inode) = socket_in(target) {
                held.push(inode);
            } else if let Some(inode) = inode_in(target) {
                spaces.push((inode, name.to_owned()));
            }
        }
        if held.is_empty() && spaces.is_empty() {
            return Ok(());
        }
        let read = |name: &str| -> io::Result<Vec<u8>> {
            let file = openat(
                &process,
                name,
                OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            let mut bytes = Vec::new();
            File::from(file)
                .take(MOST_STATUS_BYTES)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "/proc is not as expected");
        let stat = Stat::parse(&read("stat")?).ok_or_else(malformed)?;
        let uid = real_uid(&read("status")?).ok_or_else(malformed)?;
        self.hold(
            Holder {
                tgid: pid,
                stat,
                uid,
                known: None,
            },
            held,
        );
        for (inode, file) in spaces {
            self.namespaces
                .entry(inode)
                .or_insert_with(|| Found::held(inode, way(pid, &file), pid, stat.comm.bytes()));
        }
        Ok(())
    }

    fn hold(&mut self, holder: Holder, sockets: Vec<u32>) {
        let age = |holder: &Holder| (holder.stat.start_ticks, holder.tgid);
        let index = u32::try_from(self.holders.len()).expect("there are fewer processes than pids");
        let holders = &self.holders;
        for inode in sockets {
            let keeper = self.sockets.entry(inode).or_insert(index);
            let older = holders.get(*keeper as usize);
            if older.is_some_and(|older| age(&holder) < age(older)) {
                *keeper = index;
            }
        }
        self.holders.push(holder);
    }
}

fn way(pid: u32, file: &CString) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/fd/{}", file.to_string_lossy()))
}

/// The inode in a link of the form `socket:[1234]`.
fn socket_in(link: &[u8]) -> Option<u32> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Holder, Owners, Stat, socket_in};
    use crate::host::process::Processes;
    use crate::model::TaskName;

    fn holder(tgid: u32, start_ticks: u64) -> Holder {
        Holder {
            tgid,
            stat: Stat {
                comm: TaskName::default(),
                kernel: false,
                start_ticks,
            },
            uid: 1000,
            known: None,
        }
    }

    #[test]
    fn of_several_holders_the_oldest_owns() {
        let mut owners = Owners::default();
        // Pids went round: the parent of 40 and 41 is 900.
        owners.hold(holder(40, 500), vec![1, 2]);
        owners.hold(holder(41, 500), vec![2, 3]);
        owners.hold(holder(900, 100), vec![1, 1]);
        let mut people = Processes::new();
        let mut owner = |inode| owners.of(inode, &mut people).map(|known| known.tgid);
        assert_eq!(owner(1), Some(900));
        assert_eq!(owner(2), Some(40), "the lower pid of equals");
        assert_eq!(owner(3), Some(41));
        assert_eq!(owner(4), None);
        assert_eq!(owner(0), None);
    }

    #[test]
    fn a_link_of_another_kind_is_none() {
        assert_eq!(socket_in(b"socket:[1234]"), Some(1234));
        for other in [
            "pipe:[1234]",
            "/tmp/socket:[1234]",
            "socket:[1234",
            "socket:[]",
            "socket:[1234] (deleted)",
        ] {
            assert_eq!(socket_in(other.as_bytes()), None, "{other}");
        }
    }
}
