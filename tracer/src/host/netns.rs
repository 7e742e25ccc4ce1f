/*!
Network namespaces: open one, run code in it, make one that leaves nothing behind,
and understand what people type to name one.

The caller's thread never changes namespace: whatever must run inside runs on a
thread of its own that entered by setns(2) and ends with the closure.
*/

mod find;
mod loopback;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};

use super::cost;

/// What could not be done with a network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// No process has this id.
    #[error(
        "no process has pid {0}, so its network namespace cannot be opened; check the pid (it counts in the pid namespace tracer runs in)"
    )]
    NoSuchPid(u32),
    /// No process, mount or open file shows this namespace.
    #[error(
        "no process, mount or open file shows a network namespace with inode {0}; list them with `lsns -t net`, or name one by PATH or pid:N"
    )]
    NoSuchInode(u32),
    /// The path does not exist, or may not be opened.
    #[error("the network namespace {path} could not be opened: {source}{hint}", path = path.display(), hint = open_hint(source))]
    Open {
        /// What was opened.
        path: PathBuf,
        /// What refused.
        source: io::Error,
    },
    /// The path is something else.
    #[error("{path} is not a network namespace; give a path such as /run/netns/NAME or /proc/PID/ns/net", path = .0.display())]
    NotANetns(PathBuf),
    /// setns(2) refused.
    #[error(
        "entering network namespace {inode} was refused: {source}; it needs CAP_SYS_ADMIN, so run as root"
    )]
    Enter {
        /// The namespace.
        inode: u32,
        /// What refused.
        source: Errno,
    },
    /// unshare(2) refused.
    #[error("making a network namespace was refused: {0}; it needs CAP_SYS_ADMIN, so run as root")]
    Make(Errno),
    /// The loopback interface of a new namespace stayed down.
    #[error("the loopback interface of the new network namespace could not be brought up: {0}")]
    Loopback(Errno),
    /// No thread could be started.
    #[error("no thread could be started to enter the network namespace: {0}")]
    Thread(io::Error),
    /// What was typed names no namespace.
    #[error(
        "`{0}` names no network namespace; write its inode (4026531840), a path (/run/netns/NAME) or pid:N"
    )]
    Selector(String),
}

fn open_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; it needs CAP_SYS_PTRACE, so run as root",
        io::ErrorKind::NotFound => "; check the path, `ip netns list` shows the named ones",
        _ => "",
    }
}

/// A network namespace, kept alive by an open file.
#[derive(Debug)]
pub struct Netns {
    file: File,
    inode: u32,
}

impl Netns {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetnsError::Open`] where /proc is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        Self::from_path("/proc/thread-self/ns/net")
    }

    /// The namespace of process `pid`, counted in the caller's pid namespace.
    ///
    /// # Errors
    /// [`NetnsError::NoSuchPid`], or [`NetnsError::Open`] without the right to look.
    pub fn of_pid(pid: u32) -> Result<Self, NetnsError> {
        match Self::from_path(format!("/proc/{pid}/ns/net")) {
            // A process that ended but was not waited for has no namespace either.
            Err(NetnsError::Open { source, .. })
                if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) =>
            {
                Err(NetnsError::NoSuchPid(pid))
            }
            other => other,
        }
    }

    /// The namespace at a path: `/run/netns/NAME`, `/proc/PID/ns/net` or any bind mount of one.
    ///
    /// # Errors
    /// [`NetnsError::Open`], or [`NetnsError::NotANetns`] when it is something else.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref();
        // O_NONBLOCK: were it a FIFO, opening must not wait for a writer.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|source| NetnsError::Open {
                path: path.to_owned(),
                source,
            })?;
        Self::from_file(file).ok_or_else(|| NetnsError::NotANetns(path.to_owned()))
    }

    /// The namespace with this inode, wherever one is shown: by a thread of any process, a mount
    /// or an open file.
    ///
    /// # Errors
    /// [`NetnsError::NoSuchInode`].
    pub fn of_inode(inode: u32) -> Result<Self, NetnsError> {
        find::by_inode(inode).ok_or(NetnsError::NoSuchInode(inode))
    }

    /// A new, empty namespace with `lo` up. Only the open file keeps it alive: it goes away with
    /// the process, however that ends.
    ///
    /// # Errors
    /// [`NetnsError::Make`] without `CAP_SYS_ADMIN`; others where /proc is missing.
    pub fn anonymous() -> Result<Self, NetnsError> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(NetnsError::Make)?;
            loopback::up().map_err(NetnsError::Loopback)?;
            Self::current()
        })
    }

    /// The inode, as `ls -L -i /proc/PID/ns/net` and the events show it.
    #[must_use]
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// Runs `f` inside the namespace, on a thread of its own; a panic of `f` goes on in the caller.
    /// Sockets made inside stay in the namespace when they are returned.
    ///
    /// # Errors
    /// [`NetnsError::Enter`] without `CAP_SYS_ADMIN` over the namespace, [`NetnsError::Thread`].
    pub fn run_in<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        on_own_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|source| NetnsError::Enter {
                inode: self.inode,
                source,
            })?;
            Ok(f())
        })
    }

    fn from_file(file: File) -> Option<Self> {
        /// `NS_GET_NSTYPE` of `linux/nsfs.h`: which kind of namespace a file is.
        const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
        // SAFETY: the descriptor is open and this request takes no argument.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return None;
        }
        let inode = u32::try_from(file.metadata().ok()?.ino()).ok()?;
        Some(Self { file, inode })
    }
}

impl std::os::fd::AsFd for Netns {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn on_own_thread<T: Send>(
    f: impl FnOnce() -> Result<T, NetnsError> + Send,
) -> Result<T, NetnsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("tracer-netns".to_owned())
            .spawn_scoped(scope, || (f(), cost::spent()))
            .map_err(NetnsError::Thread)?;
        let (result, spent) = thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        cost::add(spent);
        result
    })
}

/// A namespace as typed: `INODE`, `PATH` or `pid:N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The inode, alone or as readlink(1) prints it: `net:[4026531840]`.
    Inode(u32),
    /// A file that is the namespace.
    Path(PathBuf),
    /// The namespace of a process.
    Pid(u32),
}

impl Selector {
    /// Opens the namespace that is meant.
    ///
    /// # Errors
    /// Those of [`Netns::of_inode`], [`Netns::from_path`] and [`Netns::of_pid`].
    pub fn open(&self) -> Result<Netns, NetnsError> {
        match self {
            Self::Inode(inode) => Netns::of_inode(*inode),
            Self::Path(path) => Netns::from_path(path),
            Self::Pid(pid) => Netns::of_pid(*pid),
        }
    }
}

impl FromStr for Selector {
    type Err = NetnsError;

    fn from_str(text: &str) -> Result<Self, NetnsError> {
        let unreadable = || NetnsError::Selector(text.to_owned());
        let positive = |digits: &str| {
            digits
                .parse::<u32>()
                .ok()
                .filter(|number| *number > 0 && !digits.starts_with('+'))
                .ok_or_else(unreadable)
        };
        if let Some(pid) = text.strip_prefix("pid:") {
            return positive(pid).map(Self::Pid);
        }
        let linked = text
            .strip_prefix("net:[")
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(inode) = linked {
            return positive(inode).map(Self::Inode);
        }
        if text.contains('/') {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        positive(text).map(Self::Inode)
    }
}

#[cfg(test)]
mod tests;
