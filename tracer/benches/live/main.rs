/*!
What tracing costs, on a live kernel: real connections between two throwaway
network namespaces, with nobody watching, with empty programs on tracer's hooks,
with tracer in several modes, and with every peer found on the machine.

All take their turns in every round, in another order each time, and what is
told are ratios within a round: a machine that is slower for a minute is slower
for all of them. Times of programs are measured in rounds of their own, as
counting them costs as much as an empty program.
*/

mod contender;
mod load;
mod machine;
mod measure;
mod plot;
mod scale;
mod search;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use contender::Contender;
use load::Load;
use plot::Figure;
use scale::Fate;
use table::Report;

/// Measures what tracing costs, here and now. Root only.
#[derive(Parser)]
#[command(name = "live")]
struct Options {
    /// Rounds of each load.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only these loads.
    #[arg(long, value_enum, value_delimiter = ',')]
    loads: Vec<Load>,
    /// Only contenders with one of these in their name; `untraced` is always there.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A further command to watch with, by the shell; may be given several times.
    #[arg(long, value_name = "COMMAND")]
    beside: Vec<String>,
    /// Connections of a storm, in thousands.
    #[arg(long, default_value_t = 60)]
    thousands: u32,
    /// Clients of a storm at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: u16,
    /// Write the tables here too, as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// The tracer to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_tracer"), env = "TRACER")]
    tracer: PathBuf,
    /// Only this instead: how the cost grows, from 1,000 connections at a time to this many
    /// thousand.
    #[arg(long, value_name = "THOUSANDS", conflicts_with_all = ["loads", "search"])]
    scale: Option<u64>,
    /// Only this instead: how long connect() takes as a pool fills up.
    #[arg(long, conflicts_with = "loads")]
    search: bool,
    /// Draw what --scale or --search measured here, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match tracer::sandbox::workload::from_args(std::env::args_os()) {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(error) => {
            eprintln!("workload: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    let options = Options::parse();
    // `cargo test` runs benches too, unoptimised: that says nothing about speed.
    if !options.bench {
        println!("skipping the live bench: run it with cargo xtask bench live");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    machine::mount_tracefs()?;
    if let Some(thousands) = options.scale {
        return grow(options, thousands * 1_000);
    }
    let (contenders, absent) = Contender::all(&options.tracer, &options.only, &options.beside)?;
    let loads = match &options.loads[..] {
        [] => Load::ALL,
        loads => loads,
    };
    let mut report = Report::begin(options.rounds, absent);
    if options.search {
        let searches = search::searches(&contenders, options.rounds)?;
        report.searches(&searches);
        return finish(options, &report, &search::figures(&searches));
    }
    for &load in loads {
        let size = load.size(options.thousands, options.clients);
        let results = measure::rounds(load, size, options.rounds, &contenders)
            .with_context(|| format!("measuring {load}"))?;
        report.add(load, size, &results);
        if load == Load::Storm {
            let account =
                measure::account(size, &options.tracer).context("accounting for a storm")?;
            report.account(size, &account);
        }
    }
    finish(options, &report, &[])
}

/// Measures how the cost grows up to so many connections at a time.
fn grow(options: &Options, most: u64) -> anyhow::Result<()> {
    let loads = std::iter::successors(Some(1_000), |load| Some(load * 10));
    let loads: Vec<u64> = loads.take_while(|&load| load <= most).collect();
    let mut report = Report::begin(1, Vec::new());
    let mut all = Vec::new();
    for fate in [Fate::TimeWait, Fate::Open] {
        let points = scale::points(&options.tracer, fate, &loads)?;
        report.points(fate, &points);
        all.push((fate, points));
    }
    finish(options, &report, &scale::figures(&all))
}

/// Writes what was asked for.
fn finish(options: &Options, report: &Report, figures: &[Figure]) -> anyhow::Result<()> {
    if let Some(path) = &options.markdown {
        std::fs::write(path, report.text())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match &options.plot {
        Some(path) => plot::draw(path, figures),
        None => Ok(()),
    }
}
