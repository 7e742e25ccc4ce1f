/*! Of the books on all pools what the command's processes have to do with, and how full that became. */

use crate::diagnosis::Verdict;
use crate::ledger::pool::{Holder, Pool};

/// Of all pools and verdicts those that the command's processes have to do with: only they are
/// traced, so what opened connections since or failed is theirs.
pub(super) fn of_the_command(pools: &[Pool], verdicts: &[Verdict]) -> (Vec<Pool>, Vec<Verdict>) {
    let opened = |holders: &[Holder]| holders.iter().any(|holder| holder.opened > 0);
    let mut own = pools.to_vec();
    own.retain(|pool| !pool.failures.is_empty() || opened(&pool.holders));
    let mut said = verdicts.to_vec();
    said.retain(|verdict| !verdict.victims.is_empty() || opened(&verdict.culprits));
    (own, said)
}

/// The highest level of any of the pools, from 0 to 1; `None` when one's capacity is not known.
pub(super) fn highest(pools: &[Pool]) -> Option<f64> {
    pools.iter().try_fold(0.0, |most, pool| {
        let ports = pool.capacity?.ports();
        let level = if ports == 0 {
            1.0
        } else {
            (pool.peak.0 as f64 / ports as f64).min(1.0)
        };
        Some(f64::max(most, level))
    })
}

#[cfg(test)]
mod tests {
    use super::{highest, of_the_command};
    use crate::event::TcpState;
    use crate::ledger::pool::{Capacity, Holder, Pool};
    use crate::view::sample::{dry_pool, holder};

    fn pool(holders: Vec<Holder>, peak: u64) -> Pool {
        Pool {
            capacity: Some(Capacity {
                range: (20_000, 20_099),
                ..Capacity::default()
            }),
            holders,
            peak: (peak, 0),
            failures: Vec::new(),
            ..dry_pool()
        }
    }

    #[test]
    fn only_what_opened_since_counts_and_each_needs_a_capacity() {
        let other = Holder {
            opened: 0,
            ..holder(1, b"other", &[(TcpState::Established, 90)])
        };
        let own = Holder {
            opened: 40,
            ..holder(2, b"own", &[(TcpState::Established, 40)])
        };
        let mut pools = vec![pool(vec![other], 90), pool(vec![own], 40)];
        let (mine, _) = of_the_command(&pools, &[]);
        assert_eq!(mine.len(), 1);
        assert_eq!(highest(&mine), Some(0.4));
        assert_eq!(highest(&[]), Some(0.0));
        pools[1].peak.0 = 170;
        assert_eq!(highest(&pools), Some(1.0), "ports beyond the range");
        pools[0].capacity = None;
        assert_eq!(highest(&pools), None);
    }
}
