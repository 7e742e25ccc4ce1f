/*! Programs from Debian's packages: unprivileged, inside a scenario's namespace, gone with it. */

use std::collections::VecDeque;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User};
use tempfile::TempDir;
use tracer::sandbox::{Pair, Side};

use crate::trace::lines_of;
use crate::world::{SOON, Skip, missing};

/// How long a daemon may take to end when told to.
const END: Duration = Duration::from_secs(10);

/// Lines of a daemon's log kept for a panic's text.
const KEPT: usize = 20;

/// The account a package made for its daemon.
pub(crate) struct Account {
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// Looks it up; `package` is named when it is missing.
    pub(crate) fn of(name: &str, package: &str) -> Result<Self, Skip> {
        match User::from_name(name).unwrap() {
            Some(User { uid, gid, .. }) => Ok(Self { uid, gid }),
            None => Err(missing(&format!("the account {name}"), package)),
        }
    }

    /// A directory of its own, gone when dropped.
    pub(crate) fn home(&self) -> TempDir {
        let home = tempfile::tempdir().unwrap();
        chown(
            home.path(),
            Some(self.uid.as_raw()),
            Some(self.gid.as_raw()),
        )
        .unwrap();
        home
    }

    /// Lets `command` run as it, and end by `death` when this thread does.
    pub(crate) fn lend(&self, command: &mut Command, death: Signal) {
        let (uid, gid) = (self.uid, self.gid);
        // SAFETY: between fork and exec only system calls without allocation run.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::setgroups(&[gid])?;
                nix::unistd::setgid(gid)?;
                nix::unistd::setuid(uid)?;
                // Another identity clears it, and it comes after entering the namespace.
                nix::sys::prctl::set_pdeathsig(death)?;
                Ok(())
            });
        }
    }
}

/// A running daemon; dropping it ends it with all its children.
pub(crate) struct Daemon {
    child: Child,
    name: String,
    log: Receiver<String>,
    said: VecDeque<String>,
    stop: Signal,
}

impl Daemon {
    /// Starts `command` as `account` on the server's side, in `home`, and reads its log from
    /// standard error until a line has the words `ready`. `stop` ends it at once.
    pub(crate) fn start(
        pair: &Pair,
        account: &Account,
        home: &Path,
        mut command: Command,
        (ready, stop): (&str, Signal),
    ) -> Self {
        command
            .current_dir(home)
            .env("HOME", home)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        pair.enter(Side::Server, &mut command).unwrap();
        account.lend(&mut command, stop);
        let program = Path::new(command.get_program());
        let name = program.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let log = lines_of(child.stderr.take().unwrap());
        let mut daemon = Self {
            child,
            name,
            log,
            said: VecDeque::new(),
            stop,
        };
        daemon.until(ready);
        daemon
    }

    /// Waits for a line of its log.
    fn until(&mut self, words: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            match self.log.recv_timeout(deadline - Instant::now()) {
                Ok(line) => {
                    let found = line.contains(words);
                    self.said.push_back(line);
                    if found {
                        return;
                    }
                    if self.said.len() > KEPT {
                        self.said.pop_front();
                    }
                }
                Err(error) => panic!(
                    "{} did not say {words:?} ({error}), it said {:#?}",
                    self.name, self.said
                ),
            }
        }
    }

    /// Waits until nobody holds its standard error any more: it and its children are gone.
    fn is_gone(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Each fails only when it is dead and reaped already.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), self.stop);
        if !self.is_gone(END) {
            eprintln!("{} did not end by {}, killing it", self.name, self.stop);
            let _ = self.child.kill();
            self.is_gone(END);
        }
        let _ = self.child.wait();
    }
}
