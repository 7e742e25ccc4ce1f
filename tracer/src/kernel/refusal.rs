/*! Why nothing can be traced, in sentences: what was tried and what the kernel said. */

use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::{BtfError, EbpfError};
use tracer_ebpf::MAX_DESTINATIONS;

use super::btf;
use super::hooks::{GROUPS, TRAMPOLINE};

/// Why nothing is traced. Each says what was tried and what refused it.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel's types are not to be had.
    #[error("cannot read the kernel's BTF for struct offsets")]
    Layout(#[source] btf::BtfError),
    /// The kernel's types are not to be had for the loader.
    #[error("cannot read the kernel's BTF")]
    Btf(#[source] BtfError),
    /// The kernel's types lack a member.
    #[error(
        "the kernel's BTF has no member for {0}: this kernel was built without IPv4 or its layout is unknown"
    )]
    Member(&'static str),
    /// The object's maps could not be made.
    #[error("cannot create the maps of the kernel programs: {}", chain(.0))]
    Open(EbpfError),
    /// A program was refused.
    #[error("the kernel refused the program for {hook}: {}", words(.reason))]
    Program {
        /// The tracepoint or function.
        hook: &'static str,
        /// What the kernel said; in the message, without the verifier's log.
        reason: Box<ProgramError>,
    },
    /// The trial of a hook that nothing can be traced without failed.
    #[error("the kernel refused the program for {hook}: {words}")]
    Refused {
        /// The tracepoint or function.
        hook: &'static str,
        /// What the kernel said.
        words: String,
    },
    /// tracefs could not be reached although the trial did.
    #[error("cannot reach tracefs")]
    Tracefs(#[source] std::io::Error),
    /// A map could not be filled or read.
    #[error("cannot use the map {name}")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// What the kernel said.
        source: Box<MapError>,
    },
    /// More destinations than the kernel side compares.
    #[error("{0} destinations were given, the kernel side compares at most {MAX_DESTINATIONS}")]
    Destinations(usize),
    /// Children cannot be traced.
    #[error("the kernel refused the programs that follow the children of a process")]
    Follow,
    /// The trampolines that were asked for are not to be had.
    #[error(
        "--backend trampoline was asked for and the kernel refused {hook}: {reason}; leave it out, and what this kernel has is used"
    )]
    Trampoline {
        /// Its place.
        hook: &'static str,
        /// The kernel's words.
        reason: String,
    },
    /// No hook at all was tried.
    #[error("the kernel refused every program")]
    NoHook,
}

impl AttachError {
    /// Whether the kernel lets nobody have trampolines, rather than lacks the place of one: then it
    /// refuses the program without a word of its verifier.
    pub(super) fn refuses_trampolines(&self) -> bool {
        let Self::Program { hook, reason } = self else {
            return false;
        };
        let is_trampoline = GROUPS
            .iter()
            .filter(|group| group.backend == TRAMPOLINE)
            .any(|group| group.hooks.iter().any(|one| one.target() == *hook));
        is_trampoline
            && matches!(&**reason, ProgramError::LoadError { io_error, verifier_log }
                if io_error.kind() == std::io::ErrorKind::PermissionDenied
                    && verifier_log.to_string().trim().is_empty())
    }
}

/// The kernel's words without the verifier's log, of which only the last line says why.
pub(crate) fn words(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        log::debug!("{verifier_log}");
        let log = verifier_log.to_string();
        let why = log
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty() && !is_statistics(line));
        return match why {
            Some(why) => format!("{io_error} ({})", why.trim()),
            None => io_error.to_string(),
        };
    }
    chain(error)
}

/// The lines every verifier log ends in, whatever was wrong (`print_verification_stats`).
fn is_statistics(line: &str) -> bool {
    ["verification time ", "stack depth ", "processed "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
