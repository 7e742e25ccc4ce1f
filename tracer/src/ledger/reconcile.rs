/*!
One pool's row against the kernel's list.

The list is right: afterwards the states are those of the list, each of them.
What is left to decide is whose the sockets are that it names no owner of
(TIME_WAITs, and others whose file is closed): they go to the owners who held as
many in that state before, then, for states that no event tells of, to those who
held something that is not in the list any more; the rest is nobody's.
*/

use super::account::waits;
use super::books::Feed;
use super::row::Row;
use crate::model::{OwnerId, Process, States, TcpState};

/// The states a connection comes to without an event that tells so, and mostly without a file that
/// leads to its owner. (CLOSE_WAIT has one; but where sockets have no cookies, before Linux 5.12,
/// files are not looked at for every list.)
const ENDING: [TcpState; 6] = [
    TcpState::CloseWait,
    TcpState::TimeWait,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::FinWait1,
    TcpState::LastAck,
];

/// What a dump lists of one pool.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By owner; the number is that of a socket which names it.
    pub(super) owned: Vec<(OwnerId, usize, States)>,
    pub(super) unowned: States,
}

impl Listing {
    /// One socket more.
    pub(super) fn add(&mut self, owner: Option<OwnerId>, socket: usize, state: TcpState) {
        let states = match owner {
            None => &mut self.unowned,
            Some(id) => {
                let index = self.owned.iter().position(|&(known, ..)| known == id);
                let index = index.unwrap_or_else(|| {
                    self.owned.push((id, socket, States::default()));
                    self.owned.len() - 1
                });
                &mut self.owned[index].2
            }
        };
        if let Some(count) = states.get_mut(state) {
            *count += 1;
        }
    }

    /// All sockets of an owner more.
    pub(super) fn join(&mut self, owner: OwnerId, socket: usize, states: &States) {
        for state in States::ALL {
            for _ in 0..states.get(state) {
                self.add(Some(owner), socket, state);
            }
        }
    }

    fn of(&self, owner: OwnerId) -> States {
        self.owned
            .iter()
            .find(|&&(id, ..)| id == owner)
            .map_or_else(States::default, |&(_, _, states)| states)
    }

    /// The ports whose beginnings and ends `feed` tells of.
    fn covered(&self, feed: Feed) -> u64 {
        let all = self
            .owned
            .iter()
            .map(|(_, _, states)| covered(states, states, feed));
        all.sum::<u64>() + covered(&self.unowned, &States::default(), feed)
    }
}

/// What the dump of a namespace means for each of its pools.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) feed: Feed,
    /// End of the dump before, and of this one.
    pub(super) since_ns: Option<u64>,
    pub(super) ended_ns: u64,
    /// Changes of the pool while the dump ran.
    pub(super) within: u64,
    /// Whether all changes since it began are known.
    pub(super) is_whole: bool,
}

fn covered(states: &States, owned: &States, feed: Feed) -> u64 {
    if feed.opens {
        // The books take a connection up once it is established.
        states.total() - states.get(TcpState::SynSent) - states.get(TcpState::SynRecv)
    } else {
        waits(states, owned.get(TcpState::FinWait2))
    }
}

impl Row {
    /// Makes the states those of `listing`, and returns the drift that corrected.
    ///
    /// Every owner of the listing must have an account.
    pub(super) fn reconcile(&mut self, listing: &Listing, look: &Look) -> i64 {
        let before: u64 = self
            .accounts
            .iter()
            .map(|(_, account)| {
                if look.feed.opens {
                    covered(&account.states, &States::default(), look.feed)
                } else {
                    account.waits()
                }
            })
            .sum();
        self.drift = self.judge(before, listing.covered(look.feed), look);
        let open_before: Vec<u64> = self.accounts.iter().map(|(_, one)| one.open()).collect();
        self.assign(listing);
        for (id, account) in &mut self.accounts {
            account.held_fin_wait2 = listing.of(*id).get(TcpState::FinWait2);
            account.trim_expiry();
            account.forgive();
        }
        if !look.feed.opens
            && let Some(since_ns) = look.since_ns
        {
            self.count_growth(&open_before, since_ns, look.ended_ns);
        }
        if look.since_ns.is_none() {
            // What there was before the first dump did not grow.
            self.open_trend.clear();
            self.used_trend.clear();
            for (_, account) in &mut self.accounts {
                account.trend.clear();
            }
        }
        self.recount();
        self.drift
    }

    /// Ledger minus list, less what is no drift: changes that this dump or the one before may or may
    /// not have had, and ends of what no event ever told of.
    fn judge(&mut self, ledger: u64, list: u64, look: &Look) -> i64 {
        let unsure = look.within + std::mem::replace(&mut self.unsure, look.within);
        let missed = list.saturating_sub(ledger);
        let left = ledger.saturating_sub(list);
        let adopted = left.min(self.adopted);
        self.adopted = self.adopted - adopted + missed;
        if look.since_ns.is_none() || !look.is_whole {
            return 0;
        }
        let signed = |count: u64| i64::try_from(count.saturating_sub(unsure)).unwrap_or(i64::MAX);
        signed(left - adopted) - signed(missed)
    }

