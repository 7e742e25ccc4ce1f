/*! Text for people under load: aligned columns, one line a burst, the process first. */

pub(super) mod columns;
mod summary;

use std::io::{self, Write as _};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) use self::columns::grouped;
pub use self::summary::seen_with;

use self::columns::{Colour, Columns, arrow, span, who};
use super::news::News;
use super::{Page, Summary, View, escape, pools, verdict};
use crate::diagnosis::Verdict;
use crate::event::{Closer, Event, Kind, Ownership, TcpState};
use crate::host::process::Identity;
use crate::ledger::pool::Pool;
use crate::source::{Failure, Loss};
use crate::stream::fold::{Burst, Fold};

/// Least time between verdicts in the stream, ns.
const VERDICT_GAP_NS: u64 = 3_000_000_000;

/// Pools in the table at the end, where nothing is wrong with any.
const POOLS: usize = 5;

/// How to show it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Columns of the terminal; `None` shortens nothing.
    pub width: Option<usize>,
    /// Whether to colour.
    pub colour: bool,
    /// A line for every event, instead of one a second for those that are alike.
    pub each: bool,
    /// Whether to show how TIME_WAITs end.
    pub ends: bool,
    /// Zone of the times shown.
    pub zone: TimeZone,
}

/// Renders text.
#[derive(Debug)]
pub struct Text {
    options: Options,
    clock_offset_ns: i64,
    fold: Fold,
    now_ns: u64,
    columns: Columns,
    news: News,
}

impl Text {
    /// For a source whose clock is `clock_offset_ns` behind the calendar.
    pub fn new(options: Options, clock_offset_ns: i64) -> Self {
        Self {
            columns: Columns::new(options.width, options.colour),
            options,
            clock_offset_ns,
            fold: Fold::default(),
            now_ns: 0,
            news: News::new(VERDICT_GAP_NS),
        }
    }

    fn take(&mut self, burst: &Burst, out: &mut Vec<u8>) -> io::Result<()> {
        if self.options.each {
            return self.burst(burst, out);
        }
        self.fold.add(burst, self.now_ns);
        // Returns something before its time only when the window holds all it may.
        let due = self.fold.due(self.now_ns);
        self.bursts(&due, out)
    }

    fn bursts(&mut self, bursts: &[Burst], out: &mut Vec<u8>) -> io::Result<()> {
        bursts.iter().try_for_each(|burst| self.burst(burst, out))
    }

    fn burst(&mut self, burst: &Burst, out: &mut Vec<u8>) -> io::Result<()> {
        let (what, colour) = what(burst);
        let count = if burst.count > 1 {
            format!("\u{d7}{}", grouped(burst.count))
        } else {
            String::new()
        };
        let time = self.time(burst.since_ns);
        let place = arrow(&burst.place);
        let detail = detail(burst);
        self.columns.line(
            [&time, &who(&burst.first), &what, &count, &place, &detail],
            colour,
            out,
        )
    }

    fn time(&self, monotonic_ns: u64) -> String {
        let ns = i128::from(monotonic_ns) + i128::from(self.clock_offset_ns);
        let format = if self.options.each {
            "%H:%M:%S.%3f"
        } else {
            "%H:%M:%S"
        };
        Timestamp::from_nanosecond(ns).map_or_else(
            |_| format!("{ns}ns"),
            |time| {
                let local = time.to_zoned(self.options.zone.clone());
                local.strftime(format).to_string()
            },
        )
    }
}

impl View for Text {
    fn event(&mut self, event: &Event, who: &Arc<Identity>, out: &mut Vec<u8>) -> io::Result<()> {
        if event.kind == Kind::TimeWaitEnd && !self.options.ends {
            return Ok(());
        }
        self.take(&Burst::event(event, who), out)
    }

    fn failure(
        &mut self,
        failure: &Failure,
        who: &Arc<Identity>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.take(&Burst::failure(failure, who), out)
    }

    fn tick(&mut self, now_ns: u64, out: &mut Vec<u8>) -> io::Result<()> {
        self.now_ns = now_ns;
        let due = self.fold.due(now_ns);
        self.bursts(&due, out)
    }

    fn loss(&mut self, now_ns: u64, loss: &Loss, out: &mut Vec<u8>) -> io::Result<()> {
        let reasons = summary::reasons(&loss.lost);
        let time = self.time(now_ns);
        let style = self.columns.style(Colour::Bad);
        writeln!(out, "{time} {style}lost so far: {reasons}{style:#}")
    }

