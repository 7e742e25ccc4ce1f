/*! What the programs are told before they are loaded. */

/// What the programs should do: a frozen read-only global, so that the verifier
/// folds it and the branches not taken cost nothing. 80 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Address of `tw_timer_handler` in the running kernel; 0 when unknown.
    pub tw_timer_handler: u64,
    /// Ring fill (bytes) from which on user space is woken.
    pub wake_bytes: u64,
    /// Shortest time between two failure samples of one CPU, ns.
    pub sample_gap_ns: u64,
    /// Who learns the errno of a connect() that failed at once: [`connect_exit`].
    pub connect_exit: u32,
    /// Who sees the births of TIME_WAITs: [`births`].
    pub births: u32,
    /// 1 where `bpf_get_socket_cookie` may be called from tracing programs (Linux 5.12).
    pub socket_cookie: u32,
    /// 1 where `bpf_get_current_task_btf` exists (Linux 5.11).
    pub task_btf: u32,
    /// 1 to send `OPENED` and `CLOSED` events.
    pub all: u32,
    /// 1 to send `TIME_WAIT_END` events.
    pub ends: u32,
    /// Number of process ids in the PIDS map; 0 traces every process.
    pub pids: u32,
    /// Number of namespaces in the NAMESPACES map; 0 traces every namespace.
    pub namespaces: u32,
    /// Number of entries in use of the DESTINATIONS map; 0 traces every destination.
    pub destinations: u32,
    /// 1 where `bpf_probe_read_kernel` may be called (not under confidentiality lockdown).
    pub probe_read: u32,
    /// 1 where the registers of a system call can be read at its end: `bpf_task_pt_regs` (Linux
    /// 5.15), on x86-64, whose registers keep their arguments until then.
    pub task_regs: u32,
    /// For tests: 1 to act as if the kernel skipped `state` for every change that a softirq makes.
    pub skip_softirq: u32,
    /// 1 where tracepoint programs can be preempted (Linux 7.0), and programs of the root cgroup
    /// see every connect() and close() all the same.
    pub witness: u32,
    /// For benchmarks: 1 to make every program return at once.
    pub floor: u32,
}

/// Values of [`Config::connect_exit`].
pub mod connect_exit {
    /// Nobody: the errno is inferred from the state changes.
    pub const INFERRED: u32 = 0;
    /// `syscalls/sys_exit_connect`.
    pub const SYSCALL: u32 = 1;
    /// fexit of `tcp_v4_connect` and `tcp_v6_connect`.
    pub const TRAMPOLINE: u32 = 2;
}

/// Values of [`Config::births`].
pub mod births {
    /// Nobody: FIN_WAIT2 or CLOSING to CLOSE without an error counts as a birth.
    pub const INFERRED: u32 = 0;
    /// The state changes, which look it up in the kernel's table of connections.
    pub const TABLE: u32 = 1;
    /// fexit of `inet_twsk_alloc`.
    pub const TRAMPOLINE: u32 = 2;
}

const _: () = assert!(size_of::<Config>() == 80);
