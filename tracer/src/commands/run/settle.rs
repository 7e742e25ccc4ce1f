/*! A source that says when it has become quiet, once the command has ended. */

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::model::About;
use crate::source::{Batch, Flow, Source};

/// Time without an event after which nothing more is expected: the peers' last FINs took their
/// round trip.
const QUIET: Duration = Duration::from_millis(200);

/// Longest wait for that.
const LONGEST: Duration = Duration::from_secs(2);

/// Time between drains meanwhile.
const OFTEN: Duration = Duration::from_millis(15);

/// Shared between the source and who waits for its quiet.
#[derive(Debug)]
pub(super) struct Quiet {
    ending: Cell<bool>,
    begun: Notify,
    last: Cell<Instant>,
}

impl Quiet {
    /// Not yet waited for.
    pub(super) fn new() -> Self {
        Self {
            ending: Cell::new(false),
            begun: Notify::new(),
            last: Cell::new(Instant::now()),
        }
    }

    /// Returns when the source brought nothing for a while; it must be drained meanwhile.
    pub(super) async fn wait(&self) {
        self.ending.set(true);
        self.begun.notify_one();
        let begin = Instant::now();
        self.last.set(begin);
        let longest = begin + LONGEST;
        loop {
            let quiet = self.last.get() + QUIET;
            sleep_until(quiet.min(longest)).await;
            let now = Instant::now();
            if now >= longest || now >= self.last.get() + QUIET {
                return;
            }
        }
    }
}

/// A source watched for quiet.
pub(super) struct Settling<'a, S> {
    /// The source.
    pub(super) inner: S,
    /// Who is told.
    pub(super) quiet: &'a Quiet,
}

impl<S: Source> Source for Settling<'_, S> {
    fn about(&self) -> &About {
        self.inner.about()
    }

    async fn next(&mut self, batch: &mut Batch, at_most: Duration) -> anyhow::Result<Flow> {
        let quiet = self.quiet;
        let flow = if quiet.ending.get() {
            self.inner.next(batch, at_most.min(OFTEN)).await?
        } else {
            // Cuts a long wait short when the quiet is asked for.
            tokio::select! {
                flow = self.inner.next(batch, at_most) => flow?,
                () = quiet.begun.notified() => return Ok(Flow::More),
            }
        };
        if batch.tells_events() {
            quiet.last.set(Instant::now());
        }
        Ok(flow)
    }

    fn stop(&mut self) {
        self.inner.stop();
    }
}
