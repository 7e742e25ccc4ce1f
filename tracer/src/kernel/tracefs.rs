/*!
Reaches tracefs without changing the host: where it is not mounted, a thread
takes a mount namespace of its own, mounts it there and ends. What the thread
opened meanwhile stays open.
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
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
                mount(
                    Some("tracefs"),
                    TRACING,
                    Some("tracefs"),
                    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
                    None::<&str>,
                )?;
                Ok(work())
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts tracefs died")))
    })
}
