/*! A command that is held before its exec(), so that tracing begins before it does. */

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::sys::signal::SigSet;

use super::caller::Caller;
use super::failure::Failure;

/// Exit code of a command that ended by a signal, less the signal's number.
const BY_SIGNAL: i32 = 128;

/// A process that waits for its exec(). Dropping it ends the process.
pub(super) struct Held {
    pid: u32,
    go: Option<PipeWriter>,
    told: PipeReader,
    spawner: Option<JoinHandle<io::Result<Child>>>,
    name: String,
}

impl Held {
    /// Forks for `command` and returns while the child waits. It will have the standard streams
    /// of this process, the signals in `mask` blocked, and be `caller` where one is given.
    ///
    /// # Errors
    /// When no process can be made.
    pub(super) fn new(
        command: &[OsString],
        caller: Option<Caller>,
        mask: SigSet,
    ) -> anyhow::Result<Self> {
        let (program, args) = command.split_first().context("no command was given")?;
        let name = program.to_string_lossy().into_owned();
        let (mut told, tell) = io::pipe().context("cannot make a pipe")?;
        let (wait, go) = io::pipe().context("cannot make a pipe")?;
        let mut command = Command::new(program);
        command.args(args);
        if let Some(caller) = &caller {
            command.envs(caller.environment());
        }
        let (tell_fd, wait_fd, go_fd) = (tell.as_raw_fd(), wait.as_raw_fd(), go.as_raw_fd());
        // SAFETY: between fork and exec only system calls run, and nothing is allocated or freed;
        // the descriptors are open until spawn() returns.
        unsafe {
            command.pre_exec(move || {
                hold(tell_fd, wait_fd, go_fd)?;
                if let Some(caller) = &caller
                    && let Err(error) = caller.become_it()
                {
                    write(tell_fd, &[0])?;
                    return Err(error.into());
                }
                mask.thread_set_mask()?;
                Ok(())
            });
        }
        // spawn() returns when the child is past exec(): that is to come.
        let spawner = std::thread::Builder::new()
            .name("spawn".into())
            .spawn(move || {
                let child = command.spawn();
                drop((tell, wait));
                child
            })
            .context("cannot start a thread")?;
        let mut pid = [0; 4];
        if told.read_exact(&mut pid).is_err() {
            return Err(match joined(spawner) {
                Err(error) => anyhow!(error).context("cannot start a process"),
                Ok(_) => anyhow!("the process for {name} was killed before it began"),
            });
        }
        Ok(Self {
            pid: u32::from_ne_bytes(pid),
            go: Some(go),
            told,
            spawner: Some(spawner),
            name,
        })
    }

    /// The process id: that of the command once it runs.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it exec().
    ///
    /// # Errors
    /// What refused: exit codes 125, 126 and 127 as env(1) has them.
    pub(super) fn release(mut self) -> Result<Child, Failure> {
        // A child that was killed meanwhile is waited for like any other.
        if let Some(mut go) = self.go.take() {
            go.write_all(&[0]).ok();
        }
        let spawner = self.spawner.take().expect("only this takes it");
        let error = match joined(spawner) {
            Ok(child) => return Ok(child),
            Err(error) => error,
        };
        // The thread closed its end and the child is gone: this does not wait.
        let refused = self.told.read(&mut [0]).is_ok_and(|bytes| bytes > 0);
        if refused {
            return Err(Failure::tracer(anyhow!(error).context(
                "cannot give up root for the user who called sudo; --as-root runs the command as root",
            )));
        }
        Err(Failure::exec(&self.name, error))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.go.take());
        // The child says that it gives up, and aborts with words of its own where nobody listens.
        if let Some(spawner) = self.spawner.take() {
            let _gave_up = joined(spawner);
        }
    }
}

fn joined(spawner: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    spawner
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))
}

/// In the child: says its process id, and returns when told to go.
fn hold(tell: RawFd, wait: RawFd, go: RawFd) -> io::Result<()> {
    // The child's own copy: with it open, the end of the tracer would not end the wait.
    // SAFETY: nothing else in the child uses the descriptor.
    Errno::result(unsafe { nix::libc::close(go) })?;
    write(tell, &std::process::id().to_ne_bytes())?;
    // SAFETY: the parent keeps the descriptor open until after exec().
    let wait = unsafe { BorrowedFd::borrow_raw(wait) };
    loop {
        match nix::unistd::read(wait, &mut [0]) {
            Ok(0) => return Err(Errno::ECANCELED.into()),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn write(to: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the parent keeps the descriptor open until after exec().
    let to = unsafe { BorrowedFd::borrow_raw(to) };
    nix::unistd::write(to, bytes)?;
    Ok(())
}

/// The exit code of a command that ended like this, as shells have it: 128 and the signal's number
/// for one that was killed.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| BY_SIGNAL + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}
