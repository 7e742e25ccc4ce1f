/*!
Hostile kernels and meagre privileges: whatever is taken away, the tracer's numbers are exact, or
what is missing is said with the way to get it.

What is the process's own (capabilities, limits, mounts) is taken from the tracer alone and runs
anywhere. What is the whole machine's (sysctls) is changed in a virtual machine only, while no other
scenario runs. Lockdown is a boot argument: `cargo xtask vm 6.12 --append lockdown=confidentiality
--bin-args hostile`.
*/

use serde_json::json;
use tracer::sandbox::Side;
use tracer::sandbox::workload::Then;

use self::conditions::{
    BPF, Capability, Conditions, DAC_READ_SEARCH, ENOUGH, OF_NO_USE, PERFMON, SYS_ADMIN,
    SYS_PTRACE, SYS_RESOURCE, SYSLOG, is_charged,
};
use self::machine::is_confidential;
use self::story::{Story, assert_refused, play, run};
use crate::Scenario;
use crate::world::{Skip, World, connect, server_v4};

mod conditions;
pub(crate) mod machine;
mod story;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("all_capabilities", all_capabilities),
    ("without_each_capability", without_each_capability),
    ("least_capabilities", least_capabilities),
    ("least_capabilities_of_a_user", least_of_a_user),
    ("an_ordinary_user", an_ordinary_user),
    ("no_btf", no_btf),
    ("no_tracefs", no_tracefs),
    ("hidden_processes", hidden_processes),
    ("little_locked_memory", little_locked_memory),
    ("snapshot_says_what_it_cannot_read", snapshot),
];

/// Options that leave the choice of hooks to the kernel, and those that rule trampolines out.
const BACKENDS: [&[&str]; 2] = [&[], &["--backend", "tracepoint"]];

/// Ways of seeing a fact as it happens.
const SEEN: &[&str] = &["trampoline", "tracepoint"];

/// Plays the story with each backend; `judge` gets the options too.
fn each_backend(
    conditions: &Conditions,
    mut judge: impl FnMut(&Story, &[&str]),
) -> Result<(), Skip> {
    for options in BACKENDS {
        let story = play(&conditions.clone().options(options))?;
        judge(&story, options);
    }
    Ok(())
}

fn all_capabilities() -> Result<(), Skip> {
    let confidential = is_confidential();
    each_backend(&Conditions::best(), |story, _| {
        story.assert_facts(&[("rescue", &["tracepoint"])]);
        if !confidential {
            story.assert_facts(&[("connect", SEEN), ("bind", SEEN)]);
        }
    })
}

/// One capability is missing: nothing is missed, or it is said which to get.
fn without_each_capability() -> Result<(), Skip> {
    let trampolines = has_trampolines();
    for capability in [SYS_PTRACE, SYS_ADMIN, SYSLOG] {
        let conditions = Conditions::without(&[capability]);
        let story = play(&conditions)?;
        // An address is of use to timers only, and may be shown to anybody.
        if capability != SYSLOG {
            story.assert_said(&[capability.1]);
        } else if trampolines {
            assert!(!story.said.contains(capability.1), "{story:#?}");
        }
    }
    // Without all of these nothing is missed, so without each.
    let story = play(&Conditions::without(&OF_NO_USE))?;
    story.assert_processes("");
    assert_eq!(story.fact("namespaces"), "", "{story:#?}");
    if !is_confidential() {
        story.assert_facts(&[("connect", SEEN), ("bind", SEEN)]);
    }
    // CAP_SYS_ADMIN stands for both: they were split off it.
    for missing in [BPF, PERFMON] {
        let conditions = Conditions::without(&[missing, SYS_ADMIN]);
        assert_refused(&conditions, &[missing.1, "add: ["]);
    }
    Ok(())
}

