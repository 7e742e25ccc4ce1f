/*!
What is foretold from a quarter full on, against what then happens, in a
simulated namespace with 1,000 ports: ports are taken and given back as the
kernel does it, the ledger gets the events and a dump every second.
*/

use std::collections::{BTreeMap, VecDeque};

use super::scene::{ALL, MS, SECOND, START, WATCH, dump, event, ledger, listed, pool, tell};
use crate::ledger::{Feed, Ledger};
use crate::model::{Event, Kind, Pool, TcpState};

const PORTS: usize = 1_000;

/// What a program does with its connections.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Connections a second that are closed after 5 ms.
    churn: f64,
    /// Connections a second that are never closed.
    leak: f64,
    /// Whether they come at random instants instead of evenly.
    random: bool,
}

/// The kernel's side: which port is in which state, and until when.
struct Kernel {
    free: Vec<u16>,
    /// By the instant it leaves.
    waits: VecDeque<(u64, u16)>,
    open: BTreeMap<u16, u64>,
    closing: VecDeque<(u64, u16)>,
    seed: u64,
}

impl Kernel {
    fn new() -> Self {
        Self {
            free: (32_000..33_000).collect(),
            waits: VecDeque::new(),
            open: BTreeMap::new(),
            closing: VecDeque::new(),
            seed: 42,
        }
    }

