/*!
Every hook that a kernel is expected to have attaches, and fires: a program that is attached to a
function the compiler inlined loads well and is never called.

What is expected is a table by kernel release, of its own and apart from the product's, which asks
no version: a hook misspelt there would only look like one the kernel lacks. Lines that begin with
`matrix:` on standard output are read by `cargo xtask` for the table in docs/.
*/

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

use tracer::kernel::hooks::{CGROUP, GROUPS, Group, TRACEPOINT, TRAMPOLINE};
use tracer::kernel::preflight::{Facts, Lockdown};
use tracer::kernel::{btf, layout};

use crate::Scenario;
use crate::trace::{Tracer, program};
use crate::world::{SOON, Skip, look_away};

mod doctor;
mod everything;
mod programs;
mod table;

pub(crate) use doctor::Doctor;
use everything::Least;
use programs::Programs;
use table::{EXPECTED, Expected};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("every_member_is_found", every_member_is_found),
    ("the_table_is_the_products", the_table_is_the_products),
    ("all_trampolines_or_none", all_trampolines_or_none),
    ("trampolines_attach_and_fire", trampolines_attach_and_fire),
    ("tracepoints_attach_and_fire", tracepoints_attach_and_fire),
    ("follow_hooks_attach_and_fire", follow_hooks_attach_and_fire),
];

/// Facts that trampolines give nothing to: their hooks are there with either backend.
const SHARED: &[&str] = &["state", "rescue", "witness"];

/// What only `tracer run` asks for.
const FOLLOW: &str = "follow";

/// Whether the hook is attached by `tracer watch` with a backend.
fn is_watched(expected: &Expected, backend: &str) -> bool {
    expected.fact != FOLLOW && (expected.backend == backend || SHARED.contains(&expected.fact))
}

/// Whether a kernel is new enough for a hook that older ones do without.
fn is_due(doctor: &Doctor, expected: &Expected) -> bool {
    let extra = ["witness", "connect_again"].contains(&expected.fact);
    !extra || doctor.release() >= expected.since
}

/// Prints one line for the table in docs/.
fn tell(expected: &Expected, outcome: impl Display) {
    let Expected {
        fact,
        backend,
        place,
        ..
    } = expected;
    println!("matrix: hook {place} {backend} {fact} {outcome}");
}

fn every_member_is_found() -> Result<(), Skip> {
    let offsets = layout::read(btf::VMLINUX.as_ref()).map_err(|error| Skip(error.to_string()))?;
    // Registers have other names elsewhere, and are not read there.
    let known = |name: &&str| !cfg!(target_arch = "x86_64") && name.starts_with("regs_");
    let missing: Vec<_> = offsets
        .missing
        .into_iter()
        .filter(|name| !known(name))
        .collect();
    assert!(
        missing.is_empty(),
        "this kernel's BTF has no member for {missing:?}: misspelt, or renamed"
    );
    Ok(())
}

fn the_table_is_the_products() -> Result<(), Skip> {
    let product: BTreeSet<_> = GROUPS
        .iter()
        .flat_map(|group| {
            let hooks = group.hooks.iter();
            hooks.map(move |hook| (group.fact, group.backend, hook.place))
        })
        .collect();
    let table = EXPECTED
        .iter()
        .map(|expected| (expected.fact, expected.backend, expected.place));
    // A hook that is not in the table is one that nobody saw fire.
    assert_eq!(product, table.collect());
    Ok(())
}

/// Where every hook should be had; a locked down kernel is no such place.
fn doctor() -> Result<Doctor, Skip> {
    if Facts::read().lockdown == Lockdown::Confidentiality {
        return Err(Skip(
            "this kernel is locked down to confidentiality".to_owned(),
        ));
    }
    Doctor::ask()
}