/// What each capability adds to the least.
fn judge_least(of: fn(&[Capability]) -> Conditions) -> Result<(), Skip> {
    let confidential = is_confidential();
    let trampolines = has_trampolines();
    let least = [BPF, PERFMON];
    let story = play(&of(&least))?;
    story.assert_facts(&[
        ("state", &["tracepoint"]),
        ("rescue", &["tracepoint"]),
        ("namespaces", &["own"]),
    ]);
    story.assert_processes("own");
    story.assert_said(&["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]);
    if trampolines {
        let exact: &[&str] = &["trampoline"];
        story.assert_facts(&[("connect", exact), ("bind", exact), ("time_wait", exact)]);
    }

    // The names of programs.
    let story = play(&of(&[BPF, PERFMON, SYS_PTRACE]))?;
    story.assert_processes("");
    story.assert_facts(&[("namespaces", &["own"])]);

    // The addresses of timers.
    let with_syslog = of(&[BPF, PERFMON, SYSLOG]).options(BACKENDS[1]);
    let story = play(&with_syslog)?;
    let cookies = !story.said.contains("socket cookies");
    if !confidential && cookies {
        story.assert_facts(&[
            ("time_wait", &["tracepoint"]),
            ("time_wait_end", &["tracepoint"]),
        ]);
        // Births are found without them.
        let story = play(&of(&least).options(BACKENDS[1]))?;
        story.assert_facts(&[("time_wait", &["tracepoint"]), ("time_wait_end", &["none"])]);
    }

    // All that anything takes.
    let whole = [BPF, PERFMON, SYS_PTRACE, SYS_ADMIN, SYSLOG, DAC_READ_SEARCH];
    for options in BACKENDS {
        let story = play(&of(&whole).options(options))?;
        story.assert_processes("");
        assert_eq!(story.fact("namespaces"), "", "{story:#?}");
        if !confidential {
            story.assert_facts(&[("connect", SEEN), ("bind", SEEN)]);
        }
        if !confidential && cookies {
            story.assert_facts(&[("time_wait", SEEN)]);
        }
    }
    Ok(())
}

/// Whether this kernel has trampolines for who may do everything.
fn has_trampolines() -> bool {
    let doctor = run(&Conditions::best(), &["doctor", "-o", "json"]);
    doctor.lines().last().unwrap()["backend"] == "trampoline"
}

fn least_capabilities() -> Result<(), Skip> {
    judge_least(Conditions::only)
}

fn least_of_a_user() -> Result<(), Skip> {
    judge_least(Conditions::nobody)
}

fn an_ordinary_user() -> Result<(), Skip> {
    let words = ["CAP_BPF and CAP_PERFMON", "add: [BPF, PERFMON"];
    assert_refused(&Conditions::nobody(&[]), &words[1..]);
    assert_refused(&Conditions::only(&[]), &words[1..]);
    let said = run(&Conditions::nobody(&[]), &["watch"]);
    assert!(said.err.contains(words[0]), "{said:?}");
    Ok(())
}

fn no_btf() -> Result<(), Skip> {
    let conditions = Conditions::best().hide("/sys/kernel/btf");
    let words = ["no /sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"];
    assert_refused(&conditions, &words);
    // What needs no BPF works all the same.
    let said = run(&conditions, &["snapshot", "-o", "json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.lines().last().unwrap()["type"], "summary");
    Ok(())
}

fn no_tracefs() -> Result<(), Skip> {
    let hidden = |conditions: Conditions| {
        conditions
            .hide("/sys/kernel/tracing")
            .hide("/sys/kernel/debug")
    };
    if is_confidential() {
        return Err(Skip(
            "this kernel's lockdown refuses what tracefs is for".to_owned(),
        ));
    }
    // Who may mount has one for themselves.
    each_backend(&hidden(Conditions::best()), |story, _| {
        story.assert_facts(&[("connect", SEEN), ("bind", SEEN)]);
    })?;
    each_backend(
        &hidden(Conditions::without(&[SYS_ADMIN])),
        |story, options| {
            if !options.is_empty() {
                story.assert_facts(&[("connect", &["inferred"]), ("bind", &["none"])]);
                story.assert_said(&[
                    "tracefs is not mounted",
                    "mount -t tracefs",
                    "CAP_SYS_ADMIN",
                ]);
            }
        },
    )
}

/// A user's tracer that is shown no process but its own.
fn hidden_processes() -> Result<(), Skip> {
    let least = [BPF, PERFMON, SYSLOG, DAC_READ_SEARCH];
    let story = play(&Conditions::nobody(&least).hide_processes())?;
    story.assert_processes("own");
    story.assert_said(&["CAP_SYS_PTRACE"]);
    let least = [BPF, PERFMON, SYSLOG, SYS_PTRACE];
    let story = play(&Conditions::nobody(&least).hide_processes())?;
    story.assert_processes("");
    Ok(())
}

/// Before Linux 5.11 the maps are charged to it.
fn little_locked_memory() -> Result<(), Skip> {
    const LITTLE: u64 = 64 << 10;
    let unable = Conditions::without(&[SYS_RESOURCE]);
    if is_charged() {
        let conditions = unable.clone().memlock(LITTLE, LITTLE);
        assert_refused(&conditions, &["RLIMIT_MEMLOCK", "ulimit -l unlimited"]);
        // May raise it: with the capability beyond the hard limit, without it up to there.
        play(&Conditions::best().memlock(LITTLE, LITTLE))?;
        play(&unable.memlock(LITTLE, ENOUGH))?;
    } else {
        play(&unable.memlock(LITTLE, LITTLE))?;
        play(&Conditions::only(&[BPF, PERFMON]).memlock(0, 0))?;
    }
    Ok(())
}

fn snapshot() -> Result<(), Skip> {
    let said = run(&Conditions::without(&[SYS_PTRACE]), &["snapshot"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for words in ["network namespace of", "open files of", "CAP_SYS_PTRACE"] {
        assert!(said.err.contains(words), "{words}: {said:?}");
    }
    let said = run(
        &Conditions::without(&[SYS_PTRACE]),
        &["snapshot", "-o", "json"],
    );
    let backend = said.lines().last().unwrap()["backend"].clone();
    let own = json!({"sockets": "sock_diag", "processes": "own", "namespaces": "own"});
    assert_eq!(backend, own);
    let world = World::with_ports(10)?;
    let netns = world.pair.inode(Side::Client).to_string();
    let _client = world.client("client", &connect(server_v4(), 1, Then::Keep));
    let arguments = ["snapshot", "--netns", &netns];
    let said = run(&Conditions::without(&[SYS_ADMIN]), &arguments);
    assert!(said.err.contains("CAP_SYS_ADMIN"), "{said:?}");
    assert_eq!(said.code, Some(3), "{said:?}");
    Ok(())
}
