/*!
What is not seen, or not exactly, with what could be attached: said before the first event, so
that nobody takes the silence of a hook for the absence of what it would have told.
*/

use std::collections::BTreeMap;
use std::path::Path;

use super::capabilities::{LEAVE_PID_NAMESPACE, obtain};
use super::{Capability, Facts, HookTrial, hooks};
use crate::kernel::hooks::{INFERRED, NONE};
use crate::kernel::trial::{Kernel, Trial};

/// The fact that says how much of other processes can be read, in a source's backends.
pub const PROCESSES: &str = "processes";

/// The fact that says which network namespaces' sockets can be listed, in a source's backends.
pub const NAMESPACES: &str = "namespaces";

/// Ours alone: our own user's processes, the network namespace we are in.
pub const OWN: &str = "own";

/// Every network namespace's sockets.
const LISTS: &str = "pools of other network namespaces";

/// What cannot be known of other processes, whatever hooks there are.
const PROGRAMS: &str = "programs (exe) of other users' processes";

/// Any process's.
const PEOPLE: &str = "programs (exe) and containers";

/// Something that is not seen, or not exactly, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// `births of TIME_WAIT are inferred`
    pub(super) what: String,
    pub(super) reason: String,
    pub(super) fix: Option<String>,
}

/// How well what is read of the machine, beside the hooks, can be read: entries for a source's
/// backends. What is whole has none.
pub fn reach(facts: &Facts) -> BTreeMap<String, String> {
    let mut reach = BTreeMap::new();
    if facts.first_pid_namespace != Some(true) {
        reach.insert(PROCESSES.to_owned(), NONE.to_owned());
    } else if !facts.has(Capability::SysPtrace) {
        reach.insert(PROCESSES.to_owned(), OWN.to_owned());
    }
    if !lists_all(facts) {
        reach.insert(NAMESPACES.to_owned(), OWN.to_owned());
    }
    reach
}

/// The same for what the events of this kernel's programs are joined to.
pub fn reach_of_events(facts: &Facts, kernel: &Kernel) -> BTreeMap<String, String> {
    let mut reach = reach(facts);
    if hides_processes(kernel) {
        reach.insert(PROCESSES.to_owned(), NONE.to_owned());
    }
    reach
}

/// Whether events carry a pid only, and not which process of that pid it was.
fn hides_processes(kernel: &Kernel) -> bool {
    kernel.config.task_btf == 0 && kernel.config.probe_read == 0
}

/// Finding a namespace takes the one, entering it the other.
fn lists_all(facts: &Facts) -> bool {
    facts.has(Capability::SysPtrace) && facts.has(Capability::SysAdmin)
}

/// The same for `doctor`'s verdict.
pub(super) fn not_reached(facts: &Facts) -> Vec<&'static str> {
    let reach = reach(facts);
    let people = reach.get(PROCESSES).map(|how| match how.as_str() {
        OWN => PROGRAMS,
        _ => PEOPLE,
    });
    people
        .into_iter()
        .chain(reach.contains_key(NAMESPACES).then_some(LISTS))
        .collect()
}

/// Whether the trials or the backends leave something open that [`gaps`] would have to explain.
pub fn has_hook_gaps(kernel: &Kernel, backend: &BTreeMap<String, String>, ends: bool) -> bool {
    let open = |(fact, how): (&String, &String)| {
        matches!(how.as_str(), INFERRED | NONE) && (ends || fact != "time_wait_end")
    };
    backend.iter().any(open) || left_out(kernel, backend).next().is_some()
}

