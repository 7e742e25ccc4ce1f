/*!
`cargo xtask bench`: measures what has to be fast, and fails where it is not.
*/
use std::process::Command;

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
    /// A minute of a large node's events through the ledger: 500 network namespaces, 5,000 pools,
    /// 100,000 events a second; at least ten times faster than real time
    Ledger,
}

/// Runs the verb.
///
/// # Errors
///
/// When the bench cannot be built, or says that a promise is broken.
pub(crate) fn run(options: Options) -> Result<()> {
    let bench = match options.what {
        What::Ledger => "ledger",
    };
    exec(
        Command::new(paths::cargo())
            .args(["bench", "--package", "tracer", "--bench", bench])
            .current_dir(paths::root()),
    )
}
