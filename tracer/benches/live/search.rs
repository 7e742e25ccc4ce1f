/*!
The knee: how long connect() takes as the pool it draws on fills up. The kernel looks for a port
among those of one parity first, and from half of the range on these run out.
*/

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::ensure;
use tracer::sandbox::workload::{Connect, Manner, Serve, Work};
use tracer::sandbox::{Pair, SERVER_V4, Settings, Side};

use crate::contender::Contender;
use crate::machine::wait_until_at_rest;
use crate::plot::{Figure, Line};

/// `net.ipv4.ip_local_port_range` by default.
const RANGE: RangeInclusive<u16> = 32_768..=60_999;

/// Longest time it may take to fill a pool.
const LIMIT: Duration = Duration::from_secs(300);

/// Parts of the range that are told apart.
pub(crate) const PARTS: usize = 100;

/// How long connect() took beside one contender, in each part of the range.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// Who watched.
    pub(crate) name: String,
    /// Median of each part, ns.
    pub(crate) median_ns: Vec<u64>,
    /// What one call in a hundred exceeds, ns.
    pub(crate) slowest_ns: Vec<u64>,
}

/// Fills a pool beside each contender in turn, so many times.
///
/// # Errors
/// When a contender or the load fails, or the pool has another number of ports than it should.
pub(crate) fn searches(contenders: &[Contender], rounds: usize) -> anyhow::Result<Vec<Search>> {
    let mut times: Vec<Vec<Vec<u64>>> = vec![vec![Vec::new(); PARTS]; contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let which = (turn + round) % contenders.len();
            for (part, took) in fill(&contenders[which])? {
                times[which][part].push(took);
            }
        }
        eprintln!("port search: round {} of {rounds} is done", round + 1);
    }
    let search = |(contender, mut parts): (&Contender, Vec<Vec<u64>>)| {
        let mut of = |hundredth: usize| {
            parts
                .iter_mut()
                .map(|part| {
                    part.sort_unstable();
                    part.get(part.len() * hundredth / 100)
                        .copied()
                        .unwrap_or_default()
                })
                .collect()
        };
        Search {
            name: contender.name.clone(),
            median_ns: of(50),
            slowest_ns: of(99),
        }
    };
    Ok(contenders.iter().zip(times).map(search).collect())
}

/// Fills one pool, and says in which part of the range each call was and how long it took.
fn fill(contender: &Contender) -> anyhow::Result<Vec<(usize, u64)>> {
    let settings = Settings {
        ports: RANGE,
        ..Settings::default()
    };
    let pair = Pair::create(&settings)?;
    let program = std::env::current_exe()?;
    let at = SocketAddr::new(SERVER_V4.into(), 7000);
    let serve = Work::Serve(Serve {
        at: vec![at],
        manner: Manner::Echo,
    });
    let _server = pair.spawn(Side::Server, &program, "server", &serve)?;
    let connect = Connect::new(at, u64::MAX).stop_after(1).list_times();
    let mut client = pair.spawn(Side::Client, &program, "client", &Work::Connect(connect))?;
    let watching = contender.start(None)?;
    wait_until_at_rest()?;
    let report = client.finish(LIMIT)?;
    watching.stop()?;
    let times = report.times_ns;
    ensure!(
        times.len() == RANGE.len(),
        "{} ports of {} were found",
        times.len(),
        RANGE.len()
    );
    let part = |(index, took)| (index * PARTS / RANGE.len(), took);
    Ok(times.into_iter().enumerate().map(part).collect())
}

/// The figure of what was measured.
pub(crate) fn figures(searches: &[Search]) -> Vec<Figure> {
    let line = |name: &str, times: &[u64]| Line {
        name: name.to_owned(),
        points: times
            .iter()
            .enumerate()
            .map(|(part, &ns)| (part as f64 + 0.5, ns as f64 / 1e3))
            .collect(),
        marked: false,
    };
    let lines = searches.iter().flat_map(|search| {
        [
            line(&format!("{}, median", search.name), &search.median_ns),
            line(
                &format!("{}, one in a hundred", search.name),
                &search.slowest_ns,
            ),
        ]
    });
    vec![Figure {
        title: "connect() while a pool of the default range fills up".to_owned(),
        x: ("ports of the pool in use, %", false),
        y: "µs",
        lines: lines.collect(),
    }]
}
