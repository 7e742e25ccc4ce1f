/*!
`cargo xtask bench`: measures what has to be fast.
*/
use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{exec::exec, paths};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// What tracing costs on this kernel, as root: connections, answers and failures a second beside
    /// nobody, empty programs, tracer, and every peer that is installed (Debian's packages
    /// libbpf-tools and bpftrace); a Markdown table each
    Live(Live),
    /// How the cost grows, as root: from 1,000 connections at a time to a million, in TIME_WAIT and
    /// open; a table and a figure. A million open ones take the kernel 8 GB
    Scale(Scale),
    /// How long connect() takes as a pool of the default range fills up, beside nobody and tracer
    Search(Search),
    /// What an event costs user space, stage by stage
    Stages,
    /// A minute of a large node's events through the ledger: 500 network namespaces, 5,000 pools,
    /// 100,000 events a second; at least ten times faster than real time
    Ledger(Ledger),
}

#[derive(clap::Args)]
struct Ledger {
    /// Pools of source ports, with three owners each
    #[arg(long, default_value_t = 5_000)]
    pools: u64,
}

#[derive(clap::Args)]
struct Live {
    /// Rounds of each load
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Only these loads, separated by commas: storm, inbound, keep-alive, dry-pool, idle
    #[arg(long, value_name = "LOADS")]
    loads: Option<String>,
    /// Only what has one of these in its name, separated by commas
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,
    /// Connections of a storm, in thousands
    #[arg(long, default_value_t = 60)]
    thousands: u32,
    /// Clients of a storm at a time
    #[arg(long, default_value_t = 4)]
    clients: u16,
    #[command(flatten)]
    files: Files,
}

#[derive(clap::Args)]
struct Scale {
    /// Most connections at a time, in thousands
    #[arg(long, default_value_t = 1_000)]
    thousands: u64,
    #[command(flatten)]
    files: Files,
}

#[derive(clap::Args)]
struct Search {
    /// Pools that are filled beside each
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    #[command(flatten)]
    files: Files,
}

/// What is written beside standard output.
#[derive(clap::Args)]
struct Files {
    /// Writes the tables to this file too
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Draws the figures to this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

impl Files {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (name, file) in [("markdown", &self.markdown), ("plot", &self.plot)] {
            arguments.extend(file.as_ref().map(|file| {
                // cargo runs benches in the folder of their package.
                let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
                format!("--{name}={}", file.display())
            }));
        }
        arguments
    }
}

impl Live {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--rounds={}", self.rounds),
            format!("--thousands={}", self.thousands),
            format!("--clients={}", self.clients),
        ];
        for (name, value) in [("loads", &self.loads), ("only", &self.only)] {
            arguments.extend(value.as_ref().map(|value| format!("--{name}={value}")));
        }
        arguments.extend(self.files.arguments());
        arguments
    }
}

/// Runs the verb.
///
/// # Errors
///
/// When the bench cannot be built or run, or says that a promise is broken.
pub(crate) fn run(options: Options) -> Result<()> {
    let (bench, arguments) = match options.what {
        What::Live(live) => ("live", live.arguments()),
        What::Scale(scale) => {
            let mut arguments = vec![format!("--scale={}", scale.thousands)];
            arguments.extend(scale.files.arguments());
            ("live", arguments)
        }
        What::Search(search) => {
            let mut arguments = vec![
                "--search".to_owned(),
                format!("--rounds={}", search.rounds),
                "--only=tracer watch -o json".to_owned(),
            ];
            arguments.extend(search.files.arguments());
            ("live", arguments)
        }
        What::Stages => ("stages", Vec::new()),
        What::Ledger(ledger) => ("ledger", vec![format!("--pools={}", ledger.pools)]),
    };
    exec(
        Command::new(paths::cargo())
            .args(["bench", "--locked", "--package", "tracer", "--bench", bench])
            .arg("--")
            .args(arguments)
            .current_dir(paths::root()),
    )
}