    fn random(&mut self) -> f64 {
        // Knuth's linear congruential generator: the same events in every run.
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.seed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Time to the next of events that come `rate` times a second.
    fn gap(&mut self, rate: f64, random: bool) -> u64 {
        let mean = 1e9 / rate;
        let gap = if random {
            -self.random().ln() * mean
        } else {
            mean
        };
        gap as u64
    }

    fn settle(&mut self, now_ns: u64, ledger: &mut Ledger, feed: Feed) {
        while let Some(&(at, port)) = self.closing.front()
            && at <= now_ns
        {
            self.closing.pop_front();
            let opened = self.open.remove(&port).unwrap();
            let mut birth = event(Kind::TimeWait, at, 1, port, 80);
            birth.duration_ns = Some(at - opened);
            if feed.opens {
                tell(
                    ledger,
                    &Event {
                        kind: Kind::Closed,
                        ..birth.clone()
                    },
                );
            }
            tell(ledger, &birth);
            self.waits.push_back((at + 60 * SECOND, port));
        }
        while let Some(&(at, port)) = self.waits.front()
            && at <= now_ns
        {
            self.waits.pop_front();
            self.free.push(port);
            if feed.ends {
                tell(ledger, &event(Kind::TimeWaitEnd, at, 1, port, 80));
            }
        }
    }

    /// False when there is no port.
    fn connect(&mut self, now_ns: u64, stays: bool, ledger: &mut Ledger, feed: Feed) -> bool {
        let Some(port) = self.free.pop() else {
            tell(ledger, &event(Kind::ConnectFailed, now_ns, 1, 0, 80));
            return false;
        };
        self.open.insert(port, now_ns);
        if feed.opens {
            tell(ledger, &event(Kind::Opened, now_ns + MS, 1, port, 80));
        }
        if !stays {
            self.closing.push_back((now_ns + 5 * MS, port));
        }
        true
    }

    fn look(&self, now_ns: u64, ledger: &mut Ledger) {
        let open = self.open.keys();
        let open = open.map(|&port| listed(TcpState::Established, Some(1), port, 80));
        let waits = self.waits.iter();
        let waits = waits.map(|&(_, port)| listed(TcpState::TimeWait, None, port, 80));
        let mut look = dump(now_ns, open.chain(waits).collect());
        look.began_ns = now_ns;
        ledger.dump(&look);
    }
}

/// Runs `load` for at most `seconds`, until the first connect() fails; the first two seconds are
/// quiet. The second is how many seconds the pool took to run dry from a quarter full on.
fn run(load: Load, feed: Feed, seconds: u64) -> (Pool, Option<f64>) {
    let mut ledger = ledger(feed);
    let mut kernel = Kernel::new();
    let begin = START + 2 * SECOND;
    let mut next = [load.churn, load.leak].map(|rate| if rate > 0.0 { begin } else { u64::MAX });
    let mut quarter = None;
    let mut tick = START;
    while tick < START + seconds * SECOND {
        kernel.settle(tick, &mut ledger, feed);
        for (which, rate) in [load.churn, load.leak].into_iter().enumerate() {
            while next[which] < tick {
                let at = next[which];
                kernel.settle(at, &mut ledger, feed);
                if !kernel.connect(at, which == 1, &mut ledger, feed) {
                    ledger.advance(at);
                    let took = (at - quarter.unwrap_or(at)) as f64 / 1e9;
                    return (pool(&ledger, at, 80), Some(took));
                }
                if quarter.is_none() && PORTS - kernel.free.len() >= PORTS / 4 {
                    quarter = Some(at);
                }
                next[which] += kernel.gap(rate, load.random).max(1);
            }
        }
        if (tick - START) % SECOND < 10 * MS {
            kernel.look(tick, &mut ledger);
        }
        ledger.advance(tick);
        tick += 10 * MS;
    }
    (pool(&ledger, tick, 80), None)
}

/// Asserts that `load` runs dry, and was foretold to within a fifth of the time there was.
fn foretold(load: Load, feed: Feed) {
    let (pool, took) = run(load, feed, 400);
    let what = format!("{load:?} {feed:?}");
    let took = took.unwrap_or_else(|| panic!("{what} never ran dry: {pool:?}"));
    let told = pool
        .foretold
        .unwrap_or_else(|| panic!("{what}: nothing was foretold"));
    let off = told
        .off_s()
        .unwrap_or_else(|| panic!("{what}: no end was foretold: {told:?}"));
    let had = (told.dry_ns - told.forecast.made_ns) as f64 / 1e9;
    assert!(
        off.abs() <= 0.2 * had,
        "{what}: off by {off:.1} s of {had:.1} s: {told:?}"
    );
    assert!(
        told.used >= 250 && had >= 0.8 * took,
        "{what}: foretold {had:.1} s before, of {took:.1} s from a quarter full: {told:?}"
    );
}

const FEEDS: [Feed; 3] = [
    WATCH,
    ALL,
    Feed {
        opens: false,
        ends: false,
    },
];

fn each(loads: impl Iterator<Item = (f64, f64)> + Clone) {
    for feed in FEEDS {
        for random in [false, true] {
            for (churn, leak) in loads.clone() {
                foretold(
                    Load {
                        churn,
                        leak,
                        random,
                    },
                    feed,
                );
            }
        }
    }
}

#[test]
fn steady_churn_is_foretold() {
    each(
        [20.0, 25.0, 33.0, 50.0, 71.0, 100.0]
            .into_iter()
            .map(|rate| (rate, 0.0)),
    );
}

#[test]
fn a_leak_is_foretold() {
    each(
        [5.0, 8.0, 13.0, 20.0, 35.0, 50.0]
            .into_iter()
            .map(|rate| (0.0, rate)),
    );
}

#[test]
fn a_leak_beside_churn_is_foretold() {
    each([(8.0, 5.0), (30.0, 10.0)].into_iter());
}

#[test]
fn churn_below_the_ceiling_never_ends_and_is_never_said_to() {
    for feed in FEEDS {
        for random in [false, true] {
            let load = Load {
                churn: 10.0,
                leak: 0.0,
                random,
            };
            let (pool, dry) = run(load, feed, 200);
            assert_eq!(dry, None);
            assert!((500..700).contains(&pool.used()), "{}", pool.used());
            let forecast = pool.forecast.unwrap();
            assert_eq!(forecast.dry_in_s, None, "{load:?} {feed:?} {forecast:?}");
            let level = forecast.settles_at.unwrap();
            assert!((level - 600.0).abs() < 90.0, "{load:?} {feed:?} {level}");
        }
    }
}
