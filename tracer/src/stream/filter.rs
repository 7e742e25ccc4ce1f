/*! The filters user space applies: those by owner, of which the kernel side knows only the pid. */

use ipnet::IpNet;

use super::books::Judgement;
use crate::event::Owner;
use crate::host::process::Identity;
use crate::ledger::pool::PoolId;

/// Longest task name the kernel keeps.
const LONGEST_COMM: usize = tracer_ebpf::COMM_LEN - 1;

/// Whose events to show; without any condition everybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Process ids. The kernel side compares them too, but where it knows no owner it cannot.
    pub pids: Vec<u32>,
    /// Names of a process or thread, any of which will do.
    pub comms: Vec<String>,
    /// Start of a container id, or a part of a pod uid or cgroup path, any of which will do.
    pub containers: Vec<String>,
    /// Destinations and their ports, any of which will do. The kernel side compares them for
    /// events; the lists of sockets have all.
    pub destinations: Vec<(IpNet, Option<u16>)>,
}

impl Filter {
    /// Whether the owner has one of the pids and names. A name is compared as far as the kernel
    /// keeps it.
    pub fn wants(&self, owner: &Owner) -> bool {
        let named = |comm: &String| {
            let comm = &comm.as_bytes()[..comm.len().min(LONGEST_COMM)];
            comm == owner.comm.bytes() || comm == owner.thread.bytes()
        };
        (self.pids.is_empty() || self.pids.contains(&owner.tgid))
            && (self.comms.is_empty() || self.comms.iter().any(named))
    }

    /// The pools one of the wanted holds ports in or failed in, and their verdicts.
    pub fn judged(&self, judgement: Judgement) -> Judgement {
        if *self == Self::default() {
            return judgement;
        }
        let Judgement {
            mut pools,
            mut verdicts,
        } = judgement;
        let wants = |owner: &Owner, who: &Identity| self.wants(owner) && self.wants_identity(who);
        let by_owner =
            !(self.pids.is_empty() && self.comms.is_empty() && self.containers.is_empty());
        pools.retain(|pool| {
            if !by_owner {
                return true;
            }
            let mut holders = pool.holders.iter();
            let mut failures = pool.failures.iter();
            holders.any(|holder| wants(&holder.owner, &holder.who))
                || failures.any(|failed| wants(&failed.owner, &failed.who))
        });
        pools.retain(|pool| self.wants_pool(&pool.id));
        // One on all destinations of a source is on those asked for too.
        verdicts.retain(|verdict| verdict.pool.dport == 0 || self.wants_pool(&verdict.pool));
        verdicts.retain(|verdict| {
            if !by_owner {
                return true;
            }
            let mut culprits = verdict.culprits.iter();
            let mut victims = verdict.victims.iter();
            culprits.any(|holder| wants(&holder.owner, &holder.who))
                || victims.any(|failed| wants(&failed.owner, &failed.who))
        });
        Judgement { pools, verdicts }
    }

    /// Whether the pool is towards one of the destinations.
    fn wants_pool(&self, pool: &PoolId) -> bool {
        self.destinations.is_empty()
            || self.destinations.iter().any(|(network, port)| {
                network.contains(&pool.dst) && port.is_none_or(|port| port == pool.dport)
            })
    }

    /// Whether the kernel side leaves events out that the lists of sockets have.
    pub fn is_in_kernel(&self) -> bool {
        !(self.pids.is_empty() && self.destinations.is_empty())
    }

    /// Whether the owner's identity is in one of the containers.
    pub fn wants_identity(&self, who: &Identity) -> bool {
        self.containers.is_empty()
            || self.containers.iter().any(|wanted| {
                let starts = |id: &String| id.starts_with(wanted.as_str());
                let holds = |text: &String| text.contains(wanted.as_str());
                who.container.as_ref().is_some_and(starts)
                    || who.pod.as_ref().is_some_and(holds)
                    || who.cgroup.as_ref().is_some_and(holds)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Judgement};
    use crate::event::{Owner, TaskName};
    use crate::host::process::Identity;
    use crate::view::sample::churn;

    fn name(text: &str) -> TaskName {
        let mut name = [0; 16];
        name[..text.len()].copy_from_slice(text.as_bytes());
        TaskName::new(name)
    }

    #[test]
    fn a_name_matches_process_or_thread_as_far_as_the_kernel_keeps_it() {
        let owner = Owner {
            comm: name("a-very-long-pro"),
            thread: name("worker"),
            ..Owner::default()
        };
        let wants = |comm: &str| {
            let filter = Filter {
                comms: vec!["other".into(), comm.into()],
                ..Filter::default()
            };
            filter.wants(&owner)
        };
        assert!(wants("worker"));
        assert!(wants("a-very-long-process-name"));
        assert!(!wants("a-very"));
        assert!(!wants("work"));
        assert!(!wants(""));
        assert!(Filter::default().wants(&owner));
    }

    #[test]
    fn a_destination_matches_pools_and_what_is_on_all() {
        let filter = Filter {
            destinations: vec![("10.0.0.0/24".parse().unwrap(), Some(5432))],
            ..Filter::default()
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
        let judged = filter.judged(Judgement {
            pools: Vec::new(),
            verdicts: vec![other, port, bound, wanted],
        });
        let ports: Vec<u16> = judged.verdicts.iter().map(|one| one.pool.dport).collect();
        assert_eq!(ports, [0, 5432]);
        assert!(filter.is_in_kernel());
    }

    #[test]
    fn a_pid_is_not_that_of_an_unknown_owner() {
        let filter = Filter {
            pids: vec![7],
            ..Filter::default()
        };
        let owner = |tgid| Owner {
            tgid,
            ..Owner::default()
        };
        assert!(filter.wants(&owner(7)));
        assert!(!filter.wants(&owner(8)));
        assert!(!filter.wants(&owner(0)));
    }

    #[test]
    fn a_container_matches_by_the_start_of_its_id_or_within_its_cgroup() {
        let who = Identity {
            container: Some("3f4e5d6c".into()),
            pod: Some("9a8b".into()),
            cgroup: Some("/system.slice/docker-3f4e5d6c.scope".into()),
            ..Identity::default()
        };
        let wants = |container: &str| {
            let filter = Filter {
                containers: vec![container.into()],
                ..Filter::default()
            };
            (
                filter.wants_identity(&who),
                filter.wants_identity(&Identity::default()),
            )
        };
        assert_eq!(wants("3f4e"), (true, false));
        assert_eq!(wants("9a8b"), (true, false));
        assert_eq!(wants("docker-"), (true, false));
        assert_eq!(wants("ffff"), (false, false));
        assert!(Filter::default().wants_identity(&Identity::default()));
    }
}
