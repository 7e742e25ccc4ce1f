/*!
One event into one row.

With `Opened` and `Closed` events each of them counts one connection up or
down, and a birth comes right after the `Closed` of its connection. Without
them, a birth takes one from what is open if a dump had counted the connection:
if that began before the dump.

An event from before the last dump of its namespace is in that dump already and
changes no holding; only whose a TIME_WAIT is may be learnt from it.
*/

use super::account::WAITS;
use super::books::{Drift, Feed};
use super::row::Row;
use super::space::{Change, Phase, Space};
use crate::model::{Closer, EndReason, Event, Kind, OwnerId, Ownership, TcpState};

/// What a connection that our side closes may be in, the likeliest first.
pub(super) const CLOSED_BY_US: [TcpState; 6] = [
    TcpState::FinWait1,
    TcpState::Closing,
    TcpState::Established,
    TcpState::CloseWait,
    TcpState::SynSent,
    TcpState::FinWait2,
];

/// What one that the peer closes may be in.
const CLOSED_BY_PEER: [TcpState; 6] = [
    TcpState::LastAck,
    TcpState::Established,
    TcpState::CloseWait,
    TcpState::FinWait1,
    TcpState::Closing,
    TcpState::FinWait2,
];

/// What a connection may be in when this side ends it.
fn closing(closer: Option<Closer>) -> &'static [TcpState] {
    match closer {
        Some(Closer::Peer) => &CLOSED_BY_PEER,
        _ => &CLOSED_BY_US,
    }
}

/// An event on its way into a row.
pub(super) struct Fold<'a> {
    pub(super) row: &'a mut Row,
    pub(super) space: &'a mut Space,
    pub(super) event: &'a Event,
    pub(super) owner: OwnerId,
    pub(super) feed: Feed,
    pub(super) drift: &'a mut Drift,
}

