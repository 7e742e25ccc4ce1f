/*! The hooks, by what they give and by backend: one table for loading, trials and `doctor`. */

/// What a program attaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A typed tracepoint.
    TpBtf,
    /// Entry of a kernel function.
    Fentry,
    /// Return of a kernel function.
    Fexit,
    /// A tracepoint of category `syscalls`.
    Syscall,
    /// A connect() in the root cgroup.
    CgroupConnect,
    /// The last close() of a socket in the root cgroup.
    CgroupRelease,
}

/// One program of the object and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// What it attaches to.
    pub kind: Kind,
    /// Its place for people: kind and name, `fexit/inet_hash_connect`.
    pub place: &'static str,
    /// Whether the hooks of its group do without it: its function is absent from kernels built without IPv6.
    pub optional: bool,
}

impl Hook {
    /// Name of the tracepoint or function.
    pub fn target(&self) -> &'static str {
        self.place
            .rsplit_once('/')
            .map_or(self.place, |(_, name)| name)
    }
}

const fn hook(program: &'static str, kind: Kind, place: &'static str) -> Hook {
    Hook {
        program,
        kind,
        place,
        optional: false,
    }
}

const fn optional(program: &'static str, kind: Kind, place: &'static str) -> Hook {
    Hook {
        program,
        kind,
        place,
        optional: true,
    }
}

/// A way to learn one thing, all of whose hooks are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// What is learnt: `state`, `rescue`, `connect`, `bind`, `time_wait`, `time_wait_end`.
    pub fact: &'static str,
    /// `trampoline` or `tracepoint`.
    pub backend: &'static str,
    /// The fact for people; the same for both backends.
    pub gives: &'static str,
    /// Its programs.
    pub hooks: &'static [Hook],
}

/// Backend of fentry and fexit programs.
pub const TRAMPOLINE: &str = "trampoline";
/// Backend of tracepoints.
pub const TRACEPOINT: &str = "tracepoint";
/// Programs of the root cgroup.
pub const CGROUP: &str = "cgroup";
/// Concluded from state changes.
pub const INFERRED: &str = "inferred";
/// Not seen at all.
pub const NONE: &str = "none";

/// State changes: without these nothing is traced.
pub const STATE: Group = Group {
    fact: "state",
    backend: TRACEPOINT,
    gives: "who opens, closes first, and fails later (refused, timed out)",
    hooks: &[hook("state", Kind::TpBtf, "tp_btf/inet_sock_set_state")],
};

/// Ends of connections for which the kernel skipped the program of [`STATE`].
pub const RESCUE: Group = Group {
    fact: "rescue",
    backend: TRACEPOINT,
    gives: "ends of connections the kernel skipped a program for",
    hooks: &[
        optional("rescue_failed", Kind::TpBtf, "tp_btf/inet_sk_error_report"),
        CLOSED,
    ],
};

/// Every end of a socket.
const CLOSED: Hook = hook("rescue_closed", Kind::TpBtf, "tp_btf/tcp_destroy_sock");

/// Errno of connect(), by trampolines.
pub const CONNECT_TRAMPOLINE: Group = Group {
    fact: "connect",
    backend: TRAMPOLINE,
    gives: "errno and cause of connect()",
    hooks: &[
        hook("hash_connect_v4", Kind::Fexit, "fexit/inet_hash_connect"),
        optional("hash_connect_v6", Kind::Fexit, "fexit/inet6_hash_connect"),
        hook("tcp_connect_v4", Kind::Fexit, "fexit/tcp_v4_connect"),
        optional("tcp_connect_v6", Kind::Fexit, "fexit/tcp_v6_connect"),
    ],
};

/// Errno of connect(), by system call tracepoints.
pub const CONNECT_SYSCALL: Group = Group {
    fact: "connect",
    backend: TRACEPOINT,
    gives: "errno and cause of connect()",
    hooks: &[
        hook("connect_enter", Kind::Syscall, "syscalls/sys_enter_connect"),
        hook("connect_exit", Kind::Syscall, "syscalls/sys_exit_connect"),
    ],
};

/// Errno of bind(), by trampolines.
pub const BIND_TRAMPOLINE: Group = Group {
    fact: "bind",
    backend: TRAMPOLINE,
    gives: "errno and cause of bind()",
    hooks: &[
        hook("bind_v4", Kind::Fexit, "fexit/inet_bind"),
        optional("bind_v6", Kind::Fexit, "fexit/inet6_bind"),
    ],
};

