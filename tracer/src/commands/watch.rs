/*! `tracer watch`: the stream of failures and TIME_WAITs, with their owners. */

use std::future::Future;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::tz::TimeZone;
use nix::sys::utsname::uname;
use terminal_size::{Width, terminal_size_of};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::select;
use crate::cli::{Format, WatchArgs};
use crate::kernel::attach::Options;
use crate::kernel::hooks::NONE;
use crate::kernel::preflight::{self, Facts};
use crate::kernel::probes::Probes;
use crate::model::{About, Selection};
use crate::source::Source as _;
use crate::source::live::{Live, machine};
use crate::stream::output::Output;
use crate::stream::pump::{Pump, Shown};
use crate::stream::tracker::Tracker;
use crate::view::json::Json;
use crate::view::text::{self, Text};
use crate::view::{Judging, View, escape};

/// Most JSON that waits for standard output: a burst of 100,000 sockets.
const JSON_BYTES: usize = 64 << 20;

/// Most text that waits for standard output; it is folded already.
const TEXT_BYTES: usize = 4 << 20;

/// Time for which what is left may be written after one more signal: ample for a reader that reads.
const GRACE: Duration = Duration::from_millis(500);

/// Columns of a terminal that does not tell its own.
const COLUMNS: usize = 80;

/// Streams until Ctrl-C, SIGTERM, the end of `--duration` or of the reader.
///
/// # Errors
/// When tracing is not allowed here, a filter names nothing that exists, or standard output
/// cannot be written.
pub fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    // The namespaces are not held open: one that goes while it is watched is to be seen going.
    let selection = select::resolve(&args.filters)?.selection;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(watch(args, &selection))
}

async fn watch(args: &WatchArgs, selection: &Selection) -> anyhow::Result<ExitCode> {
    // Before anything is attached, so that no signal in between leaves without a summary.
    let mut stop = Stop::new()?;
    let json = args.output == Format::Json;
    let limit = if json { JSON_BYTES } else { TEXT_BYTES };
    let output = Output::stdout(limit).context("cannot use standard output")?;
    let mut source = attach(&options(args, selection))?;
    say(&format!(
        "watching {} with {}; Ctrl-C ends",
        whose(selection),
        text::seen_with(source.about())
    ));
    let mut tracker = Tracker::new(source.about(), selection.clone(), args.all);
    let mut view = view(args.output, args.each, args.all, source.about());
    let pump = Pump {
        tracker: &mut tracker,
        view: &mut *view,
        shown: Shown::Details,
        output: &output,
        say: &mut |words| say(words),
    };
    let mut duration = args.duration;
    pump.run(&mut source, async || stop.within(duration.take()).await)
        .await?;
    drop(source);
    // Nothing is attached any more: a slow reader may take its time, unless it is stopped too.
    tokio::select! {
        biased;
        written = output.finish() => written.context("cannot write to standard output")?,
        () = async { stop.signal().await; tokio::time::sleep(GRACE).await } => {
            return Err(anyhow!("stopped while standard output was too slow: not all lines were written"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Attaches to the running kernel, and says what cannot be seen here and why.
///
/// # Errors
/// [`NotAllowed`]: what refused, and what to do.
///
/// [`NotAllowed`]: crate::exit::NotAllowed
pub fn attach(options: &Options) -> anyhow::Result<Live<Probes>> {
    let refused = |error| preflight::cannot_trace(&Facts::read(), &error);
    let (probes, kernel) = Probes::attach(options).map_err(refused)?;
    let mut facts = Facts::of_this_process();
    let mut backend = probes.backend().clone();
    if preflight::has_hook_gaps(&kernel, &backend, options.ends) {
        facts = Facts::read();
    }
    for gap in preflight::gaps(&facts, &kernel, &backend, options.ends) {
        say(&gap);
    }
    backend.extend(preflight::reach_of_events(&facts, &kernel));
    drop(kernel);
    give_memory_back();
    let about = About {
        kernel: uname().map_or_else(
            |_| "of unknown release".to_owned(),
            |name| name.release().to_string_lossy().into_owned(),
        ),
        backend,
        opens: probes.sends_opens(),
        ends: probes.backend().get("time_wait_end").map(String::as_str) != Some(NONE),
        // Socket dumps have everybody's sockets.
        partial: options.selection.is_in_kernel(),
        clock_offset_ns: 0,
    };
    let survey = machine::survey(!about.backend.contains_key(preflight::NAMESPACES))?;
    // Of a command it is not known yet where its connections will be: all are listed.
    let namespaces = options.selection.namespaces.clone();
    Ok(Live::new(probes, about, survey, namespaces))
}

/// The kernel's types take 40 MB while they are looked through, in pieces that the allocator would
/// keep for ever.
fn give_memory_back() {
    // SAFETY: it takes no pointer, and only what is free is given back.
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// The view a format asks for, fit for standard output as it is.
pub fn view(format: Format, each: bool, all: bool, about: &About) -> Box<dyn View> {
    view_on(&io::stdout(), format, each, all, Judging::Stream, about)
}

/// The same, fit for another sink.
pub fn view_on(
    sink: &(impl AsFd + IsTerminal),
    format: Format,
    each: bool,
    all: bool,
    judging: Judging,
    about: &About,
) -> Box<dyn View> {
    if format == Format::Json {
        return Box::new(Json::new(about).judging(judging));
    }
    let terminal = sink.is_terminal();
    let width = terminal.then(|| {
        terminal_size_of(sink).map_or(COLUMNS, |(Width(columns), _)| usize::from(columns))
    });
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let options = text::Options {
        width,
        colour: terminal && !no_colour,
        each,
        ends: all,
        judging,
        zone: TimeZone::system(),
    };
    Box::new(Text::new(options, about.clock_offset_ns))
}

/// What the kernel side is to do.
fn options(args: &WatchArgs, selection: &Selection) -> Options {
    Options {
        selection: selection.clone(),
        all: args.all,
        // Text shows them only with --all: then the kernel need not send them.
        ends: args.all || args.output == Format::Json,
        ring_bytes: args.tuning.ring_size.0,
        max_sockets: args.tuning.max_sockets,
        backend: args.tuning.backend.into(),
        leave_syscalls: args.no_syscalls,
        skip_softirq: args.tuning.skip_softirq,
        floor: args.tuning.floor,
    }
}

fn whose(selection: &Selection) -> &'static str {
    if *selection == Selection::default() {
        "every process"
    } else {
        "what the filters name"
    }
}

/// A line for people. Whether anybody reads it does not matter to the stream.
pub fn say(words: &str) {
    let words = escape::terminal(words.as_bytes());
    writeln!(io::stderr(), "tracer: {words}").ok();
}

/// What ends a stream from outside.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// From now on SIGINT and SIGTERM end the stream and not the process.
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// When the handlers cannot be set.
    pub fn new() -> anyhow::Result<Self> {
        let handle = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            interrupt: handle(SignalKind::interrupt())?,
            terminate: handle(SignalKind::terminate())?,
        })
    }

    /// Returns at the next signal.
    pub async fn signal(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Returns at the next signal, or after `duration`, counted from the call.
    pub fn within(&mut self, duration: Option<Duration>) -> impl Future<Output = ()> + '_ {
        let end = duration.map(tokio::time::sleep);
        async move {
            match end {
                None => self.signal().await,
                Some(end) => tokio::select! {
                    () = self.signal() => {}
                    () = end => {}
                },
            }
        }
    }
}
