/*! The command line: filters, durations, bad input, outputs that fail. */

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;
use tracer::sandbox::workload::{Connect, Manner, Report, Then, Work};
use tracer::sandbox::{Process, SERVER_V4, Side};
use tracer_ebpf::tcp_state;

use crate::Scenario;
use crate::trace::{Trace, Tracer, assert_each, program, program_for_anybody, sum};
use crate::world::{SOON, Skip, World, connect, server_v4};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("filter_by_pid", filter_by_pid),
    ("filter_by_comm", filter_by_comm),
    ("filter_by_destination", filter_by_destination),
    ("filter_by_namespace", filter_by_namespace),
    (
        "a_watched_namespace_is_not_held",
        a_watched_namespace_is_not_held,
    ),
    ("all_shows_opens_and_closes", all_shows_opens_and_closes),
    ("all_names_the_closer", all_names_the_closer),
    ("duration_ends_by_itself", duration_ends_by_itself),
    (
        "text_without_a_terminal_is_plain",
        text_without_a_terminal_is_plain,
    ),
    ("usage_errors", usage_errors),
    (
        "missing_process_and_namespace",
        missing_process_and_namespace,
    ),
    ("not_root", not_root),
    ("full_output", full_output),
];

/// Two clients, `first` and `second`, each closing 40 connections, traced with
/// arguments made from their processes.
fn two_clients(arguments: impl Fn(&World, &Process) -> Vec<String>) -> Result<Two, Skip> {
    let world = World::with_ports(200)?;
    let _server = world.server(Manner::Echo);
    let work = Work::Connect(Connect::new(server_v4(), 40));
    let first = world.client("first", &work);
    let second = world.client("second", &work);
    let arguments = arguments(&world, &first);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let tracer = Tracer::watch(&arguments)?;
    let mut clients = [first, second];
    for client in &mut clients {
        client.go().unwrap();
        assert_eq!(client.report(SOON).unwrap().connected, 40);
    }
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 80);
    let trace = tracer.stop();
    trace.assert_whole();
    Ok(Two {
        world,
        trace,
        clients,
    })
}

struct Two {
    world: World,
    trace: Trace,
    clients: [Process; 2],
}

impl Two {
    fn assert_lines_of(&self, count: usize, pids: &[u32]) {
        let lines = self
            .trace
            .of("time_wait", self.world.pair.inode(Side::Client));
        assert_eq!(lines.len(), count);
        for line in lines {
            assert!(pids.iter().any(|pid| line["pid"] == *pid), "{line}");
        }
    }
}

fn filter_by_pid() -> Result<(), Skip> {
    let two = two_clients(|_, first| vec!["--pid".into(), first.pid().to_string()])?;
    two.assert_lines_of(40, &[two.clients[0].pid()]);
    Ok(())
}

fn filter_by_comm() -> Result<(), Skip> {
    let two = two_clients(|_, _| vec!["--comm".into(), "second".into()])?;
    two.assert_lines_of(40, &[two.clients[1].pid()]);
    Ok(())
}

fn filter_by_destination() -> Result<(), Skip> {
    let both = two_clients(|_, _| vec!["--dst".into(), "192.0.2.0/24:7000".into()])?;
    both.assert_lines_of(80, &both.clients.each_ref().map(Process::pid));
    let none = two_clients(|_, _| vec!["--dst".into(), format!("{SERVER_V4}:7001")])?;
    none.assert_lines_of(0, &[]);
    Ok(())
}

/// A namespace goes with its container, watched or not: it is open while it is listed, no longer.
fn a_watched_namespace_is_not_held() -> Result<(), Skip> {
    let world = World::with_ports(200)?;
    let netns = world.pair.inode(Side::Client).to_string();
    let tracer = Tracer::watch(&["--netns", &netns])?;
    let files = format!("/proc/{}/fd", tracer.pid());
    let held = || {
        let files = std::fs::read_dir(&files).expect("tracer runs");
        let mut links = files.flatten().flat_map(|file| file.path().read_link());
        links.any(|link| link == std::path::Path::new(&format!("net:[{netns}]")))
    };
    let deadline = std::time::Instant::now() + SOON;
    while held() {
        assert!(std::time::Instant::now() < deadline, "it is held open");
        std::thread::yield_now();
    }
    tracer.stop().assert_whole();
    Ok(())
}

fn filter_by_namespace() -> Result<(), Skip> {
    let inode = |world: &World| world.pair.inode(Side::Client).to_string();
    let both = two_clients(|world, _| vec!["--netns".into(), inode(world)])?;
    both.assert_lines_of(80, &both.clients.each_ref().map(Process::pid));
    let netns = both.world.pair.inode(Side::Client);
    let others = both
        .trace
        .lines
        .iter()
        .filter(|line| !line["netns"].is_null());
    assert!(others.clone().count() > 0);
    for line in others {
        assert_eq!(line["netns"], netns, "{line}");
    }
    Ok(())
}

/// 30 connections traced with `--all` to their end.
fn all(manner: Manner, then: Then) -> Result<(World, Trace, u32, Report), Skip> {
    let world = World::with_ports(200)?;
    let mut server = world.server(manner);
    let tracer = Tracer::watch(&["--all"])?;
    let work = Connect::new(server_v4(), 30).then(then).list_ports();
    let mut client = world.client("client", &Work::Connect(work));
    let report = client.finish(SOON).unwrap();
    // A server that ends resets what still waits for its accept().
    world.wait_until_over(Side::Client);
    server.release();
    server.wait(SOON).unwrap();
    let trace = tracer.stop();
    trace.assert_whole();
    Ok((world, trace, client.pid(), report))
}

