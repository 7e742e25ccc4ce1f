/*! The ledger beside a stream: fed by its events and by readings, asked for verdicts about once a second. */

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use serde::Serialize;

use super::Identify;
use super::survey::{Ask, Reading, Survey};
use crate::diagnosis::{Verdict, diagnose};
use crate::event::{Event, Owner, TcpState};
use crate::host::process::Identity;
use crate::ledger::dump::Holder;
use crate::ledger::pool::Pool;
use crate::ledger::{Evicted, Ledger};
use crate::source::{Failure, Source};

/// Time between two judgements where no reading comes, ns.
const JUDGE_EVERY_NS: u64 = 1_000_000_000;

/// Time for which a judgement waits for a reading that is under way, ns.
const AWAIT_NS: u64 = 300_000_000;

/// Time between two looks at every process for the owners of sockets, ns.
const OWNERS_EVERY_NS: u64 = 10_000_000_000;

/// A namespace that no reading had for this long is gone, ns: it took its sockets along.
const GONE_NS: u64 = 120_000_000_000;

/// Longest wait for the last reading.
const LAST: Duration = Duration::from_secs(5);

/// Open connections, in part of the ports of a pool, from which on it is being filled by them.
const FILLING: u64 = 16;

/// The open connections of a pool that is being filled by them.
fn filled(pool: &Pool) -> Option<u64> {
    let open = pool.states.get(TcpState::Established) + pool.states.get(TcpState::CloseWait);
    let ports = pool.capacity?.ports();
    (open * FILLING >= ports).then_some(open)
}

/// The pools as they stand and what they mean.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Every pool, the fullest first.
    pub pools: Vec<Pool>,
    /// What is wrong, the most urgent first.
    pub verdicts: Vec<Verdict>,
}

/// What books do not have, or not apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shortfall {
    /// Network namespaces whose sockets the last reading had no time to list.
    pub unlisted: u64,
    /// What found no row of its own.
    pub evicted: Evicted,
}

/// A ledger and what feeds it.
pub struct Books {
    ledger: Ledger,
    survey: Survey,
    pending: Option<Reading>,
    /// Namespaces that the last reading had no time for, and the words for that until they are said.
    unlisted: u64,
    to_say: Option<String>,
    namespaces: Vec<u32>,
    /// Whether the source leaves out events of sockets that readings have.
    partial: bool,
    /// Owners of sockets that were found among the processes, by namespace and cookie: only of
    /// sockets that opened before tracing, as long as they are there.
    found: HashMap<u32, HashMap<u64, Holder>>,
    /// Namespaces with open sockets whose owner is not known; none before the first reading.
    nameless: Option<BTreeSet<u32>>,
    /// When a reading last had each namespace, ns.
    seen: HashMap<u32, u64>,
    next_judgement_ns: u64,
    next_owners_ns: u64,
    /// Whether a reading was booked since the last judgement, and what filling pools held then.
    booked: bool,
    filled: u64,
}

impl Books {
    /// Of these namespaces, or of all. With `partial` the source leaves events out, and what
    /// readings have more is no drift.
    pub fn new(ledger: Ledger, survey: Survey, namespaces: Vec<u32>, partial: bool) -> Self {
        Self {
            ledger,
            survey,
            pending: None,
            unlisted: 0,
            to_say: None,
            namespaces,
            partial,
            found: HashMap::default(),
            nameless: None,
            seen: HashMap::default(),
            next_judgement_ns: 0,
            next_owners_ns: 0,
            booked: false,
            filled: 0,
        }
    }

    /// Folds an event; not a failure.
    pub fn event(&mut self, event: &Event, who: &Arc<Identity>) {
        self.ledger.event(event, who);
    }

    /// Folds failures.
    pub fn failure(&mut self, failure: &Failure, who: &Arc<Identity>) {
        self.ledger.failure(failure, who);
    }

    /// Books a reading, asks for the next when it is time, and says once a second how things
    /// stand. All events the source had before must have been folded.
    ///
    /// # Errors
    /// When the source can no longer be read.
    pub fn tick(
        &mut self,
        source: &mut impl Source,
        people: &mut dyn Identify,
        now_ns: u64,
    ) -> anyhow::Result<Option<Judgement>> {
        // One that has come just now may tell of events that are still in the ring.
        self.book(source, people)?;
        self.pending = self.survey.take();
        if self.survey.is_due() {
            self.ask(now_ns, false);
        }
        // What a reading says is judged at once; one that is due just now is waited for.
        let due_ns = self.next_judgement_ns + if self.expects() { AWAIT_NS } else { 0 };
        if !self.booked && now_ns < due_ns {
            return Ok(None);
        }
        self.next_judgement_ns = now_ns + JUDGE_EVERY_NS;
        Ok(Some(self.judge(now_ns)))
    }

    /// Waits for a last reading. The source is to be drained and [`book`](Self::book) called then.
    pub fn settle(&mut self, now_ns: u64) {
        // One that is under way may have begun before the last events.
        self.survey.wait(LAST);
        self.ask(now_ns, true);
        self.pending = self.survey.wait(LAST);
    }

    /// Books the reading that has come.
    ///
    /// # Errors
    /// When the source can no longer be read.
    pub fn book(
        &mut self,
        source: &mut impl Source,
        people: &mut dyn Identify,
    ) -> anyhow::Result<()> {
        match self.pending.take() {
            Some(reading) => self.fold(reading, source, people),
            None => Ok(()),
        }
    }

    /// Whether a reading is under way, or to be booked.
    pub fn expects(&self) -> bool {
        self.pending.is_some() || self.survey.is_waiting()
    }

