/*! `tracer demo`: the real tracer on a real failing client in throwaway namespaces. */

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;
use tracer_ebpf::tcp_state;

use super::watch::{Stop, attach, say, view};
use crate::cli::{DemoArgs, Format, Scenario};
use crate::host::process::Identities;
use crate::host::sock_diag::tcp_sockets;
use crate::host::sysctl::PortRange;
use crate::kernel::probes::Options;
use crate::sandbox::workload::{Connect, Manner, Report, Serve, Then, Work};
use crate::sandbox::{Pair, Process, SERVER_V4, Settings, Side};
use crate::source::Source as _;
use crate::stream::filter::Filter;
use crate::stream::output::Output;
use crate::stream::place::Place;
use crate::stream::pump::Pump;
use crate::view::Summary;
use crate::view::findings::Findings;

/// Failures after which the client gives up.
const FAILURES: u64 = 50;

/// Longest time the client may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most text that waits for standard output.
const OUTPUT_BYTES: usize = 64 << 20;

impl Scenario {
    /// The client's name.
    fn client(self) -> &'static str {
        match self {
            Self::Churn => "churning-app",
            Self::Leak => "leaking-app",
        }
    }

    /// The port of the server.
    fn port(self) -> u16 {
        match self {
            Self::Churn => 5432,
            Self::Leak => 5672,
        }
    }

    /// What the client does with a connection.
    fn then(self) -> Then {
        match self {
            Self::Churn => Then::Close,
            Self::Leak => Then::PingAndKeep,
        }
    }

    /// The state in which its connections end up.
    fn rest(self) -> u8 {
        match self {
            Self::Churn => tcp_state::TIME_WAIT,
            Self::Leak => tcp_state::ESTABLISHED,
        }
    }

    fn does(self) -> &'static str {
        match self {
            Self::Churn => "opens and closes connections",
            Self::Leak => "opens connections and closes none",
        }
    }

    fn verdict(self) -> &'static str {
        match self {
            Self::Churn => "churn: a closed connection holds its port for 60 s more",
            Self::Leak => "leak: open connections pile up; no sysctl helps",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Churn => "reuse connections: a pool, keep-alive",
            Self::Leak => "close each when done, or share one",
        }
    }
}

/// Runs a demo to its end: until the client failed often enough, or Ctrl-C.
///
/// # Errors
/// When namespaces or tracing are not allowed here, and when the trace and the
/// client's own count do not agree.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let scenario = args.scenario;
    let words = format!(
        "demo: {} {} until connect() fails,\nin two throwaway network namespaces with {} \
         source ports to {SERVER_V4}:{}\n\n",
        scenario.client(),
        scenario.does(),
        args.ports,
        scenario.port(),
    );
    write(args.output, words.as_bytes())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(demo(args))
}

/// What is known without tracing.
struct Known {
    report: Report,
    holdings: BTreeMap<u8, usize>,
    capacity: u32,
}

async fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let scenario = args.scenario;
    let mut stop = Stop::new()?;
    let pair = Arc::new(Pair::create(&Settings::with_ports(args.ports))?);
    let this = Path::new("/proc/self/exe");
    let at = SocketAddr::new(SERVER_V4.into(), scenario.port());
    let serve = Work::Serve(Serve {
        at: vec![at],
        manner: Manner::Echo,
    });
    let _server = pair.spawn(Side::Server, this, "server", &serve)?;
    let work = Connect::new(at, u64::from(args.ports) + FAILURES)
        .stop_after(FAILURES)
        .then(scenario.then());
    let work = Work::Connect(work);
    let client = pair.spawn(Side::Client, this, scenario.client(), &work)?;
    let pid = client.pid();
    let mut source = attach(&Options {
        namespaces: vec![pair.inode(Side::Client)],
        ends: args.output == Format::Json,
        ..Options::default()
    })?;
    let output = Output::stdout(OUTPUT_BYTES).context("cannot use standard output")?;
    let mut view = view(args.output, false, false, source.about());
    say("tracing as `tracer watch` does; Ctrl-C ends");
    let (tell, mut told) = oneshot::channel();
    let driver = thread::spawn({
        let pair = Arc::clone(&pair);
        move || {
            let (known, client) = drive(client, &pair, scenario);
            // After Ctrl-C nobody listens.
            tell.send(known).ok();
            client
        }
    });
    let mut known = None;
    let summary = Pump {
        people: &mut Identities::new(),
        filter: &Filter::default(),
        view: &mut *view,
        output: &output,
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
    conclude(args.output, scenario, pid, &summary, &known?)
}

/// Lets the client fail and sees what the kernel then holds. Returns the
/// client alive, so that its identity can be read to the end.
fn drive(mut client: Process, pair: &Pair, scenario: Scenario) -> (anyhow::Result<Known>, Process) {
    let known = (|| {
        client.go()?;
        let report = client.report(PATIENCE)?;
        let range = pair.run_in(Side::Client, PortRange::read)??;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut holdings = BTreeMap::new();
            for socket in pair.run_in(Side::Client, tcp_sockets)?? {
                *holdings.entry(socket.state).or_default() += 1;
            }
            // The last connections may still be on their way into their last state.
            let rest = holdings.get(&scenario.rest()).copied().unwrap_or_default();
            if rest as u64 >= report.connected || Instant::now() > deadline {
                return Ok(Known {
                    report,
                    holdings,
                    capacity: range.ports(),
                });
            }
            thread::yield_now();
        }
    })();
    (known, client)
}

fn conclude(
    format: Format,
    scenario: Scenario,
    client: u32,
    summary: &Summary,
    known: &Known,
) -> anyhow::Result<ExitCode> {
    let culprit = summary
        .rows
        .iter()
        .find(|row| !row.failures.is_empty())
        .ok_or_else(|| anyhow!("the client failed, and the trace shows no failure"))?;
    let Place::Pool {
        src, dst, dport, ..
    } = culprit.place
    else {
        bail!("the trace shows a failure without a destination");
    };
    let findings = Findings {
        culprit: culprit.owner,
        src,
        dst,
        dport,
        failures: culprit.failures.clone(),
        time_waits: culprit.totals.time_wait,
        lost: summary.loss.lost.total(),
        capacity: known.capacity as usize,
        holdings: known.holdings.clone(),
        client,
        counted: known.report.failures(),
        verdict: scenario.verdict(),
        remedy: scenario.remedy(),
    };
    let mut text = b"\n".to_vec();
    findings.write(&mut text)?;
    write(format, &text)?;
    Ok(ExitCode::from(u8::from(
        !findings.disagreements().is_empty(),
    )))
}

/// Words about the stream: on standard output, unless that is for data.
fn write(format: Format, text: &[u8]) -> io::Result<()> {
    match format {
        Format::Text => io::stdout().write_all(text),
        Format::Json => io::stderr().write_all(text),
    }
}
