/*! Errno numbers to their symbolic names. */

use std::borrow::Cow;

use nix::errno::Errno;

/// `EADDRNOTAVAIL` for 99; `E123` where the number has no name.
pub(super) fn name(number: u16) -> Cow<'static, str> {
    match Errno::from_raw(i32::from(number)) {
        Errno::UnknownErrno => Cow::Owned(format!("E{number}")),
        Errno::EADDRNOTAVAIL => Cow::Borrowed("EADDRNOTAVAIL"),
        Errno::EADDRINUSE => Cow::Borrowed("EADDRINUSE"),
        Errno::ECONNREFUSED => Cow::Borrowed("ECONNREFUSED"),
        // The crate's names are its variants' own: nothing to keep in step.
        known => Cow::Owned(format!("{known:?}")),
    }
}