fn all_trampolines_or_none() -> Result<(), Skip> {
    let doctor = doctor()?;
    println!("matrix: kernel {}", doctor.kernel());
    if doctor.refuses_trampolines() {
        for expected in EXPECTED
            .iter()
            .filter(|expected| expected.backend == TRAMPOLINE)
        {
            tell(expected, outcome(&doctor, expected));
        }
        return Err(Skip("this kernel refuses trampolines".to_owned()));
    }
    assert_eq!(faults(&doctor, TRAMPOLINE), Vec::<String>::new());
    Ok(())
}

/// What the doctor says of a hook that did not fire.
fn outcome(doctor: &Doctor, expected: &Expected) -> String {
    match doctor.trial(expected.place, expected.fact) {
        Some(Err(reason)) => format!("refused={reason}"),
        Some(Ok(())) | None => "not_needed".to_owned(),
    }
}

/// The hooks of a backend that should be had here and are not.
fn faults(doctor: &Doctor, backend: &str) -> Vec<String> {
    let release = doctor.release();
    let mut faults = Vec::new();
    for expected in EXPECTED {
        let place = expected.place;
        let dropped = expected.until.is_some_and(|until| release >= until);
        if expected.backend != backend {
            continue;
        }
        match doctor.trial(place, expected.fact) {
            _ if release < expected.since => {}
            Some(Ok(())) if dropped => {
                faults.push(format!(
                    "{place} is needed, though not since {:?}",
                    expected.until
                ));
            }
            Some(Ok(())) => {}
            None if dropped => {}
            None => faults.push(format!("{place} was not tried")),
            Some(Err(reason)) => faults.push(format!("{place} was refused: {reason}")),
        }
    }
    faults
}

/// The groups that a tracer uses to learn their facts from a backend: of several the first that
/// is to be had.
fn used(doctor: &Doctor, backend: &str) -> BTreeMap<&'static str, &'static Group> {
    let mut used = BTreeMap::new();
    for group in GROUPS.iter().filter(|group| group.backend == backend) {
        let mut hooks = group.hooks.iter().filter(|hook| !hook.optional);
        if hooks.all(|hook| !matches!(doctor.trial(hook.place, group.fact), Some(Err(_)))) {
            used.entry(group.fact).or_insert(group);
        }
    }
    used
}

/// Waits until each of these hooks fired as often as the workload makes it, tells how often each
/// one did, and returns the faults.
fn fired(doctor: &Doctor, pid: u32, hooks: &[&Expected]) -> Vec<String> {
    let deadline = Instant::now() + SOON;
    let groups: BTreeMap<_, _> = [TRAMPOLINE, TRACEPOINT, CGROUP]
        .map(|backend| (backend, used(doctor, backend)))
        .into();
    // How often each fired, none where no program is in use.
    let count = |programs: &Programs, expected: &Expected| {
        let group = groups[expected.backend].get(expected.fact)?;
        let mut hooks = group.hooks.iter();
        let is_used = hooks.any(|hook| hook.place == expected.place);
        let is_had = matches!(doctor.trial(expected.place, expected.fact), Some(Ok(())));
        (is_used && is_had).then(|| programs.fired(group, expected.place))
    };
    loop {
        let programs = Programs::of(pid);
        let counts: Vec<_> = hooks
            .iter()
            .map(|expected| (*expected, count(&programs, expected)))
            .collect();
        let silent = |(expected, count): &(&Expected, Option<Option<u64>>)| {
            count.is_some_and(|count| count.is_none_or(|count| count < expected.least.runs()))
        };
        let done = !counts.iter().any(silent);
        if !done && Instant::now() < deadline {
            look_away();
            continue;
        }
        let mut faults = Vec::new();
        for entry in &counts {
            let (expected, count) = entry;
            match count {
                None => tell(expected, outcome(doctor, expected)),
                Some(count) => tell(expected, format!("fired={}", count.unwrap_or_default())),
            }
            if silent(entry) {
                let least = expected.least.runs();
                let place = expected.place;
                faults.push(match count.flatten() {
                    Some(count) => format!("{place} fired {count} times, not {least}"),
                    None => format!("{place} has fewer programs than it should"),
                });
            }
        }
        return faults;
    }
}

