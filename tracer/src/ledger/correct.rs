/*!
A namespace's rows against its dump.

An event in the time a dump took may be in it or not. So the rule is: events
before `began_ns` are in the dump, events after `ended_ns` are not, and those
between are in it as far as the list shows, by cookie, and where it cannot (old
kernels) are taken to be; by as many as there were of them in a pool, in
this dump or the one before, ledger and list may differ without being called
drift. What was folded before the dump came, although the dump does not have it,
is taken back first and folded again afterwards.
*/

use std::collections::VecDeque;

use foldhash::{HashMap, HashSet};

use super::account::WAITS;
use super::books::Ledger;
use super::fold::CLOSED_BY_US;
use super::reconcile::{Listing, Look};
use super::row::Row;
use super::space::{Change, Space, is_connected};
use super::upkeep::reusable;
use crate::model::{Dump, OwnerId, PoolId, Process, TcpState};

impl Ledger {
    /// Takes over what the kernel lists of a namespace: afterwards the states of its pools are
    /// those of the list, and what differed is drift. The first dump of a namespace has no drift.
    ///
    /// Fold every event up to `dump.ended_ns` before.
    pub fn dump(&mut self, dump: &Dump) {
        self.clock(dump.ended_ns);
        let netns = dump.namespace.inode;
        let space = self.spaces.entry(netns).or_default();
        let since_ns = space.dumped.map(|(_, ended)| ended);
        let (mut changes, is_whole) = space.take_changes(dump.began_ns);
        space.update(dump);
        let mut listings = self.listings(dump);
        self.make_room(dump, &mut listings);

        changes.retain(|change| change.at_ns >= dump.began_ns);
        let again = Again::of(&changes, dump, &self.spaces[&netns]);
        let mut within: HashMap<PoolId, u64> = HashMap::default();
        // The newest first: what is taken back must not be looked for where it was before.
        for (change, again) in changes.iter().zip(&again).rev() {
            if *again != Again::No {
                self.redo(change, !change.more);
            }
            if change.at_ns <= dump.ended_ns {
                *within.entry(change.pool).or_default() += 1;
            }
        }
        let nothing = Listing::default();
        let space = self.spaces.entry(netns).or_default();
        for id in &space.pools {
            let Some(row) = self.rows.get_mut(id) else {
                continue;
            };
            let accounts = row.accounts.len();
            let drift = row.reconcile(
                listings.get(id).unwrap_or(&nothing),
                &Look {
                    feed: self.limits.feed,
                    since_ns,
                    ended_ns: dump.ended_ns,
                    within: within.get(id).copied().unwrap_or(0),
                    is_whole,
                },
            );
            self.holders += row.accounts.len() - accounts;
            self.drift.missed += (-drift).max(0).unsigned_abs();
            self.drift.left += drift.max(0).unsigned_abs();
        }
        let mut looked = false;
        for (change, again) in changes.iter().zip(again) {
            if !looked && change.at_ns > dump.ended_ns {
                self.look(netns, dump.ended_ns);
                looked = true;
            }
            if again == Again::FromOpen {
                let open = Change {
                    state: TcpState::Established,
                    ..*change
                };
                self.redo(&open, false);
            }
            if again != Again::No {
                self.redo(change, change.more);
            }
        }
        if !looked {
            self.look(netns, dump.ended_ns);
        }
        changes.retain(|change| change.at_ns > dump.ended_ns);
        self.mark(netns);
        self.spaces.entry(netns).or_default().keep_changes(changes);
    }

    /// Notes the levels a dump ended with. Not before all that happened meanwhile is in the books:
    /// a list that took a while may have sockets together that never were.
    fn look(&mut self, netns: u32, at_ns: u64) {
        let space = self.spaces.entry(netns).or_default();
        for id in &space.pools {
            if let Some(row) = self.rows.get_mut(id) {
                row.mark(at_ns);
                row.sample(at_ns);
                row.look_ahead(at_ns, space.capacity(id), reusable(space, id));
            }
        }
    }

    /// Notes the levels as they are now.
    fn mark(&mut self, netns: u32) {
        let space = self.spaces.entry(netns).or_default();
        for id in &space.pools {
            if let Some(row) = self.rows.get_mut(id) {
                row.mark(self.now_ns);
            }
        }
    }

    /// Sorts what is listed by pool; what has no room is in that of all others.
    fn listings(&mut self, dump: &Dump) -> HashMap<PoolId, Listing> {
        let netns = dump.namespace.inode;
        let mut listings: HashMap<PoolId, Listing> = HashMap::default();
        let Some(space) = self.spaces.get(&netns) else {
            return listings;
        };
        let mut room = self.limits.pools.saturating_sub(self.rows.len());
        for (index, socket) in dump.sockets.iter().enumerate() {
            let local = socket.local;
            if !is_connected(socket) || !space.draws(local.ip(), local.port()) {
                continue;
            }
            let mut id = PoolId {
                netns,
                src: local.ip(),
                dst: socket.remote.ip(),
                dport: socket.remote.port(),
            };
            if !listings.contains_key(&id) && !self.rows.contains_key(&id) {
                if room == 0 {
                    self.evicted.pools += 1;
                    id = PoolId::beyond(netns);
                } else {
                    room -= 1;
                }
            }
            let owner = socket.process.as_deref().map(OwnerId::of);
            listings
                .entry(id)
                .or_default()
                .add(owner, index, socket.state);
        }
        listings
    }

