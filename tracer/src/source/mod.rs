/*!
Where everything that the ledger is fed with comes from, behind one trait: nothing downstream knows
whether it watches a kernel or reads a recording, and nothing calls back into either.
*/

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{About, Dump, Event, Failure, Loss};

pub mod live;

/// One thing a source tells. Their order is that in which they are to be taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// A fact about a single socket; never a failure.
    Event(Event),
    /// Failures, with their exact count.
    Failures(Box<Failure>),
    /// The sockets and settings of a network namespace. Every event up to its end came before.
    Dump(Box<Dump>),
    /// A network namespace (its inode) is gone, and all its sockets with it.
    Gone(u32),
    /// Network namespaces for which the socket dumps that come with this had no time.
    Unlisted(u64),
    /// What was lost until now, in all.
    Loss(Box<Loss>),
    /// A sentence for people.
    Notice(String),
    /// All that happened before, as far as it is known, came before.
    Clock {
        /// The source's present, ns of `CLOCK_MONOTONIC`.
        now_ns: u64,
        /// Whether a socket dump is under way: what is about to be judged is better judged with it.
        expects_dump: bool,
    },
}

/// What a source had to tell at a time. Where one batch ends and the next begins means nothing;
/// reused, so that no event costs an allocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// What is told, in order.
    pub items: Vec<Item>,
}

impl Batch {
    /// Whether it tells of any event or failure.
    pub fn tells_events(&self) -> bool {
        let is_event = |item: &Item| matches!(item, Item::Event(_) | Item::Failures(_));
        self.items.iter().any(is_event)
    }

    /// One item more.
    pub fn push(&mut self, item: Item) {
        self.items.push(item);
    }
}

/// Whether a source has more to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It has, or may have.
    More,
    /// That was all.
    Ended,
}

/// A stream of batches.
pub trait Source {
    /// What the source is; fixed from the start.
    fn about(&self) -> &About;

    /// Waits until there is something to tell, at most about `at_most`, and adds all there is to
    /// `batch`; the last thing it adds is a [`Item::Clock`]. Dropped while it waits, it takes nothing
    /// along. After it [ended](Flow::Ended) it is not to be called again.
    ///
    /// # Errors
    /// When the source can no longer be read.
    fn next(
        &mut self,
        batch: &mut Batch,
        at_most: Duration,
    ) -> impl Future<Output = anyhow::Result<Flow>>;

    /// Asks the source to end: [`next`](Self::next) then brings what is left. Asked again, it waits
    /// for nothing more.
    fn stop(&mut self);
}
