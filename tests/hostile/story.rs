/*!
What the tracer makes of its conditions: a workload whose failures, binds and TIME_WAITs are known
to the last one, `doctor` and `snapshot` beside it, and the rules that hold wherever it runs.

A fact comes exact, or it is inferred and every line of it says so, or it is missing and nobody is
left to guess: `backend` of the summary, the words before the stream and `doctor` all name it.
*/

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tracer::sandbox::workload::{Bind, Connect, Manner, Work};
use tracer::sandbox::{FOREIGN_V4, SERVER_V4, Side};
use tracer_ebpf::tcp_state;

use super::conditions::Conditions;
use crate::trace::{Trace, Tracer, assert_each, program_for_anybody, sum};
use crate::world::{SOON, Skip, World, own_program, server_v4};

/// Source ports there are: so many connections become TIME_WAITs.
const PORTS: u16 = 100;

/// connect() calls that then fail.
const FAILED: u64 = 50;

/// bind() calls that fail.
const BINDS: u64 = 3;

/// The tracer under these conditions.
fn command(conditions: &Conditions, arguments: &[&str]) -> Command {
    let mut command = Command::new(program_for_anybody());
    command.args(arguments).stdin(Stdio::null());
    // Each backend is tried here, whatever all others of this run are told.
    command.env_remove("TRACER_BACKEND");
    conditions.impose(&mut command);
    command
}

/// Runs it to its end.
pub(crate) fn run(conditions: &Conditions, arguments: &[&str]) -> Said {
    let output = command(conditions, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    };
    assert_no_bare_errno(&said.out);
    // What a file's refusal is called by the kernel may stand beside what it means.
    assert!(!said.err.contains("panicked"), "{}", said.err);
    said
}

/// How a tracer ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// It prints JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"))
            })
            .collect()
    }
}

/// No person is left alone with the name of an error.
fn assert_no_bare_errno(words: &str) {
    for bare in [
        "Operation not permitted",
        "EPERM)\n",
        "os error 1)",
        "panicked",
    ] {
        assert!(!words.contains(bare), "{bare}: {words}");
    }
}

/// Asserts that nothing can be traced under these conditions, and that `watch` and `doctor` say so
/// with each of `words`.
pub(crate) fn assert_refused(conditions: &Conditions, words: &[&str]) {
    let said = run(conditions, &["watch", "--duration", "1s"]);
    assert_eq!(said.code, Some(3), "{conditions:?}: {said:?}");
    assert_eq!(said.out, "", "{conditions:?}");
    assert_eq!(said.err.lines().count(), 1, "one sentence: {said:?}");
    assert_no_bare_errno(&said.err);
    let doctor = run(conditions, &["doctor"]);
    assert_eq!(doctor.code, Some(3), "{conditions:?}: {doctor:?}");
    for word in words {
        assert!(said.err.contains(word), "{word}: {said:?}");
        assert!(doctor.out.contains(word), "{word}: {}", doctor.out);
    }
    let checks = run(conditions, &["doctor", "-o", "json"]).lines();
    assert_eq!(checks.last().unwrap()["can_trace"], false);
    let missing = checks.iter().filter(|line| line["status"] == "missing");
    assert!(missing.clone().count() > 0, "{checks:?}");
    for check in missing {
        assert!(check["fix"].is_string(), "no way out: {check}");
    }
}

/// What one tracer saw of the workload, held against the workload's own count.
#[derive(Debug)]
pub(crate) struct Story {
    /// The last line.
    pub(crate) summary: Value,
    /// What was said before the stream.
    pub(crate) said: String,
    /// `inferred` of `doctor`, in one line; it knows nothing of a backend that was asked for.
    pub(crate) doctor: Option<String>,
}

impl Story {
    /// How a fact was learnt; empty for one that is not spoken of.
    pub(crate) fn fact(&self, fact: &str) -> &str {
        self.summary["backend"][fact].as_str().unwrap_or_default()
    }

    /// How many runs of a program the kernel skipped.
    fn skipped(&self) -> u64 {
        self.summary["recursion"]["skipped"].as_u64().unwrap()
    }

    /// Asserts that each of so many is there, or counted as lost.
    fn assert_count(&self, what: &str, seen: u64, count: u64) {
        let lost = self.summary["lost"].as_object().unwrap();
        let lost: u64 = lost.values().filter_map(Value::as_u64).sum();
        assert!(
            seen <= count && seen + lost >= count,
            "{seen} {what} of {count}, lost {lost}: {self:#?}"
        );
    }

    /// Asserts how the programs of processes are known, where events say at all which process of
    /// a pid they are of.
    pub(crate) fn assert_processes(&self, how: &str) {
        let nameless = self.said.contains("by their thread's name");
        let how = if nameless { "none" } else { how };
        assert_eq!(self.fact("processes"), how, "{self:#?}");
    }

    /// Asserts how facts were learnt.
    pub(crate) fn assert_facts(&self, facts: &[(&str, &[&str])]) {
        for (fact, any) in facts {
            assert!(
                any.contains(&self.fact(fact)),
                "{fact} by {any:?}: {self:#?}"
            );
        }
    }

    /// Asserts that people were told.
    pub(crate) fn assert_said(&self, words: &[&str]) {
        for word in words {
            assert!(self.said.contains(word), "{word}: {self:#?}");
        }
    }
}

