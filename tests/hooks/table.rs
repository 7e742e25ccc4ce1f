/*! The hooks that each kernel is expected to have, by release. */

use tracer::kernel::hooks::{CGROUP, TRACEPOINT, TRAMPOLINE};

use super::everything::Least;

/// A kernel's release, as far as hooks depend on it.
pub(super) type Release = (u32, u32);

/// A hook that kernels are expected to have.
pub(super) struct Expected {
    pub(super) fact: &'static str,
    pub(super) backend: &'static str,
    pub(super) place: &'static str,
    /// The release it came with.
    pub(super) since: Release,
    /// The release from which on nothing needs it.
    pub(super) until: Option<Release>,
    /// How often the workload makes it fire.
    pub(super) least: Least,
}

/// The oldest kernel that can be traced.
const OLDEST: Release = (5, 8);

/// Tracing programs may ask for a socket's cookie from here on.
const COOKIES: Release = (5, 12);

/// Tasks are preempted within programs of tracepoints from here on.
const PREEMPTIBLE: Release = (7, 0);

/// The arguments of a system call can be read at its end from here on, on x86-64.
const REGISTERS: Option<Release> = if cfg!(target_arch = "x86_64") {
    Some((5, 15))
} else {
    None
};

const fn expected(
    fact: &'static str,
    backend: &'static str,
    place: &'static str,
    since: Release,
    least: Least,
) -> Expected {
    Expected {
        fact,
        backend,
        place,
        since,
        until: None,
        least,
    }
}

const fn before_registers(mut expected: Expected) -> Expected {
    expected.until = REGISTERS;
    expected
}

const fn spare(mut expected: Expected) -> Expected {
    expected.until = Some(OLDEST);
    expected
}

/// Every hook there is.
pub(super) const EXPECTED: &[Expected] = &[
    expected(
        "state",
        TRACEPOINT,
        "tp_btf/inet_sock_set_state",
        OLDEST,
        Least::Changes,
    ),
    expected(
        "rescue",
        TRACEPOINT,
        "tp_btf/inet_sk_error_report",
        (5, 14),
        Least::Refused,
    ),
    expected(
        "rescue",
        TRACEPOINT,
        "tp_btf/tcp_destroy_sock",
        OLDEST,
        Least::Sockets,
    ),
    expected(
        "connect",
        TRAMPOLINE,
        "fexit/inet_hash_connect",
        OLDEST,
        Least::ConnectsV4,
    ),
    expected(
        "connect",
        TRAMPOLINE,
        "fexit/inet6_hash_connect",
        OLDEST,
        Least::ConnectsV6,
    ),
    expected(
        "connect",
        TRAMPOLINE,
        "fexit/tcp_v4_connect",
        OLDEST,
        Least::ConnectsV4,
    ),
    expected(
        "connect",
        TRAMPOLINE,
        "fexit/tcp_v6_connect",
        OLDEST,
        Least::ConnectsV6,
    ),
    before_registers(expected(
        "connect",
        TRACEPOINT,
        "syscalls/sys_enter_connect",
        OLDEST,
        Least::Connects,
    )),
    expected(
        "connect",
        TRACEPOINT,
        "syscalls/sys_exit_connect",
        OLDEST,
        Least::Connects,
    ),
    expected(
        "bind",
        TRAMPOLINE,
        "fexit/inet_bind",
        OLDEST,
        Least::BindsV4,
    ),
    expected(
        "bind",
        TRAMPOLINE,
        "fexit/inet6_bind",
        OLDEST,
        Least::BindsV6,
    ),
    before_registers(expected(
        "bind",
        TRACEPOINT,
        "syscalls/sys_enter_bind",
        OLDEST,
        Least::Binds,
    )),
    expected(
        "bind",
        TRACEPOINT,
        "syscalls/sys_exit_bind",
        OLDEST,
        Least::Binds,
    ),
    expected(
        "time_wait",
        TRAMPOLINE,
        "fexit/inet_twsk_alloc",
        OLDEST,
        Least::Births,
    ),
    expected(
        "time_wait",
        TRACEPOINT,
        "tp_btf/tcp_destroy_sock",
        COOKIES,
        Least::Births,
    ),
    expected(
        "time_wait_end",
        TRAMPOLINE,
        "fentry/inet_twsk_kill",
        OLDEST,
        Least::Ends,
    ),
    expected(
        "time_wait_end",
        TRAMPOLINE,
        "fentry/tw_timer_handler",
        OLDEST,
        Least::Ends,
    ),
    // For a kernel whose compiler inlined what is better: none that is known.
    spare(expected(
        "time_wait_end",
        TRAMPOLINE,
        "fentry/tcp_twsk_destructor",
        OLDEST,
        Least::Ends,
    )),
    expected(
        "time_wait_end",
        TRACEPOINT,
        "tp_btf/timer_expire_entry",
        OLDEST,
        Least::Ends,
    ),
    expected(
        "follow",
        TRACEPOINT,
        "tp_btf/sched_process_fork",
        OLDEST,
        Least::Forks,
    ),
    expected(
        "follow",
        TRACEPOINT,
        "tp_btf/sched_process_free",
        OLDEST,
        Least::Forks,
    ),
    expected(
        "witness",
        CGROUP,
        "cgroup/connect4",
        PREEMPTIBLE,
        Least::ConnectsV4,
    ),
    expected(
        "witness",
        CGROUP,
        "cgroup/connect6",
        PREEMPTIBLE,
        Least::ConnectsV6,
    ),
    expected(
        "witness",
        CGROUP,
        "cgroup/sock_release",
        PREEMPTIBLE,
        Least::Connects,
    ),
    expected(
        "connect_again",
        TRAMPOLINE,
        "fexit/inet_hash_connect",
        PREEMPTIBLE,
        Least::ConnectsV4,
    ),
    expected(
        "connect_again",
        TRAMPOLINE,
        "fexit/inet6_hash_connect",
        PREEMPTIBLE,
        Least::ConnectsV6,
    ),
    expected(
        "connect_again",
        TRAMPOLINE,
        "fexit/tcp_v4_connect",
        PREEMPTIBLE,
        Least::ConnectsV4,
    ),
    expected(
        "connect_again",
        TRAMPOLINE,
        "fexit/tcp_v6_connect",
        PREEMPTIBLE,
        Least::ConnectsV6,
    ),
];
