/*!
A node's worth of events through the ledger: 500 network namespaces, 5,000
pools, 15,000 owners, 100,000 events a second for a minute, made on the fly;
each namespace is dumped every 10 s and all pools are read every second.

Prints how many times faster than real time that goes, how often memory was
allocated, and the most memory used. Fails where it is less than ten times as
fast, where an event costs an allocation, or where the books are wrong.
*/

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracer::ledger::{Drift, Feed, Ledger, Limits};
use tracer::model::{
    Closer, Direction, Dump, EndReason, Event, Kind, Listed, Namespace, Ownership, PortRange,
    Process, TcpState, Tuple,
};

const NAMESPACES: u64 = 500;
/// Pools, unless `--pools` says otherwise.
const POOLS: u64 = 5_000;
const OWNERS_A_POOL: u64 = 3;
const EVENTS_A_SECOND: u64 = 100_000;
const SECONDS: u64 = 60;
const SECOND: u64 = 1_000_000_000;
/// TIME_WAITs leave after so long: all of them at once are then half a million and less.
const WAIT_S: u64 = 10;
/// Not zero: a machine that has been up for a while.
const START: u64 = 1_000_000 * SECOND;
const WANTED: f64 = 10.0;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The connections of the node, numbered in the order they are made.
struct Node {
    feed: Feed,
    /// By process id.
    people: Vec<Arc<Process>>,
}

impl Node {
    /// Events a connection makes.
    fn events(&self) -> u64 {
        if self.feed.opens { 4 } else { 2 }
    }

    /// Connections a second.
    fn rate(&self) -> u64 {
        EVENTS_A_SECOND / self.events()
    }

    fn at(&self, connection: u64) -> u64 {
        START + connection * SECOND / self.rate()
    }

    fn event(&self, kind: Kind, connection: u64, at_ns: u64) -> Event {
        let place = place(connection);
        let tgid = 1 + place.pool * OWNERS_A_POOL + (connection / pools()) % OWNERS_A_POOL;
        Event {
            ts_ns: at_ns,
            kind,
            process: Arc::clone(&self.people[tgid as usize]),
            tid: tgid as u32,
            ownership: Ownership::Seen,
            tuple: Tuple {
                netns: place.netns,
                ifindex: 0,
                mapped: false,
                src: place.local.ip(),
                sport: place.local.port(),
                dst: place.remote.ip(),
                dport: place.remote.port(),
            },
            cookie: Some(connection + 1),
            duration_ns: Some(1_000_000),
            search_ns: Some(650),
            errno: None,
            cause: None,
            closer: Some(Closer::Local),
            direction: Some(Direction::Out),
            state: Some(TcpState::TimeWait),
            end_reason: (kind == Kind::TimeWaitEnd).then_some(EndReason::Early),
            inferred: false,
            bound: false,
            sample: false,
        }
    }

    /// Everything that happens with one connection more: it comes and goes into TIME_WAIT, and
    /// one that did so earlier gives its port back.
    fn step(&self, connection: u64, ledger: &mut Ledger) -> u64 {
        let at_ns = self.at(connection);
        let kinds = [Kind::Opened, Kind::Closed, Kind::TimeWait];
        let kinds = if self.feed.opens {
            &kinds[..]
        } else {
            &kinds[2..]
        };
        let mut events = 0;
        for &kind in kinds {
            ledger.event(&self.event(kind, connection, at_ns));
            events += 1;
        }
        if let Some(old) = connection.checked_sub(WAIT_S * self.rate()) {
            ledger.event(&self.event(Kind::TimeWaitEnd, old, at_ns));
            events += 1;
        }
        events
    }

    /// What the kernel lists of a namespace before `connection` is made.
    fn dump(&self, netns: u64, connection: u64) -> Dump {
        let at_ns = self.at(connection) - 1;
        let first = connection.saturating_sub(WAIT_S * self.rate());
        let here = (netns..pools()).step_by(NAMESPACES as usize);
        let sockets = here.flat_map(|pool| {
            let before = first + (pools() + pool - first % pools()) % pools();
            (before..connection).step_by(pools() as usize).map(|one| {
                let place = place(one);
                Listed {
                    state: TcpState::TimeWait,
                    local: place.local,
                    remote: place.remote,
                    cookie: one + 1,
                    process: None,
                    due_in: None,
                }
            })
        });
        Dump {
            began_ns: at_ns,
            ended_ns: at_ns,
            namespace: Namespace {
                inode: inode(netns),
                name: format!("pod {netns}"),
                range: PortRange {
                    low: 32_768,
                    high: 60_999,
                },
                reserved: 0,
                tw_reuse: None,
                fin_timeout_s: None,
                max_tw_buckets: None,
                conntrack: None,
            },
            sockets: sockets.collect(),
        }
    }
}