    /// News in two or three lines each, at most every 3 s; at the end the verdicts in full, or the
    /// fullest pools where there is nothing to judge.
    fn verdicts(
        &mut self,
        now_ns: u64,
        pools: &[Pool],
        verdicts: &[Verdict],
        last: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let page = Page {
            width: self.options.width,
            colour: self.options.colour,
        };
        if !last {
            let news = self.news.of(verdicts, now_ns);
            let (told, rest) = news.split_at(news.len().min(verdict::IN_FULL));
            for one in told {
                verdict::compact(one, now_ns, &self.time(now_ns), &page, out)?;
            }
            return verdict::more(rest.len(), "verdicts", out);
        }
        if !verdicts.is_empty() {
            verdict::write(verdicts, now_ns, &page, out)?;
            out.push(b'\n');
        } else if !pools.is_empty() {
            pools::write(pools, |_| None, POOLS, now_ns, &page, out)?;
            out.push(b'\n');
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let rest = self.fold.rest();
        self.bursts(&rest, out)
    }

    fn summary(&mut self, summary: &Summary, out: &mut Vec<u8>) -> io::Result<()> {
        summary::write(summary, &self.columns, out)
    }
}

/// The word of a burst, and its colour.
fn what(burst: &Burst) -> (String, Colour) {
    let fact = &burst.fact;
    match fact.kind {
        Kind::ConnectFailed | Kind::BindFailed => {
            let errno = fact.errno.map_or_else(
                || fact.kind.name().to_owned(),
                |errno| errno.name().into_owned(),
            );
            (errno, Colour::Bad)
        }
        Kind::TimeWait => {
            let state = if burst.fin_wait2 == burst.count {
                TcpState::FinWait2
            } else {
                TcpState::TimeWait
            };
            (state.name().to_owned(), Colour::Notable)
        }
        Kind::TimeWaitEnd => ("freed".to_owned(), Colour::Plain),
        Kind::Opened => ("opened".to_owned(), Colour::Good),
        Kind::Closed => ("closed".to_owned(), Colour::Plain),
    }
}

/// What the columns leave open, the most telling first.
fn detail(burst: &Burst) -> String {
    let fact = &burst.fact;
    let first = &burst.first;
    let mut parts = Vec::new();
    if let Some(cause) = fact.cause {
        parts.push(cause.name().to_owned());
    }
    match fact.kind {
        Kind::TimeWait | Kind::Closed => {
            let mean = if burst.durations > 1 { "mean " } else { "" };
            if let Some(lived) = burst.mean_duration_ns() {
                parts.push(format!("lived {mean}{}", span(lived)));
            }
            if (1..burst.count).contains(&burst.fin_wait2) {
                parts.push(format!("{} in FIN_WAIT2", grouped(burst.fin_wait2)));
            }
        }
        Kind::TimeWaitEnd => {
            let state = fact.state.unwrap_or(TcpState::TimeWait).name();
            let how = fact.end_reason.map_or("", crate::event::EndReason::name);
            parts.push(format!("{state} {how}").trim_end().to_owned());
        }
        Kind::Opened | Kind::ConnectFailed | Kind::BindFailed => {}
    }
    match fact.closer {
        Some(Closer::Reset) => parts.push("reset".to_owned()),
        Some(closer) => parts.push(format!("closed by {}", closer.name())),
        None => {}
    }
    let outbound = matches!(burst.place, crate::stream::place::Place::Pool { .. });
    if outbound && burst.alone && first.tuple.sport != 0 {
        parts.push(format!(
            "from {}",
            columns::endpoint(first.tuple.src, first.tuple.sport)
        ));
    } else if outbound && !first.tuple.src.is_unspecified() {
        parts.push(format!("from {}", first.tuple.src));
    }
    let known = fact.ownership != Ownership::Unknown;
    if known && burst.alone && first.owner.thread != first.owner.comm {
        let thread = escape::terminal(first.owner.thread.bytes());
        parts.push(format!("thread {thread}"));
    }
    if fact.ownership == Ownership::AtClose {
        parts.push("owner at close".to_owned());
    }
    if fact.inferred {
        parts.push("inferred".to_owned());
    }
    if let Some(container) = &burst.who.container {
        // Twelve digits are what the runtimes' own tools print.
        let id: String = container.chars().take(12).collect();
        parts.push(format!("container {}", escape::terminal(id.as_bytes())));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests;
