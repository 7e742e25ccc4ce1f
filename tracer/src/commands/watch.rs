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

use super::books;
use crate::cli::{Filters, Format, WatchArgs};
use crate::host::process::Identities;
use crate::host::sock_diag::tcp_sockets_of;
use crate::kernel::attach::Options;
use crate::kernel::preflight::{self, Facts};
use crate::kernel::probes::Probes;
use crate::ledger::Feed;
use crate::source::{About, Live, OutOfReach, Source as _, Survey};
use crate::stream::filter::Filter;
use crate::stream::output::Output;
use crate::stream::pump::Pump;
use crate::view::json::Json;
use crate::view::text::{self, Text};
use crate::view::{View, escape};

/// Most JSON that waits for standard output: a burst of 100,000 sockets.
const JSON_BYTES: usize = 64 << 20;

/// Most text that waits for standard output; it is folded already.
const TEXT_BYTES: usize = 4 << 20;

/// Columns of a terminal that does not tell its own.
const COLUMNS: usize = 80;

/// Streams until Ctrl-C, SIGTERM, the end of `--duration` or of the reader.
///
/// # Errors
/// When tracing is not allowed here, a filter names nothing that exists, or standard output
/// cannot be written.
pub fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(watch(args, &options))
}

async fn watch(args: &WatchArgs, options: &Options) -> anyhow::Result<ExitCode> {
    // Before anything is attached, so that no signal in between leaves without a summary.
    let mut stop = Stop::new()?;
    let json = args.output == Format::Json;
    let limit = if json { JSON_BYTES } else { TEXT_BYTES };
    let output = Output::stdout(limit).context("cannot use standard output")?;
    let mut source = attach(options)?;
    say(&format!(
        "watching {} with {}; Ctrl-C ends",
        whose(&args.filters),
        text::seen_with(source.about())
    ));
    let feed = Feed {
        opens: source.about().opens,
        ends: options.ends,
    };
    let filter = filter(&args.filters);
    let mut books = books::open(feed, &options.namespaces, filter.is_in_kernel())?;
    let mut view = view(args.output, args.each, args.all, source.about());
    let mut pump = Pump {
        people: &mut Identities::new(),
        filter: &filter,
        view: &mut *view,
        output: &output,
        books: Some(&mut books),
        details: args.all,
        say: &mut |words| say(words),
    };
    pump.run(&mut source, stop.within(args.duration)).await?;
    // Nothing is attached any more: a slow reader may take its time, unless it is stopped too.
    tokio::select! {
        biased;
        written = output.finish() => written.context("cannot write to standard output")?,
        () = stop.signal() => {
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
        clock_offset_ns: 0,
    };
    let survey: Survey = if about.backend.contains_key(preflight::NAMESPACES) {
        |netns| tcp_sockets_of(netns).context(OutOfReach)
    } else {
        tcp_sockets_of
    };
    Ok(Live::new(probes, about, survey))
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
    view_on(&io::stdout(), format, each, all, about)
}

/// The same, fit for another sink.
pub fn view_on(
    sink: &(impl AsFd + IsTerminal),
    format: Format,
    each: bool,
    all: bool,
    about: &About,
) -> Box<dyn View> {
    if format == Format::Json {
        return Box::new(Json::new(about));
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
        zone: TimeZone::system(),
    };
    Box::new(Text::new(options, about.clock_offset_ns))
}

/// What the kernel side is to do.
fn options(args: &WatchArgs) -> anyhow::Result<Options> {
    let filters = &args.filters;
    let mut namespaces = Vec::new();
    for selector in &filters.netns {
        namespaces.push(selector.open()?.inode());
    }
    for &pid in &filters.pid {
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return Err(anyhow!(
                "there is no process {pid} to watch; `ps -e` lists them"
            ));
        }
    }
    Ok(Options {
        pids: filters.pid.clone(),
        follow: false,
        namespaces,
        destinations: filters.dst.iter().map(|dst| dst.to_wire()).collect(),
        all: args.all,
        // Text shows them only with --all: then the kernel need not send them.
        ends: args.all || args.output == Format::Json,
        ring_bytes: args.tuning.ring_size.0,
        max_sockets: args.tuning.max_sockets,
        backend: args.tuning.backend.into(),
        leave_syscalls: args.no_syscalls,
        skip_softirq: args.tuning.skip_softirq,
        floor: args.tuning.floor,
    })
}

fn filter(filters: &Filters) -> Filter {
    Filter {
        pids: filters.pid.clone(),
        comms: filters.comm.clone(),
        containers: filters.container.clone(),
        destinations: filters
            .dst
            .iter()
            .map(|dst| (dst.network, dst.port))
            .collect(),
    }
}

fn whose(filters: &Filters) -> &'static str {
    let Filters {
        pid,
        comm,
        dst,
        container,
        netns,
    } = filters;
    let all = pid.is_empty()
        && comm.is_empty()
        && dst.is_empty()
        && container.is_empty()
        && netns.is_empty();
    if all {
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