    /// Makes rows and accounts for all that is listed.
    fn make_room(&mut self, dump: &Dump, listings: &mut HashMap<PoolId, Listing>) {
        for (&id, listing) in listings {
            let row = self.rows.entry(id).or_insert_with(|| {
                let space = self.spaces.entry(id.netns).or_default();
                space.pools.push(id);
                Box::new(Row::new(id))
            });
            row.touched_ns = row.touched_ns.max(dump.ended_ns);
            for index in (0..listing.owned.len()).rev() {
                let (known, socket, states) = listing.owned[index];
                let Some(process) = &dump.sockets[socket].process else {
                    continue;
                };
                let (id, _) = Self::account(
                    row,
                    process,
                    self.limits,
                    &mut self.holders,
                    &mut self.evicted,
                );
                if id != known {
                    listing.owned.swap_remove(index);
                    listing.join(id, socket, &states);
                }
            }
        }
    }

    /// Folds a change again, or takes it back.
    fn redo(&mut self, change: &Change, more: bool) {
        let Some(row) = self.rows.get_mut(&change.pool) else {
            return;
        };
        if !more {
            // The dump may have put it into another state, or given it to another.
            let is_wait = WAITS.contains(&change.state);
            let alike = if is_wait {
                &WAITS[..]
            } else {
                &CLOSED_BY_US[..]
            };
            let taken = [&[change.state][..], alike]
                .into_iter()
                .any(|states| row.take(change.owner, states).is_some());
            if !taken {
                row.take_of_most(alike);
            }
            return;
        }
        if let Some(account) = row.account(change.owner) {
            account.add(change.state);
        } else {
            self.holders += 1;
            row.open_account(change.owner, &Process::nobody())
                .add(change.state);
        }
        row.used += 1;
    }
}

/// Whether a change that happened after a dump began must be folded again when the dump is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// The dump has it.
    No,
    /// It does not.
    Yes,
    /// It does not, and has the connection open, which nothing told of ending but this birth.
    FromOpen,
}

impl Again {
    /// Of each change, in order.
    fn of(changes: &VecDeque<Change>, dump: &Dump, space: &Space) -> Vec<Self> {
        let mut met = Met::new(changes, dump);
        let of = |change| Self::one(change, dump, space, &mut met);
        changes.iter().map(of).collect()
    }

    fn one(change: &Change, dump: &Dump, space: &Space, met: &mut Met) -> Self {
        let is_within = change.at_ns <= dump.ended_ns;
        let is_known = change.cookie.is_some() && space.lists_all();
        let is_wait = WAITS.contains(&change.state);
        let was_open = space.lists_open(change.cookie);
        let lacks = match (change.more, is_wait) {
            // It opened.
            (true, false) => met.opens(change.cookie, is_within),
            // An open one ended, which is told first by this or by its TIME_WAIT.
            (false, false) => {
                met.closes(change.cookie)
                    || (was_open && met.ends(change.cookie))
                    || !(was_open || is_within || is_known)
            }
            (true, true) => {
                if was_open && met.ends(change.cookie) {
                    met.waits(change.cookie);
                    return Self::FromOpen;
                }
                let lacks = met.has_ended(change.cookie) || met.is_unlisted(change.cookie);
                !is_within || (lacks && met.waits(change.cookie))
            }
            // A TIME_WAIT ended.
            (false, true) => {
                !is_within || met.is_listed(change.cookie) || met.is_over(change.cookie)
            }
        };
        if lacks { Self::Yes } else { Self::No }
    }
}

/// The connections that changed while a dump ran, by their cookies: which of their changes it has
/// depends on when it came to them.
struct Met {
    /// Those in the dump, in whatever state, and all that changed.
    listed: HashSet<u64>,
    changed: HashSet<u64>,
    /// Those it has as open, whose end was folded since.
    ended: HashSet<u64>,
    /// Those it does not have, whose opening, or birth as a TIME_WAIT, was folded since.
    opened: HashSet<u64>,
    waiting: HashSet<u64>,
}

impl Met {
    fn new(changes: &VecDeque<Change>, dump: &Dump) -> Self {
        let within = |change: &&Change| (dump.began_ns..=dump.ended_ns).contains(&change.at_ns);
        let changed: HashSet<u64> = changes
            .iter()
            .filter(within)
            .filter_map(|change| change.cookie)
            .collect();
        let cookies = dump.sockets.iter().map(|socket| socket.cookie);
        Self {
            listed: cookies.filter(|cookie| changed.contains(cookie)).collect(),
            changed,
            ended: HashSet::default(),
            opened: HashSet::default(),
            waiting: HashSet::default(),
        }
    }

    fn is_listed(&self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.listed.contains(&cookie))
    }

    /// It changed while the dump ran, which does not have it.
    fn is_unlisted(&self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.changed.contains(&cookie)) && !self.is_listed(cookie)
    }

    /// Whether the dump lacks an opening, which counts from now on.
    fn opens(&mut self, cookie: Option<u64>, is_within: bool) -> bool {
        let lacks = !is_within || self.is_unlisted(cookie);
        match cookie {
            Some(cookie) => lacks && self.opened.insert(cookie),
            None => lacks,
        }
    }

    fn closes(&mut self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.opened.remove(&cookie))
    }

    fn ends(&mut self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.ended.insert(cookie))
    }

    fn waits(&mut self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.waiting.insert(cookie))
    }

    fn is_over(&mut self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.waiting.remove(&cookie))
    }

    fn has_ended(&self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.ended.contains(&cookie))
    }
}
