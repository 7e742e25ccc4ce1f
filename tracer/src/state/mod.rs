/*!
What is known now: the one value that every view and the gate read.

Plain data and pure functions of it. Events are pushed to a view as they come; everything else it
pulls from here.
*/

mod history;
mod load;
mod select;
mod totals;

use std::collections::BTreeMap;

pub use self::history::{Closed, History, Levels, Sample, Series};
pub use self::load::Load;
pub use self::select::select;
pub use self::totals::{Row, Tally, Totals};
use crate::diagnosis::Verdict;
use crate::model::{About, Loss, Namespace, Pool, Shortfall};

/// What is known at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The moment, ns of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// When the stream began, ns of the same clock.
    pub began_ns: u64,
    /// What the source is.
    pub about: About,
    /// How often pools and verdicts were renewed: what differs has new ones.
    pub judgements: u64,
    /// The pools asked for as they stood at the last judgement, the fullest first.
    pub pools: Vec<Pool>,
    /// What was wrong with them then, the most urgent first.
    pub verdicts: Vec<Verdict>,
    /// Network namespaces by inode, as last dumped.
    pub namespaces: BTreeMap<u32, Namespace>,
    /// How the pools that matter came to be as they are, whether asked for or not.
    pub history: History,
    /// What the events asked for add up to.
    pub totals: Tally,
    /// What the connections asked for added up to at their worst.
    pub load: Load,
    /// What was lost so far, as last looked at.
    pub losses: Loss,
    /// What the ledger does not have, or not apart.
    pub shortfall: Shortfall,
    /// Why the stream ended before it was asked to.
    pub broken: Option<String>,
}

impl State {
    /// How long the stream has lasted, ns.
    pub fn duration_ns(&self) -> u64 {
        self.now_ns.saturating_sub(self.began_ns)
    }

    /// The highest level any of the pools ever had, from 0 to 1; `None` when one's capacity is not
    /// known.
    pub fn highest_utilization(&self) -> Option<f64> {
        self.pools.iter().try_fold(0.0, |most, pool| {
            let ports = pool.capacity?.ports();
            let level = if ports == 0 {
                1.0
            } else {
                (pool.peak.0 as f64 / ports as f64).min(1.0)
            };
            Some(f64::max(most, level))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::State;
    use crate::model::{Capacity, Pool};
    use crate::view::sample::dry_pool;

    #[test]
    fn the_highest_level_needs_every_capacity() {
        let pool = |peak| Pool {
            capacity: Some(Capacity {
                range: (20_000, 20_099),
                ..Capacity::default()
            }),
            peak: (peak, 0),
            ..dry_pool()
        };
        let highest = |pools: &[Pool]| {
            let pools = pools.to_vec();
            let state = State {
                pools,
                ..State::default()
            };
            state.highest_utilization()
        };
        assert_eq!(highest(&[]), Some(0.0), "no pool is no level");
        assert_eq!(highest(&[pool(40), pool(20)]), Some(0.4));
        assert_eq!(highest(&[pool(170)]), Some(1.0), "ports beyond the range");
        let unknown = Pool {
            capacity: None,
            ..pool(90)
        };
        assert_eq!(highest(&[pool(40), unknown]), None);
    }
}
