/*! The tracer as a child process, and what it printed. */

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{SOON, Skip};

/// What the tracer says on standard error once it is attached.
const READY: [&str; 2] = ["tracer: watching", "tracer: tracing"];

/// How long it may take to try every hook: on an emulated kernel of a busy machine each one that
/// is taken out again waits for every task.
const START: Duration = Duration::from_secs(180);

/// The tracer to test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("TRACER").map_or_else(|| env!("CARGO_BIN_EXE_tracer").into(), PathBuf::from)
}

/// A copy of it where anybody may execute it.
static FOR_ANYBODY: OnceLock<PathBuf> = OnceLock::new();

/// Makes that copy, which goes with the folder. To be called while no other thread runs: a process
/// that one forked meanwhile would keep the copy open for writing, and nobody could execute it.
pub(crate) fn publish() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("tracer");
    fs::copy(program(), &copy).unwrap();
    for path in [folder.path(), &copy] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    FOR_ANYBODY.set(copy).unwrap();
    folder
}

/// The tracer to test, for users who may not see where it was built.
pub(crate) fn program_for_anybody() -> &'static Path {
    FOR_ANYBODY.get().expect("it was published first")
}

/// A running `tracer watch -o json`, attached.
pub(crate) struct Tracer {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    said: Vec<String>,
    lines: Vec<Value>,
}

impl Tracer {
    /// Starts it with further arguments and waits until it is attached.
    pub(crate) fn watch(arguments: &[&str]) -> Result<Self, Skip> {
        let mut command = Command::new(program());
        command.args(["watch", "-o", "json"]).args(arguments);
        Self::start(command)
    }

