/*!
Verdicts in words: what is wrong, where, how full, who, how long, and what to
change, in this order, since whoever reads it has five seconds.
*/

mod sentences;
mod sheet;

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use self::sheet::Sheet;
use super::table::{self, Column};
use super::text::columns::{Colour, Keep, grouped, shorten, style};
use super::words::{headline, place, process, rate};
use super::{Page, escape};
use crate::diagnosis::{Kind, Urgency, Verdict};

/// Verdicts told in full; the others are rows of a table.
pub const IN_FULL: usize = 5;

/// Rows of that table; the others are counted.
const ROWS: usize = 20;

/// Least columns that are laid out for; a narrower terminal breaks lines itself.
const LEAST_COLUMNS: usize = 40;

/// Writes verdicts as they stand at `now_ns` (`CLOCK_MONOTONIC`): the first five in full.
///
/// # Errors
/// Those of `out`.
pub fn write(
    verdicts: &[Verdict],
    now_ns: u64,
    page: &Page,
    out: &mut impl Write,
) -> io::Result<()> {
    let (full, others) = verdicts.split_at(verdicts.len().min(IN_FULL));
    for (index, verdict) in full.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        Sheet::new(page, out).verdict(verdict, now_ns)?;
    }
    if others.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let shown = &others[..others.len().min(ROWS)];
    let rows: Vec<_> = shown
        .iter()
        .map(|one| (row(one, now_ns), String::new()))
        .collect();
    table::write(&TABLE, &rows, page, out)?;
    more(others.len() - shown.len(), "verdicts", out)
}

const TABLE: [Column; 4] = [
    Column {
        heading: "VERDICT",
        right: false,
        shrinks: Some(Keep::Start),
    },
    Column {
        heading: "POOL",
        right: false,
        shrinks: Some(Keep::Port),
    },
    Column {
        heading: "USED",
        right: true,
        shrinks: None,
    },
    Column {
        heading: "WHO",
        right: false,
        shrinks: Some(Keep::Process),
    },
];

fn row(verdict: &Verdict, now_ns: u64) -> [String; 4] {
    let culprit = verdict.culprits.first();
    [
        headline(verdict, now_ns),
        place(&verdict.pool),
        used(verdict.level.used, verdict.level.capacity),
        culprit.map_or_else(String::new, |holder| process(&holder.process)),
    ]
}

/// `750/1,000`; `750/?` where it is not known of how many.
pub(super) fn used(used: u64, capacity: u64) -> String {
    let capacity = match capacity {
        0 => "?".to_owned(),
        ports => grouped(ports),
    };
    format!("{}/{capacity}", grouped(used))
}

/// `and 12 more pools`
pub(super) fn more(count: usize, of: &str, out: &mut impl Write) -> io::Result<()> {
    if count == 0 {
        return Ok(());
    }
    writeln!(out, "and {} more {of}", grouped(count as u64))
}

/// Writes one verdict in at most three lines, behind the time they are told at.
///
/// # Errors
/// Those of `out`.
pub fn compact(
    verdict: &Verdict,
    now_ns: u64,
    time: &str,
    page: &Page,
    out: &mut impl Write,
) -> io::Result<()> {
    let room = page
        .width
        .unwrap_or(usize::MAX)
        .max(LEAST_COLUMNS)
        .saturating_sub(time.width() + 1);
    let colour = style(page.colour, colour(verdict.urgency));
    let faint = style(page.colour, Colour::Faint);
    let words = headline(verdict, now_ns);
    let pool = format!("{} {}", place(&verdict.pool), inside(verdict));
    let (words, pool) = if words.width() + 2 + pool.width() <= room {
        (words, pool)
    } else {
        // Both ends of the pool's name matter more than the whole of either.
        let words = shorten(&words, room * 2 / 3, Keep::Start);
        let left = room - words.width() - 2;
        (words, shorten(&place(&verdict.pool), left, Keep::Port))
    };
    writeln!(
        out,
        "{faint}{time}{faint:#} {colour}{words}{colour:#}  {pool}"
    )?;
    let pad = " ".repeat(time.width());
    let level = used(verdict.level.used, verdict.level.capacity);
    let mut facts = format!("{level} ports");
    if let Some(culprit) = verdict.culprits.first() {
        let name = shorten(&process(&culprit.process), 32, Keep::Process);
        facts += &format!("; {name}: {}", grouped(culprit.states.total()));
    }
    if let Some(rates) = short_rates(verdict) {
        facts += &format!("; {rates}");
    }
    writeln!(out, "{pad} {}", shorten(&facts, room, Keep::Start))?;
    if let Some(remedy) = verdict.remedies.first() {
        let what = format!("\u{2192} {}", escape::terminal(remedy.what.as_bytes()));
        writeln!(out, "{pad} {}", shorten(&what, room, Keep::Start))?;
    }
    Ok(())
}

fn colour(urgency: Urgency) -> Colour {
    match urgency {
        Urgency::Failing => Colour::Bad,
        Urgency::Soon => Colour::Notable,
        Urgency::Watch => Colour::Plain,
    }
}

/// `in web (netns 4026532281)`
fn inside(verdict: &Verdict) -> String {
    let name = escape::terminal(verdict.namespace.as_bytes());
    if name.is_empty() {
        return format!("in netns {}", verdict.pool.netns);
    }
    format!("in {name} (netns {})", verdict.pool.netns)
}

/// `opens 1,240/s, bears 470/s`
fn short_rates(verdict: &Verdict) -> Option<String> {
    let opens = format!("opens {}", rate(verdict.rate));
    match verdict.kind {
        Kind::NotPorts => None,
        Kind::Leak | Kind::CloseWait | Kind::FinWait2 => {
            Some(format!("{opens}, {} stay", rate(growth(verdict))))
        }
        _ if verdict.ceiling > 0.0 => Some(format!("{opens}, bears {}", rate(verdict.ceiling))),
        _ => (verdict.rate > 0.0).then_some(opens),
    }
}

/// Connections per second that are opened and stay.
fn growth(verdict: &Verdict) -> f64 {
    let culprits = verdict.culprits.iter();
    culprits.map(|holder| holder.net_rate).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests;
