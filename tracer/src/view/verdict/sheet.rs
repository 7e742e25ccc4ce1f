/*! One verdict in full: labels at the left, facts beside them, lines to type near the edge. */

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::sentences::{bar, foretold, gives, rates, settles};
use super::{LEAST_COLUMNS, colour, inside};
use crate::diagnosis::{Kind, Remedy, Verdict};
use crate::model::{Failed, Holder, OwnerId};
use crate::view::text::columns::{Colour, Keep, grouped, shorten, style};
use crate::view::words::{dry_in_s, headline, level, place, process, rate, seconds, states};
use crate::view::{Page, escape};

/// Culprits, and victims, that are named; the others are counted.
const NAMED: usize = 3;

/// Columns where the facts begin, after their label.
const INDENT: usize = 12;

/// Columns where lines to type begin: near the edge, since they are never broken.
const TYPED: usize = 4;

/// Columns of a page whose width is not known, as in a file.
const COLUMNS: usize = 100;

/// Columns beyond which sentences are hard to read.
const MOST_COLUMNS: usize = 120;

/// One box being written.
pub(super) struct Sheet<'a, W> {
    page: &'a Page,
    width: usize,
    out: &'a mut W,
}

impl<'a, W: Write> Sheet<'a, W> {
    pub(super) fn new(page: &'a Page, out: &'a mut W) -> Self {
        let width = page.width.unwrap_or(COLUMNS);
        Self {
            page,
            width: width.clamp(LEAST_COLUMNS, MOST_COLUMNS),
            out,
        }
    }

    /// Writes a verdict as it stands at `now_ns`.
    pub(super) fn verdict(&mut self, verdict: &Verdict, now_ns: u64) -> io::Result<()> {
        self.head(verdict, now_ns)?;
        let pool = format!("{} {}", place(&verdict.pool), inside(verdict));
        self.fact("pool", &pool)?;
        if verdict.kind != Kind::NotPorts || verdict.level.used > 0 {
            self.level(verdict)?;
        }
        self.culprits(&verdict.culprits)?;
        self.victims(verdict)?;
        self.forecast(verdict, now_ns)?;
        if let Some(rates) = rates(verdict) {
            self.fact("rate", &rates)?;
        }
        for (index, fact) in verdict.evidence.iter().enumerate() {
            let label = if index == 0 { "because" } else { "" };
            let fact = escape::terminal(fact.as_bytes());
            self.lines(label, "- ", &fact, Colour::Plain)?;
        }
        for (index, remedy) in verdict.remedies.iter().enumerate() {
            self.remedy(index, remedy)?;
        }
        for (index, myth) in verdict.myths.iter().enumerate() {
            let label = if index == 0 { "no help" } else { "" };
            let truth = escape::terminal(myth.truth.as_bytes());
            self.fact(label, &format!("{}: {truth}", myth.setting))?;
        }
        Ok(())
    }

    fn head(&mut self, verdict: &Verdict, now_ns: u64) -> io::Result<()> {
        let mut colour = style(self.page.colour, colour(verdict.urgency));
        if self.page.colour {
            colour = colour.bold();
        }
        let faint = style(self.page.colour, Colour::Faint);
        let words = shorten(&headline(verdict, now_ns), self.width - 6, Keep::Start);
        let rule = "\u{2500}".repeat(self.width - words.width() - 4);
        writeln!(
            self.out,
            "{faint}\u{2500}\u{2500}{faint:#} {colour}{words}{colour:#} {faint}{rule}{faint:#}"
        )
    }

