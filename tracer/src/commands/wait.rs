/*! `tracer wait`: until pools of source ports have drained. */

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use super::look::{self, Timers};
use super::select;
use super::watch::say;
use crate::cli::WaitArgs;
use crate::host::dump::{snapshot, sockets};
use crate::host::process::Processes;
use crate::model::{Pool, PoolId, Selection, TcpState};
use crate::view::draining::Draining;

/// Shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// A look may take one part in this many of the time.
const SHARE: u32 = 20;

/// Time between two times it is said what is waited for.
const NEWS: Duration = Duration::from_secs(5);

/// The kernel's timers of a minute fire up to this much late.
const SLACK: Duration = Duration::from_secs(6);

/// Pools named at a time.
const NAMED: usize = 3;

/// Waits. There is nothing to be cleaned up, so Ctrl-C just ends the process: 130 for a shell.
///
/// # Errors
/// When the timeout comes first, a filter names nothing that exists, or nothing can be looked at.
pub fn run(args: &WaitArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    // Kept to the end: it holds the namespaces open.
    let mut selected = select::resolve(&args.filters)?;
    let selection = &mut selected.selection;
    let namespaces = selection.namespaces.clone();
    let only = Some(namespaces.as_slice()).filter(|only| !only.is_empty());
    // A TIME_WAIT has no owner: whose pools they are is told once, by what is open.
    let theirs = selection.by_process().then(|| theirs(selection, only));
    selection.forget_processes();
    if theirs.as_ref().is_some_and(BTreeSet::is_empty) {
        say("the filters name no process that holds a source port; there is nothing to wait for");
        return Ok(ExitCode::SUCCESS);
    }
    let mut next_news = began;
    let mut first = true;
    loop {
        let look_began = Instant::now();
        let look = sockets(only);
        if first {
            for miss in look.missed.iter() {
                say(&miss.to_string());
            }
            if look.dumps.is_empty() {
                bail!("no network namespace could be looked at");
            }
        }
        let state = look::state(&look, selection);
        let timers = Timers::of(&look.dumps);
        let mut full: Vec<Draining> = Vec::new();
        for pool in &state.pools {
            if theirs.as_ref().is_none_or(|ids| ids.contains(&pool.id)) {
                full.extend(above(pool, args, &timers));
            }
        }
        if full.is_empty() {
            if !first {
                let took = began.elapsed().as_secs_f64();
                say(&format!("drained to {} within {took:.1} s", args.below));
            }
            return Ok(ExitCode::SUCCESS);
        }
        first = false;
        let left = args.timeout.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(anyhow!(
                "not drained to {} within {:?}: {}",
                args.below,
                args.timeout,
                lines(&full).join("; ")
            ));
        }
        if Instant::now() >= next_news {
            next_news = Instant::now() + NEWS;
            for line in lines(&full) {
                say(&line);
            }
        }
        let pause = PAUSE.max(look_began.elapsed() * SHARE);
        thread::sleep(pause.min(left));
    }
}

/// The pools in which the processes that are asked for hold a port.
fn theirs(selection: &Selection, only: Option<&[u32]>) -> BTreeSet<PoolId> {
    let look = snapshot(only, &mut Processes::new());
    let anywhere = Selection {
        destinations: Vec::new(),
        ..selection.clone()
    };
    let pools = look::state(&look, &anywhere).pools;
    pools.into_iter().map(|pool| pool.id).collect()
}

/// What keeps the pool above the level, if it is.
fn above(pool: &Pool, args: &WaitArgs, timers: &Timers) -> Option<Draining> {
    let capacity = pool.capacity.map(|capacity| capacity.ports());
    let most = args.below.of(capacity)?;
    let used = pool.used();
    (used > most).then(|| Draining {
        pool: pool.id,
        used,
        capacity,
        time_wait: pool.states.get(TcpState::TimeWait),
        due: due(timers.left_ms(&pool.id), used, most),
    })
}

/// When at the latest no more than `most` of the `used` ports will be held if nothing is opened;
/// `None` when time alone does not do it.
fn due(mut left_ms: Vec<u32>, used: u64, most: u64) -> Option<Duration> {
    left_ms.sort_unstable();
    let go = usize::try_from(used.checked_sub(most)?).ok()?;
    let last = left_ms.get(go.checked_sub(1)?)?;
    Some(Duration::from_millis((*last).into()) + SLACK)
}

fn lines(full: &[Draining]) -> Vec<String> {
    let mut lines: Vec<_> = full.iter().take(NAMED).map(ToString::to_string).collect();
    match full.len().saturating_sub(NAMED) {
        0 => {}
        1 => lines.push("and 1 more pool".to_owned()),
        more => lines.push(format!("and {more} more pools")),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Duration, SLACK, due};

    #[test]
    fn due_when_enough_have_gone() {
        let ms = |ms| Some(Duration::from_millis(ms) + SLACK);
        let left = [30_000, 10_000, 50_000, 20_000];
        assert_eq!(due(left.to_vec(), 4, 0), ms(50_000));
        assert_eq!(due(left.to_vec(), 4, 1), ms(30_000));
        assert_eq!(due(left.to_vec(), 4, 3), ms(10_000));
        // Two are open.
        assert_eq!(due(left.to_vec(), 6, 2), ms(50_000));
        assert_eq!(due(left.to_vec(), 6, 1), None);
        assert_eq!(due(Vec::new(), 1, 0), None);
        assert_eq!(due(left.to_vec(), 4, 4), None);
    }
}
