/*! What the trial of a hook means: no error is passed on without its reason. */

use super::capabilities::{LEAVE_USER_NAMESPACE, obtain, obtain_lacking};
use super::machine::{show_address, types};
use super::{Capability, Check, Facts, HookTrial, Lockdown, REQUIRED_HOOK, Status};
use crate::kernel::kallsyms::TW_TIMER_HANDLER;
use crate::kernel::trial::{LEFT_ALONE, NO_ADDRESS, NO_COOKIES, NO_PROBE_READ, NO_TRACEFS};

/// The function or tracepoint itself, without the kind of hook before it.
pub(super) fn target(trial: &HookTrial) -> &'static str {
    trial
        .hook
        .rsplit_once('/')
        .map_or(trial.hook, |(_, target)| target)
}

/// The check for one trial; `all` tells what stands in when it was refused.
pub(super) fn check(facts: &Facts, trial: &HookTrial, all: &[HookTrial]) -> Check {
    let error = match &trial.result {
        Ok(()) => {
            let mut check = Check::new(
                trial.hook,
                Status::Ok,
                format!("{} loads", trial.backend),
                format!("gives {}", trial.gives),
            );
            check.fact = Some(trial.fact);
            return check;
        }
        Err(error) => error,
    };
    let refusal = Refusal::of(error);
    let (reason, fix) = refusal.reason(facts, trial, error);
    let stand_in = all
        .iter()
        .find(|other| other.gives == trial.gives && other.result.is_ok());
    let required = target(trial) == REQUIRED_HOOK;
    let consequence = match stand_in {
        _ if required => "nothing can be traced".to_owned(),
        Some(other) if other.backend == trial.backend => {
            format!("{} from {} instead", trial.gives, other.hook)
        }
        Some(other) => format!(
            "the {} backend is used ({}), which gives {}",
            other.backend, other.hook, trial.gives
        ),
        None => format!("{}: inferred, or not known", trial.gives),
    };
    Check {
        name: trial.hook.to_owned(),
        fact: Some(trial.fact),
        status: if required {
            Status::Missing
        } else {
            Status::Degraded
        },
        found: format!("{} refused{}", trial.backend, refusal.code()),
        means: format!("{reason}; {consequence}"),
        fix,
    }
}

/// The check when not one hook could be tried.
pub(super) fn none_tried(facts: &Facts, error: &str) -> Check {
    let trial = HookTrial {
        hook: REQUIRED_HOOK,
        backend: "tracepoint",
        fact: "state",
        gives: "every connection",
        result: Err(error.to_owned()),
    };
    let mut check = check(facts, &trial, &[]);
    "hooks".clone_into(&mut check.name);
    check.fact = None;
    "none could be tried".clone_into(&mut check.found);
    check.fix = check.fix.or_else(|| types(facts).fix);
    check
}

/// Why a hook was refused with `error`, and what to do about it.
pub(super) fn why(facts: &Facts, trial: &HookTrial, error: &str) -> (String, Option<String>) {
    Refusal::of(error).reason(facts, trial, error)
}

/// What no hook that loads gives, each once.
pub(super) fn not_given(trials: &[HookTrial]) -> Vec<&'static str> {
    let mut missed = Vec::new();
    for trial in trials.iter().filter(|trial| trial.result.is_err()) {
        let given = trials
            .iter()
            .any(|other| other.gives == trial.gives && other.result.is_ok());
        if !given && !missed.contains(&trial.gives) {
            missed.push(trial.gives);
        }
    }
    missed
}

/// What the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NotPermitted,
    Verifier,
    NotFound,
    Invalid,
    NotSupported,
    TooBig,
    Other,
}

impl Refusal {
    /// Tells the error by its number, which the text of a system error ends in.
    fn of(error: &str) -> Self {
        let number = error
            .rsplit_once("os error ")
            .and_then(|(_, rest)| rest.split(')').next()?.parse::<i32>().ok());
        match number {
            Some(1) => Self::NotPermitted,
            Some(13) => Self::Verifier,
            Some(2 | 3) => Self::NotFound,
            Some(22) => Self::Invalid,
            // ENOTSUPP of the kernel itself has no name in user space.
            Some(95 | 524) => Self::NotSupported,
            Some(7 | 28) => Self::TooBig,
            Some(_) => Self::Other,
            None => Self::by_name(error),
        }
    }

