/*! One JSON object a line, schema 1. */

mod line;
mod quick;
mod socket;

use std::io;
use std::sync::Arc;

use serde::Serialize;

use self::line::Time;
use self::quick::Quick;
use self::socket::{Line, Names};
use super::{Summary, View};
use crate::event::{Event, Kind};
use crate::host::process::Identity;
use crate::source::{About, Failure, Loss, Lost};
use crate::stream::tally::Totals;

const SCHEMA: u32 = 1;

/// Renders JSON lines.
#[derive(Debug)]
pub struct Json {
    clock_offset_ns: i64,
    quick: Quick,
}

impl Json {
    /// For a source with this clock.
    pub fn new(about: &About) -> Self {
        Self {
            clock_offset_ns: about.clock_offset_ns,
            quick: Quick::default(),
        }
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
    about: &'a About,
}

#[derive(Serialize)]
struct Recursion {
    skipped: u64,
    rescued: u64,
}

#[cfg(test)]
mod tests;
