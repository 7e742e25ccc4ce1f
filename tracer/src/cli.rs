/*! The command line. The comments on the options are the help. */

pub mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::values::{Bytes, DestinationFilter, Level};
use crate::gate::Gate;
use crate::host::netns::Selector;
use crate::kernel::trial::Choice;

/// Names the process that leaks or burns TCP connections until connect() says EADDRNOTAVAIL.
#[derive(Debug, Parser)]
#[command(
    name = "tracer",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 done; 1 failed; 2 usage; 3 this kernel or these privileges don't allow tracing."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// One file of `commands/` each.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show connect and bind failures and TIME_WAITs with their owners, as they happen.
    ///
    /// Text folds what is alike into one line a second; JSON has one line for each TIME_WAIT and
    /// exact counts for failures. The stream ends with Ctrl-C, after --duration or when its reader
    /// closes the pipe, with a summary that says what was lost.
    Watch(Box<WatchArgs>),
    /// Trace a command and all it starts, and say at its end what it did to its source ports.
    ///
    /// Tracing begins before the command does, so not one connect() is missed. Its standard input,
    /// output and error are left to it; what tracer has to say goes to standard error once the
    /// command has ended (JSON: from its begin on), or to --output-file. Signals sent to tracer are passed
    /// on to it. Under sudo the command runs as the user who called sudo, with that user's groups
    /// and HOME, USER and LOGNAME.
    #[command(after_help = RUN_EXIT_CODES)]
    Run(Box<RunArgs>),
    /// Show who holds which source ports right now, and what is wrong with that.
    ///
    /// Looks at the sockets of every network namespace once, without tracing: it needs no BPF, and
    /// an ordinary user sees what of it is theirs. A TIME_WAIT then says when it
    /// was closed, which gives the rate, but not by whom; `watch` tells that, failures and forecasts.
    Snapshot(Box<SnapshotArgs>),
    /// Wait until pools of source ports have drained, such as between two load tests.
    ///
    /// Looks at the kernel's lists of sockets until no pool is above the level, and says meanwhile
    /// what it waits for.
    #[command(after_help = "Exit codes: 0 drained; 1 the timeout came first, or failed; 2 usage.")]
    Wait(Box<WaitArgs>),
    /// Show what this kernel and these privileges allow, and how to get what is missing.
    Doctor(DoctorArgs),
    /// Show tracer at work: a real client that runs out of ports, in throwaway namespaces.
    ///
    /// Needs the rights of `watch` and those to make network namespaces: root. Touches nothing
    /// of the host's network, and leaves nothing behind.
    Demo(DemoArgs),
}

/// How to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    #[default]
    Text,
    /// One JSON object a line, schema 1.
    Json,
}

/// Options of `tracer watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// How to write.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,

    /// Show connections that open and close too, and in text how TIME_WAITs end.
    #[arg(long)]
    pub all: bool,

    /// Text: a line for each event instead of one a second for those that are alike.
    /// Failures come with their count all the same.
    #[arg(long)]
    pub each: bool,

    /// End after this time: 500ms, 30s, 5m, 1h.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub duration: Option<Duration>,

    /// Leave system calls alone: without trampolines the errno of connect() and bind() comes from
    /// tracepoints that make every system call of the host some tens of ns slower.
    ///
    /// A port search that failed then counts as EADDRNOTAVAIL, which is what it gives; refused, timed
    /// out and reset show as ever; a connect() that has no route, or no address of its own, and
    /// failures of bind() do not show.
    #[arg(long)]
    pub no_syscalls: bool,

    /// Whose events to show.
    #[command(flatten)]
    pub filters: Filters,

    /// How to look.
    #[command(flatten)]
    pub tuning: Tuning,
}

/// Options of `tracer snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// How to write.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,

    /// Which pools to show: those to these destinations, or in which these processes hold a port.
    #[command(flatten)]
    pub filters: Filters,
}

/// Options of `tracer wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Ports a pool may still hold: a part of its capacity, or a number.
    #[arg(long, value_name = "N%|N", default_value = "10%")]
    pub below: Level,

    /// Give up after this time: 500ms, 30s, 5m, 1h.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = values::duration)]
    pub timeout: Duration,

    /// Which pools to wait for: those to these destinations, or in which these processes hold a
    /// port when the wait begins.
    #[command(flatten)]
    pub filters: Filters,
}

