/*! However the tracer ends, nothing of it stays in the kernel. */

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Instant;

use nix::sys::signal::Signal;
use tracer::sandbox::workload::{Connect, Manner, Work};
use tracer_ebpf::tcp_state;

use tracer::sandbox::Side;

use crate::Scenario;
use crate::trace::Tracer;
use crate::world::{SOON, Skip, World, look_away, server_v4};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("interrupt", interrupt),
    ("terminate", terminate),
    ("kill_9_leaves_no_program", kill_9),
    ("closed_stdout", closed_stdout),
];

/// Ids of the programs a process holds; other tracers run beside this one.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let mut programs = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        let Ok(text) = fs::read_to_string(entry.unwrap().path()) else {
            continue;
        };
        let ids = text
            .lines()
            .filter_map(|line| line.strip_prefix("prog_id:"));
        programs.extend(ids.map(|id| id.trim().parse::<u32>().unwrap()));
    }
    programs
}

/// The kernel frees a program a moment after its last holder.
fn assert_unloaded(programs: &BTreeSet<u32>) {
    let deadline = Instant::now() + SOON;
    loop {
        let loaded = aya::programs::loaded_programs().flatten();
        let left: Vec<_> = loaded
            .filter(|info| programs.contains(&info.id()))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still loaded: {left:#?}");
        look_away();
    }
}

fn ends_by(signal: Signal) -> Result<(), Skip> {
    let tracer = Tracer::watch(&[])?;
    let programs = programs_of(tracer.pid());
    assert!(!programs.is_empty());
    tracer.signal(signal);
    let trace = tracer.wait();
    if signal == Signal::SIGKILL {
        assert_eq!(trace.status.signal(), Some(Signal::SIGKILL as i32));
    } else {
        trace.assert_whole();
    }
    assert_unloaded(&programs);
    Ok(())
}

fn interrupt() -> Result<(), Skip> {
    ends_by(Signal::SIGINT)
}

fn terminate() -> Result<(), Skip> {
    ends_by(Signal::SIGTERM)
}

fn kill_9() -> Result<(), Skip> {
    ends_by(Signal::SIGKILL)
}

fn closed_stdout() -> Result<(), Skip> {
    let world = World::with_ports(1000)?;
    let _server = world.server(Manner::Echo);
    let mut tracer = Tracer::watch(&[])?;
    let programs = programs_of(tracer.pid());
    let work = Work::Connect(Connect::new(server_v4(), 50));
    world.client("client", &work).finish(SOON).unwrap();
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 50);
    let netns = world.pair.inode(Side::Client);
    tracer.until("a first line", |lines| {
        lines.iter().any(|line| line["netns"] == netns)
    });
    tracer.close_stdout();
    for _ in 0..10 {
        // The tracer may find its output closed at any of these.
        world.client("client", &work).finish(SOON).unwrap();
    }
    let trace = tracer.wait();
    assert!(trace.status.success(), "{}: {}", trace.status, trace.said);
    assert!(!trace.said.contains("panicked"), "{}", trace.said);
    assert_unloaded(&programs);
    Ok(())
}