    fn by_name(error: &str) -> Self {
        const NAMES: &[(&str, Refusal)] = &[
            ("EPERM", Refusal::NotPermitted),
            ("Operation not permitted", Refusal::NotPermitted),
            ("EACCES", Refusal::Verifier),
            ("Permission denied", Refusal::Verifier),
            ("ENOENT", Refusal::NotFound),
            ("ESRCH", Refusal::NotFound),
            ("No such file", Refusal::NotFound),
            ("EINVAL", Refusal::Invalid),
            ("Invalid argument", Refusal::Invalid),
        ];
        NAMES
            .iter()
            .find(|(name, _)| error.contains(name))
            .map_or(Self::Other, |(_, refusal)| *refusal)
    }

    fn code(self) -> &'static str {
        match self {
            Self::NotPermitted => " (EPERM)",
            Self::Verifier => " (EACCES)",
            Self::NotFound => " (ENOENT)",
            Self::Invalid => " (EINVAL)",
            Self::NotSupported => " (ENOTSUPP)",
            Self::TooBig => " (E2BIG)",
            Self::Other => "",
        }
    }

    /// Why, and what to do about it.
    fn reason(self, facts: &Facts, trial: &HookTrial, error: &str) -> (String, Option<String>) {
        let target = target(trial);
        let syscall = trial.hook.contains("syscalls/") || target.starts_with("sys_");
        if let Ok(types) = &facts.types {
            if types.absent.contains(&target) {
                return (
                    format!(
                        "{target} is not in this kernel's BTF: left out, inlined or in a module"
                    ),
                    Some("load the module (modprobe ipv6) or build it in".to_owned())
                        .filter(|_| target.contains("v6") || target.contains("inet6")),
                );
            }
            if types.changed.contains(&target) {
                return (
                    format!("{target} takes other arguments in this kernel than tracer knows"),
                    Some("run a newer tracer, or report the kernel's release".to_owned()),
                );
            }
        }
        if let Some(known) = known(facts, error) {
            return known;
        }
        match self {
            Self::NotPermitted => not_permitted(facts, trial, syscall),
            Self::Verifier if syscall => (
                "tracefs may be read by root only".to_owned(),
                Some(obtain(facts, &[Capability::DacReadSearch])),
            ),
            Self::Verifier => (
                format!(
                    "the kernel's verifier did not accept the program: {}",
                    first_line(error)
                ),
                Some("report it with the kernel's release: this is a fault of tracer".to_owned()),
            ),
            Self::NotFound if syscall => (
                "the tracepoint is not in tracefs".to_owned(),
                Some(
                    "mount -t tracefs none /sys/kernel/tracing, or run a kernel built with \
                     CONFIG_FTRACE_SYSCALLS=y"
                        .to_owned(),
                ),
            ),
            Self::NotFound => (format!("the kernel does not know {target}"), None),
            Self::NotSupported => (
                "this kernel has no trampolines for its functions \
                 (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)"
                    .to_owned(),
                None,
            ),
            Self::Invalid => (
                "the kernel does not know this kind of program or something it uses".to_owned(),
                Some("run Linux 5.10 or newer, built with CONFIG_BPF_SYSCALL=y".to_owned()),
            ),
            Self::TooBig => (
                "the program is too big for this kernel, or its JIT is out of memory".to_owned(),
                Some("sysctl -w net.core.bpf_jit_limit=536870912".to_owned()),
            ),
            Self::Other => (first_line(error), None),
        }
    }
}

