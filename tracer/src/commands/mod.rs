/*! One file a verb; this one parses and picks. */

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use tracer_ebpf::MAX_DESTINATIONS;

use crate::cli::{Cli, Format, Verb};
use crate::sandbox::workload;

pub mod demo;
pub mod doctor;
mod look;
pub mod run;
mod select;
pub mod snapshot;
pub mod wait;
pub mod watch;

/// Parses the command line and runs its verb.
///
/// # Errors
/// What the verb could not do, as one chain of sentences.
pub fn run() -> anyhow::Result<ExitCode> {
    // The processes of a demo are this program again.
    if workload::from_args(std::env::args_os())? {
        return Ok(ExitCode::SUCCESS);
    }
    match parse() {
        Ok(Cli { verb }) => match verb {
            Verb::Watch(args) => watch::run(&args),
            Verb::Run(args) => Ok(run::run(&args)),
            Verb::Snapshot(args) => snapshot::run(&args),
            Verb::Wait(args) => wait::run(&args),
            Verb::Demo(args) => demo::run(&args),
            Verb::Doctor(args) => doctor::run(args.output == Format::Json),
        },
        Err(error) => {
            // Help may be piped into a pager that was closed: nothing to do about it.
            error.print().ok();
            Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)))
        }
    }
}

fn parse() -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse()?;
    let filters = match &cli.verb {
        Verb::Watch(args) => Some(&args.filters),
        Verb::Snapshot(args) => Some(&args.filters),
        Verb::Wait(args) => Some(&args.filters),
        Verb::Run(_) | Verb::Demo(_) | Verb::Doctor(_) => None,
    };
    // The same for all, so that a command line that works for one works for the others.
    let destinations = filters.map_or(0, |filters| filters.dst.len());
    if destinations > MAX_DESTINATIONS {
        let words = format!(
            "--dst was given {destinations} times, and at most {MAX_DESTINATIONS} networks are compared; \
             merge some, as in 10.0.0.0/8"
        );
        return Err(Cli::command().error(ErrorKind::TooManyValues, words));
    }
    Ok(cli)
}