impl Fold<'_> {
    /// Does what the event says. A failure says nothing here.
    pub(super) fn fold(mut self) {
        match self.event.kind {
            Kind::Opened => self.opened(),
            Kind::Closed => self.closed(),
            Kind::TimeWait => self.born(),
            Kind::TimeWaitEnd => self.ended(),
            Kind::ConnectFailed | Kind::BindFailed => {}
        }
    }

    fn opened(&mut self) {
        self.count_opened();
        self.searched();
        self.bound();
        match self.phase() {
            Phase::Before => self.explain(true),
            Phase::Within => {
                self.row.unsure += 1;
                self.explain(true);
            }
            Phase::After => {
                if self.was_counted(Phase::After) {
                    // The dump had it in SYN_SENT.
                    self.take(&[TcpState::SynSent]);
                }
                self.begin(TcpState::Established, false);
            }
        }
    }

    fn closed(&mut self) {
        let closer = self.event.closer;
        let is_open = self.event.state != Some(TcpState::SynSent);
        if is_open {
            self.count_end(closer);
            if let Some(ns) = self.event.duration_ns {
                self.row.lifetimes.add(ns);
            }
        }
        self.space.release(self.event.tuple.sport, &self.row.id);
        let phase = self.phase();
        match phase {
            Phase::Before if is_open => self.explain(false),
            Phase::Before => {}
            Phase::Within => {
                self.row.unsure += 1;
                if is_open && self.was_listed_open() {
                    self.finish(closing(closer), false);
                } else if is_open {
                    self.explain(false);
                }
            }
            Phase::After if !is_open => {
                // No event told of it before; a dump may have.
                if self.was_counted(phase) {
                    self.take(&[TcpState::SynSent]);
                }
            }
            Phase::After => {
                if self.event.ownership != Ownership::Seen {
                    // It was open before tracing: a dump told of it.
                    self.row.adopted = self.row.adopted.saturating_sub(1);
                }
                self.finish(closing(closer), false);
            }
        }
    }

    fn born(&mut self) {
        let at_ns = self.event.ts_ns;
        let phase = self.phase();
        self.row.born(at_ns);
        self.bound();
        if !self.feed.opens {
            self.count_end(Some(Closer::Local));
            self.searched();
            if let Some(ns) = self.event.duration_ns {
                self.row.lifetimes.add(ns);
            }
            if !self.was_counted(phase) {
                self.count_opened();
            } else if phase == Phase::After && self.take(&CLOSED_BY_US).is_none() {
                // The dump knew another owner: the file was handed on.
                if let Some((owner, state)) = self.row.take_of_most(&CLOSED_BY_US[..5]) {
                    self.note(owner, state, false);
                }
            }
        }
        match phase {
            // A mini-socket in FIN_WAIT2 too: the peer's FIN, which no event tells, mostly comes
            // within a round trip. Where it does not, the next dump says so.
            Phase::After => self.begin(TcpState::TimeWait, true),
            Phase::Within if self.was_listed_open() => {
                self.row.unsure += 1;
                if !self.feed.opens {
                    self.take(&CLOSED_BY_US);
                }
                self.begin(TcpState::TimeWait, true);
            }
            Phase::Before | Phase::Within => {
                if phase == Phase::Within {
                    self.row.unsure += 1;
                }
                self.explain(true);
                self.learn_owner();
            }
        }
    }

    /// A TIME_WAIT gave its port back.
    fn ended(&mut self) {
        let at_ns = self.event.ts_ns;
        self.space.release(self.event.tuple.sport, &self.row.id);
        if self.event.end_reason.is_some_and(EndReason::is_early) {
            self.row.ended_early(at_ns);
        }
        match self.phase() {
            Phase::Before => self.explain(false),
            Phase::Within => {
                self.row.unsure += 1;
                self.explain(false);
            }
            Phase::After => {
                let states = match self.event.state {
                    Some(TcpState::FinWait2) => [WAITS[1], WAITS[0]],
                    _ => WAITS,
                };
                if self.event.ownership == Ownership::Unknown && self.take(&states).is_none() {
                    if let Some((owner, state)) = self.row.take_of_most(&states) {
                        self.note(owner, state, false);
                    }
                } else if self.event.ownership != Ownership::Unknown {
                    self.finish(&states, true);
                }
            }
        }
    }

    /// One holding more, unless its end came first.
    fn begin(&mut self, state: TcpState, is_wait: bool) {
        let at_ns = self.event.ts_ns;
        let ends = self.feed.ends;
        let mut gone = 0;
        let Some(account) = self.row.account(self.owner) else {
            return;
        };
        if account.pay(is_wait, at_ns) || !account.add(state) {
            return;
        }
        if is_wait && !ends {
            gone = account.born_for_a_minute(at_ns);
        }
        self.row.shrank(gone);
        self.row.grew(at_ns);
        self.note(self.owner, state, true);
    }

    /// One holding less, or one that begins later.
    fn finish(&mut self, states: &[TcpState], is_wait: bool) {
        if self.take(states).is_none()
            && self.event.ownership == Ownership::Seen
            && let Some(account) = self.row.account(self.owner)
        {
            account.owe(is_wait, self.event.ts_ns);
        }
    }

    fn take(&mut self, states: &[TcpState]) -> Option<TcpState> {
        let (owner, state) = self.row.take(self.owner, states)?;
        self.note(owner, state, false);
        Some(state)
    }

    /// A birth that the dump had, without an owner: now it has one.
    fn learn_owner(&mut self) {
        if self.owner == OwnerId::UNKNOWN {
            return;
        }
        let nobody = self.row.account(OwnerId::UNKNOWN);
        if let Some(state) = nobody.and_then(|nobody| nobody.take(&WAITS))
            && let Some(account) = self.row.account(self.owner)
        {
            account.add(state);
            if !self.feed.ends {
                let gone = account.born_for_a_minute(self.event.ts_ns);
                self.row.shrank(gone);
            }
        }
    }

    fn phase(&self) -> Phase {
        self.space.phase(self.event.ts_ns)
    }

    /// Whether a dump had counted the connection as open. When it began is not known of one that
    /// was opened before tracing: every dump since had it.
    fn was_counted(&self, phase: Phase) -> bool {
        let opened_ns = match self.event.duration_ns {
            Some(ns) => self.event.ts_ns.saturating_sub(ns),
            None if self.event.ownership == Ownership::Seen => return false,
            None => 0,
        };
        self.space.counted(opened_ns, self.event.cookie, phase)
    }

    /// Whether the dump that ran when this happened has the connection as still open.
    fn was_listed_open(&self) -> bool {
        self.space.lists_open(self.event.cookie)
    }

    fn count_opened(&mut self) {
        let at_ns = self.event.ts_ns;
        self.row.opens.add(at_ns, 1);
        if let Some(account) = self.row.account(self.owner) {
            account.opened += 1;
            account.opens.add(at_ns, 1);
        }
    }

    fn count_end(&mut self, closer: Option<Closer>) {
        let count = |ends: &mut crate::model::Ends| match closer {
            Some(Closer::Local) => ends.local += 1,
            Some(Closer::Peer) => ends.peer += 1,
            Some(Closer::Reset) => ends.reset += 1,
            None => {}
        };
        count(&mut self.row.ends);
        if let Some(account) = self.row.account(self.owner) {
            count(&mut account.ends);
        }
    }

    fn searched(&mut self) {
        if let Some(ns) = self.event.search_ns {
            self.row.searches.add(self.event.ts_ns, ns, 1);
        }
    }

    fn bound(&mut self) {
        if !self.event.bound {
            return;
        }
        self.space.bind(self.event.tuple.sport, self.row.id);
        // With openings told, the birth is of a connection counted before.
        if (self.event.kind == Kind::Opened || !self.feed.opens)
            && let Some(account) = self.row.account(self.owner)
        {
            account.bound += 1;
        }
    }

    /// An event that came after a dump it is older than says why the two differed.
    fn explain(&mut self, more: bool) {
        if more && self.row.drift < 0 {
            self.row.drift += 1;
            self.row.adopted = self.row.adopted.saturating_sub(1);
            self.drift.missed = self.drift.missed.saturating_sub(1);
        } else if !more && self.row.drift > 0 {
            self.row.drift -= 1;
            self.drift.left = self.drift.left.saturating_sub(1);
        }
    }

    fn note(&mut self, owner: OwnerId, state: TcpState, more: bool) {
        self.space.note(Change {
            at_ns: self.event.ts_ns,
            pool: self.row.id,
            owner,
            cookie: self.event.cookie,
            state,
            more,
        });
    }
}
