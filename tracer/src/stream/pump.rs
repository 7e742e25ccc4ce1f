/*! The loop every live verb shares: source to views to standard output, until told to stop. */

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::Identify;
use super::books::{Books, Judgement};
use super::filter::Filter;
use super::output::Output;
use super::tally::Tally;
use crate::event::{Kind, Owner, Ownership};
use crate::host::process::Identity;
use crate::source::{Batch, Lost, Source};
use crate::view::{Summary, View};

/// Time between drains while events come.
const BUSY: Duration = Duration::from_millis(15);

/// Longest time between drains: the kernel wakes for the first event after a pause.
const IDLE: Duration = Duration::from_secs(1);

/// Time between two looks at the loss counters, ns.
const LOSS_EVERY_NS: u64 = 1_000_000_000;

/// The same while no event comes, which is when nothing can be lost but what nobody asked for.
const LOSS_IDLE_NS: u64 = 10_000_000_000;

/// Bytes of rendered lines handed to the output at once.
const CHUNK: usize = 256 << 10;

/// A stream's way to its reader.
pub struct Pump<'a> {
    /// Says who is who.
    pub people: &'a mut dyn Identify,
    /// Whose events to show and count.
    pub filter: &'a Filter,
    /// How to show them.
    pub view: &'a mut dyn View,
    /// Where to.
    pub output: &'a Output,
    /// The books on pools, where they are kept.
    pub books: Option<&'a mut Books>,
    /// Whether opens and closes are shown and counted; the books have them in any case.
    pub details: bool,
    /// Says a sentence to people, aside from the stream.
    pub say: &'a mut dyn FnMut(&str),
}

