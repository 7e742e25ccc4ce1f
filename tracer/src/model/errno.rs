/*! Errno numbers and their symbolic names. */

use std::borrow::Cow;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// A positive errno.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Error(pub u16);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&name(self.0))
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// `EADDRNOTAVAIL`; `E123` where the number has no name.
    pub fn name(self) -> Cow<'static, str> {
        name(self.0)
    }
}

/// `EADDRNOTAVAIL` for 99; `E123` where the number has no name.
fn name(number: u16) -> Cow<'static, str> {
    match Errno::from_raw(i32::from(number)) {
        Errno::UnknownErrno => Cow::Owned(format!("E{number}")),
        Errno::EADDRNOTAVAIL => Cow::Borrowed("EADDRNOTAVAIL"),
        Errno::EADDRINUSE => Cow::Borrowed("EADDRINUSE"),
        Errno::ECONNREFUSED => Cow::Borrowed("ECONNREFUSED"),
        // The crate's names are its variants' own: nothing to keep in step.
        known => Cow::Owned(format!("{known:?}")),
    }
}
