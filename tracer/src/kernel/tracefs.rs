/*!
Reaches tracefs, and what else the kernel shows as files, without changing the
host: where it is not mounted, a thread takes a mount namespace of its own,
mounts it there and ends. What the thread opened meanwhile stays open.
*/

use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where tracefs belongs.
const TRACING: &str = "/sys/kernel/tracing";

/// True when tracefs is mounted where it belongs and readable.
fn mounted() -> bool {
    Path::new(TRACING).join("events/syscalls").exists()
}

/// Runs `work` where `/sys/kernel/tracing` is tracefs.
///
/// # Errors
/// When tracefs is neither mounted nor mountable: needs CAP_SYS_ADMIN and a
/// kernel with CONFIG_FTRACE_SYSCALLS.
pub(super) fn with<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if mounted() {
        return Ok(work());
    }
    privately("tracefs", TRACING, work)
}

/// Runs `work` where a file system of the kernel's is mounted, for `work` alone.
///
/// # Errors
/// When it cannot be mounted: needs CAP_SYS_ADMIN and a kernel that has it.
pub(super) fn privately<T: Send>(
    kind: &str,
    at: &str,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some(kind), at, Some(kind), flags, None::<&str>)?;
                Ok(work())
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts died")))
    })
}
