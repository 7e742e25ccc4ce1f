/*! One file a renderer; each writes to an `impl Write` and never reads the host. */

pub mod checks;
pub mod escape;
pub mod findings;
pub mod json;
pub mod text;

use std::io;
use std::sync::Arc;

use crate::event::Event;
use crate::host::process::Identity;
use crate::source::{About, Failure, Loss};
use crate::stream::tally::{Row, Totals};

/// A stream, looked back on.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Its end, ns of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// Its length, ns.
    pub duration_ns: u64,
    /// Events by type.
    pub totals: Totals,
    /// Who did how much of it where, the most failures first; at most 4,096.
    pub rows: Vec<Row>,
    /// Events and failure lines that are in no row.
    pub beyond: u64,
    /// What was lost.
    pub loss: Loss,
    /// What the source was.
    pub about: About,
}

/// Renders a stream. What is due now goes to `out`, in whole lines.
pub trait View {
    /// One event; never a failure.
    ///
    /// # Errors
    /// Those of `out`.
    fn event(&mut self, event: &Event, who: &Arc<Identity>, out: &mut Vec<u8>) -> io::Result<()>;

    /// Failures, with their exact count.
    ///
    /// # Errors
    /// Those of `out`.
    fn failure(
        &mut self,
        failure: &Failure,
        who: &Arc<Identity>,
        out: &mut Vec<u8>,
    ) -> io::Result<()>;

    /// Time passed: what was held back until now may be due.
    ///
    /// # Errors
    /// Those of `out`.
    fn tick(&mut self, now_ns: u64, out: &mut Vec<u8>) -> io::Result<()>;

    /// More was lost; the totals so far.
    ///
    /// # Errors
    /// Those of `out`.
    fn loss(&mut self, now_ns: u64, loss: &Loss, out: &mut Vec<u8>) -> io::Result<()>;

    /// The stream is over: everything held back.
    ///
    /// # Errors
    /// Those of `out`.
    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()>;

    /// The last words.
    ///
    /// # Errors
    /// Those of `out`.
    fn summary(&mut self, summary: &Summary, out: &mut Vec<u8>) -> io::Result<()>;
}
