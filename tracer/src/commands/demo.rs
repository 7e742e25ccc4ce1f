/*! `tracer demo`: the real tracer on a real failing client in throwaway namespaces. */

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use self::drive::drive;
use self::judge::findings;
use super::watch::{Stop, attach, say, view_on};
use crate::cli::{DemoArgs, Format};
use crate::kernel::attach::Options;
use crate::model::Selection;
use crate::sandbox::{Pair, Settings, Side};
use crate::source::Source as _;
use crate::stream::output::Output;
use crate::stream::pump::{Pump, Shown};
use crate::stream::tracker::Tracker;
use crate::view::Judging;

mod drive;
mod judge;
mod scenario;

/// Most text that waits for standard output.
const OUTPUT_BYTES: usize = 64 << 20;

/// Runs a demo to its end: until the client failed often enough, or Ctrl-C.
///
/// # Errors
/// When namespaces or tracing are not allowed here, and when the trace and the
/// client's own count do not agree.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let scenario = args.scenario;
    let words = format!(
        "demo: {} {},\nin two throwaway network namespaces with {} source ports to {}\n\n",
        scenario.client(),
        scenario.does(),
        args.ports,
        scenario.towards(),
    );
    write(args.output, words.as_bytes())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(demo(args))
}

async fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let scenario = args.scenario;
    let mut stop = Stop::new()?;
    let pair = Arc::new(Pair::create(&Settings::with_ports(args.ports))?);
    let this = Path::new("/proc/self/exe");
    let _server = pair.spawn(Side::Server, this, "server", &scenario.server())?;
    let work = scenario.work(args.ports);
    let client = pair.spawn(Side::Client, this, scenario.client(), &work)?;
    let pid = client.pid();
    let mut source = attach(&Options {
        selection: Selection {
            namespaces: vec![pair.inode(Side::Client)],
            ..Selection::default()
        },
        all: true,
        ..Options::default()
    })?;
    let mut tracker = Tracker::new(source.about(), Selection::default(), true);
    let output = Output::stdout(OUTPUT_BYTES).context("cannot use standard output")?;
    // The verdict comes with the findings; JSON has it at the end.
    let judging = match args.output {
        Format::Text => Judging::Never,
        Format::Json => Judging::End,
    };
    let stdout = io::stdout();
    let mut view = view_on(&stdout, args.output, false, false, judging, source.about());
    say("tracing as `tracer watch` does; Ctrl-C ends");
    let (tell, mut told) = oneshot::channel();
    let driver = thread::spawn({
        let pair = Arc::clone(&pair);
        move || {
            let (known, client) = drive(client, &pair, scenario.rest());
            // After Ctrl-C nobody listens.
            tell.send(known).ok();
            client
        }
    });
    let (mut known, mut stopped) = (None, false);
    let traced = Pump {
        tracker: &mut tracker,
        view: &mut *view,
        // As `tracer watch` does without `--all`: opens and closes are for the ledger.
        shown: Shown::Plain,
        output: &output,
        say: &mut |words| say(words),
    }
    .run(&mut source, async || {
        if std::mem::replace(&mut stopped, true) {
            return stop.signal().await;
        }
        tokio::select! {
            result = &mut told => known = result.ok(),
            () = stop.signal() => {}
        }
    })
    .await;
    // Ends the driver too, should it still wait for the client. The process is not reaped yet,
    // so the id is still its own.
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).ok();
    drop(driver.join());
    output
        .finish()
        .await
        .context("cannot write to standard output")?;
    traced?;
    let Some(known) = known else {
        say("stopped before the client failed");
        return Ok(ExitCode::SUCCESS);
    };
    let findings = findings(scenario, pid, tracker.state(), &known?)?;
    let mut text = b"\n".to_vec();
    findings.write(&mut text)?;
    write(args.output, &text)?;
    let agree = findings.disagreements().is_empty();
    Ok(ExitCode::from(u8::from(!agree)))
}

/// Words about the stream: on standard output, unless that is for data.
fn write(format: Format, text: &[u8]) -> io::Result<()> {
    match format {
        Format::Text => io::stdout().write_all(text),
        Format::Json => io::stderr().write_all(text),
    }
}
