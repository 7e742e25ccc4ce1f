/*! One check for each thing about the machine, apart from capabilities and hooks. */

use std::path::Path;

use super::capabilities::{LEAVE_PID_NAMESPACE, LEAVE_USER_NAMESPACE, obtain, obtain_lacking};
use super::{Capability, Cgroups, Check, Facts, Lockdown, NoBtf, Status};
use crate::kernel::kallsyms::Symbol;
use crate::kernel::layout::REQUIRED;

pub(super) fn kernel(facts: &Facts) -> Check {
    let found = if facts.release.is_empty() {
        "release not known"
    } else {
        &facts.release
    };
    if facts.is_older_than((5, 8)) {
        return Check::new(
            "kernel",
            Status::Missing,
            found,
            "the ring buffer came with Linux 5.8, so this kernel needs it backported",
        )
        .fix("run Linux 5.10 or newer");
    }
    if facts.is_older_than((5, 10)) {
        return Check::new(
            "kernel",
            Status::Degraded,
            found,
            "has what is needed, but tracer is tried on 5.10 and newer only",
        )
        .fix("run Linux 5.10 or newer");
    }
    Check::new(
        "kernel",
        Status::Ok,
        found,
        "new enough (5.8; tried from 5.10 on)",
    )
}

pub(super) fn types(facts: &Facts) -> Check {
    let types = match &facts.types {
        Ok(types) => types,
        Err(NoBtf::Absent) => {
            return Check::new(
                "BTF",
                Status::Missing,
                "no /sys/kernel/btf/vmlinux",
                "where the kernel keeps addresses and ports is not known",
            )
            .fix(
                "mount sysfs on /sys (in a container: the host's), or run a kernel built with \
                 CONFIG_DEBUG_INFO_BTF=y, as the distributions' own are",
            );
        }
        Err(NoBtf::Unusable(why)) => {
            return Check::new(
                "BTF",
                Status::Missing,
                why,
                "where the kernel keeps addresses and ports is not known",
            )
            .fix(
                "run as root, and where the file is damaged or newer than tracer, \
                 a distribution's kernel or a newer tracer",
            );
        }
    };
    let (required, other): (Vec<&str>, Vec<&str>) = types
        .missing
        .iter()
        .partition(|name| REQUIRED.contains(name));
    if !required.is_empty() {
        return Check::new(
            "BTF",
            Status::Missing,
            format!("no {}", required.join(", ")),
            "the kernel's structs are not those tracer knows",
        )
        .fix("run a newer tracer, or report the kernel's release");
    }
    if !other.is_empty() {
        return Check::new(
            "BTF",
            Status::Degraded,
            format!("no {}", other.join(", ")),
            "what these say stays unknown",
        )
        .fix("run a newer tracer, or report the kernel's release");
    }
    Check::new(
        "BTF",
        Status::Ok,
        "/sys/kernel/btf/vmlinux",
        "every struct member was found",
    )
}

pub(super) fn user_namespace(facts: &Facts) -> Option<Check> {
    (facts.first_user_namespace == Some(false)).then(|| {
        Check::new(
            "user namespace",
            Status::Missing,
            "not the host's",
            "capabilities held in it, even all of them, do not allow tracing",
        )
        .fix(LEAVE_USER_NAMESPACE)
    })
}

/// Before 5.11 the maps are charged to `RLIMIT_MEMLOCK`.
pub(super) fn memory_limit(facts: &Facts) -> Option<Check> {
    /// Enough for the maps at their default sizes.
    const ENOUGH: u64 = 256 << 20;
    if !facts.is_older_than((5, 11)) {
        return None;
    }
    let found = match facts.memlock {
        u64::MAX => "unlimited".to_owned(),
        bytes => format!("{} KiB", bytes / 1024),
    };
    let name = "RLIMIT_MEMLOCK";
    Some(if facts.memlock >= ENOUGH {
        Check::new(name, Status::Ok, found, "the maps fit in")
    } else if facts.has(Capability::SysResource) {
        Check::new(
            name,
            Status::Ok,
            found,
            "tracer raises it (CAP_SYS_RESOURCE)",
        )
    } else {
        Check::new(
            name,
            Status::Missing,
            found,
            "before Linux 5.11 the maps must fit in it, and raising it takes CAP_SYS_RESOURCE",
        )
        .fix("ulimit -l unlimited, LimitMEMLOCK=infinity (systemd), --ulimit memlock=-1 (Docker)")
    })
}

pub(super) fn lockdown(facts: &Facts) -> Check {
    let name = "lockdown";
    match facts.lockdown {
        Lockdown::None => Check::new(name, Status::Ok, "none", "nothing is refused by it"),
        Lockdown::Integrity => Check::new(
            name,
            Status::Ok,
            "integrity",
            "tracing programs are allowed",
        ),
        Lockdown::Unknown => Check::new(
            name,
            Status::Ok,
            "not known",
            "securityfs shows nothing; the trial loads below tell",
        ),
        Lockdown::Confidentiality => Check::new(
            name,
            Status::Degraded,
            "confidentiality",
            "programs may not copy kernel memory, and perf tracepoints are refused",
        )
        .fix("boot with lockdown=integrity"),
    }
}

