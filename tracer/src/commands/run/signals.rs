/*!
Signals while a command runs: what is sent to the tracer is the command's, and
the tracer lives on to say what it found.
*/

use std::io;
use std::os::fd::AsFd as _;
use std::process::{Child, ExitStatus};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What is passed on.
const PASSED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGWINCH,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The signals of this process, taken out of their usual way.
pub(super) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// From now on signals wait to be read here. Threads started before would still get them.
    ///
    /// # Errors
    /// When they cannot be blocked or read.
    pub(super) fn take() -> anyhow::Result<Self> {
        let mut wanted = SigSet::empty();
        wanted.extend(PASSED);
        wanted.add(Signal::SIGCHLD);
        let before = SigSet::thread_get_mask().context("cannot read the signal mask")?;
        wanted.thread_block().context("cannot block signals")?;
        // Ignored, as some starters leave it, there would be no child to wait for.
        // SAFETY: the default handling is no code of ours.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.context("cannot handle signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&wanted, flags).context("cannot read signals")?;
        Ok(Self { fd, before })
    }

    /// What was blocked before: what the command is to inherit.
    pub(super) fn before(&self) -> SigSet {
        self.before
    }

    /// Passes signals on until `child` has ended. Must be called inside a runtime.
    ///
    /// # Errors
    /// When signals cannot be read or the child not be waited for.
    pub(super) async fn until_ended(&mut self, child: &mut Child) -> anyhow::Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait().context("cannot wait for the command")? {
                return Ok(status);
            }
            for info in self.read().await? {
                if let Some(signal) = to_pass(info.ssi_signo, info.ssi_code) {
                    // Not reaped yet, so the id is still its own; dead it needs no signal.
                    kill(Pid::from_raw(child.id().cast_signed()), signal).ok();
                }
            }
        }
    }

    /// Returns when one came that asks to end.
    pub(super) async fn asked_to_end(&mut self) {
        const END: [Signal; 4] = [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
        ];
        loop {
            let Ok(infos) = self.read().await else {
                return std::future::pending().await;
            };
            let asked = |info: &siginfo| END.iter().any(|&end| end as u32 == info.ssi_signo);
            if infos.iter().any(asked) {
                return;
            }
        }
    }

    /// Waits for signals and takes them all.
    async fn read(&self) -> anyhow::Result<Vec<siginfo>> {
        // SAFETY: the descriptor is borrowed, so it stays open and its own while registered.
        let fd = unsafe { AsyncFd::register_with_interest(self.fd.as_fd(), Interest::READABLE) };
        let fd = fd
            .map_err(io::Error::from)
            .context("cannot wait for signals")?;
        loop {
            let mut ready = fd.readable().await.context("cannot wait for signals")?;
            let mut infos = Vec::new();
            loop {
                match self.fd.read_signal() {
                    Ok(Some(info)) => infos.push(info),
                    Ok(None) => break,
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error).context("cannot read signals"),
                }
            }
            ready.clear_ready();
            if !infos.is_empty() {
                return Ok(infos);
            }
        }
    }
}

/// The signal to hand to the command. What the kernel sent, such as for Ctrl-C, went to the whole
/// foreground group of the terminal: the command has it already.
fn to_pass(number: u32, code: i32) -> Option<Signal> {
    let from_kernel = code > 0;
    let signal = Signal::try_from(number.cast_signed()).ok()?;
    (!from_kernel && PASSED.contains(&signal)).then_some(signal)
}

#[cfg(test)]
mod tests {
    use nix::libc::{SI_KERNEL, SI_QUEUE, SI_TKILL, SI_USER};
    use nix::sys::signal::Signal;

    use super::{PASSED, to_pass};

    #[test]
    fn passes_on_what_processes_send_and_not_what_a_terminal_does() {
        for signal in PASSED {
            for code in [SI_USER, SI_QUEUE, SI_TKILL] {
                assert_eq!(to_pass(signal as u32, code), Some(signal));
            }
            assert_eq!(to_pass(signal as u32, SI_KERNEL), None);
        }
        assert_eq!(to_pass(Signal::SIGCHLD as u32, SI_USER), None);
        assert_eq!(to_pass(64, SI_USER), None);
    }
}
