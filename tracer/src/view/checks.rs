/*! What `tracer doctor` found: a table for people, a line a check for programs. */

use std::io::{self, Write};

use serde::Serialize;

use crate::model::{Report, Status};

/// How the table is drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Colour the status.
    pub colour: bool,
    /// Break lines at this many columns; `None` leaves one line a check, for `grep`.
    pub width: Option<usize>,
}

/// Most names before a fix that helps several.
const SHOWN: usize = 4;

const STATUS_WIDTH: usize = "degraded".len();

/// Writes the table, the fixes below it, and the verdict last.
///
/// # Errors
/// When `out` does.
pub fn text(out: &mut impl Write, report: &Report, style: Style) -> io::Result<()> {
    let names = report.checks.iter().map(|check| check.name.chars().count());
    let name_width = names.max().unwrap_or(0);
    let indent = STATUS_WIDTH + name_width + 4;
    for check in &report.checks {
        let body = format!("{}; {}", check.found, check.means);
        let (start, end) = colours(check.status, style.colour);
        write!(
            out,
            "{start}{:<STATUS_WIDTH$}{end}  {:<name_width$}  ",
            word(check.status),
            check.name
        )?;
        wrapped(out, &body, indent, style.width)?;
    }
    let mut fixes: Vec<(&str, Vec<&str>)> = Vec::new();
    for check in &report.checks {
        let Some(fix) = check.fix.as_deref() else {
            continue;
        };
        match fixes.iter_mut().find(|(known, _)| *known == fix) {
            Some((_, names)) => names.push(&check.name),
            None => fixes.push((fix, vec![&check.name])),
        }
    }
    if !fixes.is_empty() {
        writeln!(out, "\nWhat would help:")?;
    }
    for (fix, mut names) in fixes {
        write!(out, "  ")?;
        let more = match names.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        names.truncate(SHOWN);
        let line = format!("{}{more}: {fix}", names.join(", "));
        wrapped(out, &line, 4, style.width)?;
    }
    writeln!(out)?;
    wrapped(out, &format!("{}.", report.verdict()), 0, style.width)
}

/// Writes one JSON object a check, and a `summary` last.
///
/// # Errors
/// When `out` does.
pub fn json(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for check in &report.checks {
        line(out, "check", check)?;
    }
    line(
        out,
        "summary",
        &Summary {
            can_trace: report.can_trace,
            backend: report.backend,
            kernel: &report.kernel,
            inferred: &report.inferred,
            verdict: report.verdict(),
        },
    )
}

#[derive(Serialize)]
struct Summary<'a> {
    can_trace: bool,
    backend: Option<&'a str>,
    kernel: &'a str,
    inferred: &'a [&'a str],
    verdict: String,
}

#[derive(Serialize)]
struct Line<'a, T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    fields: &'a T,
}

fn line<T: Serialize>(out: &mut impl Write, kind: &str, fields: &T) -> io::Result<()> {
    let line = Line {
        schema: 1,
        kind,
        fields,
    };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Degraded => "degraded",
        Status::Missing => "missing",
    }
}

fn colours(status: Status, wanted: bool) -> (&'static str, &'static str) {
    match status {
        _ if !wanted => ("", ""),
        Status::Ok => ("\x1b[32m", "\x1b[0m"),
        Status::Degraded => ("\x1b[33m", "\x1b[0m"),
        Status::Missing => ("\x1b[31m", "\x1b[0m"),
    }
}

/// Writes `text` from column `indent` on, where the cursor is taken to stand
/// (further lines are indented to it); too narrow a width is not obeyed.
fn wrapped(
    out: &mut impl Write,
    text: &str,
    indent: usize,
    width: Option<usize>,
) -> io::Result<()> {
    const LEAST: usize = 20;
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(LEAST));
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            write!(out, "\n{:indent$}", "")?;
            used = 0;
        }
        if used > 0 {
            write!(out, " ")?;
            used += 1;
        }
        // Anything but printable text, whoever wrote it, must not reach a terminal.
        for character in word.chars() {
            match character {
                control if control.is_control() => write!(out, "{}", control.escape_default())?,
                printable => write!(out, "{printable}")?,
            }
        }
        used += length;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Check, Report, Status};

    fn check(name: &str, status: Status, fix: Option<&str>) -> Check {
        Check {
            fact: None,
            name: name.to_owned(),
            status,
            found: "found this".to_owned(),
            means: "which means that".to_owned(),
            fix: fix.map(str::to_owned),
        }
    }

    fn sample() -> Report {
        Report {
            kernel: "6.1.0".to_owned(),
            checks: vec![
                check("kernel", Status::Ok, None),
                check("CAP_BPF", Status::Missing, Some("sudo tracer")),
                check("CAP_PERFMON", Status::Degraded, Some("sudo tracer")),
            ],
            can_trace: false,
            backend: None,
            inferred: vec!["births"],
        }
    }

    fn drawn(report: &Report, style: Style) -> String {
        let mut out = Vec::new();
        text(&mut out, report, style).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_is_aligned_and_fixes_are_merged() {
        assert_eq!(
            drawn(&sample(), Style::default()),
            "\
ok        kernel       found this; which means that
missing   CAP_BPF      found this; which means that
degraded  CAP_PERFMON  found this; which means that

What would help:
  CAP_BPF, CAP_PERFMON: sudo tracer

tracing does not work here: missing CAP_BPF.
"
        );
    }

    #[test]
    fn no_line_is_wider_than_asked_for() {
        let narrow = Style {
            width: Some(50),
            colour: false,
        };
        let drawn = drawn(&sample(), narrow);
        assert!(
            drawn.contains("found this; which means\n                       that\n"),
            "{drawn}"
        );
        for line in drawn.lines() {
            assert!(line.chars().count() <= 50, "{line}");
        }
    }

    #[test]
    fn colour_and_foreign_escapes() {
        let coloured = Style {
            colour: true,
            width: None,
        };
        let mut report = sample();
        assert!(drawn(&report, coloured).contains("\x1b[31mmissing \x1b[0m"));
        report.checks[0].found = "6.1\x1b[2Jx".to_owned();
        let plain = drawn(&report, Style::default());
        assert!(!plain.contains('\x1b'), "{plain}");
        assert!(plain.contains("6.1\\u{1b}[2Jx"), "{plain}");
    }

    #[test]
    fn json_is_one_object_a_line_and_ends_in_the_summary() {
        let mut out = Vec::new();
        json(&mut out, &sample()).unwrap();
        let lines: Vec<serde_json::Value> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line["schema"] == 1));
        assert_eq!(lines[1]["type"], "check");
        assert_eq!(lines[1]["name"], "CAP_BPF");
        assert_eq!(lines[1]["status"], "missing");
        assert_eq!(lines[1]["fix"], "sudo tracer");
        assert!(lines[0]["fix"].is_null());
        assert_eq!(lines[3]["type"], "summary");
        assert_eq!(lines[3]["can_trace"], false);
        assert!(lines[3]["backend"].is_null());
        assert_eq!(lines[3]["inferred"][0], "births");
    }
}