/// Refusals that say why themselves.
fn known(facts: &Facts, error: &str) -> Option<(String, Option<String>)> {
    let (reason, fix) = if let Some(why) = error.strip_prefix(NO_TRACEFS) {
        return Some(no_tracefs(facts, why));
    } else if error == NO_ADDRESS {
        (
            format!("/proc/kallsyms does not show the address of {TW_TIMER_HANDLER}"),
            show_address(facts),
        )
    } else if error == NO_PROBE_READ {
        (error.to_owned(), "boot with lockdown=integrity".to_owned())
    } else if error == LEFT_ALONE {
        // What the user chose needs no way out.
        return Some((error.to_owned(), None));
    } else if error == NO_COOKIES {
        (error.to_owned(), "run Linux 5.12 or newer".to_owned())
    } else {
        return None;
    };
    Some((reason, Some(fix)))
}

/// Why tracefs was out of reach, which said `why`.
fn no_tracefs(facts: &Facts, why: &str) -> (String, Option<String>) {
    if facts.lockdown == Lockdown::Confidentiality {
        return locked_down();
    }
    let (reason, fix) = if facts.has(Capability::SysAdmin) {
        (
            format!("tracefs can neither be read nor mounted{why}"),
            "run a kernel built with CONFIG_FTRACE_SYSCALLS=y".to_owned(),
        )
    } else if facts.tracefs.is_some() && !facts.is_root {
        (
            "tracefs may be read by root only".to_owned(),
            obtain(facts, &[Capability::DacReadSearch]),
        )
    } else {
        let wanted = Capability::SysAdmin;
        (
            format!("tracefs is not mounted, and for tracer to mount it takes {wanted}"),
            format!(
                "mount -t tracefs none /sys/kernel/tracing on the host, or: {}",
                obtain(facts, &[wanted])
            ),
        )
    };
    (reason, Some(fix))
}

fn locked_down() -> (String, Option<String>) {
    (
        "lockdown=confidentiality refuses perf tracepoints".to_owned(),
        Some("boot with lockdown=integrity".to_owned()),
    )
}

/// EPERM has many fathers; the likeliest comes first.
fn not_permitted(facts: &Facts, trial: &HookTrial, syscall: bool) -> (String, Option<String>) {
    let lacking: Vec<Capability> = [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .filter(|capability| !facts.has(*capability))
        .collect();
    if facts.first_user_namespace == Some(false) {
        return (
            "capabilities of a user namespace do not allow it".to_owned(),
            Some(LEAVE_USER_NAMESPACE.to_owned()),
        );
    }
    if !lacking.is_empty() {
        let names: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        return (
            format!("it takes {}", names.join(" and ")),
            Some(obtain_lacking(facts)),
        );
    }
    if facts.is_older_than((5, 11))
        && facts.memlock < 1 << 20
        && !facts.has(Capability::SysResource)
    {
        return (
            "RLIMIT_MEMLOCK is too small for it".to_owned(),
            Some("ulimit -l unlimited".to_owned()),
        );
    }
    if syscall && facts.lockdown == Lockdown::Confidentiality {
        return locked_down();
    }
    if syscall && !facts.has(Capability::SysAdmin) {
        return (
            "perf tracepoints may take CAP_SYS_ADMIN here (kernel.perf_event_paranoid)".to_owned(),
            Some(obtain(facts, &[Capability::SysAdmin])),
        );
    }
    if facts.seccomp {
        return (
            "a seccomp filter is in force and may refuse bpf() or perf_event_open()".to_owned(),
            Some(
                "seccompProfile: {type: Unconfined} (Kubernetes), \
                 --security-opt seccomp=unconfined (Docker)"
                    .to_owned(),
            ),
        );
    }
    if trial.backend == "cgroup" {
        return (
            "it takes CAP_NET_ADMIN, and the host's cgroup namespace".to_owned(),
            Some("run it as root, outside of a container".to_owned()),
        );
    }
    if trial.backend == "trampoline" {
        return (
            "this kernel refuses fentry/fexit programs although all capabilities are there"
                .to_owned(),
            None,
        );
    }
    (
        "a security module (SELinux, AppArmor, BPF LSM) refuses it although all capabilities are there"
            .to_owned(),
        Some("look for the refusal in the kernel's log or audit log".to_owned()),
    )
}

/// The first line, cut to what fits on a screen.
fn first_line(error: &str) -> String {
    const MOST: usize = 160;
    let line = error.lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
