/*! Rounds: every contender in turn, in another order each time. */

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tracer::kernel::cost::{self, costs};

use crate::contender::{Contender, UNTRACED, telling};
use crate::load::{Load, Size};
use crate::machine::wait_until_at_rest;

/// Rounds in which the time of programs is counted.
const COUNTED: usize = 3;

/// What was measured of one contender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Result {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is tracer.
    pub(crate) is_own: bool,
    /// How long each round took.
    pub(crate) took: Vec<Duration>,
    /// How long its own process ran meanwhile, by round.
    pub(crate) cpu: Vec<Duration>,
    /// Its memory after the load, kB, by round.
    pub(crate) resident_kb: Vec<u64>,
    /// Time in each program an operation, ns, and runs an operation, by name; one for each counted round.
    pub(crate) programs: Vec<BTreeMap<String, (f64, f64)>>,
    /// Runs that were skipped in the counted rounds.
    pub(crate) misses: u64,
}

/// Measures a load.
///
/// # Errors
/// When a contender or the load fails.
pub(crate) fn rounds(
    load: Load,
    size: Size,
    rounds: usize,
    contenders: &[Contender],
) -> anyhow::Result<Vec<Result>> {
    let mut results: Vec<Result> = contenders
        .iter()
        .map(|contender| Result {
            name: contender.name.clone(),
            is_own: contender.is_own(),
            ..Result::default()
        })
        .collect();
    for round in 0..rounds {
        for (contender, result) in turn(round, contenders, &mut results) {
            one(load, size, contender, result).with_context(|| contender.name.clone())?;
        }
        let took: Vec<f64> = results
            .iter()
            .map(|one| one.took[round].as_secs_f64())
            .collect();
        eprintln!(
            "{load}: round {} of {rounds} is done: {took:.3?} s",
            round + 1
        );
    }
    if load == Load::Idle {
        return Ok(results);
    }
    let _counting = cost::count().context("cannot count the time of programs")?;
    for round in 0..COUNTED.min(rounds) {
        for (contender, result) in turn(round, contenders, &mut results) {
            if contender.name != UNTRACED {
                counted(load, size, contender, result).with_context(|| contender.name.clone())?;
            }
        }
    }
    Ok(results)
}

/// Each contender with its results, beginning with another one each round.
fn turn<'a>(
    round: usize,
    contenders: &'a [Contender],
    results: &'a mut [Result],
) -> Vec<(&'a Contender, &'a mut Result)> {
    let mut turn: Vec<_> = contenders.iter().zip(results).collect();
    turn.rotate_left(round % contenders.len());
    turn
}

/// One contender's turn.
fn one(load: Load, size: Size, contender: &Contender, result: &mut Result) -> anyhow::Result<()> {
    let mut stage = load.prepare(size)?;
    let watching = contender.start(stage.watched())?;
    if !wait_until_at_rest()? {
        eprintln!("{}: the machine never came to rest", contender.name);
    }
    let before = watching.usage()?;
    result.took.push(stage.play()?);
    if load != Load::Idle {
        // What it has not read yet is its work too.
        wait_until_at_rest()?;
    }
    let after = watching.usage()?;
    result.cpu.push(after.cpu - before.cpu);
    result.resident_kb.push(after.resident_kb);
    watching.stop()
}

/// One contender's turn with its programs' time counted.
fn counted(
    load: Load,
    size: Size,
    contender: &Contender,
    result: &mut Result,
) -> anyhow::Result<()> {
    let mut stage = load.prepare(size)?;
    let watching = contender.start(stage.watched())?;
    wait_until_at_rest()?;
    let before = costs()?;
    stage.play()?;
    if matches!(load, Load::Storm | Load::Inbound) {
        stage.settle()?;
    }
    let after = costs()?;
    let mut programs: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for id in &watching.programs {
        let (Some(before), Some(after)) = (before.get(id), after.get(id)) else {
            continue;
        };
        let time = (after.time - before.time).as_nanos() as f64 / size.operations as f64;
        let runs = (after.runs - before.runs) as f64 / size.operations as f64;
        let entry = programs.entry(after.name.clone()).or_default();
        entry.0 += time;
        entry.1 += runs;
        result.misses += after.misses.unwrap_or(0) - before.misses.unwrap_or(0);
    }
    result.programs.push(programs);
    watching.stop()
}

/// What tracer told of a storm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// Births of TIME_WAITs of the client's namespace, a line each.
    pub(crate) births: u64,
    /// Events lost, for any reason.
    pub(crate) lost: u64,
}

/// Lets tracer tell of a storm, and counts what it told.
///
/// # Errors
/// When tracer or the storm fails.
pub(crate) fn account(size: Size, tracer: &Path) -> anyhow::Result<Account> {
    let mut stage = Load::Storm.prepare(size)?;
    let netns = stage.client_netns();
    let (mut child, lines) = telling(tracer, &[])?;
    let reading = thread::spawn(move || -> anyhow::Result<Account> {
        let mut births = 0;
        let mut last = String::new();
        for line in lines.lines() {
            last = line?;
            let line: Value = serde_json::from_str(&last)?;
            births += u64::from(line["type"] == "time_wait" && line["netns"] == netns);
        }
        let summary: Value = serde_json::from_str(&last)?;
        let lost = summary["lost"]
            .as_object()
            .context("the last line is no summary")?;
        let lost = lost.values().filter_map(Value::as_u64).sum();
        Ok(Account { births, lost })
    });
    stage.play()?;
    stage.settle()?;
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
    let account = reading
        .join()
        .map_err(|_| anyhow!("reading tracer's lines failed"))??;
    ensure!(child.wait()?.success(), "tracer failed");
    Ok(account)
}
