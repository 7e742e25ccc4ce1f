/*!
One boot in qemu: the console is passed on as it comes, up to a deadline, and
the status the guest states at its end is the result.
*/
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::exec::spelled;

/// What the guest's init writes in front of the status of its command.
pub(super) const STATUS: &str = "xtask-vm-status: ";

/// A machine to boot.
#[derive(Debug)]
pub(super) struct Machine {
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

/// Kills qemu whichever way the run ends.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Machine {
    /// Boots `kernel` with `initramfs`, calls `each` with each line of its
    /// console and returns the status its command ended with.
    ///
    /// # Errors
    ///
    /// When qemu cannot be started, the guest ends without stating a status,
    /// or the deadline passes.
    pub(super) fn run(
        &self,
        kernel: &Path,
        initramfs: &Path,
        mut each: impl FnMut(&str),
    ) -> Result<i32> {
        let mut command = self.command(kernel, initramfs);
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
                            let _closed = writeln!(std::io::stdout(), "{text}");
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => match status {
                    // It said how the command ended, only powering off hung.
                    Some(code) => return Ok(code),
                    None => bail!(
                        "the guest was not done after {} s and was killed; its console is above; \
                         --timeout gives it longer",
                        self.deadline.as_secs()
                    ),
                },
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let ended = qemu.0.wait().context("waiting for qemu")?;
        status.with_context(|| {
            format!(
                "the guest ended ({ended}) without saying how its command did; its console is above; \
                 --append ignore_loglevel makes the kernel say more"
            )
        })
    }

    fn command(&self, kernel: &Path, initramfs: &Path) -> Command {
        let append = format!("console=ttyS0 quiet panic=-1 {}", self.append);
        let mut command = Command::new("qemu-system-x86_64");
        command
            .arg("-machine")
            .arg(format!("q35,accel={}", self.accel))
            // Without cmpxchg16b: emulated by qemu 7.2 it now and then leaves garbage in the flags
            // and the stack pointer, and the kernel's allocator dies of a double fault.
            .args(["-cpu", "max,-cx16", "-nodefaults", "-no-reboot"])
            // With -nographic the BIOS would write to the console too.
            .args(["-display", "none", "-serial", "stdio"])
            .args(["-smp", &self.cpus.to_string()])
            .args(["-m", &format!("{}M", self.memory)])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
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