/// One sentence for each reason for which something is not seen, or not exactly, with the way out.
/// `ends` tells whether ends of `TIME_WAIT`s are asked for.
pub fn gaps(
    facts: &Facts,
    kernel: &Kernel,
    backend: &BTreeMap<String, String>,
    ends: bool,
) -> Vec<String> {
    let mut gaps = Vec::new();
    for (fact, how) in backend {
        let what = match (fact.as_str(), how.as_str()) {
            ("connect", INFERRED) => {
                "errno and cause of a connect() that fails at once are inferred, and one without a \
                 route is not seen"
            }
            ("bind", NONE) => "failures of bind() are not seen",
            ("time_wait", INFERRED) => "births of TIME_WAIT are inferred",
            ("time_wait_end", NONE) if ends => "ends of TIME_WAIT are not seen",
            ("rescue", NONE) => "ends the kernel skips a program for are found late or not at all",
            _ => continue,
        };
        // The last is the one tracepoint that would do: what refuses trampolines is seldom to be
        // changed.
        let refused = kernel
            .trials
            .iter()
            .rfind(|trial| trial.group.fact == fact && trial.result.is_err());
        if let Some(trial) = refused {
            gaps.push(gap(facts, trial, what.to_owned()));
        }
    }
    for trial in left_out(kernel, backend) {
        let what = format!("{} over IPv6: not seen", trial.group.gives);
        let mut gap = gap(facts, trial, what);
        gap.fix = Some("--backend tracepoint".to_owned());
        gaps.push(gap);
    }
    gaps.extend(beside_hooks(facts, kernel));
    told(&gaps)
}

/// Hooks that groups in use do without, although the kernel does IPv6.
fn left_out<'a>(
    kernel: &'a Kernel,
    backend: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = &'a Trial> {
    let does_v6 = Path::new("/proc/net/if_inet6").exists();
    let is_used = |trial: &&Trial| {
        backend.get(trial.group.fact).map(String::as_str) == Some(trial.group.backend)
    };
    kernel
        .trials
        .iter()
        .filter(move |_| does_v6)
        .filter(|trial| trial.hook.optional && trial.hook.target().contains('6'))
        .filter(|trial| trial.result.is_err())
        .filter(is_used)
}

fn gap(facts: &Facts, trial: &Trial, what: String) -> Gap {
    let error = trial.result.as_ref().err().cloned().unwrap_or_default();
    let trial = HookTrial {
        hook: trial.hook.place,
        backend: trial.group.backend,
        fact: trial.group.fact,
        gives: trial.group.gives,
        result: Err(error.clone()),
    };
    let (reason, fix) = hooks::why(facts, &trial, &error);
    Gap { what, reason, fix }
}

/// What the machine hides whatever is attached.
fn beside_hooks(facts: &Facts, kernel: &Kernel) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut lacks = |what: &str, wanted: Capability| {
        if !facts.has(wanted) {
            gaps.push(Gap {
                what: format!("{what} are not known"),
                reason: format!("it takes {wanted}"),
                fix: Some(obtain(facts, &[wanted])),
            });
        }
    };
    lacks(PROGRAMS, Capability::SysPtrace);
    lacks(
        "pools of other network namespaces, and how connections there ended that the kernel ran no \
         program for,",
        if facts.has(Capability::SysAdmin) {
            Capability::SysPtrace
        } else {
            Capability::SysAdmin
        },
    );
    if facts.first_pid_namespace != Some(true) {
        gaps.push(Gap {
            what: format!("{PEOPLE} are not known"),
            reason: "events carry the host's pids, which this /proc does not know".to_owned(),
            fix: Some(LEAVE_PID_NAMESPACE.to_owned()),
        });
    }
    if hides_processes(kernel) {
        gaps.push(Gap {
            what: format!("{PEOPLE} are not known, processes go by their thread's name"),
            reason:
                "lockdown=confidentiality refuses bpf_probe_read_kernel, and before Linux 5.11 \
                     there is no other way to the process"
                    .to_owned(),
            fix: Some("boot with lockdown=integrity".to_owned()),
        });
    }
    gaps
}

/// `what, and what: reason; fix`, those with the same reason and fix together.
pub(super) fn told(gaps: &[Gap]) -> Vec<String> {
    let mut groups: Vec<(&Gap, Vec<&str>)> = Vec::new();
    for gap in gaps {
        let same = |(first, _): &&mut (&Gap, _)| first.reason == gap.reason && first.fix == gap.fix;
        match groups.iter_mut().find(same) {
            Some((_, whats)) => whats.push(&gap.what),
            None => groups.push((gap, vec![&gap.what])),
        }
    }
    let sentence = |(gap, whats): (&Gap, Vec<&str>)| {
        let fix = gap.fix.as_ref().map(|fix| format!("; {fix}"));
        format!(
            "{}: {}{}",
            whats.join(", "),
            gap.reason,
            fix.unwrap_or_default()
        )
    };
    groups.into_iter().map(sentence).collect()
}
