/*!
A namespace's rows against its dump.

An event in the time a dump took may be in it or not. So the rule is: events
before `began_ns` are in the dump, events after `ended_ns` are not, and those
between are in it as far as the list shows, by cookie, and where it cannot (old
kernels) are taken to be; by as many as there were of them in a pool, in
this dump or the one before, ledger and list may differ without being called
drift. What was folded before the dump came, although it happened after it, is
taken back first and folded again afterwards.
*/

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use super::account::WAITS;
use super::books::{Ledger, reusable};
use super::dump::Dump;
use super::fold::CLOSED_BY_US;
use super::pool::{OwnerId, PoolId};
use super::reconcile::{Listing, Look};
use super::row::Row;
use super::space::{Change, is_connected};
use crate::event::{Owner, TcpState};

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

        let mut within: HashMap<PoolId, u64> = HashMap::default();
        for change in &changes {
            if change.at_ns > dump.ended_ns {
                self.redo(change, !change.more);
            } else if change.at_ns >= dump.began_ns {
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
            row.look_ahead(dump.ended_ns, space.capacity(id), reusable(space, id));
        }
        let mut met = Met::new(&changes, dump);
        for change in changes.iter().filter(|one| one.at_ns >= dump.began_ns) {
            self.go_on(change, dump, &mut met);
        }
        changes.retain(|change| change.at_ns > dump.ended_ns);
        self.spaces.entry(netns).or_default().keep_changes(changes);
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
            let owner = socket.owner.as_ref().map(|(owner, _)| OwnerId::of(owner));
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
                let Some((owner, who)) = &dump.sockets[socket].owner else {
                    continue;
                };
                let (id, _) = Self::account(
                    row,
                    owner,
                    who,
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

    /// Folds a change again that happened after the dump began, as far as the dump does not have it.
    fn go_on(&mut self, change: &Change, dump: &Dump, met: &mut Met) {
        let is_within = change.at_ns <= dump.ended_ns;
        let space = self.spaces.entry(dump.namespace.inode).or_default();
        let is_known = change.cookie.is_some() && space.lists_all();
        let is_wait = WAITS.contains(&change.state);
        let was_open = space.lists_open(change.cookie);
        let redo = match (change.more, is_wait) {
            // It opened.
            (true, false) => !is_within || met.opens(change.cookie),
            // An open one ended, which is told first by this or by its TIME_WAIT.
            (false, false) => {
                met.closes(change.cookie)
                    || (was_open && met.ends(change.cookie))
                    || !(was_open || is_within || is_known)
            }
            (true, true) => {
                if was_open && met.ends(change.cookie) {
                    let open = Change {
                        state: TcpState::Established,
                        ..*change
                    };
                    self.redo(&open, false);
                }
                !is_within || met.has_ended(change.cookie) || met.is_unlisted(change.cookie)
            }
            // A TIME_WAIT ended.
            (false, true) => !is_within || met.is_listed(change.cookie),
        };
        if redo {
            self.redo(change, change.more);
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
            row.open_account(change.owner, Owner::default(), &Arc::default())
                .add(change.state);
        }
        row.grew(change.at_ns);
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
    /// Those it does not have, whose opening was folded since.
    opened: HashSet<u64>,
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
        }
    }

    fn is_listed(&self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.listed.contains(&cookie))
    }

    /// It changed while the dump ran, which does not have it.
    fn is_unlisted(&self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.changed.contains(&cookie)) && !self.is_listed(cookie)
    }

    fn opens(&mut self, cookie: Option<u64>) -> bool {
        self.is_unlisted(cookie) && cookie.is_some_and(|cookie| self.opened.insert(cookie))
    }

    fn closes(&mut self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.opened.remove(&cookie))
    }

    fn ends(&mut self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.ended.insert(cookie))
    }

    fn has_ended(&self, cookie: Option<u64>) -> bool {
        cookie.is_some_and(|cookie| self.ended.contains(&cookie))
    }
}
