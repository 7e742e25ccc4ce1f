/*! `tracer doctor`: what this kernel and these privileges allow, and how to get the rest. */

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use terminal_size::{Width, terminal_size_of};

use crate::kernel::preflight::{self, Facts};
use crate::kernel::trial;
use crate::view::checks::{self, Style};

/// Exit code when tracing does not work here.
const NOT_ALLOWED: u8 = 3;

/// Width of a terminal that does not tell its own.
const COLUMNS: usize = 80;

/// Looks at the machine, tries every hook, and writes what was found to stdout.
/// The exit code is 0 when tracing works here and 3 when it does not.
///
/// # Errors
/// When stdout cannot be written to.
pub fn run(json: bool) -> anyhow::Result<ExitCode> {
    let facts = Facts::read();
    let trials = trial::report(trial::Choice::Auto)
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)));
    let report = preflight::report(
        &facts,
        trials.as_ref().map(Vec::as_slice).map_err(String::as_str),
    );
    let mut out = io::stdout().lock();
    if json {
        checks::json(&mut out, &report)?;
    } else {
        let style = style(&out);
        checks::text(&mut out, &report, style)?;
    }
    out.flush()?;
    Ok(if report.can_trace {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_ALLOWED)
    })
}

/// Colour and line breaks are for terminals only.
fn style(out: &io::StdoutLock<'_>) -> Style {
    if !out.is_terminal() {
        return Style::default();
    }
    let size = terminal_size_of(out);
    Style {
        colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        width: Some(size.map_or(COLUMNS, |(Width(columns), _)| usize::from(columns))),
    }
}
