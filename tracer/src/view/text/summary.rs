/*! The summary at the end: totals, who did most of it, and what was lost. */

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::columns::{Colour, Columns, arrow, grouped, span};
use crate::model::{About, Lost, Shortfall};
use crate::state::{Row, State};
use crate::view::escape;

/// Rows shown; the rest is counted.
const ROWS: usize = 10;

/// Writes the summary.
pub(super) fn write(state: &State, columns: &Columns, out: &mut Vec<u8>) -> io::Result<()> {
    let faint = columns.style(Colour::Faint);
    let totals = state.totals.totals();
    writeln!(
        out,
        "{faint}summary of {}{faint:#}",
        span(state.duration_ns())
    )?;
    let inferred = match totals.time_wait_inferred {
        0 => String::new(),
        some => format!("{} of them inferred", grouped(some)),
    };
    for (words, count, note) in [
        ("connect() failed", totals.connect_failed, ""),
        ("bind() failed", totals.bind_failed, ""),
        ("TIME_WAIT", totals.time_wait, inferred.as_str()),
        ("TIME_WAIT freed", totals.time_wait_end, ""),
        ("opened", totals.opened, ""),
        ("closed", totals.closed, ""),
    ] {
        // The first three are what the stream is about; the others only when asked for.
        let asked_for = matches!(words, "connect() failed" | "bind() failed" | "TIME_WAIT");
        if count > 0 || asked_for {
            let line = format!("  {words:<17} {:>11}  {note}", grouped(count));
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    rows(state, columns, out)?;
    let loss = &state.losses;
    if loss.lost.total() == 0 {
        writeln!(out, "  lost              nothing")?;
    } else {
        let bad = columns.style(Colour::Bad);
        writeln!(
            out,
            "  {bad}lost              {}{bad:#}",
            reasons(&loss.lost)
        )?;
    }
    if loss.recursion_skipped > 0 {
        writeln!(
            out,
            "  recursion         {} skipped by the kernel, {} ends found all the same",
            grouped(loss.recursion_skipped),
            grouped(loss.recursion_rescued)
        )?;
    }
    let Shortfall { unlisted, evicted } = state.shortfall;
    if unlisted > 0 {
        let plural = if unlisted == 1 { "" } else { "s" };
        writeln!(
            out,
            "  not listed        the sockets of {} network namespace{plural}, for want of time",
            grouped(unlisted)
        )?;
    }
    if evicted.total() > 0 {
        writeln!(
            out,
            "  not kept apart    {} events and sockets of pools beyond the limit, {} of owners, {} of failures",
            grouped(evicted.pools),
            grouped(evicted.owners),
            grouped(evicted.failures)
        )?;
    }
    writeln!(
        out,
        "  {faint}seen with         {}{faint:#}",
        seen_with(&state.about)
    )
}

fn rows(state: &State, columns: &Columns, out: &mut Vec<u8>) -> io::Result<()> {
    let rows = state.totals.rows();
    let shown = &rows[..rows.len().min(ROWS)];
    let names: Vec<(String, String)> = shown
        .iter()
        .map(|row| (name(row), arrow(&row.place)))
        .collect();
    let width = |pick: fn(&(String, String)) -> &String| {
        let widths = names.iter().map(|pair| pick(pair).chars().count());
        widths.max().unwrap_or(0)
    };
    let (process, place) = (width(|pair| &pair.0), width(|pair| &pair.1));
    for (row, (name, arrow)) in shown.iter().zip(&names) {
        write!(out, "  {name:<process$}  {arrow:<place$}")?;
        let mut separator = "  ";
        for ((errno, cause), count) in &row.failures {
            let errno = errno.map_or_else(|| "failed".into(), crate::model::Error::name);
            let bad = columns.style(Colour::Bad);
            write!(
                out,
                "{separator}{} {bad}{errno}{bad:#} {}",
                grouped(*count),
                cause.name()
            )?;
            separator = ", ";
        }
        for (words, count) in [
            ("TIME_WAIT", row.totals.time_wait),
            ("freed", row.totals.time_wait_end),
            ("opened", row.totals.opened),
            ("closed", row.totals.closed),
        ] {
            if count > 0 {
                write!(out, "{separator}{} {words}", grouped(count))?;
                separator = ", ";
            }
        }
        out.push(b'\n');
    }
    let more = rows.len() - shown.len();
    if more > 0 || state.totals.beyond() > 0 {
        let least = if state.totals.beyond() > 0 {
            "at least "
        } else {
            ""
        };
        writeln!(out, "  and {least}{} more", grouped(more as u64))?;
    }
    Ok(())
}

fn name(row: &Row) -> String {
    if row.process.tgid == 0 {
        return "?".to_owned();
    }
    let comm = escape::terminal(row.process.comm.bytes());
    format!("{comm}[{}]", row.process.tgid)
}

/// `1,204 ring buffer full, 3 recursion`
pub(super) fn reasons(lost: &Lost) -> String {
    let reasons = lost.reasons();
    let some = reasons.iter().filter(|(_, count)| *count > 0);
    let some: Vec<String> = some
        .map(|(reason, count)| format!("{} {reason}", grouped(*count)))
        .collect();
    some.join(", ")
}

/// `trampolines (connect, state), tracepoints (bind); Linux 6.1.0`
pub fn seen_with(about: &About) -> String {
    let mut facts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (fact, backend) in &about.backend {
        let words = match backend.as_str() {
            "trampoline" => "trampolines",
            "tracepoint" => "tracepoints",
            // Not asked for, or not to be had: nothing is shown that would need it.
            "none" if fact == "time_wait_end" => continue,
            "none" => "nothing",
            "own" => "what is our own",
            other => other,
        };
        facts.entry(words).or_default().push(fact);
    }
    let parts: Vec<String> = match facts.len() {
        1 => facts.keys().map(|&words| words.to_owned()).collect(),
        _ => facts
            .iter()
            .map(|(words, facts)| format!("{words} ({})", facts.join(", ")))
            .collect(),
    };
    let kernel = escape::terminal(about.kernel.as_bytes());
    format!("{}; Linux {kernel}", parts.join(", "))
}