fn all_shows_opens_and_closes() -> Result<(), Skip> {
    let (world, trace, pid, report) = all(Manner::Echo, Then::Close)?;
    let netns = world.pair.inode(Side::Client);
    for kind in ["opened", "closed"] {
        let lines = trace.of(kind, netns);
        assert_eq!(lines.len(), 30, "{kind}");
        let fields = json!({
            "pid": pid, "comm": "client", "direction": "out", "dst": SERVER_V4, "dport": 7000,
        });
        assert_each(&lines, &fields);
        for port in &report.ports {
            assert!(
                lines.iter().any(|line| line["sport"] == *port),
                "{kind} {port}"
            );
        }
    }
    Ok(())
}

fn all_names_the_closer() -> Result<(), Skip> {
    let cases = [
        (Manner::Echo, Then::Close, "local"),
        (Manner::CloseFirst, Then::AwaitPeer, "peer"),
        (Manner::Reset, Then::AwaitReset, "reset"),
    ];
    for (manner, then, closer) in cases {
        let (world, trace, pid, _) = all(manner, then)?;
        let lines = trace.of("closed", world.pair.inode(Side::Client));
        assert_eq!(lines.len(), 30, "{closer}");
        assert_each(&lines, &json!({ "pid": pid, "closer": closer }));
    }
    Ok(())
}

fn duration_ends_by_itself() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    let tracer = Tracer::watch(&["--duration", "2s"])?;
    let mut client = world.client("holder", &connect(server_v4(), 130, Then::Keep));
    client.go().unwrap();
    assert_eq!(client.report(SOON).unwrap().failures(), 30);
    let trace = tracer.wait();
    trace.assert_whole();
    let failures = trace.of("connect_failed", world.pair.inode(Side::Client));
    assert_eq!(sum(&failures), 30);
    Ok(())
}

fn text_without_a_terminal_is_plain() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    let mut command = Command::new(program());
    let netns = world.pair.inode(Side::Client).to_string();
    command.args(["watch", "--netns", &netns]);
    let tracer = Tracer::start(command)?;
    let mut client = world.client("holder", &connect(server_v4(), 5000, Then::Keep));
    client.go().unwrap();
    assert_eq!(client.report(SOON).unwrap().failures(), 4900);
    tracer.signal(Signal::SIGINT);
    let (text, status) = tracer.wait_text();
    assert!(status.success(), "{status}: {text}");
    for word in ["holder", "EADDRNOTAVAIL", "ports_exhausted", "4,900"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    assert!(
        !text.contains('\u{1b}'),
        "colour without a terminal: {text:?}"
    );
    Ok(())
}

fn usage_errors() -> Result<(), Skip> {
    for arguments in [
        vec!["watch", "--dst", "10.0.0.0/33"],
        vec!["watch", "--dst", "10.0.0.0.1:5432"],
        vec!["watch", "--dst", "10.0.0.1:70000"],
        vec!["watch", "--pid", "all"],
        vec!["watch", "--duration", "soon"],
        vec!["watch", "-o", "yaml"],
        vec!["demo", "disaster"],
        vec!["no-such-verb"],
    ] {
        let output = run(Command::new(program()).args(&arguments));
        let (text, said) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!(text, "", "{arguments:?}");
        let wrong = arguments.last().unwrap();
        assert!(said.contains(wrong), "{arguments:?}: {said}");
    }
    // A limit of one is a limit of all.
    for verb in ["watch", "snapshot", "wait"] {
        let many = ["--dst", "10.0.0.0/8"].repeat(17);
        let output = run(Command::new(program()).arg(verb).args(many));
        let (text, said) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{verb}: {said}");
        assert_eq!(text, "", "{verb}");
        assert!(said.contains("17 times"), "{verb}: {said}");
    }
    Ok(())
}

fn missing_process_and_namespace() -> Result<(), Skip> {
    // Above the kernel's largest process id; and an inode no namespace has.
    for (option, value) in [
        ("--pid", "4194305"),
        ("--netns", "1"),
        ("--netns", "/no/such"),
    ] {
        let output = run(Command::new(program()).args(["watch", option, value]));
        let (text, said) = texts(&output);
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{option} {value}: {said}"
        );
        assert_eq!(text, "", "{option} {value}");
        assert!(said.contains(value), "{option} {value}: {said}");
    }
    Ok(())
}

fn not_root() -> Result<(), Skip> {
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        return Err(Skip("only root can become nobody".to_owned()));
    }
    for arguments in [vec!["watch"], vec!["demo", "churn"]] {
        let mut command = Command::new(program_for_anybody());
        command
            .args(&arguments)
            .current_dir("/")
            .uid(NOBODY)
            .gid(NOBODY);
        let output = run(&mut command);
        let (_, said) = texts(&output);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("root"), "{arguments:?}: {said}");
    }
    Ok(())
}

fn full_output() -> Result<(), Skip> {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(program());
    command
        .args(["watch", "-o", "json", "--duration", "1s"])
        .stdout(full);
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        return Err(Skip(said.into_owned()));
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left"), "{said}");
    Ok(())
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
