/*!
How the cost grows with the load: from a thousand connections to a million, all of which are there
at a time, in TIME_WAIT or open, in as many pairs of namespaces as it takes.
*/

use std::collections::BTreeMap;
use std::io::BufRead;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tracer::host::sock_diag::{Mask, each_tcp_socket};
use tracer::kernel::cost::{self, costs};
use tracer::sandbox::workload::{Connect, Manner, Serve, Then, Work};
use tracer::sandbox::{Pair, Process, SERVER_V4, Settings, Side};

use tracer_ebpf::tcp_state;

use crate::contender::telling;
use crate::machine::{Usage, wait_until_at_rest};
use crate::plot::{Figure, Line};

/// Most TIME_WAITs of one pair of namespaces: the kernel's limit is not far.
const WAITING: u64 = 250_000;

/// Most connections that stay open of one pair, with a process at each end: 20,000 descriptors are
/// what many machines let even root have.
const OPEN: u64 = 18_000;

/// Destinations of a pair: none of its pools gets to half of its ports.
const DESTINATIONS: u16 = 16;

/// Source ports of a client.
const PORTS: u16 = 40_000;

/// Longest time the connections may take.
const LIMIT: Duration = Duration::from_secs(300);

/// How long one looks at what tracer does while nothing changes.
const REST: Duration = Duration::from_secs(10);

/// What becomes of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They are closed at once.
    TimeWait,
    /// They stay open.
    Open,
}

impl Fate {
    /// What they are in the end.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TimeWait => "in TIME_WAIT",
            Self::Open => "open",
        }
    }
}

/// What so many connections cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// Connections at a time.
    pub(crate) connections: u64,
    /// How long they took to come.
    pub(crate) took: Duration,
    /// Time in tracer's programs meanwhile, where it was counted.
    pub(crate) programs: Duration,
    /// Time its process took meanwhile.
    pub(crate) process: Duration,
    /// Time its process takes a second when they are there.
    pub(crate) at_rest: Duration,
    /// Its memory then, kB.
    pub(crate) resident_kb: u64,
    /// The most it ever had, kB.
    pub(crate) peak_kb: u64,
    /// Births of TIME_WAITs that were told; of connections that stay open those it says are there.
    pub(crate) told: u64,
    /// Events lost.
    pub(crate) lost: u64,
}

/// Measures loads of so many connections.
///
/// # Errors
/// When tracer or the load fails.
pub(crate) fn points(tracer: &Path, fate: Fate, loads: &[u64]) -> anyhow::Result<Vec<Point>> {
    let point = |&connections| {
        let point = point(tracer, fate, connections)
            .with_context(|| format!("measuring {connections} connections"))?;
        eprintln!("{point:?}");
        Ok(point)
    };
    loads.iter().map(point).collect()
}

fn point(tracer: &Path, fate: Fate, connections: u64) -> anyhow::Result<Point> {
    let _counting = cost::count().context("cannot count the time of programs")?;
    let mut pairs = Pairs::create(fate, connections)?;
    let before: Vec<u32> = costs()?.into_keys().collect();
    let room = (connections + connections / 8).to_string();
    let (child, lines) = telling(tracer, &["--max-sockets", &room])?;
    let reading = thread::spawn(move || told(lines));
    wait_until_at_rest()?;
    let start = Usage::of(child.id())?;
    let took = pairs.play(connections)?;
    wait_until_at_rest()?;
    let there = Usage::of(child.id())?;
    let programs = costs()?
        .into_iter()
        .filter(|(id, _)| !before.contains(id))
        .map(|(_, cost)| cost.time)
        .sum();
    let since = Instant::now();
    thread::sleep(REST);
    let rested = Usage::of(child.id())?;
    let at_rest = (rested.cpu - there.cpu).div_f64(since.elapsed().as_secs_f64());
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
    let told = reading
        .join()
        .map_err(|_| anyhow!("reading tracer's lines failed"))??;
    let peak_kb = reap(child)?;
    Ok(Point {
        connections,
        took,
        programs,
        process: there.cpu - start.cpu,
        at_rest,
        resident_kb: rested.resident_kb,
        peak_kb,
        told: match fate {
            Fate::TimeWait => told.births,
            Fate::Open => told.used.values().sum(),
        },
        lost: told.lost,
    })
}

