/*! One file a verb; this one parses and picks. */

use std::process::ExitCode;

pub mod doctor;

/// Parses the command line and runs its verb.
///
/// # Errors
/// What the verb could not do, as one chain of sentences.
pub fn run() -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