    /// Time until the next reading may be asked for.
    pub fn reads_in(&self) -> Duration {
        self.survey.due_in()
    }

    /// What people should hear of the readings, once.
    pub fn to_say(&mut self) -> Option<String> {
        self.to_say.take()
    }

    /// What the books do not have, or not apart.
    pub fn shortfall(&self) -> Shortfall {
        Shortfall {
            unlisted: self.unlisted,
            evicted: self.ledger.evicted(),
        }
    }

    fn ask(&mut self, now_ns: u64, whole: bool) {
        let nameless = self.nameless.as_ref().is_none_or(|some| !some.is_empty());
        let owners = nameless && now_ns >= self.next_owners_ns;
        if owners {
            self.next_owners_ns = now_ns + OWNERS_EVERY_NS;
        }
        self.survey.ask(Ask {
            namespaces: self.namespaces.clone(),
            owners,
            whole,
        });
    }

    /// How things stand.
    pub fn judge(&mut self, now_ns: u64) -> Judgement {
        self.ledger.advance(now_ns);
        let mut pools = self.ledger.pools(now_ns);
        if self.partial {
            for pool in &mut pools {
                pool.drift = 0;
            }
        }
        if std::mem::take(&mut self.booked) {
            self.look_closely(&pools);
        }
        let elsewhere = self.ledger.elsewhere();
        let verdicts = diagnose(&pools, &elsewhere, |inode| self.ledger.namespace(inode));
        Judgement { pools, verdicts }
    }

    /// Has the next reading come sooner while open connections, of which readings tell, fill pools.
    fn look_closely(&mut self, pools: &[Pool]) {
        let filled = pools.iter().filter_map(filled).sum();
        let grew = filled > self.filled + self.filled / 50;
        self.survey.look_closely(grew);
        self.filled = filled;
    }

    /// Names the owners the programs know, and those found before, and books the dumps.
    fn fold(
        &mut self,
        Reading { dumps, late, .. }: Reading,
        source: &mut impl Source,
        people: &mut dyn Identify,
    ) -> anyhow::Result<()> {
        let (unlisted, words) = late.unzip();
        if self.unlisted == 0 {
            self.to_say = words;
        }
        self.unlisted = unlisted.unwrap_or_default();
        let mut traced = Traced::default();
        if dumps.iter().any(|dump| !dump.sockets.is_empty()) {
            source.owners(&mut |cookie, owner| traced.add(cookie, owner, people))?;
        }
        let nameless = self.nameless.get_or_insert_default();
        for mut dump in dumps {
            let netns = dump.namespace.inode;
            self.seen.insert(netns, dump.ended_ns);
            let before = self.found.remove(&netns).unwrap_or_default();
            let mut found = HashMap::default();
            let mut all_named = true;
            for socket in &mut dump.sockets {
                if socket.cookie == 0 || socket.remote.port() == 0 {
                    continue;
                }
                if let Some(owner) = traced.get(socket.cookie) {
                    socket.owner = Some(Arc::clone(owner));
                    continue;
                }
                let known = socket.owner.as_ref().or_else(|| before.get(&socket.cookie));
                if let Some(owner) = known.cloned() {
                    found.insert(socket.cookie, Arc::clone(&owner));
                    socket.owner = Some(owner);
                } else if socket.state != TcpState::TimeWait {
                    all_named = false;
                }
            }
            if !found.is_empty() {
                self.found.insert(netns, found);
            }
            if all_named {
                nameless.remove(&netns);
            } else {
                nameless.insert(netns);
            }
            self.ledger.dump(&dump);
        }
        self.booked = true;
        let now_ns = source.now_ns();
        self.seen.retain(|&inode, &mut seen_ns| {
            let there = now_ns.saturating_sub(seen_ns) < GONE_NS;
            if !there {
                self.ledger.forget(inode);
                self.found.remove(&inode);
                nameless.remove(&inode);
            }
            there
        });
        Ok(())
    }
}

/// The owners that the programs know, by cookie; each is kept once, as there are few and many
/// connections.
#[derive(Default)]
struct Traced {
    owners: HashMap<Owner, Holder>,
    by_cookie: HashMap<u64, Holder>,
}

impl Traced {
    fn add(&mut self, cookie: u64, owner: Owner, people: &mut dyn Identify) {
        let known = self
            .owners
            .entry(owner)
            .or_insert_with(|| Arc::new((owner, people.identify(&owner))));
        self.by_cookie.insert(cookie, Arc::clone(known));
    }

    fn get(&self, cookie: u64) -> Option<&Holder> {
        self.by_cookie.get(&cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::filled;
    use crate::event::TcpState;
    use crate::ledger::pool::{Capacity, Pool, States};
    use crate::view::sample::dry_pool;

    #[test]
    fn open_connections_fill_a_pool_and_time_waits_do_not() {
        let pool = |state, count| {
            let mut states = States::default();
            *states.get_mut(state).unwrap() = count;
            Pool {
                states,
                capacity: Some(Capacity {
                    range: (20_000, 20_159),
                    ..Capacity::default()
                }),
                ..dry_pool()
            }
        };
        assert_eq!(filled(&pool(TcpState::Established, 10)), Some(10));
        assert_eq!(filled(&pool(TcpState::CloseWait, 10)), Some(10));
        assert_eq!(filled(&pool(TcpState::Established, 9)), None);
        assert_eq!(filled(&pool(TcpState::TimeWait, 160)), None);
        let unknown = Pool {
            capacity: None,
            ..pool(TcpState::Established, 10)
        };
        assert_eq!(filled(&unknown), None);
    }
}