pub(super) fn compiler(facts: &Facts) -> Check {
    let name = "JIT";
    match facts.jit {
        Some(0) => Check::new(
            name,
            Status::Degraded,
            "off",
            "programs are interpreted, which is slower",
        )
        .fix("sysctl -w net.core.bpf_jit_enable=1"),
        Some(_) => Check::new(name, Status::Ok, "on", "programs run as machine code"),
        None => Check::new(
            name,
            Status::Ok,
            "not shown",
            "only root in the host's network namespace sees the setting",
        ),
    }
}

pub(super) fn tracefs(facts: &Facts) -> Check {
    let name = "tracefs";
    let readable =
        facts.is_root || facts.has(Capability::DacReadSearch) || facts.has(Capability::SysAdmin);
    match &facts.tracefs {
        Some(path) if readable => Check::new(
            name,
            Status::Ok,
            at(path),
            "system call tracepoints can be looked up",
        ),
        None if facts.has(Capability::SysAdmin) => Check::new(
            name,
            Status::Ok,
            "not mounted",
            "tracer mounts one that only it sees, where needed",
        ),
        Some(path) => Check::new(
            name,
            Status::Degraded,
            at(path),
            "only root may read it: without it the errno of connect() comes from trampolines only",
        )
        .fix(obtain(facts, &[Capability::DacReadSearch])),
        None => Check::new(
            name,
            Status::Degraded,
            "not mounted",
            "without it the errno of connect() comes from trampolines only",
        )
        .fix("mount -t tracefs none /sys/kernel/tracing"),
    }
}

fn at(path: &Path) -> String {
    format!("mounted on {}", path.display())
}

pub(super) fn perf_events(facts: &Facts) -> Check {
    let name = "perf_event_paranoid";
    let Some(level) = facts.perf_event_paranoid else {
        return Check::new(
            name,
            Status::Degraded,
            "no /proc/sys/kernel/perf_event_paranoid",
            "the kernel has no perf events, so no system call tracepoints",
        )
        .fix("run a kernel built with CONFIG_PERF_EVENTS=y");
    };
    if facts.has(Capability::SysAdmin) || (level <= 2 && facts.has(Capability::Perfmon)) {
        return Check::new(
            name,
            Status::Ok,
            level.to_string(),
            "does not bind these capabilities",
        );
    }
    let wanted = match level {
        ..=2 => Capability::Perfmon,
        _ => Capability::SysAdmin,
    };
    Check::new(
        name,
        Status::Degraded,
        level.to_string(),
        format!("system call tracepoints take {wanted} at this level"),
    )
    .fix(obtain_lacking(facts))
}

/// How to be shown the address of `tw_timer_handler`.
pub(super) fn show_address(facts: &Facts) -> String {
    match (facts.tw_timer_handler, facts.kptr_restrict) {
        (Symbol::Absent, _) => {
            "run a kernel built with CONFIG_KALLSYMS=y, and mount /proc".to_owned()
        }
        (_, Some(2..)) => "sysctl -w kernel.kptr_restrict=1, and run as root".to_owned(),
        _ => obtain(facts, &[Capability::Syslog]),
    }
}

pub(super) fn timer_handler(facts: &Facts, trampolines: bool) -> Check {
    let name = "tw_timer_handler";
    let check = match facts.tw_timer_handler {
        Symbol::At(_) => {
            return Check::new(
                name,
                Status::Ok,
                "address known",
                "TIME_WAIT timers can be told",
            );
        }
        Symbol::Hidden => {
            let setting = match facts.kptr_restrict {
                Some(level @ 2..) => format!("address hidden (kernel.kptr_restrict={level})"),
                _ => format!("address hidden (it takes {})", Capability::Syslog),
            };
            Check::new(
                name,
                Status::Degraded,
                setting,
                "TIME_WAIT timers cannot be told",
            )
            .fix(show_address(facts))
        }
        Symbol::Absent => Check::new(
            name,
            Status::Degraded,
            "not in /proc/kallsyms",
            "TIME_WAIT timers cannot be told",
        )
        .fix(show_address(facts)),
    };
    if trampolines {
        return Check::new(
            name,
            Status::Ok,
            check.found,
            "not needed: trampolines load",
        );
    }
    check
}

pub(super) fn process_ids(facts: &Facts) -> Check {
    let name = "pid namespace";
    match facts.first_pid_namespace {
        Some(true) => Check::new(
            name,
            Status::Ok,
            "the host's",
            "events and /proc name the same pids",
        ),
        Some(false) => Check::new(
            name,
            Status::Degraded,
            "a container's",
            "events carry the host's pids, which this /proc does not know: no exe, no container",
        )
        .fix(LEAVE_PID_NAMESPACE),
        None => Check::new(
            name,
            Status::Degraded,
            "not known",
            "/proc is not mounted: no exe, no container",
        )
        .fix("mount -t proc proc /proc"),
    }
}

pub(super) fn control_groups(facts: &Facts) -> Check {
    let name = "cgroups";
    match facts.cgroups {
        Cgroups::V2 => Check::new(
            name,
            Status::Ok,
            "v2",
            "events carry the container's cgroup",
        ),
        Cgroups::V1 => Check::new(
            name,
            Status::Degraded,
            "v1",
            "the container of a process that ends before it was looked at stays unknown",
        )
        .fix("boot with systemd.unified_cgroup_hierarchy=1"),
        Cgroups::None => Check::new(
            name,
            Status::Degraded,
            "none mounted",
            "containers are named where /proc tells, else stay unknown",
        )
        .fix("mount -t cgroup2 none /sys/fs/cgroup"),
    }
}
