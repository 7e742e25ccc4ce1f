/*!
From what a source tells to what is known: folds items into the ledger, has it judged about once a
second, and keeps the [`State`].

Pure. Items are taken one by one, and time is what the source says it is, so that it makes no
difference how they were cut into batches, or when they are taken.
*/

use crate::diagnosis::diagnose;
use crate::ledger::{Feed, Ledger, Limits};
use crate::model::{About, Event, Failure, Selection};
use crate::source::Item;
use crate::state::{State, select};

/// Time between two judgements where no socket dump comes, ns.
const JUDGE_EVERY_NS: u64 = 1_000_000_000;

/// Time for which a judgement waits for a socket dump that is under way, ns.
const AWAIT_NS: u64 = 300_000_000;

/// Keeps a state up to date.
pub struct Tracker {
    selection: Selection,
    /// Whether opens and closes are counted; the ledger has them in any case.
    details: bool,
    ledger: Ledger,
    state: State,
    began: bool,
    next_judgement_ns: u64,
    /// Whether a dump was booked since the last judgement.
    booked: bool,
}

impl Tracker {
    /// For a source, of which what `selection` asks for is told and counted, with opens and closes
    /// if `details` are asked for.
    pub fn new(about: &About, selection: Selection, details: bool) -> Self {
        let feed = Feed {
            opens: about.opens,
            ends: about.ends,
        };
        Self {
            selection,
            details,
            ledger: Ledger::new(Limits::new(feed)),
            state: State {
                about: about.clone(),
                ..State::default()
            },
            began: false,
            next_judgement_ns: 0,
            booked: false,
        }
    }

    /// What is known now.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The same, for what is known from elsewhere: of the output, and of why the stream ended.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Whether an event was asked for.
    fn wants(&self, event: &Event) -> bool {
        (self.details || !event.kind.is_detail()) && self.selection.wants_process(&event.process)
    }

    /// Takes one item, in the order of the source.
    pub fn take(&mut self, item: Item) {
        match item {
            Item::Event(event) => {
                self.event(&event);
            }
            Item::Failures(failure) => {
                self.failure(&failure);
            }
            Item::Dump(dump) => {
                self.ledger.dump(&dump);
                self.booked = true;
                let namespace = dump.namespace;
                self.state.namespaces.insert(namespace.inode, namespace);
            }
            Item::Gone(netns) => {
                self.ledger.forget(netns);
                self.state.namespaces.remove(&netns);
            }
            Item::Unlisted(count) => {
                self.booked = true;
                self.state.shortfall.unlisted = count;
            }
            Item::Loss(loss) => {
                let output = self.state.losses.lost.output;
                self.state.losses = *loss;
                self.state.losses.lost.output = output;
            }
            Item::Notice(_) => {}
            Item::Clock {
                now_ns,
                expects_dump,
            } => self.clock(now_ns, expects_dump),
        }
    }

    /// Takes one event, as [`take`](Self::take) does, and says whether it was asked for.
    pub fn event(&mut self, event: &Event) -> bool {
        self.ledger.event(event);
        let wanted = self.wants(event);
        if wanted {
            self.state.totals.event(event);
            self.state.load.event(event);
        }
        wanted
    }

    /// The same with failures.
    pub fn failure(&mut self, failure: &Failure) -> bool {
        self.ledger.failure(failure);
        let wanted = self.wants(&failure.first);
        if wanted {
            self.state.totals.failure(failure);
        }
        wanted
    }

    fn clock(&mut self, now_ns: u64, expects_dump: bool) {
        if !self.began {
            (self.began, self.state.began_ns) = (true, now_ns);
        }
        self.state.now_ns = self.state.now_ns.max(now_ns);
        // What a dump says is judged at once; one that is due just now is waited for.
        let due_ns = self.next_judgement_ns + if expects_dump { AWAIT_NS } else { 0 };
        if self.booked || now_ns >= due_ns {
            self.judge();
        }
    }

    /// Judges how things stand now, whenever that was done last: for the end.
    pub fn judge(&mut self) {
        let now_ns = self.state.now_ns;
        self.next_judgement_ns = now_ns + JUDGE_EVERY_NS;
        self.booked = false;
        self.ledger.advance(now_ns);
        let mut pools = self.ledger.pools(now_ns);
        self.ledger.lower();
        if self.state.about.partial {
            for pool in &mut pools {
                pool.drift = 0;
            }
        }
        let elsewhere = self.ledger.elsewhere();
        let namespaces = &self.state.namespaces;
        let mut verdicts = diagnose(&pools, &elsewhere, |inode| namespaces.get(&inode));
        self.state.history.record(now_ns, &pools);
        select(&self.selection, &mut pools, &mut verdicts);
        self.state.pools = pools;
        self.state.verdicts = verdicts;
        self.state.shortfall.evicted = self.ledger.evicted();
        self.state.judgements += 1;
    }
}

#[cfg(test)]
mod tests;