struct Place {
    pool: u64,
    netns: u32,
    local: SocketAddr,
    remote: SocketAddr,
}

/// How many pools there are.
fn pools() -> u64 {
    static COUNT: OnceLock<u64> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let mut arguments = std::env::args();
        let given = arguments.find_map(|argument| argument.strip_prefix("--pools=")?.parse().ok());
        given.unwrap_or(POOLS)
    })
}

fn inode(netns: u64) -> u32 {
    4_026_531_840 + netns as u32
}

fn place(connection: u64) -> Place {
    let pool = connection % pools();
    let netns = pool % NAMESPACES;
    let ip = |net: u8, host: u64| IpAddr::from([10, net, (host >> 8) as u8, host as u8]);
    Place {
        pool,
        netns: inode(netns),
        local: SocketAddr::new(
            ip(1, netns),
            (32_768 + connection / pools() % 28_232) as u16,
        ),
        remote: SocketAddr::new(ip(2, pool), 5432),
    }
}

/// The most memory this process had resident, kB.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// Folds the minute; false when a promise was broken.
fn run(name: &str, feed: Feed) -> bool {
    let node = Node {
        feed,
        people: (0..=pools() * OWNERS_A_POOL)
            .map(|tgid| {
                Arc::new(Process {
                    tgid: tgid as u32,
                    start_ns: tgid * 10_000_000,
                    ..Process::default()
                })
            })
            .collect(),
    };
    let mut limits = Limits::new(feed);
    // A node with more is asked what they cost, not how they are left out.
    limits.pools = limits.pools.max(2 * pools() as usize);
    limits.holders = limits.holders.max(2 * (pools() * OWNERS_A_POOL) as usize);
    let mut ledger = Ledger::new(limits);
    let (mut events, mut folding, mut looking) = (0, Duration::ZERO, Duration::ZERO);
    let (mut in_events, mut dumps) = (0, 0);
    let connections = node.rate() * SECONDS;
    let chunk = node.rate() / 50;
    let mut read = 0;
    for begin in (0..connections).step_by(chunk as usize) {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let began = Instant::now();
        for connection in begin..begin + chunk {
            events += node.step(connection, &mut ledger);
        }
        ledger.advance(node.at(begin + chunk));
        folding += began.elapsed();
        // By then every row and every ring is there.
        if begin >= connections / 2 {
            in_events += ALLOCATIONS.load(Ordering::Relaxed) - before;
        }
        let began = Instant::now();
        let ticks = begin / chunk;
        // 50 chunks a second: every namespace comes up every 10 s.
        ledger.dump(&node.dump(ticks % NAMESPACES, begin + chunk));
        dumps += 1;
        if ticks % 50 == 49 {
            read += ledger.pools(node.at(begin + chunk)).len();
        }
        looking += began.elapsed();
    }
    let took = folding + looking;
    let times = SECONDS as f64 / took.as_secs_f64();
    println!(
        "{name}: {} pools, {events} events in {folding:.2?}, {:.0} ns each ({:.1} times faster than real \
         time); with {dumps} dumps and {read} pools read {took:.2?} ({times:.1} times)",
        pools(),
        folding.as_secs_f64() * 1e9 / events as f64,
        SECONDS as f64 / folding.as_secs_f64(),
    );
    println!(
        "{name}: {in_events} allocations in the second half's {} events; at most {} MB resident; \
         {} ports held, {:?}, {:?}",
        events / 2,
        peak_kb() / 1024,
        ledger.used_total(),
        ledger.drift(),
        ledger.evicted(),
    );
    let mut kept = true;
    let mut promise = |is_kept: bool, what: &str| {
        if !is_kept {
            eprintln!("{name}: {what}");
            kept = false;
        }
    };
    // Dumps and reads are as many as somebody asks for; events come unasked.
    promise(
        SECONDS as f64 / folding.as_secs_f64() >= WANTED,
        "not ten times faster than real time",
    );
    promise(
        in_events < events / 10_000,
        "an event costs an allocation, where it must not",
    );
    promise(
        ledger.used_total() == WAIT_S * node.rate(),
        "the ports held are not those of the node",
    );
    promise(ledger.drift() == Drift::default(), "the books drifted");
    promise(ledger.evicted().total() == 0, "not every pool has a row");
    kept
}

fn main() -> ExitCode {
    let feed = |opens| Feed { opens, ends: true };
    // `cargo test` runs benches too, unoptimised: that says nothing about speed.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("skipping the ledger's bench: run it with cargo bench");
        return ExitCode::SUCCESS;
    }
    let kept = [
        run("births and ends", feed(false)),
        run("all events", feed(true)),
    ];
    if kept.iter().all(|&kept| kept) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
