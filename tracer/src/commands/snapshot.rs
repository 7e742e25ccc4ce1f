/*! `tracer snapshot`: who holds which source ports right now, without tracing. */

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use nix::sys::utsname::uname;
use nix::time::{ClockId, clock_gettime};
use terminal_size::{Width, terminal_size_of};

use super::look::{Timers, Wanted, books};
use super::watch::say;
use crate::cli::{Format, SnapshotArgs};
use crate::diagnosis::{Verdict, diagnose};
use crate::exit::NotAllowed;
use crate::host::dump::snapshot;
use crate::host::process::Identities;
use crate::kernel::preflight::{self, Facts};
use crate::ledger::Ledger;
use crate::ledger::pool::Pool;
use crate::source::About;
use crate::view::json::Json;
use crate::view::{Page, Summary, View as _, pools, verdict};

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
    let wanted = Wanted::new(&args.filters)?;
    let look = snapshot(wanted.namespaces().as_deref(), &mut Identities::new());
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
    let (ledger, now_ns) = books(&look);
    let began_ns = look.dumps.iter().map(|dump| dump.began_ns).min();
    let mut pools = ledger.pools(now_ns);
    pools.retain(|pool| pool.used() > 0 && wanted.destination(&pool.id) && wanted.held(pool));
    let timers = Timers::of(&look);
    for pool in &mut pools {
        timers.date(pool);
    }
    // No call is seen to fail without tracing.
    let verdicts = diagnose(&pools, &[], |inode| ledger.namespace(inode));
    let mut out = Vec::new();
    match args.output {
        Format::Text => text(&pools, &verdicts, &ledger, now_ns, &mut out)?,
        Format::Json => {
            let took_ns = now_ns.saturating_sub(began_ns.unwrap_or(now_ns));
            json(&pools, &verdicts, now_ns, took_ns, &mut out)?;
        }
    }
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&out)
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn text(
    pools: &[Pool],
    verdicts: &[Verdict],
    ledger: &Ledger,
    now_ns: u64,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let page = page();
    let name = |inode| ledger.namespace(inode).map(|space| space.name.clone());
    pools::write(pools, name, ROWS, now_ns, &page, out)?;
    if !verdicts.is_empty() {
        writeln!(out)?;
        verdict::write(verdicts, now_ns, &page, out)?;
    }
    Ok(())
}

/// Verdicts, pools and a summary, as a stream ends.
fn json(
    pools: &[Pool],
    verdicts: &[Verdict],
    now_ns: u64,
    took_ns: u64,
    out: &mut Vec<u8>,
) -> anyhow::Result<()> {
    let mut backend = preflight::reach(&Facts::of_this_process());
    backend.insert("sockets".to_owned(), "sock_diag".to_owned());
    let about = About {
        kernel: uname().map_or_else(
            |_| "of unknown release".to_owned(),
            |name| name.release().to_string_lossy().into_owned(),
        ),
        backend,
        opens: false,
        clock_offset_ns: clock_offset_ns()?,
    };
    let mut json = Json::new(&about);
    json.verdicts(now_ns, pools, verdicts, true, out)?;
    let summary = Summary {
        end_ns: now_ns,
        duration_ns: took_ns,
        about,
        ..Summary::default()
    };
    json.summary(&summary, out)?;
    Ok(())
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
