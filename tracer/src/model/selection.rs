/*! Whose sockets and which pools are asked for: one answer for the kernel side, the stream and a look. */

use ipnet::IpNet;

use super::{Holder, PoolId, Process};

/// Longest task name the kernel keeps.
const LONGEST_COMM: usize = super::COMM_LEN - 1;

/// Whose events and pools are asked for; without any condition everybody's. Several of one kind mean
/// any of them, different kinds mean all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Process ids. The kernel side compares them too, but where it knows no owner it cannot.
    pub pids: Vec<u32>,
    /// Whether the children of `pids` are traced too, from the beginning: the kernel side keeps the
    /// list, and whoever's events arrive is on it.
    pub follow: bool,
    /// Names of a process or thread.
    pub comms: Vec<String>,
    /// Starts of container ids, or parts of pod uids or cgroup paths.
    pub containers: Vec<String>,
    /// Destinations and their ports. The kernel side compares them for events; socket dumps have all.
    pub destinations: Vec<(IpNet, Option<u16>)>,
    /// Inodes of network namespaces. Nothing of others comes at all.
    pub namespaces: Vec<u32>,
}

impl Selection {
    /// Whether the process or its thread is among those asked for. A name is compared as far as the
    /// kernel keeps it.
    pub fn wants_process(&self, process: &Process) -> bool {
        let named = |comm: &String| {
            let comm = &comm.as_bytes()[..comm.len().min(LONGEST_COMM)];
            comm == process.comm.bytes() || comm == process.thread.bytes()
        };
        self.follow
            || (self.pids.is_empty() || self.pids.contains(&process.tgid))
                && (self.comms.is_empty() || self.comms.iter().any(named))
                && self.wants_container(process)
    }

    /// Asks for every process from now on.
    pub fn forget_processes(&mut self) {
        self.pids.clear();
        self.comms.clear();
        self.containers.clear();
    }

    /// Whether processes are told apart at all.
    pub fn by_process(&self) -> bool {
        !(self.pids.is_empty() && self.comms.is_empty() && self.containers.is_empty())
    }

    /// Whether the pool is towards one of the destinations.
    pub fn wants_pool(&self, pool: &PoolId) -> bool {
        self.destinations.is_empty()
            || self.destinations.iter().any(|(network, port)| {
                network.contains(&pool.dst) && port.is_none_or(|port| port == pool.dport)
            })
    }

    /// Whether this is one who holds ports and was asked for. Of a command only what was opened since
    /// it began counts: only its processes are traced.
    pub fn wants_holder(&self, holder: &Holder) -> bool {
        if self.follow {
            return holder.opened > 0;
        }
        self.wants_process(&holder.process)
    }

    /// Whether the kernel side leaves events out that socket dumps have.
    pub fn is_in_kernel(&self) -> bool {
        !(self.pids.is_empty() && self.destinations.is_empty())
    }

    /// Whether the process is in one of the containers.
    fn wants_container(&self, process: &Process) -> bool {
        self.containers.is_empty()
            || self.containers.iter().any(|wanted| {
                let starts = |id: &str| id.starts_with(wanted.as_str());
                let holds = |text: &str| text.contains(wanted.as_str());
                process.container.as_deref().is_some_and(starts)
                    || process.pod.as_deref().is_some_and(holds)
                    || process.cgroup.as_deref().is_some_and(holds)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;
    use crate::model::Process;
    use crate::model::sample::task;

    #[test]
    fn a_name_matches_process_or_thread_as_far_as_the_kernel_keeps_it() {
        let wants = |comm: &str| {
            let selection = Selection {
                comms: vec!["other".into(), comm.into()],
                ..Selection::default()
            };
            let process = Process {
                comm: task(b"a-very-long-pro"),
                thread: task(b"worker"),
                ..Process::default()
            };
            selection.wants_process(&process)
        };
        assert!(wants("worker"));
        assert!(wants("a-very-long-process-name"));
        assert!(!wants("a-very"));
        assert!(!wants("work"));
        assert!(!wants(""));
        assert!(Selection::default().wants_process(&Process::default()));
    }

    #[test]
    fn a_pid_is_not_that_of_an_unknown_owner() {
        let wants = |selection: &Selection, tgid| {
            let process = Process {
                tgid,
                ..Process::default()
            };
            selection.wants_process(&process)
        };
        let selection = Selection {
            pids: vec![7],
            ..Selection::default()
        };
        assert!(wants(&selection, 7));
        assert!(!wants(&selection, 8));
        assert!(!wants(&selection, 0));
        let command = Selection {
            follow: true,
            ..selection
        };
        assert!(wants(&command, 8), "a child of it");
    }

    #[test]
    fn a_container_matches_by_the_start_of_its_id_or_within_its_cgroup() {
        let process = Process {
            container: Some("3f4e5d6c".into()),
            pod: Some("9a8b".into()),
            cgroup: Some("/system.slice/docker-3f4e5d6c.scope".into()),
            ..Process::default()
        };
        let wants = |container: &str| {
            let selection = Selection {
                containers: vec![container.into()],
                ..Selection::default()
            };
            (
                selection.wants_process(&process),
                selection.wants_process(&Process::default()),
            )
        };
        assert_eq!(wants("3f4e"), (true, false));
        assert_eq!(wants("9a8b"), (true, false));
        assert_eq!(wants("docker-"), (true, false));
        assert_eq!(wants("ffff"), (false, false));
        assert!(Selection::default().wants_process(&Process::default()));
    }
}
