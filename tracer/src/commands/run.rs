/*! `tracer run`: traces a command from before its first instruction, and judges it at its end. */

use std::process::{Child, ExitCode, ExitStatus};

use anyhow::Context as _;

use self::caller::Caller;
use self::child::Held;
use self::failure::Failure;
use self::settle::{Quiet, Settling};
use self::signals::Signals;
use self::sink::Sink;
use super::watch::{attach, say};
use crate::cli::{Format, RunArgs};
use crate::gate::Gate;
use crate::kernel::attach::Options;
use crate::kernel::probes::Probes;
use crate::model::Selection;
use crate::source::Source as _;
use crate::source::live::Live;
use crate::state::State;
use crate::stream::output::Output;
use crate::stream::pump::{End, Pump, Shown};
use crate::stream::tracker::Tracker;

mod caller;
mod child;
mod failure;
mod settle;
mod signals;
mod sink;

/// Exit code of a gate that does not let pass.
const GATE: u8 = 99;

/// Runs the command to its end and returns its exit code, or 99 when `--fail-on` was met, or
/// what env(1) returns when it did not run.
pub fn run(args: &RunArgs) -> ExitCode {
    match trace(args) {
        Ok(code) => ExitCode::from(code),
        Err(Failure { error, code }) => {
            say(&format!("{error:#}"));
            ExitCode::from(code)
        }
    }
}

fn trace(args: &RunArgs) -> Result<u8, Failure> {
    let caller = if args.as_root {
        None
    } else {
        Caller::of_sudo()?
    };
    let sink = Sink::open(args.output_file.as_deref(), caller.as_ref())?;
    // While this thread is the only one: each later one has them blocked too.
    let signals = Signals::take()?;
    let held = Held::new(&args.command, caller, signals.before())?;
    // One that is refused from here on drops `held`, and with it the process that waits.
    let selection = Selection {
        pids: vec![held.pid()],
        follow: true,
        ..Selection::default()
    };
    let source = attach(&options(args, &selection))?;
    let child = held.release()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let tracker = Tracker::new(source.about(), selection, true);
    runtime.block_on(follow(args, sink, signals, source, tracker, child))
}

/// What the kernel side is to do.
fn options(args: &RunArgs, selection: &Selection) -> Options {
    Options {
        selection: selection.clone(),
        // The open connections and their rate are measured whether they are shown or not.
        all: true,
        // The ports of a pool come free by them.
        ends: true,
        ring_bytes: args.tuning.ring_size.0,
        max_sockets: args.tuning.max_sockets,
        backend: args.tuning.backend.into(),
        skip_softirq: args.tuning.skip_softirq,
        floor: args.tuning.floor,
        ..Options::default()
    }
}

async fn follow(
    args: &RunArgs,
    sink: Sink,
    mut signals: Signals,
    source: Live<Probes>,
    mut tracker: Tracker,
    mut child: Child,
) -> Result<u8, Failure> {
    let output = sink.output()?;
    let mut view = sink.view(args.output, args.all, source.about());
    let shown = match args.output {
        _ if args.all => Shown::Details,
        Format::Json => Shown::Plain,
        Format::Text => Shown::Nothing,
    };
    let quiet = Quiet::new();
    let mut source = Settling {
        inner: source,
        quiet: &quiet,
    };
    let mut ended = None;
    let result = Pump {
        tracker: &mut tracker,
        view: &mut *view,
        shown,
        output: &output,
        say: &mut |words| say(words),
    }
    .run(&mut source, async || {
        if ended.is_some() {
            return signals.asked_to_end().await;
        }
        ended = Some(signals.until_ended(&mut child).await);
        quiet.wait().await;
    })
    .await;
    // Whatever became of the tracing, nothing slows the command any longer.
    drop(source);
    tracker.state_mut().broken = match &result {
        Ok(End::Unread) => Some("its output can no longer be written".to_owned()),
        Ok(_) => None,
        Err(error) => Some(format!("{error:#}")),
    };
    let status = match ended {
        Some(status) => status,
        None => signals.until_ended(&mut child).await,
    };
    finish(&output, &mut signals).await;
    if let Err(error) = result {
        say(&format!("tracing ended early: {error:#}"));
    }
    Ok(judge(args.fail_on.as_ref(), tracker.state(), status?))
}

/// Writes what is left, unless a signal asks to end.
async fn finish(output: &Output, signals: &mut Signals) {
    tokio::select! {
        biased;
        written = output.finish() => {
            // Who closed the pipe knows.
            if let Err(error) = written
                && error.kind() != std::io::ErrorKind::BrokenPipe
            {
                say(&format!("cannot write the summary: {error}"));
            }
        }
        () = signals.asked_to_end() => say("stopped while the output was too slow"),
    }
}

/// The exit code.
fn judge(gate: Option<&Gate>, state: &State, status: ExitStatus) -> u8 {
    let reasons = gate.map(|gate| gate.check(state)).unwrap_or_default();
    for reason in &reasons {
        say(&format!("--fail-on: {reason}"));
    }
    if reasons.is_empty() {
        child::code(status)
    } else {
        GATE
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::judge;
    use crate::state::State;

    #[test]
    fn the_commands_code_unless_the_gate_is_shut() {
        let exit = |code| ExitStatus::from_raw(code << 8);
        let killed = ExitStatus::from_raw(15);
        let mut lost = State::default();
        lost.losses.lost.ring_full = 1;
        let gate = "eaddrnotavail>0".parse().unwrap();
        for (gate, state, status, code) in [
            (None, &State::default(), exit(0), 0),
            (None, &State::default(), exit(42), 42),
            (None, &State::default(), killed, 128 + 15),
            (None, &lost, exit(3), 3),
            (Some(&gate), &State::default(), exit(0), 0),
            (Some(&gate), &State::default(), exit(42), 42),
            (Some(&gate), &lost, exit(0), 99),
            (Some(&gate), &lost, killed, 99),
        ] {
            assert_eq!(judge(gate, state, status), code, "{state:?}");
        }
    }
}
