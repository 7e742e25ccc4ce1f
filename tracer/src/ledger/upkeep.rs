/*! What time does to the books: TIME_WAITs leave by their age, levels are sampled, what is over goes. */

use super::Limits;
use super::books::Ledger;
use super::meter::SECOND;
use super::space::Space;
use crate::model::{PoolId, TwReuse};

impl Ledger {
    /// Lets time pass: what leaves by its age leaves, levels are sampled, forecasts are kept.
    pub fn advance(&mut self, now_ns: u64) {
        self.clock(now_ns);
        if now_ns / SECOND <= self.ticked {
            return;
        }
        self.ticked = now_ns / SECOND;
        let Limits { feed, .. } = self.limits;
        for row in self.rows.values_mut() {
            if !feed.ends {
                row.expire(now_ns);
            }
            if feed.opens {
                row.sample(now_ns);
            }
            let space = self.spaces.get(&row.id.netns);
            let capacity = space.and_then(|space| space.capacity(&row.id));
            let reusable = space.is_some_and(|space| reusable(space, &row.id));
            row.look_ahead(now_ns, capacity, reusable);
        }
        self.sweep(now_ns);
    }

    /// Removes what has nothing to say any more, and more of it where room gets scarce.
    fn sweep(&mut self, now_ns: u64) {
        let scarce = |count: usize, most: usize| count > most - most / 4;
        let few_rows = scarce(self.rows.len(), self.limits.pools);
        let few_holders = scarce(self.holders, self.limits.holders);
        let Self {
            rows,
            spaces,
            holders,
            failures,
            evicted,
            limits,
            ..
        } = self;
        rows.retain(|id, row| {
            if few_holders || scarce(row.accounts.len(), limits.owners) {
                let before = row.accounts.len();
                row.accounts.retain(|(_, account)| !account.is_idle(now_ns));
                *holders -= before - row.accounts.len();
            }
            let goes = row.is_idle(now_ns) && (row.failures.is_empty() || few_rows);
            if goes {
                evicted.failures += failures.forget(row);
                *holders -= row.accounts.len();
                if let Some(space) = spaces.get_mut(&id.netns) {
                    space.pools.retain(|pool| pool != id);
                }
            }
            !goes
        });
        spaces.retain(|_, space| space.namespace.is_some() || !space.pools.is_empty());
    }

    /// A namespace is gone, and all its pools with it.
    pub fn forget(&mut self, netns: u32) {
        let Some(space) = self.spaces.remove(&netns) else {
            return;
        };
        for id in space.pools {
            if let Some(row) = self.rows.remove(&id) {
                self.failures.forget(&row);
                self.holders -= row.accounts.len();
            }
        }
        self.failures.forget_namespace(netns);
    }
}

/// Whether connect() may take over a TIME_WAIT of this pool that is a second old. It needs TCP
/// timestamps too, which are taken to be on, as they are by default.
pub(super) fn reusable(space: &Space, pool: &PoolId) -> bool {
    match space.namespace.as_ref().and_then(|one| one.tw_reuse) {
        Some(TwReuse::On) => true,
        Some(TwReuse::LoopbackOnly) => pool.src.is_loopback() || pool.dst.is_loopback(),
        Some(TwReuse::Off) | None => false,
    }
}
