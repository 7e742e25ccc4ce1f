/*!
What this kernel and these privileges allow: facts in, sentences out.

[`Facts::read`] is the only part that looks at the machine; a trial load of each
hook is handed in. Whether tracing works is decided by those trials, never by a
version or a user id.
*/

use crate::exit::NotAllowed;
use crate::kernel::refusal::{AttachError, chain};
use crate::model::{Check, Report, Status};

mod capabilities;
mod facts;
mod gaps;
mod hooks;
mod machine;

pub use facts::{Capability, Cgroups, FUNCTIONS, Facts, Lockdown, NoBtf, TRACEPOINTS, Types};
pub use gaps::{NAMESPACES, OWN, PROCESSES, gaps, has_hook_gaps, reach, reach_of_events};

/// The hook both backends stand on: without it nothing can be traced.
pub const REQUIRED_HOOK: &str = "inet_sock_set_state";

/// One hook, tried: its program was loaded (and attached, where that is what fails) and let go again.
#[derive(Clone, Debug)]
pub struct HookTrial {
    /// Function or tracepoint, optionally behind its kind: `fexit/inet_hash_connect`.
    pub hook: &'static str,
    /// `"trampoline"` or `"tracepoint"`.
    pub backend: &'static str,
    /// What is learnt with it, in one word: that of [`Group::fact`](super::hooks::Group::fact).
    pub fact: &'static str,
    /// What is known through it; hooks that give the same can stand in for each other.
    pub gives: &'static str,
    /// The error with its whole chain of causes, the system's own text included.
    pub result: Result<(), String>,
}

/// Judges the machine. `trials` are the hooks as tried, or why none could be tried.
pub fn report(facts: &Facts, trials: Result<&[HookTrial], &str>) -> Report {
    let hooks = trials.unwrap_or_default();
    let loads = |backend| {
        hooks
            .iter()
            .any(|trial| trial.backend == backend && trial.result.is_ok())
    };
    let refused = |backend| {
        hooks
            .iter()
            .any(|trial| trial.backend == backend && trial.result.is_err())
    };
    let can_trace = hooks
        .iter()
        .any(|trial| hooks::target(trial) == REQUIRED_HOOK && trial.result.is_ok())
        && refuse(facts).is_none();
    let backend = match (can_trace, loads("trampoline"), refused("trampoline")) {
        (false, ..) => None,
        (true, false, _) => Some("tracepoint"),
        (true, true, true) => Some("mixed"),
        (true, true, false) => Some("trampoline"),
    };
    let mut checks = vec![machine::kernel(facts), machine::types(facts)];
    checks.extend(machine::user_namespace(facts));
    checks.extend(capabilities::checks(facts));
    checks.extend(machine::memory_limit(facts));
    checks.extend([
        machine::lockdown(facts),
        machine::compiler(facts),
        machine::tracefs(facts),
        machine::perf_events(facts),
        machine::timer_handler(facts, loads("trampoline")),
        machine::process_ids(facts),
        machine::control_groups(facts),
    ]);
    match trials {
        Ok(trials) => checks.extend(
            trials
                .iter()
                .map(|trial| hooks::check(facts, trial, trials)),
        ),
        Err(error) => checks.push(hooks::none_tried(facts, error)),
    }
    if can_trace {
        // The trial proves that it works all the same.
        for check in &mut checks {
            if check.status == Status::Missing {
                check.status = Status::Degraded;
            }
        }
    } else if checks.iter().all(|check| check.status != Status::Missing) {
        checks.push(Check::new(
            REQUIRED_HOOK,
            Status::Missing,
            "not tried",
            "no connection can be followed without it",
        ));
    }
    Report {
        kernel: facts.release.clone(),
        can_trace,
        backend,
        inferred: hooks::not_given(hooks)
            .into_iter()
            .chain(gaps::not_reached(facts))
            .collect(),
        checks,
    }
}

/// The first reason in the facts alone for which loading need not even be tried.
pub fn refuse(facts: &Facts) -> Option<NotAllowed> {
    let lacking: Vec<Capability> = [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .filter(|capability| !facts.has(*capability))
        .collect();
    if facts.first_user_namespace != Some(false) && !lacking.is_empty() {
        let names: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        return Some(NotAllowed(format!(
            "cannot trace: loading BPF programs takes {}, which this process does not hold: {}",
            names.join(" and "),
            capabilities::obtain(facts, &lacking)
        )));
    }
    machine::user_namespace(facts)
        .into_iter()
        .chain([machine::types(facts)])
        .find(|check| check.status == Status::Missing)
        .map(|check| NotAllowed(format!("cannot trace: {}", check.sentence())))
}

/// Why nothing can be traced, after `error`.
pub fn cannot_trace(facts: &Facts, error: &AttachError) -> NotAllowed {
    if let Some(refused) = refuse(facts) {
        return refused;
    }
    let hook = match error {
        AttachError::Program { hook, .. } | AttachError::Refused { hook, .. } => *hook,
        AttachError::Open(_) => "maps",
        other => {
            let error = chain(other);
            return NotAllowed(format!(
                "cannot trace: {error}; `tracer doctor` says what is missing"
            ));
        }
    };
    let error = error.to_string();
    let trial = HookTrial {
        hook,
        backend: "tracepoint",
        fact: "state",
        gives: "every connection",
        result: Err(error.clone()),
    };
    let (reason, fix) = hooks::why(facts, &trial, &error);
    let fix = fix.unwrap_or_else(|| "`tracer doctor` says more".to_owned());
    NotAllowed(format!("cannot trace: {reason}; {fix}"))
}

/// Why a hook that the facts did not rule out was refused at load or attach.
pub fn explain(facts: &Facts, trial: &HookTrial) -> NotAllowed {
    let check = hooks::check(facts, trial, std::slice::from_ref(trial));
    NotAllowed(format!("cannot attach to {}", check.sentence()))
}

#[cfg(test)]
mod tests;
