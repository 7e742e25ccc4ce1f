/*! `tracer demo`: what a newcomer sees first must be right, and leave nothing behind. */

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::Scenario;
use crate::trace::{Tracer, assert_each, program, sum};
use crate::world::{SOON, Skip};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("churn", churn),
    ("leak", leak),
    ("close_wait", close_wait),
    ("bound", bound),
    ("collision", collision),
    ("json_is_data_only", json_is_data_only),
    ("interrupt_cleans_up", interrupt_cleans_up),
    ("kill_9_cleans_up", kill_9_cleans_up),
];

/// Runs a demo to its end; its text must have all of `words`.
fn demo(kind: &str, words: &[&str]) -> Result<(), Skip> {
    let mut command = Command::new(program());
    command
        .args(["demo", kind, "--ports", "300"])
        .env("COLUMNS", "80")
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        return Err(Skip(said.into_owned()));
    }
    assert!(output.status.success(), "{text}\n{said}");
    // The stream in the middle is the text view's, which shortens for terminals only.
    let stream = |line: &&str| {
        let shows = [" \u{2192} ", " bind ", "seen with"];
        !shows.iter().any(|words| line.contains(words)) || line.starts_with("demo: ")
    };
    for line in text.lines().filter(stream) {
        let columns = line.chars().count();
        assert!(columns <= 80, "{columns} columns: {line}");
    }
    for word in words
        .iter()
        .chain(&["they agree", "  lost              nothing"])
    {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
    Ok(())
}

fn churn() -> Result<(), Skip> {
    demo(
        "churn",
        &[
            "process      churning-app[",
            "destination  192.0.2.2:5432 from 192.0.2.1",
            "300/300 ports used, full: TIME_WAIT 300",
            "50 \u{d7} EADDRNOTAVAIL, cause ports_exhausted",
            "verdict      churn: ",
        ],
    )
}

fn leak() -> Result<(), Skip> {
    demo(
        "leak",
        &[
            "process      leaking-app[",
            "destination  192.0.2.2:5672 from 192.0.2.1",
            "300/300 ports used, full: ESTABLISHED 300",
            "50 \u{d7} EADDRNOTAVAIL, cause ports_exhausted",
            "verdict      leak: ",
        ],
    )
}

fn close_wait() -> Result<(), Skip> {
    demo(
        "close-wait",
        &[
            "process      unclosing-app[",
            "destination  192.0.2.2:8080 from 192.0.2.1",
            "300/300 ports used, full: CLOSE_WAIT 300",
            "50 \u{d7} EADDRNOTAVAIL, cause ports_exhausted",
            "verdict      close_wait: ",
        ],
    )
}

fn bound() -> Result<(), Skip> {
    demo(
        "bound",
        &[
            "process      binding-app[",
            "destination  any from 192.0.2.1",
            "300/300 ports used, full: ESTABLISHED 300",
            "75/300 of them to 192.0.2.2:6382",
            "50 \u{d7} EADDRINUSE, cause ports_exhausted",
            "verdict      bound: ",
            "IP_BIND_ADDRESS_NO_PORT",
        ],
    )
}

fn collision() -> Result<(), Skip> {
    demo(
        "collision",
        &[
            "process      pinned-app[",
            "destination  192.0.2.2:9042 from 192.0.2.1",
            "1/300 ports used: ESTABLISHED 1",
            "50 \u{d7} EADDRNOTAVAIL, cause tuple_in_use",
            "verdict      collision: ",
        ],
    )
}

/// The words of a demo are on standard error, so that a program can read the stream.
fn json_is_data_only() -> Result<(), Skip> {
    let mut command = Command::new(program());
    command.args(["demo", "bound", "--ports", "100", "-o", "json"]);
    let trace = Tracer::start(command)?.wait();
    trace.assert_whole();
    let failed: Vec<_> = trace
        .lines
        .iter()
        .filter(|line| line["type"] == "bind_failed")
        .collect();
    assert_eq!(sum(&failed), 50);
    assert_each(
        &failed,
        &json!({ "errno": "EADDRINUSE", "comm": "binding-app" }),
    );
    assert!(
        trace.said.contains("verdict      bound: "),
        "{}",
        trace.said
    );
    Ok(())
}

/// Network namespaces and child processes of a running demo.
fn traces_of(pid: u32) -> (BTreeSet<u64>, BTreeSet<i32>) {
    let mut namespaces = BTreeSet::new();
    let mut children = BTreeSet::new();
    for process in procfs::process::all_processes().unwrap().flatten() {
        let Ok(stat) = process.stat() else { continue };
        if stat.ppid.cast_unsigned() == pid {
            children.insert(stat.pid);
            namespaces.extend(namespace_of(&process));
        }
    }
    (namespaces, children)
}

fn namespace_of(process: &procfs::process::Process) -> Option<u64> {
    let namespaces = process.namespaces().ok()?;
    let net = namespaces
        .0
        .into_values()
        .find(|namespace| namespace.ns_type == "net")?;
    Some(net.identifier)
}

/// Ends a demo in its middle and looks for what is left.
fn ended_by(signal: Signal) -> Result<(), Skip> {
    let mut command = Command::new(program());
    command.args(["demo", "leak", "--ports", "20000"]);
    let demo = Tracer::start(command)?;
    let deadline = Instant::now() + SOON;
    let (namespaces, children) = loop {
        let (namespaces, children) = traces_of(demo.pid());
        if namespaces.len() == 2 && children.len() == 2 {
            break (namespaces, children);
        }
        assert!(
            Instant::now() < deadline,
            "the demo has {children:?} in {namespaces:?}"
        );
    };
    demo.signal(signal);
    let _ = demo.wait_text();
    loop {
        let processes = procfs::process::all_processes().unwrap().flatten();
        let left: Vec<_> = processes
            .filter(|process| {
                children.contains(&process.pid)
                    || namespace_of(process).is_some_and(|inode| namespaces.contains(&inode))
            })
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        assert!(Instant::now() < deadline, "left behind: {left:?}");
    }
}

fn interrupt_cleans_up() -> Result<(), Skip> {
    ended_by(Signal::SIGINT)
}

fn kill_9_cleans_up() -> Result<(), Skip> {
    ended_by(Signal::SIGKILL)
}
