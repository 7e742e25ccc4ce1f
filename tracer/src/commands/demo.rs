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
use self::plain::Plain;
use super::books;
use super::watch::{Stop, attach, say, view};
use crate::cli::{DemoArgs, Format};
use crate::host::process::Identities;
use crate::kernel::attach::Options;
use crate::kernel::hooks::NONE;
use crate::ledger::Feed;
use crate::sandbox::{Pair, Settings, Side};
use crate::source::Source as _;
use crate::stream::filter::Filter;
use crate::stream::output::Output;
use crate::stream::pump::Pump;

mod drive;
mod judge;
mod plain;
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
        namespaces: vec![pair.inode(Side::Client)],
        // For the books; shown is neither an open nor a close.
        all: true,
        ..Options::default()
    })?;
    let feed = Feed {
        opens: true,
        ends: source
            .about()
            .backend
            .get("time_wait_end")
            .map(String::as_str)
            != Some(NONE),
    };
    let mut books = books::open(feed, &[pair.inode(Side::Client)], false)?;
    let output = Output::stdout(OUTPUT_BYTES).context("cannot use standard output")?;
    let mut view = Plain {
        view: view(args.output, false, false, source.about()),
        verdicts: args.output == Format::Json,
    };
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
    let mut known = None;
    let summary = Pump {
        people: &mut Identities::new(),
        filter: &Filter::default(),
        view: &mut view,
        output: &output,
        books: Some(&mut books),
        details: true,
        say: &mut |words| say(words),
    }
    .run(&mut source, async {
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
    let summary = summary?;
    let Some(known) = known else {
        say("stopped before the client failed");
        return Ok(ExitCode::SUCCESS);
    };
    let findings = findings(scenario, pid, &summary, &known?)?;
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
