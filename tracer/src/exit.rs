/*! Exit codes, and the one place where an error becomes one. */

use std::io::Write as _;
use std::process::ExitCode;

/// Why this kernel, or these privileges, do not allow what was asked: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAllowed(
    /// One sentence: what was tried, what refused, what to do.
    pub String,
);

/// Prints an error as one line and turns the result into the exit code:
/// 0 done (a closed pipe too), 1 failed, 3 tracing not allowed here.
pub fn report(result: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    let closed_pipe = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if closed_pipe {
        return ExitCode::SUCCESS;
    }
    // Not eprintln!, which panics when stderr is closed.
    writeln!(std::io::stderr(), "tracer: {error:#}").ok();
    let refused = error
        .chain()
        .any(|cause| cause.downcast_ref::<NotAllowed>().is_some());
    ExitCode::from(if refused { 3 } else { 1 })
}
