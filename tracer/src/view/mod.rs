/*! One file a renderer: events are pushed to it, it pulls from the state, and writes. */

mod burst;
pub mod checks;
pub mod draining;
pub mod escape;
pub mod findings;
mod frames;
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

pub use self::frames::Frames;
use crate::model::{Event, Failure};
use crate::state::State;

/// What text is laid out for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Columns of the terminal; `None` shortens nothing.
    pub width: Option<usize>,
    /// Whether to colour.
    pub colour: bool,
}

/// When pools and verdicts are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Judging {
    /// As they change for a reader, and all at the end.
    #[default]
    Stream,
    /// At the end.
    End,
    /// Never: somebody else tells them.
    Never,
}

/// Renders a stream. Events are pushed to it; everything else it pulls from the state. What is due
/// now goes to `out`.
pub trait View {
    /// One event; never a failure.
    ///
    /// # Errors
    /// Those of `out`.
    fn event(&mut self, event: &Event, out: &mut Frames) -> io::Result<()>;

    /// Failures, with their exact count.
    ///
    /// # Errors
    /// Those of `out`.
    fn failure(&mut self, failure: &Failure, out: &mut Frames) -> io::Result<()>;

    /// Time passed: what was held back until now may be due, and the state may have news. To be
    /// called whenever the source tells the time; of pools and verdicts only what changed for a reader is shown, by
    /// the rule of [`news`].
    ///
    /// # Errors
    /// Those of `out`.
    fn look(&mut self, state: &State, out: &mut Frames) -> io::Result<()>;

    /// When [`look`](Self::look) is to be called at the latest, ns of `CLOCK_MONOTONIC`: what was held
    /// back is due then.
    fn due_ns(&self) -> Option<u64> {
        None
    }

    /// The stream is over: everything held back, all pools and verdicts. Once; also without any
    /// [`look`](Self::look) before, where no stream is shown.
    ///
    /// # Errors
    /// Those of `out`.
    fn end(&mut self, state: &State, out: &mut Frames) -> io::Result<()>;

    /// The last words, which always reach the reader: what was lost since that was said last, and the
    /// summary.
    ///
    /// # Errors
    /// Those of `out`.
    fn summary(&mut self, state: &State, out: &mut Frames) -> io::Result<()>;
}
