/*! The hooks, by what they give and by backend: one table for loading, trials and `doctor`. */

/// Where a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A typed tracepoint.
    TpBtf(&'static str),
    /// Entry of a kernel function.
    Fentry(&'static str),
    /// Return of a kernel function.
    Fexit(&'static str),
    /// A tracepoint of category `syscalls`.
    Syscall(&'static str),
}

impl Target {
    /// Name of the tracepoint or function.
    pub fn name(self) -> &'static str {
        match self {
            Self::TpBtf(name) | Self::Fentry(name) | Self::Fexit(name) | Self::Syscall(name) => {
                name
            }
        }
    }
}

/// One program of the object and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Where it attaches.
    pub target: Target,
    /// Whether the hooks of its group do without it: its function is absent from kernels built without IPv6.
    pub optional: bool,
}

const fn hook(program: &'static str, target: Target) -> Hook {
    Hook {
        program,
        target,
        optional: false,
    }
}

const fn optional(program: &'static str, target: Target) -> Hook {
    Hook {
        program,
        target,
        optional: true,
    }
}

/// A way to learn one thing, all of whose hooks are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// What is learnt: `state`, `connect`, `bind`, `time_wait`, `time_wait_end`.
    pub fact: &'static str,
    /// `trampoline` or `tracepoint`.
    pub backend: &'static str,
    /// The same for people.
    pub gives: &'static str,
    /// Its programs.
    pub hooks: &'static [Hook],
}

/// Backend of fentry and fexit programs.
pub const TRAMPOLINE: &str = "trampoline";
/// Backend of tracepoints.
pub const TRACEPOINT: &str = "tracepoint";
/// Concluded from state changes.
pub const INFERRED: &str = "inferred";
/// Not seen at all.
pub const NONE: &str = "none";

/// State changes: without these nothing is traced.
pub const STATE: Group = Group {
    fact: "state",
    backend: TRACEPOINT,
    gives: "who opens, closes first, and fails later (refused, timed out)",
    hooks: &[
        hook("state", Target::TpBtf("inet_sock_set_state")),
        hook("state_again", Target::TpBtf("inet_sock_set_state")),
    ],
};

/// Errno of connect(), by trampolines.
pub const CONNECT_TRAMPOLINE: Group = Group {
    fact: "connect",
    backend: TRAMPOLINE,
    gives: "errno, cause and port-search time of connect()",
    hooks: &[
        hook("hash_connect_v4", Target::Fexit("inet_hash_connect")),
        optional("hash_connect_v6", Target::Fexit("inet6_hash_connect")),
        hook("tcp_connect_v4", Target::Fexit("tcp_v4_connect")),
        optional("tcp_connect_v6", Target::Fexit("tcp_v6_connect")),
    ],
};

/// Errno of connect(), by system call tracepoints.
pub const CONNECT_SYSCALL: Group = Group {
    fact: "connect",
    backend: TRACEPOINT,
    gives: "errno of connect(); io_uring's is inferred",
    hooks: &[
        hook("connect_enter", Target::Syscall("sys_enter_connect")),
        hook("connect_exit", Target::Syscall("sys_exit_connect")),
    ],
};

/// Errno of bind(), by trampolines.
pub const BIND_TRAMPOLINE: Group = Group {
    fact: "bind",
    backend: TRAMPOLINE,
    gives: "errno and cause of bind()",
    hooks: &[
        hook("bind_v4", Target::Fexit("inet_bind")),
        optional("bind_v6", Target::Fexit("inet6_bind")),
    ],
};

/// Errno of bind(), by system call tracepoints.
pub const BIND_SYSCALL: Group = Group {
    fact: "bind",
    backend: TRACEPOINT,
    gives: "errno of bind(); io_uring's is not seen",
    hooks: &[
        hook("bind_enter", Target::Syscall("sys_enter_bind")),
        hook("bind_exit", Target::Syscall("sys_exit_bind")),
    ],
};

/// Births of TIME_WAITs, by trampolines.
pub const BIRTH_TRAMPOLINE: Group = Group {
    fact: "time_wait",
    backend: TRAMPOLINE,
    gives: "births of TIME_WAIT, exact",
    hooks: &[
        hook("timewait_alloc", Target::Fexit("inet_twsk_alloc")),
        hook("timewait_alloc_again", Target::Fexit("inet_twsk_alloc")),
    ],
};

/// Births of TIME_WAITs, by timers.
pub const BIRTH_TIMER: Group = Group {
    fact: "time_wait",
    backend: TRACEPOINT,
    gives: "births of TIME_WAIT, exact",
    hooks: &[hook("timewait_timer_start", Target::TpBtf("timer_start"))],
};

/// Ends of TIME_WAITs, by trampolines.
pub const END_TRAMPOLINE: Group = Group {
    fact: "time_wait_end",
    backend: TRAMPOLINE,
    gives: "ends of TIME_WAIT, expired or early",
    hooks: &[hook("timewait_kill", Target::Fentry("inet_twsk_kill"))],
};

/// Ends of TIME_WAITs, by timers.
pub const END_TIMER: Group = Group {
    fact: "time_wait_end",
    backend: TRACEPOINT,
    gives: "ends of TIME_WAIT by their timer; early ends are not seen",
    hooks: &[hook(
        "timewait_timer_expire",
        Target::TpBtf("timer_expire_entry"),
    )],
};

/// Every group, the preferred one of a fact first.
pub const GROUPS: &[Group] = &[
    STATE,
    CONNECT_TRAMPOLINE,
    CONNECT_SYSCALL,
    BIND_TRAMPOLINE,
    BIND_SYSCALL,
    BIRTH_TRAMPOLINE,
    BIRTH_TIMER,
    END_TRAMPOLINE,
    END_TIMER,
];
