/*! A look without tracing, and the wait for pools to drain. */

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tracer::sandbox::workload::{Connect, Manner, Then, Work};
use tracer::sandbox::{Process, Settings, Side};
use tracer_ebpf::tcp_state;

use crate::Scenario;
use crate::trace::{program, program_for_anybody};
use crate::world::{SOON, Skip, World, server_v4};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("names_holders", names_holders),
    ("dates_time_waits", dates_time_waits),
    ("an_ordinary_user_sees_a_part", an_ordinary_user),
    ("waits_until_drained", waits_until_drained),
    ("wait_gives_up", wait_gives_up),
    ("wait_is_interrupted", wait_is_interrupted),
    ("wait_usage", wait_usage),
];

/// A client called `holder` after `count` connections, each then treated so.
fn holder(world: &World, count: u64, then: Then) -> Process {
    let work = Work::Connect(Connect::new(server_v4(), count).then(then));
    let mut client = world.client("holder", &work);
    client.go().unwrap();
    assert_eq!(client.report(SOON).unwrap().connected, count);
    client
}

fn tracer(world: &World, verb: &[&str], arguments: &[&str]) -> Command {
    let netns = world.pair.inode(Side::Client).to_string();
    let mut command = Command::new(program());
    command
        .args(verb)
        .args(["--netns", &netns])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lines of `tracer snapshot -o json` in the client's namespace: those of pools.
fn pools(world: &World, arguments: &[&str]) -> Vec<Value> {
    let output = tracer(world, &["snapshot", "-o", "json"], arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.last().unwrap()["type"], "summary");
    let pools = lines.into_iter().filter(|line| line["type"] == "pool");
    pools.collect()
}

fn names_holders() -> Result<(), Skip> {
    let world = World::with_ports(200)?;
    let _server = world.server(Manner::Echo);
    let client = holder(&world, 40, Then::PingAndKeep);
    let pid = client.pid().to_string();
    for arguments in [
        vec![],
        vec!["--pid", &pid],
        vec!["--comm", "holder"],
        vec!["--dst", "192.0.2.0/24:7000"],
    ] {
        let pools = pools(&world, &arguments);
        let [pool] = pools.as_slice() else {
            panic!("{arguments:?}: {pools:?}");
        };
        assert_eq!(pool["used"], 40);
        assert_eq!(pool["capacity"], 200);
        assert_eq!(pool["by_state"], json!({"ESTABLISHED": 40}));
        let holder = &pool["holders"][0];
        assert_eq!(holder["pid"], client.pid(), "{pool}");
        assert_eq!(holder["comm"], "holder", "{pool}");
    }
    let own = std::process::id().to_string();
    for arguments in [
        vec!["--pid", &own],
        vec!["--comm", "other"],
        vec!["--container", "0123456789ab"],
        vec!["--dst", "192.0.2.0/24:7001"],
        vec!["--dst", "2001:db8::/32"],
    ] {
        assert_eq!(pools(&world, &arguments), [] as [Value; 0], "{arguments:?}");
    }
    let text = tracer(&world, &["snapshot"], &[]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("40/200"), "{text}");
    assert!(text.contains("holder["), "{text}");
    Ok(())
}

fn dates_time_waits() -> Result<(), Skip> {
    let world = World::with_ports(200)?;
    let _server = world.server(Manner::Echo);
    let _client = holder(&world, 120, Then::Close);
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 120);
    let pools = pools(&world, &[]);
    assert_eq!(pools[0]["used"], 120);
    assert_eq!(pools[0]["by_state"], json!({"TIME_WAIT": 120}));
    assert_eq!(pools[0]["rates"]["last_60s"], 2.0, "{}", pools[0]);
    Ok(())
}

/// Nobody sees their own network namespace, which is ours, and is told what else there is.
fn an_ordinary_user() -> Result<(), Skip> {
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        return Err(Skip("only root can become nobody".to_owned()));
    }
    let world = World::with_ports(200)?;
    let _server = world.server(Manner::Echo);
    let _client = holder(&world, 40, Then::PingAndKeep);
    let look = || {
        let mut command = Command::new(program_for_anybody());
        command
            .args(["snapshot"])
            .current_dir("/")
            .stdin(Stdio::null())
            .uid(NOBODY)
            .gid(NOBODY);
        command.output()
    };
    // In the namespace of the client, where they may not enter but are.
    let output = world.pair.run_in(Side::Client, look).unwrap().unwrap();
    let words = said(&output);
    assert!(output.status.success(), "{words}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("40/200"), "{text}");
    assert!(text.contains("before tracing"), "{text}");
    assert!(words.contains("the open files of"), "{words}");
    assert!(words.contains("run as root (sudo)"), "{words}");
    Ok(())
}

fn waits_until_drained() -> Result<(), Skip> {
    // Without room for a TIME_WAIT, a closed connection gives its port back at once.
    let settings = Settings::with_ports(200).client_sysctl("net/ipv4/tcp_max_tw_buckets", "0");
    let world = World::new(&settings)?;
    let _server = world.server(Manner::Echo);
    let mut client = holder(&world, 40, Then::PingAndKeep);
    for level in ["20%", "40"] {
        let output = tracer(&world, &["wait"], &["--below", level]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(said(&output), "", "{level}");
    }
    let mut wait = tracer(&world, &["wait"], &["--below", "39", "--timeout", "60s"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(wait.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert_eq!(
        first,
        "tracer: 40 of 200 ports to 192.0.2.2:7000 held, 0 in TIME_WAIT; \
         open connections must be closed first"
    );
    client.release();
    let last = lines.map_while(Result::ok).last().unwrap();
    assert!(last.contains("drained to 39 ports"), "{last}");
    assert_eq!(wait.wait().unwrap().code(), Some(0));
    Ok(())
}

fn wait_gives_up() -> Result<(), Skip> {
    let world = World::with_ports(200)?;
    let _server = world.server(Manner::Echo);
    let _client = holder(&world, 40, Then::Close);
    world.wait_for(Side::Client, tcp_state::TIME_WAIT, 40);
    let output = tracer(&world, &["wait"], &["--timeout", "600ms"])
        .output()
        .unwrap();
    let words = said(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    let last = words.lines().last().unwrap();
    assert!(last.contains("not drained to 10% within 600ms"), "{words}");
    let held = "40 of 200 ports to 192.0.2.2:7000 held, 40 in TIME_WAIT; clean in at most ";
    assert!(last.contains(held), "{words}");
    let elsewhere = tracer(&world, &["wait"], &["--dst", "192.0.2.9"]).output();
    assert_eq!(elsewhere.unwrap().status.code(), Some(0));
    Ok(())
}

fn wait_is_interrupted() -> Result<(), Skip> {
    let world = World::with_ports(200)?;
    let _server = world.server(Manner::Echo);
    let _client = holder(&world, 40, Then::PingAndKeep);
    let mut wait = tracer(&world, &["wait"], &["--below", "0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(wait.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("40 of 200"));
    kill(Pid::from_raw(wait.id().cast_signed()), Signal::SIGINT).unwrap();
    let status = wait.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{status}");
    Ok(())
}

fn wait_usage() -> Result<(), Skip> {
    for level in ["101%", "-1", "1e3", "%", "", "all", "65536", "inf%", "5 %"] {
        let option = format!("--below={level}");
        let output = Command::new(program()).args(["wait", &option]).output();
        let output = output.unwrap();
        let words = said(&output);
        assert_eq!(output.status.code(), Some(2), "{level}: {words}");
        assert!(words.contains("--below"), "{level}: {words}");
    }
    Ok(())
}
