/*! One JSON object a line, schema 1. */

mod line;
mod pool;
mod quick;
mod socket;
mod verdict;

use std::collections::BTreeMap;
use std::io;

use foldhash::HashSet;
use serde::Serialize;

use self::line::Time;
use self::pool::PoolLine;
use self::quick::Quick;
use self::socket::{Line, Names};
use self::verdict::VerdictLine;
use super::news::News;
use super::{Frames, Judging, View};
use crate::diagnosis::Verdict;
use crate::model::{About, Event, Failure, Kind, Lost, Pool, PoolId, Shortfall};
use crate::state::{State, Totals};

const SCHEMA: u32 = 1;

/// Least time between `verdict` lines, ns.
const VERDICT_GAP_NS: u64 = 1_000_000_000;

/// Time between `pool` lines of the pools that have a verdict, ns.
const POOL_EVERY_NS: u64 = 10_000_000_000;

/// Renders JSON lines.
#[derive(Debug)]
pub struct Json {
    clock_offset_ns: i64,
    judging: Judging,
    quick: Quick,
    news: News,
    next_pools_ns: u64,
    /// The judgement that was looked at last.
    seen: u64,
    /// What was lost when that was said last; `None` while no stream is shown.
    told: Option<Lost>,
}

impl Json {
    /// For a source with this clock.
    pub fn new(about: &About) -> Self {
        Self {
            clock_offset_ns: about.clock_offset_ns,
            judging: Judging::default(),
            quick: Quick::default(),
            news: News::new(VERDICT_GAP_NS),
            next_pools_ns: 0,
            seen: 0,
            told: None,
        }
    }

    /// The same with pools and verdicts at other times.
    #[must_use]
    pub fn judging(self, judging: Judging) -> Self {
        Self { judging, ..self }
    }

    /// A `pool` line for each.
    fn pools<'a>(
        &self,
        pools: impl IntoIterator<Item = &'a Pool>,
        now_ns: u64,
        out: &mut Frames,
    ) -> io::Result<()> {
        pools
            .into_iter()
            .try_for_each(|pool| out.add(|out| line::write(&PoolLine::of(pool, now_ns, self), out)))
    }

    fn verdict(&self, verdict: &Verdict, now_ns: u64, out: &mut Frames) -> io::Result<()> {
        out.add(|out| line::write(&VerdictLine::of(verdict, now_ns, self), out))
    }

    /// `verdict` lines when one is news, `pool` lines of their pools every 10 s, where they are of
    /// one pool.
    fn news(&mut self, state: &State, out: &mut Frames) -> io::Result<()> {
        let now_ns = state.now_ns;
        for verdict in self.news.of(&state.verdicts, now_ns) {
            self.verdict(verdict, now_ns, out)?;
        }
        if now_ns < self.next_pools_ns || state.verdicts.is_empty() {
            return Ok(());
        }
        self.next_pools_ns = now_ns.saturating_add(POOL_EVERY_NS);
        let judged: HashSet<PoolId> = state.verdicts.iter().map(|verdict| verdict.pool).collect();
        let judged = state.pools.iter().filter(|pool| judged.contains(&pool.id));
        self.pools(judged, now_ns, out)
    }

    fn loss(&self, state: &State, out: &mut Vec<u8>) -> io::Result<()> {
        let line = LossLine {
            schema: SCHEMA,
            r#type: "loss",
            ts: self.time(state.now_ns),
            lost: state.losses.lost,
        };
        line::write(&line, out)
    }

    fn last(&self, state: &State, out: &mut Vec<u8>) -> io::Result<()> {
        let loss = &state.losses;
        let line = SummaryLine {
            schema: SCHEMA,
            r#type: "summary",
            ts: self.time(state.now_ns),
            duration_ns: state.duration_ns(),
            events: state.totals.totals(),
            lost: loss.lost,
            recursion: Recursion {
                skipped: loss.recursion_skipped,
                rescued: loss.recursion_rescued,
            },
            samples_skipped: loss.samples_skipped,
            failures_full: loss.failures_full,
            shortfall: state.shortfall,
            kernel: &state.about.kernel,
            backend: &state.about.backend,
        };
        line::write(&line, out)
    }

    fn time(&self, monotonic_ns: u64) -> Time {
        Time(i128::from(monotonic_ns) + i128::from(self.clock_offset_ns))
    }
}

impl View for Json {
    fn event(&mut self, event: &Event, out: &mut Frames) -> io::Result<()> {
        let time = self.time(event.ts_ns);
        out.add(|out| self.quick.event(event, &time, out))
    }

    fn failure(&mut self, failure: &Failure, out: &mut Frames) -> io::Result<()> {
        let first = &failure.first;
        let names = Names::of(&first.process);
        let mut line = Line::of(first, self.time(failure.last_ns), &names);
        line.count = Some(failure.count);
        let search_ns = failure.search_sum_ns.checked_div(failure.count);
        line.search_ns = search_ns.filter(|&mean| mean != 0);
        // One source port and one socket do not stand for many; a bind() asked for its port each time.
        if !failure.fresh || failure.count > 1 {
            line.cookie = None;
            line.sport = line.sport.filter(|_| first.kind == Kind::BindFailed);
        }
        out.add(|out| line::write(&line, out))
    }

    fn look(&mut self, state: &State, out: &mut Frames) -> io::Result<()> {
        if state.judgements != self.seen && self.judging == Judging::Stream {
            self.seen = state.judgements;
            self.news(state, out)?;
        }
        let told = self.told.get_or_insert_default();
        let lost = state.losses.lost;
        // Where there is no room for it, it is said again later.
        if lost.total() > told.total() && out.add_if_room(|out| self.loss(state, out))? {
            self.told = Some(lost);
        }
        Ok(())
    }

    fn end(&mut self, state: &State, out: &mut Frames) -> io::Result<()> {
        let now_ns = state.now_ns;
        if self.judging != Judging::Never {
            for verdict in &state.verdicts {
                self.verdict(verdict, now_ns, out)?;
            }
            self.pools(&state.pools, now_ns, out)?;
        }
        Ok(())
    }

    fn summary(&mut self, state: &State, out: &mut Frames) -> io::Result<()> {
        let lost = state.losses.lost.total();
        if self.told.is_some_and(|told| lost > told.total()) {
            out.add(|out| self.loss(state, out))?;
        }
        out.add(|out| self.last(state, out))
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
    kernel: &'a str,
    backend: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Recursion {
    skipped: u64,
    rescued: u64,
}

#[cfg(test)]
mod tests;