    /// Starts any command that traces.
    pub(crate) fn start(mut command: Command) -> Result<Self, Skip> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C of the harness must not reach it before its drop does.
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = lines_of(child.stdout.take().unwrap());
        let stderr = lines_of(child.stderr.take().unwrap());
        let mut tracer = Self {
            child,
            stdout,
            stderr,
            said: Vec::new(),
            lines: Vec::new(),
        };
        let deadline = Instant::now() + START;
        loop {
            match tracer.stderr.recv_timeout(deadline - Instant::now()) {
                Ok(line) => {
                    let ready = READY.iter().any(|words| line.starts_with(words));
                    tracer.said.push(line);
                    if ready {
                        return Ok(tracer);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the tracer did not get ready, it said {:?}", tracer.said)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = tracer.child.wait().unwrap();
                    let said = tracer.said.join("\n");
                    // 3: this kernel or these privileges do not allow tracing. Where a backend was
                    // asked for, it was expected to be there.
                    let asked = std::env::var_os("TRACER_BACKEND").is_some();
                    assert!(
                        status.code() == Some(3) && !asked,
                        "the tracer ended, {status}: {said}"
                    );
                    return Err(Skip(said));
                }
            }
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it says a fact is seen with: `trampolines`, `tracepoints`.
    pub(crate) fn sees(&self, fact: &str) -> Option<&'static str> {
        let ready = self.said.last().expect("it is ready");
        let backends = ["trampolines", "tracepoints"];
        let (_, with) = ready.split_once(" with ")?;
        // Only the one backend, when all facts have the same.
        let all = backends
            .into_iter()
            .find(|backend| with.starts_with(&format!("{backend};")));
        all.or_else(|| {
            let part = with.split("), ").find(|part| {
                let facts = part.split(['(', ',', ')']).map(str::trim);
                facts.into_iter().any(|one| one == fact)
            })?;
            backends
                .into_iter()
                .find(|backend| part.starts_with(backend))
        })
    }

    /// Reads on until the lines so far are `enough`.
    pub(crate) fn until(&mut self, what: &str, enough: impl Fn(&[Value]) -> bool) {
        self.until_within(SOON, what, enough);
    }

    /// The same, of what takes longer.
    pub(crate) fn until_within(
        &mut self,
        limit: Duration,
        what: &str,
        enough: impl Fn(&[Value]) -> bool,
    ) {
        let deadline = Instant::now() + limit;
        while !enough(&self.lines) {
            match self.stdout.recv_timeout(deadline - Instant::now()) {
                Ok(line) => self.lines.push(parse(&line)),
                Err(error) => {
                    let said: Vec<_> = self.stderr.try_iter().collect();
                    let last = self.lines.last();
                    panic!("{what}: {error}; the last line was {last:?}, it said {said:?}");
                }
            }
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// No longer reads what it prints: its next line finds a closed pipe.
    pub(crate) fn close_stdout(&mut self) {
        // The reading thread ends, and closes the pipe, at the next line it cannot hand on.
        self.stdout = channel().1;
    }

    /// Stops it as Ctrl-C does and returns all it printed.
    pub(crate) fn stop(self) -> Trace {
        self.signal(Signal::SIGINT);
        self.wait()
    }

    /// Waits for the end of one that prints text.
    pub(crate) fn wait_text(mut self) -> (String, ExitStatus) {
        let mut text = String::new();
        drain(&self.stdout, |line| {
            text.push_str(&line);
            text.push('\n');
        });
        (text, self.child.wait().unwrap())
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Trace {
        drain(&self.stdout, |line| self.lines.push(parse(&line)));
        drain(&self.stderr, |line| self.said.push(line));
        let status = self.child.wait().unwrap();
        Trace {
            lines: std::mem::take(&mut self.lines),
            said: self.said.join("\n"),
            status,
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Both fail only when it is dead and reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that a tracer printed.
pub(crate) struct Trace {
    /// The lines of standard output.
    pub(crate) lines: Vec<Value>,
    /// Standard error.
    pub(crate) said: String,
    /// How it ended.
    pub(crate) status: ExitStatus,
}

impl Trace {
    /// The lines of a type within a namespace.
    pub(crate) fn of(&self, kind: &str, netns: u32) -> Vec<&Value> {
        let lines = self.lines.iter();
        lines
            .filter(|line| line["type"] == kind && line["netns"] == netns)
            .collect()
    }

    /// The last line, which must be a summary.
    pub(crate) fn summary(&self) -> &Value {
        let summary = self.lines.last().expect("no line at all");
        assert_eq!(summary["type"], "summary", "the last line is {summary}");
        summary
    }

    /// The last line, which must be a summary that admits no loss, of a run
    /// that ended well.
    pub(crate) fn assert_whole(&self) {
        self.assert_whole_but(&[]);
    }

    /// The same, but for these reasons of loss.
    pub(crate) fn assert_whole_but(&self, known: &[&str]) {
        assert!(self.status.success(), "{}: {}", self.status, self.said);
        let summary = self.lines.last().expect("no line at all");
        assert_eq!(summary["type"], "summary", "the last line is {summary}");
        for line in &self.lines {
            assert_eq!(line["schema"], 1, "{line}");
        }
        let lost = summary["lost"].as_object().expect("lost by reason");
        assert!(!lost.is_empty(), "{summary}");
        for (reason, count) in lost {
            assert!(
                count == 0 || known.contains(&reason.as_str()),
                "lost by {reason}: {summary}"
            );
        }
        assert!(!known.is_empty() || !self.lines.iter().any(|line| line["type"] == "loss"));
    }
}

/// The sum of the failures' `count`.
pub(crate) fn sum(lines: &[&Value]) -> u64 {
    lines
        .iter()
        .map(|line| line["count"].as_u64().expect("count is a number"))
        .sum()
}

/// Every line must have every field of `fields`.
pub(crate) fn assert_each(lines: &[&Value], fields: &Value) {
    for line in lines {
        for (name, value) in fields.as_object().expect("an object of fields") {
            assert_eq!(&line[name], value, "{name} of {line}");
        }
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// Reads a pipe's lines in a thread of its own; disconnected at its end.
pub(crate) fn lines_of(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Reads until the other side is closed.
fn drain(lines: &Receiver<String>, mut each: impl FnMut(String)) {
    const QUIET: Duration = SOON;
    loop {
        match lines.recv_timeout(QUIET) {
            Ok(line) => each(line),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => panic!("the tracer did not end"),
        }
    }
}
