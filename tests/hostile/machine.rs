/*!
What is the whole machine's: sysctls, changed in a virtual machine only and while no other scenario
runs, and lockdown, which a boot decides.
*/

use std::fs;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::conditions::{BPF, Conditions, PERFMON};
use super::{SEEN, each_backend, has_trampolines};
use crate::Scenario;
use crate::world::Skip;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("strict_perf_events", strict_perf_events),
    ("hidden_addresses", hidden_addresses),
    ("no_unprivileged_bpf", no_unprivileged_bpf),
    ("no_jit", no_jit),
    ("lockdown", lockdown),
];

/// Held while the machine is as it was: for writing by who changes it.
static MACHINE: RwLock<()> = RwLock::new(());

/// While this is held no scenario changes the machine.
pub(crate) fn unchanged() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// A setting of the whole machine, changed until this is dropped.
struct Changed {
    path: PathBuf,
    before: String,
    _alone: RwLockWriteGuard<'static, ()>,
}

impl Changed {
    /// Sets it, where that is nobody else's machine.
    fn sysctl(name: &str, value: &str) -> Result<Self, Skip> {
        if std::env::var_os("TRACER_VM").is_none() {
            return Err(Skip(format!(
                "{name} is the whole machine's and needs a virtual machine of its own: cargo xtask vm"
            )));
        }
        let alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        let path = PathBuf::from(format!("/proc/sys/{name}"));
        let before = fs::read_to_string(&path)
            .map_err(|error| Skip(format!("this kernel has no {name}: {error}")))?;
        fs::write(&path, value)
            .map_err(|error| Skip(format!("this kernel refuses {name}={value}: {error}")))?;
        Ok(Self {
            path,
            before,
            _alone: alone,
        })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        fs::write(&self.path, self.before.trim()).expect("a setting can be set to what it was");
    }
}

/// The kernel's lockdown mode, through a securityfs that only this thread sees.
fn lockdown_mode() -> String {
    let read = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        let (at, kind) = ("/sys/kernel/security", Some("securityfs"));
        mount(kind, at, kind, MsFlags::empty(), None::<&str>)?;
        fs::read_to_string("/sys/kernel/security/lockdown")
    };
    let text = std::thread::scope(|scope| scope.spawn(read).join().unwrap());
    let text = text.unwrap_or_default();
    let chosen = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    chosen.map_or("none", |(mode, _)| mode).to_owned()
}

/// Whether user space may not read the kernel's memory.
pub(super) fn is_confidential() -> bool {
    lockdown_mode() == "confidentiality"
}

fn strict_perf_events() -> Result<(), Skip> {
    let confidential = is_confidential();
    let _changed = Changed::sysctl("kernel/perf_event_paranoid", "4")?;
    if !confidential {
        each_backend(&Conditions::best(), |story, _| {
            story.assert_facts(&[("connect", SEEN), ("bind", SEEN)]);
        })?;
    }
    // Refused or not, nothing goes unsaid: that is the story's own rule.
    each_backend(&Conditions::only(&[BPF, PERFMON]), |_, _| {})
}

fn hidden_addresses() -> Result<(), Skip> {
    let _changed = Changed::sysctl("kernel/kptr_restrict", "2")?;
    each_backend(&Conditions::best(), |story, options| {
        if !options.is_empty() {
            // Births need no address where sockets have cookies (Linux 5.12); their ends do.
            let births = match story.said.contains("socket cookies") {
                true => &["inferred"][..],
                false => SEEN,
            };
            story.assert_facts(&[("time_wait", births), ("time_wait_end", &["none"])]);
            story.assert_said(&["kernel.kptr_restrict=1"]);
        }
    })
}

fn no_unprivileged_bpf() -> Result<(), Skip> {
    let _changed = Changed::sysctl("kernel/unprivileged_bpf_disabled", "2")?;
    each_backend(&Conditions::only(&[BPF, PERFMON]), |_, _| {})
}

fn no_jit() -> Result<(), Skip> {
    let _changed = Changed::sysctl("net/core/bpf_jit_enable", "0")?;
    each_backend(&Conditions::best(), |_, _| {})
}

fn lockdown() -> Result<(), Skip> {
    match lockdown_mode().as_str() {
        "integrity" => each_backend(&Conditions::best(), |story, _| {
            story.assert_facts(&[("connect", SEEN), ("bind", SEEN)]);
        }),
        "confidentiality" => {
            let trampolines = has_trampolines();
            each_backend(&Conditions::best(), |story, options| {
                if trampolines && options.is_empty() {
                    let exact: &[&str] = &["trampoline"];
                    story.assert_facts(&[
                        ("connect", exact),
                        ("bind", exact),
                        ("time_wait", exact),
                        ("time_wait_end", exact),
                    ]);
                } else {
                    story.assert_facts(&[
                        ("connect", &["inferred"]),
                        ("bind", &["none"]),
                        ("time_wait", &["inferred"]),
                        ("time_wait_end", &["none"]),
                    ]);
                    story
                        .assert_said(&["lockdown=confidentiality", "boot with lockdown=integrity"]);
                }
            })
        }
        _ => Err(Skip(
            "this kernel is not locked down: cargo xtask vm --append lockdown=confidentiality"
                .to_owned(),
        )),
    }
}
