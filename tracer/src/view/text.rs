/*! Text for people under load: aligned columns, one line a burst, the process first. */

pub(super) mod columns;
mod summary;

use std::io::{self, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) use self::columns::grouped;
pub use self::summary::seen_with;

use self::columns::{Colour, Columns, arrow, span, who};
use super::burst::{Burst, Fold};
use super::news::News;
use super::{Frames, Judging, Page, View, escape, pools, verdict};
use crate::model::{Closer, Event, Failure, Kind, Lost, Ownership, Place, TcpState};
use crate::state::State;

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
    /// When pools and verdicts are shown.
    pub judging: Judging,
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
    /// The judgement that was looked at last.
    seen: u64,
    /// What was lost when that was said last; `None` while no stream is shown.
    told: Option<Lost>,
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
            seen: 0,
            told: None,
        }
    }

    fn take(&mut self, burst: &Burst, out: &mut Frames) -> io::Result<()> {
        if self.options.each {
            return self.burst(burst, out);
        }
        self.fold.add(burst, self.now_ns);
        // Returns something before its time only when the window holds all it may.
        let due = self.fold.due(self.now_ns);
        self.bursts(&due, out)
    }

    fn bursts(&mut self, bursts: &[Burst], out: &mut Frames) -> io::Result<()> {
        bursts.iter().try_for_each(|burst| self.burst(burst, out))
    }

    fn burst(&mut self, burst: &Burst, out: &mut Frames) -> io::Result<()> {
        let (what, colour) = what(burst);
        let count = if burst.count > 1 {
            format!("\u{d7}{}", grouped(burst.count))
        } else {
            String::new()
        };
        let time = self.time(burst.since_ns);
        let place = arrow(&burst.place);
        let detail = detail(burst);
        out.add(|out| {
            self.columns.line(
                [&time, &who(&burst.first), &what, &count, &place, &detail],
                colour,
                out,
            )
        })
    }

    fn page(&self) -> Page {
        Page {
            width: self.options.width,
            colour: self.options.colour,
        }
    }

    /// News in two or three lines each, at most every 3 s.
    fn news(&mut self, state: &State, out: &mut Frames) -> io::Result<()> {
        let now_ns = state.now_ns;
        let page = self.page();
        let news = self.news.of(&state.verdicts, now_ns);
        let (told, rest) = news.split_at(news.len().min(verdict::IN_FULL));
        for one in told {
            let time = self.time(now_ns);
            out.add(|out| verdict::compact(one, now_ns, &time, &page, out))?;
        }
        out.add(|out| verdict::more(rest.len(), "verdicts", out))
    }

    /// The verdicts in full, or the fullest pools where there is nothing to judge.
    fn judgement(&self, state: &State, out: &mut Vec<u8>) -> io::Result<()> {
        let (page, now_ns) = (self.page(), state.now_ns);
        if !state.verdicts.is_empty() {
            verdict::write(&state.verdicts, now_ns, &page, out)?;
            out.push(b'\n');
        } else if !state.pools.is_empty() {
            pools::write(&state.pools, |_| None, POOLS, now_ns, &page, out)?;
            out.push(b'\n');
        }
        Ok(())
    }

    fn loss(&self, state: &State, out: &mut Vec<u8>) -> io::Result<()> {
        let reasons = summary::reasons(&state.losses.lost);
        let time = self.time(state.now_ns);
        let style = self.columns.style(Colour::Bad);
        writeln!(out, "{time} {style}lost so far: {reasons}{style:#}")
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
    fn event(&mut self, event: &Event, out: &mut Frames) -> io::Result<()> {
        if event.kind == Kind::TimeWaitEnd && !self.options.ends {
            return Ok(());
        }
        self.take(&Burst::event(event), out)
    }

    fn failure(&mut self, failure: &Failure, out: &mut Frames) -> io::Result<()> {
        self.take(&Burst::failure(failure), out)
    }

    fn look(&mut self, state: &State, out: &mut Frames) -> io::Result<()> {
        self.now_ns = state.now_ns;
        let due = self.fold.due(self.now_ns);
        self.bursts(&due, out)?;
        if state.judgements != self.seen && self.options.judging == Judging::Stream {
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

    fn due_ns(&self) -> Option<u64> {
        self.fold.due_ns()
    }

    fn end(&mut self, state: &State, out: &mut Frames) -> io::Result<()> {
        self.now_ns = state.now_ns;
        let rest = self.fold.rest();
        self.bursts(&rest, out)?;
        if self.options.judging != Judging::Never {
            out.add(|out| self.judgement(state, out))?;
        }
        Ok(())
    }

    fn summary(&mut self, state: &State, out: &mut Frames) -> io::Result<()> {
        let lost = state.losses.lost.total();
        if self.told.is_some_and(|told| lost > told.total()) {
            out.add(|out| self.loss(state, out))?;
        }
        out.add(|out| summary::write(state, &self.columns, out))
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
            let how = fact.end_reason.map_or("", crate::model::EndReason::name);
            parts.push(format!("{state} {how}").trim_end().to_owned());
        }
        Kind::Opened | Kind::ConnectFailed | Kind::BindFailed => {}
    }
    match fact.closer {
        Some(Closer::Reset) => parts.push("reset".to_owned()),
        Some(closer) => parts.push(format!("closed by {}", closer.name())),
        None => {}
    }
    let outbound = matches!(burst.place, Place::Pool { .. });
    if outbound && burst.alone && first.tuple.sport != 0 {
        parts.push(format!(
            "from {}",
            columns::endpoint(first.tuple.src, first.tuple.sport)
        ));
    } else if outbound && !first.tuple.src.is_unspecified() {
        parts.push(format!("from {}", first.tuple.src));
    }
    let known = fact.ownership != Ownership::Unknown;
    if known && burst.alone && first.process.thread != first.process.comm {
        let thread = escape::terminal(first.process.thread.bytes());
        parts.push(format!("thread {thread}"));
    }
    if fact.ownership == Ownership::AtClose {
        parts.push("owner at close".to_owned());
    }
    if fact.inferred {
        parts.push("inferred".to_owned());
    }
    if let Some(container) = &burst.first.process.container {
        // Twelve digits are what the runtimes' own tools print.
        let id: String = container.chars().take(12).collect();
        parts.push(format!("container {}", escape::terminal(id.as_bytes())));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests;
