/*! `tracer demo`: what a newcomer sees first must be right, and leave nothing behind. */

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::Scenario;
use crate::trace::{Tracer, program};
use crate::world::{SOON, Skip};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("churn", churn),
    ("leak", leak),
    ("interrupt_cleans_up", interrupt_cleans_up),
    ("kill_9_cleans_up", kill_9_cleans_up),
];

/// Runs a demo to its end and returns its text.
fn demo(kind: &str) -> Result<String, Skip> {
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
    let stream = |line: &&str| !line.contains(" \u{2192} ") && !line.contains("seen with");
    for line in text.lines().filter(stream) {
        let columns = line.chars().count();
        assert!(columns <= 80, "{columns} columns: {line}");
    }
    for word in [
        "192.0.2.2:",
        "300/300",
        "EADDRNOTAVAIL",
        "ports_exhausted",
        "agree",
    ] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    Ok(text)
}

fn churn() -> Result<(), Skip> {
    let text = demo("churn")?;
    for word in ["churning-app", "TIME_WAIT 300"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    Ok(())
}

fn leak() -> Result<(), Skip> {
    let text = demo("leak")?;
    for word in ["leaking-app", "ESTABLISHED 300"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
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
