/*! What a source is and how it sees. */

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a source is and how it sees; fixed from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Release of the kernel the events are from.
    pub kernel: String,
    /// What each hook is attached with (`trampoline`, `tracepoint`, …), by the hook's name.
    pub backend: BTreeMap<String, String>,
    /// Whether opens and closes are among the events, asked for or not.
    pub opens: bool,
    /// Whether the ends of TIME_WAITs are; else they leave by time.
    pub ends: bool,
    /// Whether events are left out of sockets that socket dumps have: what those have more is then
    /// no drift.
    pub partial: bool,
    /// Nanoseconds to add to `CLOCK_MONOTONIC` for the time since 1970, measured at the start.
    pub clock_offset_ns: i64,
}