    fn level(&mut self, verdict: &Verdict) -> io::Result<()> {
        let at = verdict.level;
        let text = format!(
            "{}, peak {}",
            level(at.used, at.capacity),
            grouped(at.peak.max(at.used))
        );
        if at.capacity == 0 {
            self.fact("level", &text)?;
        } else {
            let cells = (self.width - LEAST_COLUMNS) / 4 + 10;
            let bar = bar(at.used, at.capacity, cells);
            let colour = style(self.page.colour, colour(verdict.urgency));
            let label = self.label("level");
            if INDENT + cells + 1 + text.width() <= self.width {
                writeln!(self.out, "{label}{colour}{bar}{colour:#} {text}")?;
            } else {
                writeln!(self.out, "{label}{colour}{bar}{colour:#}")?;
                self.fact("", &text)?;
            }
        }
        match states(&verdict.states) {
            none if none.is_empty() => Ok(()),
            states => self.fact("", &states),
        }
    }

    fn culprits(&mut self, culprits: &[Holder]) -> io::Result<()> {
        let (named, others) = culprits.split_at(culprits.len().min(NAMED));
        for (index, holder) in named.iter().enumerate() {
            let total = holder.states.total();
            let mut words = format!("{}: {} ports", process(&holder.process), grouped(total));
            if total > 0 {
                words += &format!(" ({})", states(&holder.states));
            }
            if holder.process.tgid != 0 || holder.open_rate.ten > 0.0 {
                words += &format!(", opens {}", rate(holder.open_rate.ten));
            }
            if holder.bound > 0 {
                words += &format!(", {} bound before connect()", grouped(holder.bound));
            }
            self.fact(if index == 0 { "who" } else { "" }, &words)?;
            let identity = self.identity(holder);
            if !identity.is_empty() {
                self.lines("", "", &identity, Colour::Faint)?;
            }
        }
        if !others.is_empty() {
            let ports: u64 = others.iter().map(|holder| holder.states.total()).sum();
            let count = grouped(others.len() as u64);
            self.fact(
                "",
                &format!("and {count} more with {} ports", grouped(ports)),
            )?;
        }
        Ok(())
    }

    /// What is known of a process beside its name, each on a line of its own where it is long.
    fn identity(&self, holder: &Holder) -> String {
        let who = &holder.process;
        let room = self.room();
        let mut parts = Vec::new();
        if let Some(exe) = &who.exe {
            parts.push(escape::terminal(exe.as_bytes()).into_owned());
        }
        if let Some(container) = &who.container {
            let runtime = who.runtime.map_or("", crate::model::Runtime::as_str);
            // Twelve digits are what the runtimes' own tools print.
            let id: String = container.chars().take(12).collect();
            let id = escape::terminal(id.as_bytes());
            parts.push(format!("{runtime} container {id}").trim_start().to_owned());
        }
        if let Some(pod) = &who.pod {
            parts.push(format!("pod {}", escape::terminal(pod.as_bytes())));
        }
        let parts: Vec<_> = parts
            .iter()
            .map(|part| shorten(part, room.saturating_sub(1), Keep::Start))
            .collect();
        parts.join(", ")
    }

    fn victims(&mut self, verdict: &Verdict) -> io::Result<()> {
        let culprits: Vec<OwnerId> = verdict
            .culprits
            .iter()
            .map(|holder| OwnerId::of(&holder.process))
            .collect();
        let others: Vec<&Failed> = verdict
            .victims
            .iter()
            .filter(|failed| {
                // Two of whom nothing is known need not be the same.
                failed.process.tgid == 0 || !culprits.contains(&OwnerId::of(&failed.process))
            })
            .collect();
        let (named, rest) = others.split_at(others.len().min(NAMED));
        for (index, failed) in named.iter().enumerate() {
            let errno = failed
                .errno
                .map_or_else(|| "failures".into(), crate::model::Error::name);
            let words = format!(
                "{}: {} \u{d7} {errno} of {}, {}",
                if failed.process.tgid == 0 {
                    "?".to_owned()
                } else {
                    process(&failed.process)
                },
                grouped(failed.count),
                if failed.bind { "bind()" } else { "connect()" },
                failed.cause.name()
            );
            self.fact(if index == 0 { "victims" } else { "" }, &words)?;
        }
        if !rest.is_empty() {
            let failures: u64 = rest.iter().map(|failed| failed.count).sum();
            let count = grouped(rest.len() as u64);
            let failures = grouped(failures);
            self.fact("", &format!("and {count} more with {failures} failures"))?;
        }
        Ok(())
    }

