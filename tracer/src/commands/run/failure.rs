/*! Why a command did not run, with the exit code env(1) has for it. */

use std::io;

use anyhow::anyhow;

/// The tracer itself failed.
const TRACER: u8 = 125;
/// The command was found and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
const NOT_FOUND: u8 = 127;

/// Nothing was run.
#[derive(Debug)]
pub(super) struct Failure {
    /// What was tried, what refused, what to do.
    pub(super) error: anyhow::Error,
    /// The exit code.
    pub(super) code: u8,
}

impl Failure {
    /// What comes before the command, such as tracing, is refused.
    pub(super) fn tracer(error: anyhow::Error) -> Self {
        Self {
            error,
            code: TRACER,
        }
    }

    /// exec() failed.
    pub(super) fn exec(command: &str, error: io::Error) -> Self {
        let (code, way) = match error.kind() {
            io::ErrorKind::NotFound => (NOT_FOUND, "; is it in PATH, and its interpreter there?"),
            io::ErrorKind::PermissionDenied => (
                NOT_EXECUTABLE,
                "; is it executable for the user that runs it?",
            ),
            _ => (NOT_EXECUTABLE, ""),
        };
        Self {
            error: anyhow!("cannot run {command}: {error}{way}"),
            code,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::tracer(error)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::Failure;

    #[test]
    fn codes_as_env_has_them() {
        for (errno, code) in [(2, 127), (13, 126), (8, 126), (7, 126), (20, 126)] {
            let failure = Failure::exec("it", io::Error::from_raw_os_error(errno));
            assert_eq!(failure.code, code, "errno {errno}");
            assert!(failure.error.to_string().starts_with("cannot run it: "));
        }
    }
}