    /// Gives every listed socket to an account.
    fn assign(&mut self, listing: &Listing) {
        let old: Vec<States> = self.accounts.iter().map(|(_, one)| one.states).collect();
        let known: Vec<States> = self
            .accounts
            .iter()
            .map(|&(id, _)| listing.of(id))
            .collect();
        // What an account held more than the list says it holds.
        let mut credit: Vec<u64> = old
            .iter()
            .zip(&known)
            .map(|(old, known)| old.total().saturating_sub(known.total()))
            .collect();
        let nobody = self.find(OwnerId::UNKNOWN);
        let mut new = known;
        let mut left = listing.unowned;
        for state in States::ALL {
            let Some(count) = left.get_mut(state).filter(|count| **count > 0) else {
                continue;
            };
            let claims: Vec<u64> = (0..old.len())
                .map(|index| {
                    let more = old[index].get(state).saturating_sub(new[index].get(state));
                    more.min(credit[index])
                })
                .collect();
            // Where ends went unseen it is nobody's that go first: the oldest.
            let mut known_only = claims.clone();
            if let Some(nobody) = nobody {
                known_only[nobody] = 0;
            }
            for claims in [known_only, claims] {
                let shares = share(*count, &claims);
                for (index, share) in shares.into_iter().enumerate() {
                    let share = share.min(credit[index]);
                    give(&mut new[index], state, share);
                    credit[index] -= share;
                    *count -= share;
                }
                if *count == 0 {
                    break;
                }
                if nobody.is_none() {
                    break;
                }
            }
        }
        for state in ENDING {
            let Some(count) = left.get_mut(state).filter(|count| **count > 0) else {
                continue;
            };
            for (index, share) in share(*count, &credit).into_iter().enumerate() {
                give(&mut new[index], state, share);
                credit[index] -= share;
                *count -= share;
            }
        }
        for ((_, account), states) in self.accounts.iter_mut().zip(new) {
            account.states = states;
        }
        if left.total() > 0 {
            let account = self.open_account(OwnerId::UNKNOWN, &Process::nobody());
            for state in States::ALL {
                give(&mut account.states, state, left.get(state));
            }
        }
    }

    /// Counts as opened what is open now and was not at the last dump: all that is known of it
    /// where no event tells of a connection's beginning.
    fn count_growth(&mut self, open_before: &[u64], since_ns: u64, ended_ns: u64) {
        let open_now: u64 = self.accounts.iter().map(|(_, one)| one.open()).sum();
        // A socket that only changed hands was not opened.
        let mut grown = open_now.saturating_sub(open_before.iter().sum());
        for (index, (_, account)) in self.accounts.iter_mut().enumerate() {
            let before = open_before.get(index).copied().unwrap_or(0);
            let more = account.open().saturating_sub(before).min(grown);
            if more == 0 {
                continue;
            }
            grown -= more;
            let count = u32::try_from(more).unwrap_or(u32::MAX);
            account.opened += more;
            account.opens.spread(since_ns, ended_ns, count);
            self.opens.spread(since_ns, ended_ns, count);
        }
    }
}

fn give(states: &mut States, state: TcpState, count: u64) {
    if let Some(slot) = states.get_mut(state) {
        *slot += count;
    }
}

/// Shares `count` among `claims`, none getting more than it claims: all of it where there is
/// enough, else by their size.
fn share(count: u64, claims: &[u64]) -> Vec<u64> {
    let wanted: u64 = claims.iter().sum();
    if wanted <= count {
        return claims.to_vec();
    }
    let part = |claim: u64| u128::from(claim) * u128::from(count) / u128::from(wanted);
    let mut shares: Vec<u64> = claims
        .iter()
        .map(|&claim| u64::try_from(part(claim)).unwrap_or(claim))
        .collect();
    let mut rest = count - shares.iter().sum::<u64>();
    for (share, &claim) in shares.iter_mut().zip(claims) {
        let more = rest.min(claim - *share).min(1);
        *share += more;
        rest -= more;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_add_up_and_none_exceeds_its_claim() {
        assert_eq!(share(10, &[3, 0, 4]), [3, 0, 4]);
        assert_eq!(share(7, &[3, 0, 4]), [3, 0, 4]);
        assert_eq!(share(5, &[1, 1, 1, 1, 1, 1]).iter().sum::<u64>(), 5);
        assert_eq!(share(3, &[100, 0, 1]), [3, 0, 0]);
        assert_eq!(share(0, &[2, 2]), [0, 0]);
        assert!(share(9, &[]).is_empty());
    }
}
