/*! A workload as a process of its own: started, told to go, read, and never left behind. */

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::sys::signal::Signal;

use super::workload::{Order, Ready, Report, VERB, Work};

/// How long a process may take until it is ready.
const READY: Duration = Duration::from_secs(20);

/// A running workload; dropping it kills the process.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    name: String,
    ports: Vec<u16>,
}

/// Lets `command` start inside a network namespace, in a process group of its
/// own, and its process be killed when the thread that started it ends.
pub(super) fn enter(netns: BorrowedFd<'_>, command: &mut Command) -> anyhow::Result<()> {
    let netns = netns
        .try_clone_to_owned()
        .context("cannot keep the network namespace open for a process to start in it")?;
    // A group of its own: Ctrl-C is the parent's business, which then ends it.
    command.process_group(0);
    // SAFETY: between fork and exec only system calls without allocation run.
    unsafe {
        command.pre_exec(move || {
            nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        });
    }
    Ok(())
}

impl Process {
    /// The processes started here, found again by [`from_args`](super::workload::from_args).
    pub(super) fn spawn(
        netns: BorrowedFd<'_>,
        program: &Path,
        name: &str,
        work: &Work,
    ) -> anyhow::Result<Self> {
        let order = Order {
            name: name.to_owned(),
            work: work.clone(),
        };
        let mut command = Command::new(program);
        command.arg(VERB).arg(serde_json::to_string(&order)?);
        Self::start(netns, name, command)
    }

    /// Any program that does as [`perform`](super::workload::perform) does.
    pub(super) fn start(
        netns: BorrowedFd<'_>,
        name: &str,
        mut command: Command,
    ) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        enter(netns, &mut command)?;
        let mut child = command.spawn().with_context(|| {
            let program = command.get_program().to_string_lossy();
            format!("cannot start {program} as {name}")
        })?;
        let stdin = child.stdin.take();
        let stdout = child
            .stdout
            .take()
            .context("the workload has no standard output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut process = Self {
            child,
            stdin,
            lines,
            name: name.to_owned(),
            ports: Vec::new(),
        };
        let ready: Ready = process.line(READY)?;
        process.ports = ready.ports;
        Ok(process)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name it gave itself: its comm.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port a server listens at; 0 for a client.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.first().copied().unwrap_or_default()
    }

    /// Lets a client begin.
    ///
    /// # Errors
    /// It is dead already.
    pub fn go(&mut self) -> anyhow::Result<()> {
        let stdin = self
            .stdin
            .as_mut()
            .context("the workload was released already")?;
        stdin
            .write_all(b"go\n")
            .with_context(|| format!("{} is gone", self.name))
    }

    /// What it counted; a client reports when its work is done, before it
    /// closes what it keeps open, a server once it was released.
    ///
    /// # Errors
    /// Nothing came in time, or the workload failed.
    pub fn report(&mut self, timeout: Duration) -> anyhow::Result<Report> {
        self.line(timeout)
    }

    /// Lets it close what it keeps open, and end.
    pub fn release(&mut self) {
        self.stdin = None;
    }

    /// Waits until it is dead and reaped.
    ///
    /// # Errors
    /// It lives on.
    pub fn wait(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        loop {
            match self.lines.recv_timeout(timeout) {
                Ok(_) => {}
                // Its standard output is closed: it is ending.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(anyhow!("{} did not end within {timeout:?}", self.name));
                }
            }
        }
        Ok(self.child.wait()?)
    }

    /// `go`, `report`, `release` and `wait` in one.
    ///
    /// # Errors
    /// As each of them.
    pub fn finish(&mut self, timeout: Duration) -> anyhow::Result<Report> {
        self.go()?;
        let report = self.report(timeout)?;
        self.release();
        self.wait(timeout)?;
        Ok(report)
    }

    fn line<T: serde::de::DeserializeOwned>(&mut self, timeout: Duration) -> anyhow::Result<T> {
        let name = &self.name;
        let line = self
            .lines
            .recv_timeout(timeout)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => anyhow!("{name} said nothing within {timeout:?}"),
                RecvTimeoutError::Disconnected => {
                    anyhow!("{name} ended early; what it said is above")
                }
            })?;
        serde_json::from_str(&line).with_context(|| format!("{name} said {line:?}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it is dead and reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