/// Whether the tests are to look at one backend alone, and this is not it.
fn is_left_out(backend: &str) -> bool {
    std::env::var("TRACER_BACKEND").is_ok_and(|chosen| chosen != backend && chosen != "auto")
}

/// Runs everything under a tracer of one backend; every hook must have been called for it.
fn attach_and_fire(doctor: &Doctor, backend: &'static str) -> Result<(), Skip> {
    let mut faults = faults(doctor, backend);
    let statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let tracer = Tracer::watch(&["--all", "--backend", backend]);
    // A hook that is lacking is named by its fault, and not taken for the kernel's.
    assert!(tracer.is_ok() || faults.is_empty(), "{faults:#?}");
    let tracer = tracer?;
    everything::run()?;
    // What a kernel does not need yet is no part of its table.
    let hooks: Vec<_> = EXPECTED
        .iter()
        .filter(|expected| is_watched(expected, backend) && is_due(doctor, expected))
        .collect();
    faults.extend(fired(doctor, tracer.pid(), &hooks));
    drop(statistics);
    let trace = tracer.stop();
    let summary = trace.summary();
    for (fact, given) in summary["backend"].as_object().expect("backend by fact") {
        println!("matrix: fact {fact} {}", given.as_str().expect("a word"));
    }
    let facts = used(doctor, backend);
    let given_here = |fact: &str| {
        let mut rows = EXPECTED.iter();
        rows.any(|row| row.fact == fact && is_due(doctor, row))
    };
    for fact in facts
        .keys()
        .filter(|&&fact| fact != FOLLOW && given_here(fact))
    {
        let given = &summary["backend"][fact];
        if given != backend {
            faults.push(format!("{fact} is given by {given}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    trace.assert_whole();
    Ok(())
}

fn trampolines_attach_and_fire() -> Result<(), Skip> {
    let doctor = doctor()?;
    if is_left_out(TRAMPOLINE) {
        return Ok(());
    }
    if doctor.refuses_trampolines() {
        return Err(Skip("this kernel refuses trampolines".to_owned()));
    }
    attach_and_fire(&doctor, TRAMPOLINE)
}

fn tracepoints_attach_and_fire() -> Result<(), Skip> {
    let doctor = doctor()?;
    if is_left_out(TRACEPOINT) {
        return Ok(());
    }
    attach_and_fire(&doctor, TRACEPOINT)
}

/// A command that forks for every line it is given.
const FORKS: &str = "echo ready; while read -r line; do (:); (:); done";

/// A running `tracer run`; dropping it lets its command end, then reaps it.
struct Run {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Fails only when it is reaped already.
        let _ = self.child.wait();
    }
}

fn follow_hooks_attach_and_fire() -> Result<(), Skip> {
    let doctor = doctor()?;
    let mut faults: Vec<_> = faults(&doctor, TRACEPOINT);
    faults.retain(|fault| fault.contains("sched_process"));
    assert!(faults.is_empty(), "{faults:#?}");
    let statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let mut child = Command::new(program())
        .args(["run", "--", "/bin/sh", "-c", FORKS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut run = Run {
        stdin: child.stdin.take(),
        child,
    };
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    if line != "ready\n" {
        let mut said = String::new();
        let mut stderr = run.child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        panic!("the command did not begin: {line:?}, {said}");
    }
    let lines = "fork\n".repeat(usize::try_from(Least::Forks.runs()).unwrap());
    let stdin = run.stdin.as_mut().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    let hooks: Vec<_> = EXPECTED
        .iter()
        .filter(|expected| expected.fact == FOLLOW)
        .collect();
    let faults = fired(&doctor, run.child.id(), &hooks);
    drop(statistics);
    assert!(faults.is_empty(), "{faults:#?}");
    println!("matrix: fact {FOLLOW} {TRACEPOINT}");
    Ok(())
}
