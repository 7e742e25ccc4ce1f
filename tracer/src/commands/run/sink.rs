/*! Where the words of `tracer run` go: standard output is the command's. */

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::Path;

use anyhow::Context as _;

use super::caller::Caller;
use crate::cli::Format;
use crate::commands::watch::view_on;
use crate::model::About;
use crate::stream::output::Output;
use crate::view::{Judging, View};

/// Most output that waits to be written.
const OUTPUT_BYTES: usize = 64 << 20;

/// A file of one's own, or standard error.
pub(super) struct Sink {
    file: File,
}

impl Sink {
    /// Makes `path`, for `owner` where one is given, or takes standard error.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub(super) fn open(path: Option<&Path>, owner: Option<&Caller>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            let stderr = io::stderr().as_fd().try_clone_to_owned();
            let file = File::from(stderr.context("cannot use standard error")?);
            return Ok(Self { file });
        };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
            .map_err(|error| {
                let way = match error.kind() {
                    io::ErrorKind::AlreadyExists => "; remove it or name another one",
                    _ => "",
                };
                anyhow::anyhow!("cannot make the file {}: {error}{way}", path.display())
            })?;
        if let Some(owner) = owner {
            let (uid, gid) = owner.ids();
            fchown(&file, Some(uid.as_raw()), Some(gid.as_raw()))
                .with_context(|| format!("cannot give {} to its user", path.display()))?;
        }
        Ok(Self { file })
    }

    /// A queue in front of it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn output(&self) -> anyhow::Result<Output> {
        let file = self.file.try_clone().context("cannot use the output")?;
        Output::start(file, OUTPUT_BYTES).context("cannot use the output")
    }

    /// The view a format asks for, fit for it.
    pub(super) fn view(&self, format: Format, all: bool, about: &About) -> Box<dyn View> {
        view_on(&self.file, format, false, all, Judging::Stream, about)
    }
}