/// Errno of bind(), by system call tracepoints.
pub const BIND_SYSCALL: Group = Group {
    fact: "bind",
    backend: TRACEPOINT,
    gives: "errno and cause of bind()",
    hooks: &[
        hook("bind_enter", Kind::Syscall, "syscalls/sys_enter_bind"),
        hook("bind_exit", Kind::Syscall, "syscalls/sys_exit_bind"),
    ],
};

/// Births of TIME_WAITs, by trampolines.
pub const BIRTH_TRAMPOLINE: Group = Group {
    fact: "time_wait",
    backend: TRAMPOLINE,
    gives: "exact births of TIME_WAIT",
    hooks: &[
        hook("timewait_alloc", Kind::Fexit, "fexit/inet_twsk_alloc"),
        hook("timewait_alloc_again", Kind::Fexit, "fexit/inet_twsk_alloc"),
    ],
};

/// Births of TIME_WAITs, looked up in the kernel's table of connections when a socket changes to
/// CLOSE. Its own hook is the one that looks where the kernel skipped the change's program.
pub const BIRTH_TABLE: Group = Group {
    fact: "time_wait",
    backend: TRACEPOINT,
    gives: "exact births of TIME_WAIT",
    hooks: &[CLOSED],
};

/// Ends of TIME_WAITs, by trampolines.
pub const END_TRAMPOLINE: Group = Group {
    fact: "time_wait_end",
    backend: TRAMPOLINE,
    gives: "ends of TIME_WAIT",
    hooks: &[
        hook("timewait_kill", Kind::Fentry, "fentry/inet_twsk_kill"),
        EXPIRES,
    ],
};

/// Ends of TIME_WAITs, by trampolines, where the function of [`END_TRAMPOLINE`] is not to be had:
/// reuse is not told from what kills. Tried only then.
pub const END_DESTRUCTOR: Group = Group {
    fact: "time_wait_end",
    backend: TRAMPOLINE,
    gives: "ends of TIME_WAIT",
    hooks: &[
        hook("timewait_free", Kind::Fentry, "fentry/tcp_twsk_destructor"),
        EXPIRES,
    ],
};

/// Tells the end by its timer from the others.
const EXPIRES: Hook = hook("timewait_expires", Kind::Fentry, "fentry/tw_timer_handler");

/// Ends of TIME_WAITs, by timers.
pub const END_TIMER: Group = Group {
    fact: "time_wait_end",
    backend: TRACEPOINT,
    gives: "ends of TIME_WAIT",
    hooks: &[hook(
        "timewait_timer_expire",
        Kind::TpBtf,
        "tp_btf/timer_expire_entry",
    )],
};

/// Children of the processes asked for.
pub const FOLLOW: Group = Group {
    fact: "follow",
    backend: TRACEPOINT,
    gives: "children of a traced program (tracer run)",
    hooks: &[
        hook("follow_fork", Kind::TpBtf, "tp_btf/sched_process_fork"),
        hook("follow_free", Kind::TpBtf, "tp_btf/sched_process_free"),
    ],
};

/// Second copies of the programs of [`CONNECT_TRAMPOLINE`], where those can be preempted.
pub const CONNECT_AGAIN: Group = Group {
    fact: "connect_again",
    backend: TRAMPOLINE,
    gives: "failures of connect() while a task is preempted within a program",
    hooks: &[
        optional("hash_again_v4", Kind::Fexit, "fexit/inet_hash_connect"),
        optional("hash_again_v6", Kind::Fexit, "fexit/inet6_hash_connect"),
        optional("tcp_again_v4", Kind::Fexit, "fexit/tcp_v4_connect"),
        optional("tcp_again_v6", Kind::Fexit, "fexit/tcp_v6_connect"),
    ],
};

/// connect() and close() where tracepoint programs can be preempted.
pub const WITNESS: Group = Group {
    fact: "witness",
    backend: CGROUP,
    gives: "who connects and closes while a task is preempted within a program",
    hooks: &[
        hook("witness_v4", Kind::CgroupConnect, "cgroup/connect4"),
        optional("witness_v6", Kind::CgroupConnect, "cgroup/connect6"),
        optional(
            "witness_release",
            Kind::CgroupRelease,
            "cgroup/sock_release",
        ),
    ],
};

/// Every group, the preferred one of a fact first.
pub const GROUPS: &[Group] = &[
    STATE,
    RESCUE,
    CONNECT_TRAMPOLINE,
    CONNECT_SYSCALL,
    BIND_TRAMPOLINE,
    BIND_SYSCALL,
    BIRTH_TRAMPOLINE,
    BIRTH_TABLE,
    END_TRAMPOLINE,
    END_DESTRUCTOR,
    END_TIMER,
    FOLLOW,
    WITNESS,
    CONNECT_AGAIN,
];
