/*! One JSON object a line, schema 1. */

mod line;
mod pool;
mod quick;
mod socket;
mod verdict;

use std::io;
use std::sync::Arc;

use foldhash::HashSet;
use serde::Serialize;

use self::line::Time;
use self::pool::PoolLine;
use self::quick::Quick;
use self::socket::{Line, Names};
use self::verdict::VerdictLine;
use super::news::News;
use super::{Summary, View};
use crate::diagnosis::Verdict;
use crate::event::{Event, Kind};
use crate::host::process::Identity;
use crate::ledger::pool::{Pool, PoolId};
use crate::source::{About, Failure, Loss, Lost};
use crate::stream::books::Shortfall;
use crate::stream::tally::Totals;

const SCHEMA: u32 = 1;

/// Least time between `verdict` lines, ns.
const VERDICT_GAP_NS: u64 = 1_000_000_000;

/// Time between `pool` lines of the pools that have a verdict, ns.
const POOL_EVERY_NS: u64 = 10_000_000_000;

/// Renders JSON lines.
#[derive(Debug)]
pub struct Json {
    clock_offset_ns: i64,
    quick: Quick,
    news: News,
    next_pools_ns: u64,
}

impl Json {
    /// For a source with this clock.
    pub fn new(about: &About) -> Self {
        Self {
            clock_offset_ns: about.clock_offset_ns,
            quick: Quick::default(),
            news: News::new(VERDICT_GAP_NS),
            next_pools_ns: 0,
        }
    }

    /// Writes a `pool` line for each, as they stand at `now_ns` (`CLOCK_MONOTONIC`).
    ///
    /// # Errors
    /// Those of `out`.
    pub fn pools<'a>(
        &self,
        pools: impl IntoIterator<Item = &'a Pool>,
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        pools
            .into_iter()
            .try_for_each(|pool| line::write(&PoolLine::of(pool, now_ns, self), out))
    }

    fn time(&self, monotonic_ns: u64) -> Time {
        Time(i128::from(monotonic_ns) + i128::from(self.clock_offset_ns))
    }
}

impl View for Json {
    fn event(&mut self, event: &Event, who: &Arc<Identity>, out: &mut Vec<u8>) -> io::Result<()> {
        let time = self.time(event.ts_ns);
        self.quick.event(event, &time, who, out)
    }

    fn failure(
        &mut self,
        failure: &Failure,
        who: &Arc<Identity>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let first = &failure.first;
        let names = Names::of(&first.owner);
        let mut line = Line::of(first, self.time(failure.last_ns), who, &names);
        line.count = Some(failure.count);
        let search_ns = failure.search_sum_ns.checked_div(failure.count);
        line.search_ns = search_ns.filter(|&mean| mean != 0);
        // One source port and one socket do not stand for many; a bind() asked for its port each time.
        if !failure.fresh || failure.count > 1 {
            line.cookie = None;
            line.sport = line.sport.filter(|_| first.kind == Kind::BindFailed);
        }
        line::write(&line, out)
    }

    fn tick(&mut self, _now_ns: u64, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn loss(&mut self, now_ns: u64, loss: &Loss, out: &mut Vec<u8>) -> io::Result<()> {
        let line = LossLine {
            schema: SCHEMA,
            r#type: "loss",
            ts: self.time(now_ns),
            lost: loss.lost,
        };
        line::write(&line, out)
    }

    /// `verdict` lines when one is news, `pool` lines of their pools every 10 s, where
    /// they are of one pool; at the end all verdicts and all pools.
    fn verdicts(
        &mut self,
        now_ns: u64,
        pools: &[Pool],
        verdicts: &[Verdict],
        last: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let due = if last {
            verdicts.iter().collect()
        } else {
            self.news.of(verdicts, now_ns)
        };
        for verdict in due {
            line::write(&VerdictLine::of(verdict, now_ns, self), out)?;
        }
        if last {
            return self.pools(pools, now_ns, out);
        }
        if now_ns < self.next_pools_ns || verdicts.is_empty() {
            return Ok(());
        }
        self.next_pools_ns = now_ns.saturating_add(POOL_EVERY_NS);
        let judged: HashSet<PoolId> = verdicts.iter().map(|verdict| verdict.pool).collect();
        let judged = pools.iter().filter(|pool| judged.contains(&pool.id));
        self.pools(judged, now_ns, out)
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, summary: &Summary, out: &mut Vec<u8>) -> io::Result<()> {
        let loss = &summary.loss;
        let line = SummaryLine {
            schema: SCHEMA,
            r#type: "summary",
            ts: self.time(summary.end_ns),
            duration_ns: summary.duration_ns,
            events: summary.totals,
            lost: loss.lost,
            recursion: Recursion {
                skipped: loss.recursion_skipped,
                rescued: loss.recursion_rescued,
            },
            samples_skipped: loss.samples_skipped,
            failures_full: loss.failures_full,
            shortfall: summary.shortfall,
            about: &summary.about,
        };
        line::write(&line, out)
    }
}

#[derive(Serialize)]
struct LossLine {
    schema: u32,
    r#type: &'static str,
    ts: Time,
    lost: Lost,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    schema: u32,
    r#type: &'static str,
    ts: Time,
    duration_ns: u64,
    events: Totals,
    lost: Lost,
    recursion: Recursion,
    samples_skipped: u64,
    failures_full: u64,
    #[serde(flatten)]
    shortfall: Shortfall,
    #[serde(flatten)]
    about: &'a About,
}

#[derive(Serialize)]
struct Recursion {
    skipped: u64,
    rescued: u64,
}

#[cfg(test)]
mod tests;
