/*! Who is behind a socket: a process, and where it runs. */

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

/// Bytes of a task's name, the zero at its end included: `TASK_COMM_LEN`.
pub const COMM_LEN: usize = 16;

/// A task's name as the kernel keeps it: up to 15 bytes of any kind.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskName([u8; COMM_LEN]);

impl TaskName {
    /// Takes the kernel's form; what follows a zero byte does not belong to the name.
    pub fn new(mut name: [u8; COMM_LEN]) -> Self {
        // Two names that read the same must compare the same.
        if let Some(end) = name.iter().position(|&byte| byte == 0) {
            name[end..].fill(0);
        }
        Self(name)
    }

    /// The name; not necessarily UTF-8, never to be printed as it is.
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0);
        &self.0[..end.unwrap_or(self.0.len())]
    }
}

impl std::fmt::Debug for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())
    }
}

/// A process and its thread as the kernel names them, at the moment of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Task {
    /// Process id in the initial pid namespace; 0 when unknown.
    pub tgid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Start of the process, ns of `CLOCK_BOOTTIME`; with `tgid` it is unique.
    pub start_ns: u64,
    /// cgroup v2 id; 1 is the root, also on v1 hosts; 0 when unknown.
    pub cgroup_id: u64,
    /// Name of the process; of the thread where that cannot be read (before Linux 5.11, locked down
    /// to confidentiality).
    pub comm: TaskName,
    /// Name of the thread.
    pub thread: TaskName,
}

/// A process that called connect(), or accepted and closed: what the kernel says of it, and what
/// /proc and its cgroup add. Every string is as another process chose it: escape it on output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the initial pid namespace; 0 when unknown.
    pub tgid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Start of the process, ns of `CLOCK_BOOTTIME`; with `tgid` it is unique.
    pub start_ns: u64,
    /// cgroup v2 id; 1 is the root, also on v1 hosts; 0 when unknown.
    pub cgroup_id: u64,
    /// Name of the process; of the thread where that cannot be read (before Linux 5.11, locked down
    /// to confidentiality).
    pub comm: TaskName,
    /// Name of the thread that acted. A process whose threads have several names appears once for
    /// each; they share the strings below.
    pub thread: TaskName,
    /// Path of the executable in the process's own mount namespace, without the kernel's
    /// ` (deleted)`; `None` for kernel threads and for processes that could not be asked.
    pub exe: Option<Arc<str>>,
    /// The cgroup path that says most about the process.
    pub cgroup: Option<Arc<str>>,
    /// Container id out of that path.
    pub container: Option<Arc<str>>,
    /// Runtime of that container.
    pub runtime: Option<Runtime>,
    /// Pod uid out of that path.
    pub pod: Option<Arc<str>>,
}

impl Process {
    /// The process behind sockets of which no process is known: `tgid` 0, nothing else.
    pub fn nobody() -> Arc<Self> {
        static NOBODY: LazyLock<Arc<Process>> = LazyLock::new(Arc::default);
        Arc::clone(&NOBODY)
    }

    /// All processes beyond a limit of those kept apart: `tgid` 0, and a name that says it.
    pub fn others() -> Arc<Self> {
        static OTHERS: LazyLock<Arc<Process>> = LazyLock::new(|| {
            Arc::new(Process {
                comm: TaskName::new(*b"(others)\0\0\0\0\0\0\0\0"),
                ..Process::default()
            })
        });
        Arc::clone(&OTHERS)
    }

    /// A process of which the kernel alone speaks.
    pub fn of(task: &Task) -> Self {
        let &Task {
            tgid,
            uid,
            start_ns,
            cgroup_id,
            comm,
            thread,
        } = task;
        Self {
            tgid,
            uid,
            start_ns,
            cgroup_id,
            comm,
            thread,
            ..Self::default()
        }
    }
}

/// Who runs a container, as far as the cgroup path shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Runtime {
    /// Docker Engine, also under Amazon ECS.
    Docker,
    /// containerd, by its own clients or as the kubelet's runtime.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman, rootful or rootless.
    Podman,
    /// The kubelet's runtime, which with the `cgroupfs` driver does not put its name in the path.
    Cri,
    /// LXC and its descendants.
    Lxc,
    /// systemd-nspawn; the id is the machine's name.
    Nspawn,
}

impl Runtime {
    /// The name in output and filters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Cri => "cri",
            Self::Lxc => "lxc",
            Self::Nspawn => "nspawn",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
