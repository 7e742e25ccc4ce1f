/*!
One boot in qemu: the console is kept in a file and passed on as it comes, up
to a deadline, and the status the guest states at its end is the result.
*/
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::arch::Arch;
use crate::exec::spelled;

/// What the guest's init writes in front of the status of its command.
pub(super) const STATUS: &str = "xtask-vm-status: ";

/// A machine to boot.
#[derive(Debug)]
pub(super) struct Machine {
    /// Whose programs it runs.
    pub(super) arch: Arch,
    /// MiB.
    pub(super) memory: u32,
    /// Processors.
    pub(super) cpus: u32,
    /// qemu's accelerator.
    pub(super) accel: String,
    /// Further arguments of the kernel.
    pub(super) append: String,
    /// From power-on to power-off.
    pub(super) deadline: Duration,
}

/// What to boot, and where its console goes.
#[derive(Debug)]
pub(super) struct Boot<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// `NAME=value` pairs for what runs in the guest.
    pub(super) environment: &'a [String],
    /// File that keeps the console.
    pub(super) console: &'a Path,
    /// In front of each line that is passed on.
    pub(super) prefix: &'a str,
}

/// Kills qemu whichever way the run ends.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Machine {
    /// Boots, calls `each` with each line of the console and returns the
    /// status the guest's command ended with.
    ///
    /// # Errors
    ///
    /// When qemu cannot be started, the guest ends without stating a status,
    /// or the deadline passes.
    pub(super) fn run(&self, boot: &Boot<'_>, mut each: impl FnMut(&str)) -> Result<i32> {
        let Boot {
            console: kept,
            prefix,
            ..
        } = *boot;
        let mut file = File::create(kept).with_context(|| format!("making {}", kept.display()))?;
        let mut command = self.command(boot);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("tried to start {}", spelled(&command)))?;
        let console = child.stdout.take().expect("stdout was asked to be a pipe");
        let mut qemu = Qemu(child);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut console = BufReader::new(console);
            let mut line = Vec::new();
            while console
                .read_until(b'\n', &mut line)
                .is_ok_and(|len| len > 0)
            {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });

        let end = Instant::now() + self.deadline;
        let mut status = None;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let text = String::from_utf8_lossy(&line);
                    let text = text.trim_end_matches(['\r', '\n']);
                    match stated(text) {
                        Some(code) => status = Some(code),
                        None => {
                            each(text);
                            let _closed = writeln!(std::io::stdout(), "{prefix}{text}");
                            // The copy is for people: a full disk must not end the run.
                            let _full = writeln!(file, "{text}");
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => match status {
                    // It said how the command ended, only powering off hung.
                    Some(code) => return Ok(code),
                    None => bail!(
                        "the guest was not done after {} s and was killed; its console is above and \
                         in {}; --timeout gives it longer",
                        self.deadline.as_secs(),
                        kept.display()
                    ),
                },
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let ended = qemu.0.wait().context("waiting for qemu")?;
        status.with_context(|| {
            format!(
                "the guest ended ({ended}) without saying how its command did; its console is above \
                 and in {}; --append ignore_loglevel makes the kernel say more",
                kept.display()
            )
        })
    }

    fn command(&self, boot: &Boot<'_>) -> Command {
        // What the kernel does not know as one of its own becomes init's environment.
        let append = format!(
            "console={} quiet panic=-1 no_timer_check {} {}",
            self.arch.console(),
            self.append,
            boot.environment.join(" ")
        );
        let mut command = Command::new(self.arch.qemu());
        command
            .args(self.arch.machine(&self.accel))
            .args(["-nodefaults", "-no-reboot"])
            // With -nographic the BIOS would write to the console too.
            .args(["-display", "none", "-serial", "stdio"])
            .args(["-smp", &self.cpus.to_string()])
            .args(["-m", &format!("{}M", self.memory)])
            .arg("-kernel")
            .arg(boot.kernel)
            .arg("-initrd")
            .arg(boot.initramfs)
            .args(["-append", append.trim_end()]);
        command
    }
}

/// The status a line of the console states.
fn stated(line: &str) -> Option<i32> {
    line.strip_prefix(STATUS)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::stated;

    #[test]
    fn a_status_is_told_from_other_lines() {
        assert_eq!(stated("xtask-vm-status: 101"), Some(101));
        assert_eq!(stated("xtask-vm-status: none"), None);
        assert_eq!(stated("a test says xtask-vm-status: 0"), None);
    }
}
