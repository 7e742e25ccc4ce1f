/*!
End-to-end scenarios on a live kernel: real clients and servers in throwaway
network namespaces count what they did, and the tracer must say the same.

The clients and servers are this program again, told so by its first argument:
their executable is then another one than the tracer's. The tracer is the one
cargo built, or `$TRACER` where there is no cargo, such as in a virtual
machine. What a kernel cannot do is skipped with the reason.
*/

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};
use nix::sys::signal::{SigHandler, Signal, signal};
use world::Skip;

mod agree;
mod bind;
mod cli;
mod connect;
mod demo;
mod detach;
mod ends;
mod findings;
mod hooks;
mod hostile;
mod pools;
mod rescue;
mod run;
mod sandbox;
mod snapshot;
mod stories;
mod storm;
mod timewait;
mod trace;
mod world;

/// A scenario: panics when it fails.
type Scenario = fn() -> Result<(), Skip>;

fn main() -> ExitCode {
    let played = tracer::sandbox::workload::from_args(std::env::args_os())
        .and_then(|done| Ok(done || stories::from_args(std::env::args_os())?));
    match played {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(error) => {
            eprintln!("workload: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    heed_signals();
    let _for_anybody = trace::publish();
    let mut args = Arguments::from_args();
    // Each scenario has several processes busy at once already.
    args.test_threads.get_or_insert(2);
    // As `--skip`, for who cannot change the arguments.
    let skip = std::env::var("E2E_SKIP").unwrap_or_default();
    args.skip
        .extend(skip.split_terminator(',').map(str::to_owned));
    let scenarios = [
        ("sandbox", sandbox::SCENARIOS),
        ("connect", connect::SCENARIOS),
        ("bind", bind::SCENARIOS),
        ("timewait", timewait::SCENARIOS),
        ("ends", ends::SCENARIOS),
        ("rescue", rescue::SCENARIOS),
        ("detach", detach::SCENARIOS),
        ("hooks", hooks::SCENARIOS),
        ("agree", agree::SCENARIOS),
        ("cli", cli::SCENARIOS),
        ("demo", demo::SCENARIOS),
        ("run", run::SCENARIOS),
        ("run", run::process::SCENARIOS),
        ("pools", pools::SCENARIOS),
        ("snapshot", snapshot::SCENARIOS),
        ("storm", storm::SCENARIOS),
        ("stories", stories::SCENARIOS),
        ("hostile", hostile::SCENARIOS),
        ("hostile", hostile::machine::SCENARIOS),
    ];
    let trials = scenarios.into_iter().flat_map(|(area, list)| {
        list.iter()
            .map(move |&(name, scenario)| trial(area, name, scenario))
    });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

/// Who was started in the background, or by nohup, ignores these, and hands that on to whatever it
/// starts: a shell cannot trap them then.
fn heed_signals() {
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: no handler is set.
        unsafe { signal(ignored, SigHandler::SigDfl) }.unwrap();
    }
}

fn trial(area: &str, name: &str, scenario: Scenario) -> Trial {
    let name = format!("{area}::{name}");
    // Scenarios of this area change the machine, and see to it themselves that they are alone then.
    let is_hostile = area == "hostile";
    Trial::ignorable_test(name.clone(), move || {
        let _unchanged = (!is_hostile).then(hostile::machine::unchanged);
        match scenario() {
            Ok(()) => Ok(Completion::Completed),
            Err(Skip(reason)) => {
                eprintln!("skipping {name}: {reason}");
                Ok(Completion::ignored_with(reason))
            }
        }
    })
}
