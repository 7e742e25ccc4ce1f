/*! The machine: what it is, whether it is at rest, and what a process used. */

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::utsname::uname;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Where tracefs belongs.
const TRACEFS: &str = "/sys/kernel/tracing";

/// Part of the processors' time that others may take before a measurement begins.
const REST: f64 = 0.04;

/// How long one looks whether it is at rest.
const LOOK: Duration = Duration::from_millis(250);

/// Longest wait for that.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a process used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Time on a processor, in user space and in the kernel.
    pub(crate) cpu: Duration,
    /// Memory resident now, kB.
    pub(crate) resident_kb: u64,
}

impl Usage {
    /// Of a process.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        Ok(Self {
            cpu: clock_gettime(clock)?.into(),
            resident_kb: resident.context("VmRSS is missing")?,
        })
    }
}

/// Waits until nothing else is going on: a namespace that is taken down works on for a while.
/// Returns false when that never came.
pub(crate) fn wait_until_at_rest() -> anyhow::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = busy()?;
    loop {
        std::thread::sleep(LOOK);
        let now = busy()?;
        let part = (now.0 - before.0) as f64 / (now.1 - before.1).max(1) as f64;
        if part <= REST {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        before = now;
    }
}

/// Ticks that all processors were busy, and all ticks.
fn busy() -> anyhow::Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .flat_map(str::parse)
        .collect();
    // user nice system idle iowait irq softirq steal; the rest is in user already.
    let ticks = ticks.get(..8).context("/proc/stat has too few columns")?;
    let all: u64 = ticks.iter().sum();
    Ok((all - ticks[3] - ticks[4], all))
}

/// Mounts tracefs for this process and its children where it is missing: peers do not do so
/// themselves. Gone with them.
pub(crate) fn mount_tracefs() -> anyhow::Result<()> {
    if Path::new(TRACEFS).join("events").is_dir() {
        return Ok(());
    }
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).context("cannot keep mounts private")?;
    mount(
        Some("tracefs"),
        TRACEFS,
        Some("tracefs"),
        MsFlags::empty(),
        nothing,
    )
    .with_context(|| format!("cannot mount tracefs at {TRACEFS}"))
}

/// Processors, their kind, and the kernel.
pub(crate) fn description() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(": ")?.1.to_owned())
    };
    let model = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = uname().map_or_else(
        |_| "of unknown release".to_owned(),
        |name| name.release().to_string_lossy().into_owned(),
    );
    format!("{count} × {model}, Linux {kernel}")
}
