/*! The loop every live verb shares: source to state and view to output, until told to stop. */

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use super::output::Output;
use super::tracker::Tracker;
use crate::source::{Batch, Flow, Item, Source};
use crate::view::{Frames, View};

/// Longest wait for a batch: what is shown follows the clock.
const LONGEST: Duration = Duration::from_secs(1);

/// Shortest: nobody sees a line come any sooner.
const SHORTEST: Duration = Duration::from_millis(1);

/// Bytes of rendered lines handed to the output at once.
const CHUNK: usize = 256 << 10;

/// What of a stream is shown before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// All but connections that open and close.
    Plain,
    /// Everything.
    Details,
}

/// A stream's way to its reader.
pub struct Pump<'a> {
    /// Keeps what is known.
    pub tracker: &'a mut Tracker,
    /// How to show it.
    pub view: &'a mut dyn View,
    /// What of it.
    pub shown: Shown,
    /// Where to.
    pub output: &'a Output,
    /// Says a sentence to people, aside from the stream.
    pub say: &'a mut dyn FnMut(&str),
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// Nothing could be written any more.
    Unread,
    /// The source had no more to tell.
    Source,
}

impl Pump<'_> {
    /// Carries `source` to the output until `stop` returns or nothing can be written any more; then
    /// ends the source, carries what is left, and has the view end. While that lasts, `stop` is
    /// called again: when it returns a second time, nothing more is waited for. The output may
    /// still be writing when this returns: see [`Output::finish`].
    ///
    /// # Errors
    /// When the source can no longer be read. A failed output is not an error here.
    pub async fn run<S: Source>(
        mut self,
        source: &mut S,
        mut stop: impl AsyncFnMut(),
    ) -> anyhow::Result<End> {
        let mut round = Round::default();
        let output = self.output;
        let gone = output.gone();
        let why = self.carry(source, &mut round, stop(), gone).await?;
        if why != End::Source {
            round.ending = true;
            source.stop();
            let mut end = why;
            if why == End::Stopped {
                let never = std::future::pending();
                end = self.carry(source, &mut round, stop(), never).await?;
            }
            if end != End::Source {
                // Nothing more is waited for.
                source.stop();
                let (never, ever) = (std::future::pending(), std::future::pending());
                self.carry(source, &mut round, never, ever).await?;
            }
        }
        self.tracker.judge();
        let frames = &mut round.frames;
        self.view.end(self.tracker.state(), frames)?;
        self.output.send(frames);
        self.tracker.state_mut().losses.lost.output = self.output.lost();
        self.view.summary(self.tracker.state(), frames)?;
        self.output.insist(frames.bytes());
        Ok(why)
    }

    /// Carries batches until the source has ended, or until `stop` or `gone` returns, which are asked
    /// first.
    async fn carry<S: Source>(
        &mut self,
        source: &mut S,
        round: &mut Round,
        stop: impl Future<Output = ()>,
        gone: impl Future<Output = ()>,
    ) -> anyhow::Result<End> {
        let (mut stop, mut gone) = (pin!(stop), pin!(gone));
        loop {
            round.batch.items.clear();
            let at_most = self.patience();
            let flow = tokio::select! {
                biased;
                () = &mut stop => return Ok(End::Stopped),
                () = &mut gone => return Ok(End::Unread),
                flow = source.next(&mut round.batch, at_most) => flow?,
            };
            self.take(round)?;
            if flow == Flow::Ended {
                return Ok(End::Source);
            }
        }
    }

    /// How long a batch may be waited for: what the view holds back is not to come late.
    fn patience(&self) -> Duration {
        let left_ns = |due_ns: u64| due_ns.saturating_sub(self.tracker.state().now_ns);
        let due = self.view.due_ns().map(left_ns).map(Duration::from_nanos);
        due.map_or(LONGEST, |due| due.clamp(SHORTEST, LONGEST))
    }

    /// Takes a batch, item by item.
    fn take(&mut self, round: &mut Round) -> anyhow::Result<()> {
        let Round {
            batch,
            frames,
            ending,
        } = round;
        for item in batch.items.drain(..) {
            match item {
                Item::Event(event) => {
                    let is_shown = match self.shown {
                        Shown::Nothing => false,
                        Shown::Plain => !event.kind.is_detail(),
                        Shown::Details => true,
                    };
                    if self.tracker.event(&event) && is_shown {
                        self.view.event(&event, frames)?;
                        if frames.bytes().len() >= CHUNK {
                            self.output.send(frames);
                        }
                    }
                }
                Item::Failures(failure) => {
                    if self.tracker.failure(&failure) && self.shown != Shown::Nothing {
                        self.view.failure(&failure, frames)?;
                    }
                }
                Item::Notice(words) => (self.say)(&words),
                Item::Loss(_) => {
                    self.tracker.take(item);
                    self.tracker.state_mut().losses.lost.output = self.output.lost();
                }
                Item::Clock { .. } => {
                    self.tracker.take(item);
                    self.output.send(frames);
                    // What the end says is not news before.
                    if self.shown != Shown::Nothing && !*ending {
                        frames.set_room(self.output.room());
                        self.view.look(self.tracker.state(), frames)?;
                        self.output.send(frames);
                    }
                }
                Item::Dump(_) | Item::Gone(_) | Item::Unlisted(_) => self.tracker.take(item),
            }
        }
        Ok(())
    }
}

/// What is reused from one batch to the next.
#[derive(Default)]
struct Round {
    batch: Batch,
    frames: Frames,
    /// Whether the source was asked to end.
    ending: bool,
}

#[cfg(test)]
mod tests;
