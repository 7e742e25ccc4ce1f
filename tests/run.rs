/*! `tracer run`: the command's own streams, signals, user and exit code, and a gate that never passes unseen. */

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tracer::sandbox::Side;
use tracer::sandbox::workload::{Connect, Manner, Report, Then, VERB, Work};

use crate::Scenario;
use crate::trace::{program, program_for_anybody};
use crate::world::{Skip, World, own_program, server_v4};

pub(crate) mod process;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "gate_shuts_when_ports_ran_out",
        gate_shuts_when_ports_ran_out,
    ),
    (
        "gate_lets_pass_with_the_commands_code",
        gate_lets_pass_with_the_commands_code,
    ),
    (
        "gate_knows_how_full_a_pool_was",
        gate_knows_how_full_a_pool_was,
    ),
    (
        "gate_shuts_when_the_ring_was_full",
        gate_shuts_when_the_ring_was_full,
    ),
    (
        "gate_shuts_when_sockets_were_not_followed",
        gate_shuts_when_sockets_were_not_followed,
    ),
    ("grandchildren", grandchildren),
    ("output_file", output_file),
    ("what_does_not_run", what_does_not_run),
    ("not_root", not_root),
];

/// Exit code of env(1) when tracing is not possible.
const CANNOT: i32 = 125;

/// The shell that runs the commands.
const SHELL: &str = "/bin/sh";

/// `tracer run` with its own arguments, then the command's.
fn tracer(arguments: &[&str], command: &[&str]) -> Command {
    let mut tracer = Command::new(program());
    tracer.arg("run").args(arguments).arg("--").args(command);
    // What sudo may have set for the tests themselves.
    tracer.env_remove("SUDO_UID").env_remove("SUDO_GID");
    tracer.stdin(Stdio::null());
    tracer
}

/// The same with a script for the shell, whose `$0` is `zero` and `$1` is `one`.
fn script(arguments: &[&str], text: &str, zero: &str, one: &str) -> Result<Command, Skip> {
    if !Path::new(SHELL).exists() {
        return Err(Skip(format!("there is no {SHELL}")));
    }
    Ok(tracer(arguments, &[SHELL, "-c", text, zero, one]))
}

/// Runs it to its end; a kernel that does not let trace skips.
fn finish(command: &mut Command) -> Result<Finished, Skip> {
    Finished::new(&command.output().unwrap())
}

/// How a run ended.
struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Finished {
    fn new(output: &Output) -> Result<Self, Skip> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let finished = Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        if finished.code == Some(CANNOT) && finished.stderr.contains("cannot trace here") {
            return Err(Skip(finished.stderr));
        }
        Ok(finished)
    }

    #[track_caller]
    fn assert(&self, code: i32, words: &[&str]) {
        let Self { stdout, stderr, .. } = self;
        assert_eq!(self.code, Some(code), "{stdout}\n{stderr}");
        for word in words {
            assert!(stderr.contains(word), "no {word:?} in:\n{stderr}");
        }
    }

    /// What a workload counted: the last line of its output, the only other being that it is ready.
    fn report(&self) -> Report {
        let lines: Vec<_> = self.stdout.lines().collect();
        assert_eq!(lines.len(), 2, "{}", self.stdout);
        serde_json::from_str(lines[1]).unwrap()
    }
}

/// A workload to run as, or from, a command.
struct Job {
    program: String,
    order: String,
}

impl Job {
    fn new(name: &str, work: &Work) -> Self {
        Self {
            program: own_program().to_str().unwrap().to_owned(),
            order: json!({ "name": name, "work": work }).to_string(),
        }
    }

