/*! One file a renderer; each writes to an `impl Write` and never reads the host. */

pub mod checks;
pub mod draining;
pub mod escape;
pub mod findings;
pub mod json;
pub mod news;
pub mod pools;
#[cfg(test)]
pub(crate) mod sample;
mod table;
pub mod text;
pub mod verdict;
mod words;

use std::io;
use std::sync::Arc;

use crate::diagnosis::Verdict;
use crate::event::Event;
use crate::host::process::Identity;
use crate::ledger::pool::Pool;
use crate::source::{About, Failure, Loss};
use crate::stream::books::{Judgement, Shortfall};
use crate::stream::tally::{Row, Totals};

/// What text is laid out for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Columns of the terminal; `None` shortens nothing.
    pub width: Option<usize>,
    /// Whether to colour.
    pub colour: bool,
}

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
    /// The pools as they stood at the end, and what was wrong; empty where no books were kept.
    pub judgement: Judgement,
    /// What the books do not have, or not apart.
    pub shortfall: Shortfall,
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

    /// The pools and what is wrong with them, the most urgent first, as they stand at `now_ns`
    /// (`CLOCK_MONOTONIC`). To be called about once a second, also while there are none; only what
    /// changed for a reader is shown, by the rule of [`news`]. With `last`, once, after
    /// [`finish`](Self::finish) and before [`summary`](Self::summary), all of it is.
    ///
    /// # Errors
    /// Those of `out`.
    fn verdicts(
        &mut self,
        now_ns: u64,
        pools: &[Pool],
        verdicts: &[Verdict],
        last: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<()>;

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
