/*! Of all pools and verdicts those that were asked for. */

use crate::diagnosis::Verdict;
use crate::model::{Holder, Pool, Selection};

/// Keeps the pools in which one of those asked for holds ports or failed, and their verdicts.
pub fn select(selection: &Selection, pools: &mut Vec<Pool>, verdicts: &mut Vec<Verdict>) {
    let by_owner = selection.follow || selection.by_process();
    let wants = |holder: &Holder| selection.wants_holder(holder);
    if by_owner {
        pools.retain(|pool| {
            let mut failures = pool.failures.iter();
            pool.holders.iter().any(wants)
                || failures.any(|failed| selection.wants_process(&failed.process))
        });
        verdicts.retain(|verdict| {
            let mut victims = verdict.victims.iter();
            verdict.culprits.iter().any(wants)
                || victims.any(|failed| selection.wants_process(&failed.process))
        });
    }
    if !selection.destinations.is_empty() {
        pools.retain(|pool| selection.wants_pool(&pool.id));
        // One on all destinations of a source is on those asked for too.
        verdicts.retain(|verdict| verdict.pool.dport == 0 || selection.wants_pool(&verdict.pool));
    }
}

#[cfg(test)]
mod tests {
    use super::select;
    use crate::model::{Holder, Pool, Selection, TcpState};
    use crate::view::sample::{churn, dry_pool, holder};

    #[test]
    fn a_destination_matches_pools_and_what_is_on_all() {
        let selection = Selection {
            destinations: vec![("10.0.0.0/24".parse().unwrap(), Some(5432))],
            ..Selection::default()
        };
        let mut other = churn();
        other.pool.dst = [10, 0, 1, 2].into();
        let mut port = churn();
        port.pool.dst = [10, 0, 0, 2].into();
        port.pool.dport = 5433;
        let mut bound = churn();
        bound.pool.dport = 0;
        let mut wanted = churn();
        wanted.pool.dst = [10, 0, 0, 2].into();
        wanted.pool.dport = 5432;
        let mut verdicts = vec![other, port, bound, wanted];
        select(&selection, &mut Vec::new(), &mut verdicts);
        let ports: Vec<u16> = verdicts.iter().map(|one| one.pool.dport).collect();
        assert_eq!(ports, [0, 5432]);
        assert!(selection.is_in_kernel());
    }

    #[test]
    fn of_a_command_what_opened_or_failed_since_counts() {
        let pool = |holder: Holder, opened, failures| Pool {
            holders: vec![Holder { opened, ..holder }],
            failures,
            ..dry_pool()
        };
        let other = holder(1, b"other", &[(TcpState::Established, 90)]);
        let own = holder(2, b"own", &[(TcpState::Established, 40)]);
        let failed = dry_pool().failures;
        let mut pools = vec![
            pool(other.clone(), 0, Vec::new()),
            pool(own, 40, Vec::new()),
            pool(other, 0, failed),
        ];
        let command = Selection {
            pids: vec![2],
            follow: true,
            ..Selection::default()
        };
        let mut verdicts = Vec::new();
        select(&command, &mut pools, &mut verdicts);
        assert_eq!(pools.len(), 2);
        let all = |pools: &mut Vec<Pool>| {
            select(&Selection::default(), pools, &mut Vec::new());
            pools.len()
        };
        assert_eq!(all(&mut pools), 2);
    }
}