    /// As the command itself.
    fn direct(&self, world: &World, arguments: &[&str]) -> Result<Finished, Skip> {
        let mut command = tracer(arguments, &[&self.program, VERB, &self.order]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let within = || {
            let mut tracer = command.spawn().unwrap();
            let mut stdin = tracer.stdin.take().unwrap();
            // One that does not trace does not read either.
            let _ = stdin.write_all(b"go\n");
            drop(stdin);
            tracer.wait_with_output().unwrap()
        };
        Finished::new(&world.pair.run_in(Side::Client, within).unwrap())
    }

    /// From a script that says `echo go | "$0" VERB "$1"` where `JOB` stands.
    fn within(&self, world: &World, arguments: &[&str], text: &str) -> Result<Finished, Skip> {
        let text = text.replace("JOB", &format!("echo go | \"$0\" {VERB} \"$1\""));
        let mut command = script(arguments, &text, &self.program, &self.order)?;
        let output = world
            .pair
            .run_in(Side::Client, || command.output().unwrap());
        Finished::new(&output.unwrap())
    }
}

/// `attempts` connections that are closed at once.
fn churn(attempts: u64) -> Job {
    Job::new(
        "churner",
        &Work::Connect(Connect::new(server_v4(), attempts)),
    )
}

fn gate_shuts_when_ports_ran_out() -> Result<(), Skip> {
    let world = World::with_ports(50)?;
    let _server = world.server(Manner::Echo);
    let arguments = ["--fail-on", "etimedout>0,eaddrnotavail>0,failures>100"];
    let run = churn(60).direct(&world, &arguments)?;
    // It connects at once: the first one missed would be the count short of one.
    assert_eq!(run.report().failed["EADDRNOTAVAIL"], 10);
    run.assert(
        99,
        &["--fail-on: eaddrnotavail>0 was met: eaddrnotavail is 10"],
    );
    assert_eq!(run.stderr.matches("--fail-on").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("churner["), "{}", run.stderr);
    Ok(())
}

fn gate_lets_pass_with_the_commands_code() -> Result<(), Skip> {
    let world = World::with_ports(50)?;
    let _server = world.server(Manner::Echo);
    // What it measures is exact: one more or less would shut the gate.
    let exact =
        "eaddrnotavail>0,failures>0,time_wait<20,time_wait>20,rate>20,rate<1,open>20,open<1,lost>0";
    let run = churn(20).within(&world, &["--fail-on", exact], "JOB; exit 42")?;
    assert_eq!(run.report().connected, 20);
    run.assert(42, &["TIME_WAIT                  20"]);
    assert!(!run.stderr.contains("--fail-on"), "{}", run.stderr);

    let keep = Work::Connect(Connect::new(server_v4(), 15).then(Then::Keep));
    let run = Job::new("keeper", &keep).within(&world, &["--fail-on", "open>=15"], "JOB")?;
    run.assert(99, &["open is 15"]);
    Ok(())
}

fn gate_knows_how_full_a_pool_was() -> Result<(), Skip> {
    let world = World::with_ports(100)?;
    let _server = world.server(Manner::Echo);
    // A list read amid the burst may have some of its sockets twice, never one too few.
    let exact = ["--fail-on", "utilization<0.6,utilization>0.65"];
    churn(60).direct(&world, &exact)?.assert(0, &[]);
    // The ports of those before are in use still, and not the command's own.
    let run = churn(25).within(&world, &["--fail-on", "utilization>0.8"], "JOB; exit 4")?;
    run.assert(99, &["utilization>0.8 was met: utilization is 0.8"]);
    let other = Connect::new(([192, 0, 2, 2], 7001).into(), 1);
    let run = Job::new("other", &Work::Connect(other))
        .direct(&world, &["--fail-on", "utilization>0.5"])?;
    assert_eq!(
        run.report().failed["ECONNREFUSED"],
        1,
        "another destination has another pool"
    );
    run.assert(0, &[]);
    let mut idle = script(&["--fail-on", "utilization>0"], "exit 6", "", "")?;
    finish(&mut idle)?.assert(6, &[]);
    Ok(())
}

fn gate_shuts_when_the_ring_was_full() -> Result<(), Skip> {
    let world = World::with_ports(2000)?;
    let _server = world.server(Manner::Echo);
    // Nobody reads the ring while a thousand connections open and close.
    let stopped = "kill -STOP $PPID; JOB; kill -CONT $PPID; exit 5";
    let ring = ["--ring-size", "64K"];
    let run = churn(1000).within(&world, &ring, stopped)?;
    run.assert(5, &["ring buffer full"]);
    let gate = ["--ring-size", "64K", "--fail-on", "eaddrnotavail>0"];
    let run = churn(900).within(&world, &gate, stopped)?;
    assert_eq!(run.report().failures(), 0);
    run.assert(99, &["events were lost, and a gate never passes unseen"]);
    Ok(())
}

fn gate_shuts_when_sockets_were_not_followed() -> Result<(), Skip> {
    let world = World::with_ports(2000)?;
    let _server = world.server(Manner::Echo);
    let keep = Work::Connect(Connect::new(server_v4(), 1100).then(Then::Keep));
    let few = ["--max-sockets", "1024", "--fail-on", "eaddrnotavail>0"];
    let run = Job::new("keeper", &keep).direct(&world, &few)?;
    assert_eq!(run.report().connected, 1100);
    run.assert(99, &["76 sockets map full", "76 events were lost"]);
    Ok(())
}

fn grandchildren() -> Result<(), Skip> {
    let world = World::with_ports(60)?;
    let _server = world.server(Manner::Echo);
    let nested = "(JOB) & (JOB >/dev/null; JOB >/dev/null) & wait; exit 3";
    let run = churn(10).within(&world, &["--fail-on", "time_wait<30,time_wait>30"], nested)?;
    run.assert(
        3,
        &["TIME_WAIT                  30", "lost              nothing"],
    );
    // Others' connections are not the command's.
    let mut other = world.client("other", &Work::Connect(Connect::new(server_v4(), 5)));
    other.go().unwrap();
    other.report(crate::world::SOON).unwrap();
    let run = churn(10).within(&world, &["--fail-on", "time_wait<10,time_wait>10"], "JOB")?;
    run.assert(0, &[]);
    assert!(!run.stderr.contains("other"), "{}", run.stderr);
    Ok(())
}

fn output_file() -> Result<(), Skip> {
    let world = World::with_ports(50)?;
    let _server = world.server(Manner::Echo);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events");
    let file = path.to_str().unwrap();
    let arguments = ["-o", "json", "--output-file", file];
    let run = churn(55).within(&world, &arguments, "echo loud >&2; JOB")?;
    run.assert(0, &[]);
    // Of the tracer there is what this kernel cannot give at most.
    let is_told = |line: &&str| line.starts_with("tracer: ");
    let gaps: Vec<_> = run.stderr.lines().filter(is_told).collect();
    let other: Vec<_> = run.stderr.lines().filter(|line| !is_told(line)).collect();
    assert_eq!(other, ["loud"]);
    assert!(
        gaps.iter()
            .all(|gap| gap.contains("inferred") || gap.contains("not seen")),
        "{gaps:?}"
    );
    let report = run.report();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(of("time_wait"), 50);
    assert_eq!(of("opened"), 0, "only with --all");
    let failed = lines.iter().filter(|line| line["type"] == "connect_failed");
    let failed: u64 = failed.map(|line| line["count"].as_u64().unwrap()).sum();
    assert_eq!(failed, report.failures());
    let owners = lines.iter().filter(|line| line["type"] == "time_wait");
    assert!(owners.clone().all(|line| line["pid"] == report.pid));
    assert_eq!(lines.last().unwrap()["type"], "summary");

    // Never over what is there, nor through a link to where nothing is.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
    for taken in [file, link.to_str().unwrap()] {
        let run = finish(&mut script(&["--output-file", taken], "echo ran", "", "")?)?;
        run.assert(CANNOT, &["cannot make the file", taken]);
        assert_eq!(run.stdout, "");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    Ok(())
}

fn what_does_not_run() -> Result<(), Skip> {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "text").unwrap();
    let plain = plain.to_str().unwrap();
    finish(&mut tracer(&[], &["no-such-program"]))?.assert(127, &["cannot run no-such-program"]);
    finish(&mut tracer(&[], &[plain]))?.assert(126, &["cannot run", "executable"]);
    finish(&mut tracer(&[], &["/"]))?.assert(126, &["cannot run /"]);
    let shut = ["--fail-on", "failures>=0"];
    finish(&mut tracer(&shut, &["no-such-program"]))?.assert(127, &[]);

    let mark = folder.path().join("mark");
    let touch = "echo ran > \"$0\"";
    let mut bad = script(&["--fail-on", "lots>0"], touch, mark.to_str().unwrap(), "")?;
    finish(&mut bad)?.assert(2, &["`lots` is no metric", "eaddrnotavail", "utilization"]);
    assert!(!mark.exists());
    let gone = folder.path().join("no/such/file");
    let arguments = ["--output-file", gone.to_str().unwrap()];
    let run = finish(&mut script(&arguments, touch, mark.to_str().unwrap(), "")?)?;
    run.assert(CANNOT, &["cannot make the file"]);
    assert!(!mark.exists());
    Ok(())
}

fn not_root() -> Result<(), Skip> {
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        return Err(Skip("only root can become nobody".to_owned()));
    }
    let mut command = Command::new(program_for_anybody());
    command
        .args(["run", "--", SHELL, "-c", "echo ran"])
        .stdin(Stdio::null())
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(CANNOT), "{said}");
    assert!(
        said.contains("cannot trace") && said.contains("root"),
        "{said}"
    );
    assert!(output.stdout.is_empty(), "it was run all the same");
    Ok(())
}