impl Pump<'_> {
    /// Carries `source` to the output until `stop` is ready or nothing can be
    /// written any more; then ends the source, carries what is left, and writes the summary.
    /// The output may still be writing when this returns: see [`Output::finish`].
    ///
    /// # Errors
    /// When the source can no longer be read. A failed output is not an error here.
    pub async fn run<S: Source>(
        &mut self,
        source: &mut S,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<Summary> {
        let began_ns = source.now_ns();
        let mut round = Round::default();
        let output = self.output;
        let mut stop = pin!(stop);
        let mut gone = pin!(output.gone());
        let (mut wait, mut patience) = (BUSY, BUSY);
        loop {
            round.batch.clear();
            source.drain(&mut round.batch)?;
            let now_ns = source.now_ns();
            self.show(&mut round)?;
            self.view.tick(now_ns, &mut round.out)?;
            self.judge(source, &mut round, now_ns)?;
            self.flush(&mut round);
            self.watch_loss(source, &mut round, now_ns)?;
            wait = if round.batch.is_empty() {
                IDLE.min(wait * 2)
            } else {
                BUSY
            };
            let mut rest = wait;
            if let Some(books) = &self.books {
                // A reading that is under way wakes nobody when it comes.
                patience = if books.expects() {
                    rest = rest.min(patience);
                    IDLE.min(patience * 2)
                } else {
                    rest = rest.min(books.reads_in().max(BUSY));
                    BUSY
                };
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = &mut gone => break,
                ready = source.ready(rest) => ready?,
            }
        }
        if let Some(books) = &mut self.books {
            books.settle(source.now_ns());
            round.batch.clear();
            source.drain(&mut round.batch)?;
            self.show(&mut round)?;
        }
        if let Some(books) = &mut self.books {
            books.book(source, self.people)?;
        }
        round.batch.clear();
        source.finish(&mut round.batch)?;
        let end_ns = source.now_ns();
        self.show(&mut round)?;
        self.view.finish(&mut round.out)?;
        let judgement = match &mut self.books {
            Some(books) => self.filter.judged(books.judge(end_ns)),
            None => Judgement::default(),
        };
        if self.books.is_some() {
            let Judgement { pools, verdicts } = &judgement;
            self.view
                .verdicts(end_ns, pools, verdicts, true, &mut round.out)?;
        }
        self.flush(&mut round);
        let mut loss = source.loss()?;
        loss.lost.output = output.lost();
        if loss.lost.total() > round.told.total() {
            self.view.loss(end_ns, &loss, &mut round.out)?;
        }
        let summary = Summary {
            end_ns,
            duration_ns: end_ns.saturating_sub(began_ns),
            totals: round.tally.totals(),
            rows: round.tally.rows(),
            judgement,
            shortfall: self
                .books
                .as_deref()
                .map(Books::shortfall)
                .unwrap_or_default(),
            beyond: round.tally.beyond(),
            loss,
            about: source.about().clone(),
        };
        self.view.summary(&summary, &mut round.out)?;
        output.insist(&round.out);
        Ok(summary)
    }

    fn show(&mut self, round: &mut Round) -> anyhow::Result<()> {
        for words in &round.batch.surprises {
            (self.say)(words);
        }
        for index in 0..round.batch.events.len() {
            let event = &round.batch.events[index];
            let who = self.who(&event.owner, event.ownership, &round.nobody);
            if let Some(books) = &mut self.books {
                books.event(event, &who);
            }
            let detail = matches!(event.kind, Kind::Opened | Kind::Closed);
            if (self.details || !detail) && self.wants(&event.owner, &who) {
                round.tally.event(event, &who);
                self.view.event(event, &who, &mut round.out)?;
            }
            if round.out.len() >= CHUNK {
                self.flush(round);
            }
        }
        for failure in &round.batch.failures {
            let first = &failure.first;
            let who = self.who(&first.owner, first.ownership, &round.nobody);
            if let Some(books) = &mut self.books {
                books.failure(failure, &who);
            }
            if self.wants(&first.owner, &who) {
                round.tally.failure(failure, &who);
                self.view.failure(failure, &who, &mut round.out)?;
            }
        }
        Ok(())
    }

    /// Whether the filters want what an owner did.
    fn wants(&self, owner: &Owner, who: &Identity) -> bool {
        self.filter.wants(owner) && self.filter.wants_identity(who)
    }

    /// The identity of an owner.
    fn who(
        &mut self,
        owner: &Owner,
        ownership: Ownership,
        nobody: &Arc<Identity>,
    ) -> Arc<Identity> {
        if ownership == Ownership::Unknown {
            Arc::clone(nobody)
        } else {
            self.people.identify(owner)
        }
    }

    /// Shows how things stand, when it is time.
    fn judge(
        &mut self,
        source: &mut impl Source,
        round: &mut Round,
        now_ns: u64,
    ) -> anyhow::Result<()> {
        let Some(books) = &mut self.books else {
            return Ok(());
        };
        let judgement = books.tick(source, self.people, now_ns)?;
        if let Some(words) = books.to_say() {
            (self.say)(&words);
        }
        if let Some(judgement) = judgement {
            let Judgement { pools, verdicts } = self.filter.judged(judgement);
            self.view
                .verdicts(now_ns, &pools, &verdicts, false, &mut round.out)?;
        }
        Ok(())
    }

    fn flush(&self, round: &mut Round) {
        if !round.out.is_empty() {
            self.output.send(&round.out);
            round.out.clear();
        }
    }

    fn watch_loss(
        &mut self,
        source: &mut impl Source,
        round: &mut Round,
        now_ns: u64,
    ) -> anyhow::Result<()> {
        round.stirred |= !round.batch.is_empty();
        let gap_ns = if round.stirred {
            LOSS_EVERY_NS
        } else {
            LOSS_IDLE_NS
        };
        if now_ns < round.looked_ns + gap_ns {
            return Ok(());
        }
        (round.looked_ns, round.stirred) = (now_ns, false);
        let mut loss = source.loss()?;
        loss.lost.output = self.output.lost();
        if loss.lost.total() > round.told.total() {
            self.view.loss(now_ns, &loss, &mut round.out)?;
            // Where there is no room for it, it is said again later.
            if self.output.offer(&round.out) {
                round.told = loss.lost;
            }
            round.out.clear();
        }
        Ok(())
    }
}

/// What is reused from one drain to the next.
#[derive(Default)]
struct Round {
    batch: Batch,
    out: Vec<u8>,
    tally: Tally,
    told: Lost,
    /// When the loss counters were last looked at, ns, and whether any event came since.
    looked_ns: u64,
    stirred: bool,
    nobody: Arc<Identity>,
}

#[cfg(test)]
mod tests;