    fn forecast(&mut self, verdict: &Verdict, now_ns: u64) -> io::Result<()> {
        let mut label = "forecast";
        if let Some(forecast) = &verdict.forecast {
            let level = &verdict.level;
            let is_dry = level.capacity > 0 && level.used >= level.capacity;
            let words = match (dry_in_s(forecast, now_ns), forecast.settles_at) {
                (Some(_), _) if is_dry => Some("dry now".to_owned()),
                (Some(dry), _) if dry < 1.0 => Some("dry any moment".to_owned()),
                (Some(dry), _) => Some(format!("dry in {} at this rate", seconds(dry))),
                (None, Some(ports)) => Some(settles(ports, verdict.level.capacity)),
                (None, None) => None,
            };
            if let Some(words) = words {
                self.fact(label, &words)?;
                label = "";
            }
        }
        match &verdict.foretold {
            Some(told) => self.fact(label, &foretold(told, verdict.level.capacity)),
            None => Ok(()),
        }
    }

    fn remedy(&mut self, index: usize, remedy: &Remedy) -> io::Result<()> {
        let label = if index == 0 { "do" } else { "" };
        let what = escape::terminal(remedy.what.as_bytes());
        let number = format!("{}. ", index + 1);
        self.lines(label, &number, &what, Colour::Plain)?;
        let lead = " ".repeat(number.len());
        for line in &remedy.lines {
            let line = escape::terminal(line.as_bytes());
            writeln!(self.out, "{:TYPED$}{line}", "")?;
        }
        if let Some(effect) = &remedy.effect {
            self.lines("", &lead, &gives(effect), Colour::Good)?;
        }
        if !remedy.trade_off.is_empty() {
            let costs = escape::terminal(remedy.trade_off.as_bytes());
            self.lines("", &lead, &format!("but: {costs}"), Colour::Plain)?;
        }
        Ok(())
    }

    fn label(&self, label: &str) -> String {
        let faint = style(self.page.colour, Colour::Faint);
        let width = INDENT - 2;
        format!("  {faint}{label:<width$}{faint:#}")
    }

    fn room(&self) -> usize {
        self.width - INDENT
    }

    fn fact(&mut self, label: &str, text: &str) -> io::Result<()> {
        self.lines(label, "", text, Colour::Plain)
    }

    /// A label and the text beside it, broken between words, all but its first line behind the
    /// width of `lead`.
    fn lines(&mut self, label: &str, lead: &str, text: &str, colour: Colour) -> io::Result<()> {
        let hanging = " ".repeat(lead.width());
        let options = textwrap::Options::new(self.room())
            .initial_indent(lead)
            .subsequent_indent(&hanging)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        let colour = style(self.page.colour, colour);
        let mut label = self.label(label);
        for line in textwrap::wrap(&kept_together(text), options) {
            let line = line.replace(TOGETHER, " ");
            let line = format!("{label}{colour}{line}{colour:#}");
            writeln!(self.out, "{}", line.trim_end())?;
            label = self.label("");
        }
        Ok(())
    }
}

/// A space no line is broken at.
const TOGETHER: char = '\u{a0}';

/// Keeps numbers and their units in one line.
fn kept_together(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for word in text.split(' ') {
        let unit = word.trim_end_matches([',', ';', '.', ':', ')']);
        let is_unit = matches!(unit, "s" | "min" | "h" | "d" | "%");
        if is_unit && kept.ends_with(|c: char| c.is_ascii_digit()) {
            kept.push(TOGETHER);
        } else if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(word);
    }
    kept
}