/// Waits for the end of one that did well, and says the most memory it ever had, kB.
fn reap(child: Child) -> anyhow::Result<u64> {
    let pid = child.id().cast_signed();
    let mut status = 0;
    // SAFETY: numbers only, for which zero is a value.
    let mut usage: nix::libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to both, which live until it returns. The child is waited for here
    // only: dropping it does not.
    let reaped = unsafe { nix::libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    ensure!(reaped == pid && status == 0, "tracer failed: {status}");
    Ok(u64::try_from(usage.ru_maxrss)?)
}

/// A part of the cost, by its name.
type Part = (&'static str, fn(&Point) -> f64);

/// The figures of what was measured.
pub(crate) fn figures(all: &[(Fate, Vec<Point>)]) -> Vec<Figure> {
    let figure = |title: &str, y, of: &[Part]| Figure {
        title: title.to_owned(),
        x: ("connections at a time", true),
        y,
        lines: all
            .iter()
            .flat_map(|(fate, points)| {
                of.iter().map(move |(what, of)| Line {
                    name: format!("{what}, {}", fate.name()),
                    points: points
                        .iter()
                        .map(|point| (point.connections as f64, of(point)))
                        .collect(),
                    marked: true,
                })
            })
            .collect(),
    };
    vec![
        figure(
            "tracer watch -o json: processor time, from the first connection to the last",
            "ms",
            &[
                ("its programs", |point| point.programs.as_secs_f64() * 1e3),
                ("its process", |point| point.process.as_secs_f64() * 1e3),
            ],
        ),
        figure(
            "tracer watch -o json: memory",
            "MiB resident",
            &[("its process", |point| point.resident_kb as f64 / 1024.0)],
        ),
    ]
}

/// What tracer's lines say.
#[derive(Default)]
struct Told {
    births: u64,
    /// Ports in use, by namespace and port of the destination, as last said.
    used: BTreeMap<(u64, u64), u64>,
    lost: u64,
}

fn told(lines: impl BufRead) -> anyhow::Result<Told> {
    let mut told = Told::default();
    let mut last = String::new();
    for line in lines.lines() {
        last = line?;
        if last.contains("\"type\":\"time_wait\",") {
            told.births += 1;
        } else if last.contains("\"type\":\"pool\",") {
            let pool: Value = serde_json::from_str(&last)?;
            let number = |field: &str| pool[field].as_u64().unwrap_or_default();
            told.used
                .insert((number("netns"), number("dport")), number("used"));
        }
    }
    let summary: Value = serde_json::from_str(&last)?;
    let lost = summary["lost"]
        .as_object()
        .context("the last line is no summary")?;
    told.lost = lost.values().filter_map(Value::as_u64).sum();
    Ok(told)
}

/// The namespaces, and who works in them.
struct Pairs {
    fate: Fate,
    pairs: Vec<Pair>,
    clients: Vec<Process>,
    _servers: Vec<Process>,
}

impl Pairs {
    fn create(fate: Fate, connections: u64) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let at = |port| SocketAddr::new(SERVER_V4.into(), port);
        let serve = Work::Serve(Serve {
            at: (7000..7000 + DESTINATIONS).map(at).collect(),
            manner: Manner::Echo,
        });
        let mut all = Self {
            fate,
            pairs: Vec::new(),
            clients: Vec::new(),
            _servers: Vec::new(),
        };
        let mut left = connections;
        while left > 0 {
            let attempts = left.min(match fate {
                Fate::TimeWait => WAITING,
                Fate::Open => OPEN,
            });
            left -= attempts;
            let pair = Pair::create(&Settings::with_ports(PORTS))?;
            let then = match fate {
                Fate::TimeWait => Then::Close,
                Fate::Open => Then::Keep,
            };
            let connect = Connect::new(at(7000), attempts)
                .spread(DESTINATIONS)
                .then(then);
            all._servers
                .push(pair.spawn(Side::Server, &program, "server", &serve)?);
            all.clients.push(pair.spawn(
                Side::Client,
                &program,
                "client",
                &Work::Connect(connect),
            )?);
            all.pairs.push(pair);
        }
        Ok(all)
    }

    /// Makes all connections, those of two clients at a time, and waits until they are what they
    /// are to be.
    fn play(&mut self, connections: u64) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let mut connected = 0;
        for clients in self.clients.chunks_mut(2) {
            for client in &mut *clients {
                client.go()?;
            }
            for client in clients {
                connected += client.report(LIMIT)?.connected;
            }
        }
        let took = began.elapsed();
        ensure!(
            connected == connections,
            "of {connections} connections only {connected} came about"
        );
        if self.fate == Fate::TimeWait {
            for pair in &self.pairs {
                wait_until_closed(pair)?;
            }
        }
        Ok(took)
    }
}

/// Waits until each connection of the client is in TIME_WAIT.
fn wait_until_closed(pair: &Pair) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut open = 0;
        pair.run_in(Side::Client, || {
            let others = Mask::CONNECTED.without(tcp_state::TIME_WAIT);
            each_tcp_socket(others, |_| open += 1)
        })??;
        if open == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "some connections never ended");
        thread::sleep(Duration::from_millis(5));
    }
}
