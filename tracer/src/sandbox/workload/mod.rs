/*!
Workloads: what a sandboxed process does, and its count of what it did.

The parent hands the order over as one JSON argument. The process takes its
name, prepares (a server listens), prints a [`Ready`] line, waits for `go` on
its standard input (a server does not), works, prints a [`Report`] line, and
keeps open what it was told to keep until its standard input ends.
*/

mod bind;
mod chat;
mod connect;
mod pace;
mod ring;
mod server;
mod then;

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io::{self, BufRead as _, Write as _};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

pub use bind::{Bind, BindFirst, Collide};
pub use chat::Chat;
pub use connect::{Connect, Threads};
pub use pace::Pace;
pub use ring::Ring;
pub use server::{Manner, Serve};
pub use then::Then;

/// First argument of a workload process.
pub const VERB: &str = "sandbox-workload";

/// Longest life of a workload in seconds, should its parent forget it.
const LIFE: u32 = 600;

/// Descriptors that hold a connection for each port there is.
const FILES: u64 = 70_000;

/// What a process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Answers connections.
    Serve(Serve),
    /// Calls connect() many times.
    Connect(Connect),
    /// Calls bind() many times.
    Bind(Bind),
    /// Connects twice from one source port to one destination.
    Collide(Collide),
    /// Connects from ports that bind() chose.
    BindFirst(BindFirst),
    /// Calls connect() through `io_uring`.
    Ring(Ring),
    /// Keeps connections and uses them.
    Chat(Chat),
}

/// The argument of a workload process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The name it takes (comm): at most 15 bytes.
    pub(super) name: String,
    /// What it does.
    pub(super) work: Work,
}

/// A process is ready to work.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    /// The ports it listens at.
    pub(super) ports: Vec<u16>,
}

/// What a process counted of its own work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its process id.
    pub pid: u32,
    /// The ids of the threads that worked.
    pub tids: Vec<u32>,
    /// Successful connect() calls (of a server: accept()).
    pub connected: u64,
    /// Successful bind() calls, other than a server's.
    pub bound: u64,
    /// Failed connect() or bind() calls by errno, such as `EADDRNOTAVAIL`.
    pub failed: BTreeMap<String, u64>,
    /// Established connections the other side reset.
    pub reset: u64,
    /// Source port of each connection, where asked for.
    pub ports: Vec<u16>,
    /// How long each successful connect() took, ns, where asked for.
    pub times_ns: Vec<u64>,
    /// Process ids of its children.
    pub children: Vec<u32>,
    /// Why the kernel did not let it work at all.
    pub refused: Option<String>,
}

impl Report {
    /// All failures.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    fn fail(&mut self, error: &io::Error) {
        let name = match error.raw_os_error() {
            Some(number) => format!("{:?}", Errno::from_raw(number)),
            None => error.to_string(),
        };
        *self.failed.entry(name).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        self.tids.extend(other.tids);
        self.connected += other.connected;
        self.bound += other.bound;
        for (errno, count) in other.failed {
            *self.failed.entry(errno).or_default() += count;
        }
        self.reset += other.reset;
        self.ports.extend(other.ports);
        self.times_ns.extend(other.times_ns);
        self.children.extend(other.children);
    }
}

/// Does the work and returns true when the arguments (program name first) are
/// those of a workload process; else does nothing and returns false.
///
/// # Errors
/// The order is malformed or the work cannot be prepared.
pub fn from_args(mut args: impl Iterator<Item = OsString>) -> anyhow::Result<bool> {
    if args.nth(1).is_none_or(|verb| verb != VERB) {
        return Ok(false);
    }
    let order = args.next().unwrap_or_default();
    let order: Order = serde_json::from_str(&order.to_string_lossy())
        .context("the argument of a workload is not an order")?;
    settle(&order.name)?;
    match order.work {
        Work::Serve(serve) => server::run(&serve)?,
        Work::Connect(order) => client(|| connect::run(&order))?,
        Work::Bind(order) => client(|| bind::run(&order))?,
        Work::Collide(order) => client(|| bind::collide(&order))?,
        Work::BindFirst(order) => client(|| bind::bind_first(&order))?,
        Work::Ring(order) => client(|| ring::run(&order))?,
        Work::Chat(order) => client(|| chat::run(&order))?,
    }
    Ok(true)
}

/// Does a client's `work` that is not a [`Work`] in the manner of one: takes the name (at most 15
/// bytes), says that it is ready, waits for its go, reports, and keeps what the work left until
/// it is released. For programs started by [`Pair::start`](super::Pair::start).
///
/// # Errors
/// The name or the limits cannot be set, or the work failed.
pub fn perform<T>(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<(Report, T)>,
) -> anyhow::Result<()> {
    settle(name)?;
    let mut rest = None;
    client(|| {
        let (report, left) = work()?;
        rest = Some(left);
        Ok((report, Kept::NOTHING))
    })
}

/// Becomes a workload process: named, of bounded life, with descriptors for every port.
fn settle(name: &str) -> anyhow::Result<()> {
    take_name(name)?;
    nix::unistd::alarm::set(LIFE);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Root may have more than the limit it was started with.
    setrlimit(Resource::RLIMIT_NOFILE, FILES, FILES)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most))?;
    Ok(())
}

/// What is left open after the work.
enum Kept {
    /// Dropped when the parent releases the process.
    UntilReleased(Vec<socket2::Socket>),
    /// Left to the end of the process, which comes at once.
    UntilExit(Vec<socket2::Socket>),
}

impl Kept {
    const NOTHING: Self = Self::UntilReleased(Vec::new());
}

fn client(work: impl FnOnce() -> anyhow::Result<(Report, Kept)>) -> anyhow::Result<()> {
    say(&Ready { ports: Vec::new() })?;
    let mut stdin = io::stdin().lock();
    if stdin.read_line(&mut String::new())? == 0 {
        return Ok(());
    }
    let (mut report, kept) = work()?;
    report.pid = std::process::id();
    say(&report)?;
    match kept {
        Kept::UntilReleased(kept) => {
            while stdin.read_line(&mut String::new())? > 0 {}
            drop(kept);
        }
        Kept::UntilExit(kept) => {
            std::mem::forget(kept);
            std::process::exit(0);
        }
    }
    Ok(())
}

fn say(line: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, line)?;
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    Ok(())
}

fn take_name(name: &str) -> anyhow::Result<()> {
    nix::sys::prctl::set_name(&CString::new(name)?).context("cannot take the workload's name")
}

fn own_tid() -> u32 {
    nix::unistd::gettid().as_raw().unsigned_abs()
}
