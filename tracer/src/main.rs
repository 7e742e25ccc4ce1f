/*! The `tracer` binary: parse, run, exit code. */

use std::process::ExitCode;

fn main() -> ExitCode {
    tracer::exit::report(tracer::commands::run())
}
