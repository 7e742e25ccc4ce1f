/*!
What this kernel and these privileges allow: facts in, sentences out.

[`Facts::read`] is the only part that looks at the machine; a trial load of each
hook is handed in. Whether tracing works is decided by those trials, never by a
version or a user id.
*/

use serde::Serialize;

use crate::exit::NotAllowed;
use crate::kernel::refusal::{AttachError, chain};

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

/// How well one thing is provided for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As wanted.
    Ok,
    /// Tracing works, but knows less or costs more.
    Degraded,
    /// Tracing does not work without it.
    Missing,
}

/// One line of `tracer doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Of a hook: the fact it is to give, as a stream's `backend` names it. Two facts may need the
    /// same hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fact: Option<&'static str>,
    /// How well it is provided for.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What follows from that.
    pub means: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Check {
    fn new(name: &str, status: Status, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            fact: None,
            status,
            found: found.into(),
            means: means.into(),
            fix: None,
        }
    }

    /// `name: found; means: fix`.
    fn sentence(&self) -> String {
        let fix = self.fix.as_ref().map(|fix| format!(": {fix}"));
        format!(
            "{}: {}; {}{}",
            self.name,
            self.found,
            self.means,
            fix.unwrap_or_default()
        )
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Everything `tracer doctor` has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Kernel release.
    pub kernel: String,
    /// One entry a line, the machine first, then the hooks.
    pub checks: Vec<Check>,
    /// Whether tracing works here: exactly when no check is [`Status::Missing`].
    pub can_trace: bool,
    /// `"trampoline"`, `"tracepoint"`, or `"mixed"` where only some trampolines load.
    pub backend: Option<&'static str>,
    /// What no loadable hook gives: inferred from other events, or not known.
    pub inferred: Vec<&'static str>,
}

impl Report {
    /// The conclusion, one sentence without its full stop.
    pub fn verdict(&self) -> String {
        let Some(backend) = self.backend else {
            let missing: Vec<&str> = self
                .checks
                .iter()
                .filter(|check| check.status == Status::Missing)
                .map(|check| check.name.as_str())
                .collect();
            return format!("tracing does not work here: missing {}", missing.join(", "));
        };
        if backend == "tracepoint" && self.inferred.is_empty() {
            return "tracing works here with the tracepoint backend: failures and births of TIME_WAIT \
                    are exact; connect() by io_uring is inferred, bind() by io_uring and a TIME_WAIT \
                    that ends before its time are not seen"
                .to_owned();
        }
        let backend = match backend {
            "mixed" => "both backends, each where its hooks load".to_owned(),
            one => format!("the {one} backend"),
        };
        if self.inferred.is_empty() {
            return format!(
                "tracing works here with {backend}: everything is seen, nothing inferred"
            );
        }
        format!(
            "tracing works here with {backend}; inferred or not known: {}",
            self.inferred.join(", ")
        )
    }
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
