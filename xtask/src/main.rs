/*!
`cargo xtask`: everything that builds and checks tracer, one verb a file.
*/
mod apt;
mod bench;
mod ci;
mod ebpf;
mod exec;
mod paths;
mod readme;
mod rooms;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds and checks tracer.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds the eBPF object that is checked in, or proves that it is up to date
    Ebpf(ebpf::Options),
    /// Runs every test and lists the ones that could not run here
    Test(test::Options),
    /// Runs the end-to-end tests, or a command, on Debian kernels in qemu
    Vm(vm::Options),
    /// Measures what tracing costs, beside an untraced machine and other tools
    Bench(bench::Options),
    /// Checks which rooms of tracer/src name which others
    Rooms,
    /// Runs every check a change has to pass
    Ci(ci::Options),
}

fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    let done = match verb {
        Verb::Ebpf(options) => ebpf::run(options),
        Verb::Test(options) => test::run(options),
        Verb::Vm(options) => vm::run(options),
        Verb::Bench(options) => bench::run(options),
        Verb::Rooms => rooms::check(),
        Verb::Ci(options) => ci::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