/// What `tracer run` returns.
const RUN_EXIT_CODES: &str = "\
Exit codes: the command's own, or 128 and the signal's number when it was killed;
99 when --fail-on was met, or events were lost and it is therefore not known;
2 usage; 125 tracer could not trace and did not run the command;
126 the command cannot be executed; 127 it was not found.";

/// Options of `tracer run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Return 99 when any of these conditions was met, such as eaddrnotavail>0,utilization>0.8.
    ///
    /// Conditions are separated by commas; each is METRIC, one of > >= < <= ==, and a number.
    /// Metrics: the name of any errno of connect() and bind() in lower case (eaddrnotavail,
    /// eaddrinuse, econnrefused, etimedout, ...) for its failures; failures: all of them;
    /// utilization: the highest level of any pool, from 0 to 1; time_wait: TIME_WAITs left behind;
    /// open: most connections open or closing at a time; rate: most connections opened within a second;
    /// lost: events lost. When events were lost, 99 is returned too.
    #[arg(long, value_name = "EXPR")]
    pub fail_on: Option<Gate>,

    /// How to write.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,

    /// Write to this new file instead of standard error.
    #[arg(long, value_name = "FILE")]
    pub output_file: Option<PathBuf>,

    /// Text: show the stream while the command runs. Both: with connections that open and close.
    #[arg(long)]
    pub all: bool,

    /// Under sudo: run the command as root.
    #[arg(long)]
    pub as_root: bool,

    /// How to look.
    #[command(flatten)]
    pub tuning: Tuning,

    /// The command, and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Whose events to show. Several of one option mean any of them; different options mean all.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct Filters {
    /// Only this process. May be given several times.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Only processes or threads of this name. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub comm: Vec<String>,

    /// Only this destination: 10.0.0.0/8, 10.0.0.2:6432, fd00::/8, [fd00::/8]:6432.
    /// May be given up to 16 times.
    #[arg(long, value_name = "CIDR[:PORT]")]
    pub dst: Vec<DestinationFilter>,

    /// Only this container: the start of its id, or a part of its pod uid or cgroup path.
    /// May be given several times.
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub container: Vec<String>,

    /// Only this network namespace: its inode (4026531840), a path (/run/netns/NAME) or pid:N.
    /// May be given several times.
    #[arg(long, value_name = "INODE|PATH|pid:N")]
    pub netns: Vec<Selector>,
}

/// How to look: memory and backend.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tuning")]
pub struct Tuning {
    /// Kernel memory for events not yet read: a power of two from 64K to 1G. 8M holds 49,900.
    #[arg(long, value_name = "BYTES", default_value = "8M")]
    pub ring_size: Bytes,

    /// Connections followed at a time; about 170 bytes of kernel memory each.
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub max_sockets: u32,

    /// The hooks to use.
    #[arg(long, value_enum, default_value_t, env = "TRACER_BACKEND")]
    pub backend: Backend,

    /// Act as if the kernel skipped the program for every state change of a softirq, for tests.
    #[arg(long, hide = true)]
    pub skip_softirq: bool,

    /// Attach programs that return at once, for benchmarks: what is told is not true then.
    #[arg(long, hide = true)]
    pub floor: bool,
}

/// Which hooks may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best this kernel has, hook by hook.
    #[default]
    Auto,
    /// Trampolines (fentry, fexit) wherever they tell more than a tracepoint, or nothing.
    Trampoline,
    /// Tracepoints only.
    Tracepoint,
}

impl From<Backend> for Choice {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => Self::Auto,
            Backend::Trampoline => Self::Trampoline,
            Backend::Tracepoint => Self::Tracepoint,
        }
    }
}

/// Options of `tracer doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How to write.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// Options of `tracer demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// What goes wrong.
    #[arg(value_enum)]
    pub scenario: Scenario,

    /// Source ports the client has.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(2..=28_232))]
    pub ports: u16,

    /// How to write.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// A way to fail for want of a source port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A connection per query, closed at once: TIME_WAIT takes the ports.
    Churn,
    /// Connections that are never closed: ESTABLISHED takes the ports.
    Leak,
    /// Connections that the server closed and the client does not: CLOSE_WAIT takes the ports.
    CloseWait,
    /// bind() before connect(), to several destinations: each port is lost to all of them.
    Bound,
    /// Connections from a fixed source port: EADDRNOTAVAIL with the pool almost empty.
    Collision,
}

#[cfg(test)]
mod tests;
