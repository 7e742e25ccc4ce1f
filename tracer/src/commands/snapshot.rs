/*! `tracer snapshot`: who holds which source ports right now, without tracing. */

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use nix::sys::utsname::uname;
use nix::time::{ClockId, clock_gettime};
use terminal_size::{Width, terminal_size_of};

use super::look;
use super::select::{self, Selected};
use super::watch::say;
use crate::cli::{Format, SnapshotArgs};
use crate::exit::NotAllowed;
use crate::host::dump::snapshot;
use crate::host::process::Processes;
use crate::kernel::preflight::{self, Facts};
use crate::model::About;
use crate::state::State;
use crate::view::json::Json;
use crate::view::{Frames, Page, View as _, pools, verdict};

/// Pools in the table; the others are counted. JSON has them all.
const ROWS: usize = 50;

/// Columns of a terminal that does not tell its own.
const COLUMNS: usize = 80;

/// Looks once and prints.
///
/// # Errors
/// When a filter names nothing that exists, no namespace can be looked at, or standard output
/// cannot be written.
pub fn run(args: &SnapshotArgs) -> anyhow::Result<ExitCode> {
    let Selected { selection, .. } = &select::resolve(&args.filters)?;
    let only = Some(selection.namespaces.as_slice()).filter(|only| !only.is_empty());
    let look = snapshot(only, &mut Processes::new());
    for miss in look.missed.iter() {
        say(&miss.to_string());
    }
    if look.dumps.is_empty() {
        let words = "no network namespace could be looked at";
        if look.missed.is_empty() {
            bail!(words);
        }
        return Err(NotAllowed(format!(
            "{words}: what refused, and what it takes, is above"
        ))
        .into());
    }
    let mut state = look::state(&look, selection);
    look::judge(&mut state, &look);
    let mut out = Vec::new();
    match args.output {
        Format::Text => text(&state, &mut out)?,
        Format::Json => {
            state.about = about()?;
            let mut frames = Frames::default();
            let mut json = Json::new(&state.about);
            json.end(&state, &mut frames)?;
            json.summary(&state, &mut frames)?;
            out = frames.bytes().to_vec();
        }
    }
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&out)
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn text(state: &State, out: &mut Vec<u8>) -> io::Result<()> {
    let page = page();
    let now_ns = state.now_ns;
    let name = |inode| state.namespaces.get(&inode).map(|space| space.name.clone());
    pools::write(&state.pools, name, ROWS, now_ns, &page, out)?;
    if !state.verdicts.is_empty() {
        writeln!(out)?;
        verdict::write(&state.verdicts, now_ns, &page, out)?;
    }
    Ok(())
}

/// What looked, and how.
fn about() -> anyhow::Result<About> {
    let mut backend = preflight::reach(&Facts::of_this_process());
    backend.insert("sockets".to_owned(), "sock_diag".to_owned());
    Ok(About {
        kernel: uname().map_or_else(
            |_| "of unknown release".to_owned(),
            |name| name.release().to_string_lossy().into_owned(),
        ),
        backend,
        clock_offset_ns: clock_offset_ns()?,
        ..About::default()
    })
}

/// What standard output is.
fn page() -> Page {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Page {
        width: terminal.then(|| {
            terminal_size_of(&stdout).map_or(COLUMNS, |(Width(columns), _)| usize::from(columns))
        }),
        colour: terminal && !no_colour,
    }
}

/// Nanoseconds to add to `CLOCK_MONOTONIC` for the time since 1970.
fn clock_offset_ns() -> anyhow::Result<i64> {
    let monotonic = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    let real = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let offset = real.saturating_sub(monotonic).as_nanos();
    i64::try_from(offset).context("the clock is beyond the year 2262")
}