/// Plays the workload to a tracer that must be able to trace.
pub(crate) fn play(conditions: &Conditions) -> Result<Story, Skip> {
    let world = World::with_ports(PORTS)?;
    let _server = world.server(Manner::Echo);
    let mut arguments = vec!["watch", "-o", "json"];
    arguments.extend(conditions.tracer_options());
    let tracer = Tracer::start(command(conditions, &arguments))
        .unwrap_or_else(|Skip(refused)| panic!("{conditions:?}: {refused}"));
    let work = Connect::new(server_v4(), 1000).stop_after(FAILED);
    let mut culprit = world.client("culprit", &Work::Connect(work));
    let mut binder = world.client(
        "binder",
        &Work::Bind(Bind {
            at: SocketAddr::new(FOREIGN_V4.into(), 0),
            times: BINDS,
        }),
    );
    for client in [&mut culprit, &mut binder] {
        client.go().unwrap();
    }
    let report = culprit.report(SOON).unwrap();
    assert_eq!(
        (report.connected, report.failures()),
        (u64::from(PORTS), FAILED)
    );
    assert_eq!(binder.report(SOON).unwrap().failures(), BINDS);
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, PORTS.into());
    let trace = tracer.stop();
    // What the kernel runs no program for is found in a list of sockets, or counted as lost.
    trace.assert_whole_but(&["recursion", "unseen"]);
    let story = Story {
        summary: trace.summary().clone(),
        said: trace.said.clone(),
        doctor: match conditions.tracer_options() {
            [] => Some(doctor(conditions)),
            _ => None,
        },
    };
    assert_no_bare_errno(&story.said);
    assert_true(&story, &world, &trace, (culprit.pid(), binder.pid()));
    Ok(story)
}

/// What `doctor` calls inferred or unknown, in one line; it must be able to trace.
fn doctor(conditions: &Conditions) -> String {
    let doctor = run(conditions, &["doctor", "-o", "json"]);
    assert_eq!(doctor.code, Some(0), "{conditions:?}: {doctor:?}");
    let lines = doctor.lines();
    let summary = lines.last().unwrap();
    assert_eq!(summary["can_trace"], true, "{summary}");
    summary["inferred"].to_string()
}

/// Holds the lines, and what was said of them, against what happened.
fn assert_true(story: &Story, world: &World, trace: &Trace, (culprit, binder): (u32, u32)) {
    let netns = world.pair.inode(Side::Client);
    assert_eq!(story.fact("state"), "tracepoint", "{story:#?}");
    let is_seen = |fact: &str| ["trampoline", "tracepoint"].contains(&story.fact(fact));

    let failures = trace.of("connect_failed", netns);
    story.assert_count("failures", sum(&failures), FAILED);
    assert_each(
        &failures,
        &json!({
            "pid": culprit, "comm": "culprit", "uid": 0, "errno": "EADDRNOTAVAIL",
            "cause": "ports_exhausted", "dst": SERVER_V4, "dport": 7000,
        }),
    );
    let births = trace.of("time_wait", netns);
    story.assert_count("births", births.len() as u64, PORTS.into());
    assert_each(
        &births,
        &json!({ "pid": culprit, "comm": "culprit", "uid": 0 }),
    );
    for (fact, lines, of_doctor) in [
        ("connect", &failures, "of connect()"),
        ("time_wait", &births, "births of TIME_WAIT"),
    ] {
        assert!(
            is_seen(fact) || story.fact(fact) == "inferred",
            "{fact}: {story:#?}"
        );
        let inferred = lines.iter().filter(|line| line["inferred"] == true);
        let inferred = inferred.count() as u64;
        if is_seen(fact) {
            assert!(inferred <= story.skipped(), "{fact}: {story:#?}");
        } else {
            assert_eq!(inferred, lines.len() as u64, "{fact}: {story:#?}");
        }
        assert_told(story, fact, is_seen(fact), of_doctor);
    }

    let binds = trace.of("bind_failed", netns);
    let count = if is_seen("bind") { BINDS } else { 0 };
    story.assert_count("binds", sum(&binds), count);
    assert_each(&binds, &json!({ "pid": binder, "errno": "EADDRNOTAVAIL" }));
    assert!(
        is_seen("bind") || story.fact("bind") == "none",
        "{story:#?}"
    );
    assert_told(story, "bind", is_seen("bind"), "of bind()");
    assert_told(
        story,
        "time_wait_end",
        is_seen("time_wait_end"),
        "ends of TIME_WAIT",
    );

    // Our workload is root's and has more capabilities than a tracer it is not the equal of.
    let exe = story.fact("processes").is_empty();
    for line in failures.iter().chain(&births) {
        let own = if exe {
            json!(own_program())
        } else {
            Value::Null
        };
        assert_eq!(line["exe"], own, "{story:#?}");
    }
    let all = story.fact("namespaces").is_empty();
    for words in [Some(&story.said), story.doctor.as_ref()]
        .into_iter()
        .flatten()
    {
        assert_eq!(words.contains("programs (exe)"), !exe, "{story:#?}");
        assert_eq!(
            words.contains("other network namespaces"),
            !all,
            "{story:#?}"
        );
    }
    let listed = trace.of("pool", netns);
    let capacity = listed.iter().any(|pool| pool["capacity"] == PORTS);
    assert_eq!(capacity, all, "the client's pool: {listed:?} {story:#?}");
}

/// A fact that is not seen is named before the stream and by `doctor`, one that is seen by neither.
fn assert_told(story: &Story, fact: &str, seen: bool, of_doctor: &str) {
    let of_stream = match fact {
        "connect" => "errno and cause of a connect() that fails at once are inferred",
        "bind" => "failures of bind() are not seen",
        "time_wait" => "births of TIME_WAIT are inferred",
        _ => "ends of TIME_WAIT are not seen",
    };
    assert_eq!(story.said.contains(of_stream), !seen, "{fact}: {story:#?}");
    if let Some(doctor) = &story.doctor {
        assert_eq!(doctor.contains(of_doctor), !seen, "{fact}: {story:#?}");
    }
}
