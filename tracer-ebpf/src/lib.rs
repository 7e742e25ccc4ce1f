/*!
The wire contract between the kernel programs and user space: every type that
crosses a map or the ring buffer, and nothing else.

All types are `repr(C)`, `Copy`, made of fixed-width integers and without
padding; their sizes are asserted below. Addresses are 16 bytes in IPv6 form,
IPv4 as `::ffff:a.b.c.d`, so one field serves both families and v4-mapped
sockets share the form (and the pool) of IPv4. Ports are in host order. Times
are nanoseconds of `CLOCK_MONOTONIC` unless a field says otherwise.
*/
#![no_std]

/// `TASK_COMM_LEN` of the kernel: a task's name with its terminating zero.
pub const COMM_LEN: usize = 16;

/// Most destination filters the kernel side compares against.
pub const MAX_DESTINATIONS: usize = 16;

/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;

/// What an [`Event`] states.
pub mod kind {
    /// A connection reached ESTABLISHED after our connect().
    pub const OPENED: u8 = 1;
    /// A traced connection left its last state; `closer` says who ended it.
    pub const CLOSED: u8 = 2;
    /// A TIME_WAIT (or FIN_WAIT2 mini-socket) was born.
    pub const TIME_WAIT: u8 = 3;
    /// A TIME_WAIT (or FIN_WAIT2 mini-socket) gave its port back.
    pub const TIME_WAIT_END: u8 = 4;
    /// connect() failed.
    pub const CONNECT_FAILED: u8 = 5;
    /// bind() failed.
    pub const BIND_FAILED: u8 = 6;
}

/// Why a connect() or bind() failed.
pub mod cause {
    /// The kernel side did not classify; user space names it from the errno.
    pub const UNKNOWN: u8 = 0;
    /// No source port of the range is free for this pool (for bind: for any).
    pub const PORTS_EXHAUSTED: u8 = 1;
    /// The socket's chosen port makes a 4-tuple that exists, or conflicts.
    pub const TUPLE_IN_USE: u8 = 2;
    /// The address to use as source is not one of this host.
    pub const ADDRESS_NOT_LOCAL: u8 = 3;
    /// No route to the destination.
    pub const NO_ROUTE: u8 = 4;
    /// The destination answered with RST.
    pub const REFUSED: u8 = 5;
    /// The destination did not answer.
    pub const TIMED_OUT: u8 = 6;
    /// The connection was reset.
    pub const RESET: u8 = 7;
    /// Anything else; the errno says what.
    pub const OTHER: u8 = 8;
}

/// Who ended a connection.
pub mod closer {
    /// Not known (or the event has no closer).
    pub const UNKNOWN: u8 = 0;
    /// The owner's side sent the first FIN.
    pub const LOCAL: u8 = 1;
    /// The peer sent the first FIN.
    pub const PEER: u8 = 2;
    /// A RST, a timeout or an abort ended it.
    pub const RESET: u8 = 3;
}

/// Which side opened a connection.
pub mod direction {
    /// Not known (a TIME_WAIT's end, a failed bind()).
    pub const UNKNOWN: u8 = 0;
    /// We called connect(): the socket holds a port of a pool.
    pub const OUT: u8 = 1;
    /// We accepted it: it holds no port of a pool.
    pub const IN: u8 = 2;
}

/// Why a TIME_WAIT ended.
pub mod reason {
    /// Not known.
    pub const UNKNOWN: u8 = 0;
    /// Its timer ran out.
    pub const EXPIRED: u8 = 1;
    /// Before its timer, and what did it is not known: any of those below.
    pub const EARLY: u8 = 2;
    /// A connect() of the same addresses took its port over (`tcp_tw_reuse`, or a bound port).
    pub const REUSED: u8 = 3;
    /// A RST, a SYN or a late segment of the peer ended it, or `ss -K`.
    pub const KILLED: u8 = 4;
    /// Its network namespace was being removed.
    pub const NETNS_REMOVED: u8 = 5;
}

/// Bits of [`Event::flags`].
pub mod flags {
    /// The fact was concluded, from state changes or the kernel's list of sockets, and not seen.
    pub const INFERRED: u32 = 1 << 0;
    /// The owner is the closer of the connection; who opened it was not seen.
    pub const OWNER_AT_CLOSE: u32 = 1 << 1;
    /// No owner is known.
    pub const OWNER_UNKNOWN: u32 = 1 << 2;
    /// A sample of a failure that [`FailureCount::count`](crate::FailureCount) counts:
    /// it must not be counted again.
    pub const SAMPLE: u32 = 1 << 3;
    /// The failure is not in the failures map (it was full): this event is its only count.
    pub const COUNTED_HERE: u32 = 1 << 4;
    /// The socket had a port before connect(): bind() chose it, and it is lost to every destination.
    pub const BOUND: u32 = 1 << 5;
}

/// TCP states as the kernel numbers them (`include/net/tcp_states.h`).
pub mod tcp_state {
    /// `TCP_ESTABLISHED`
    pub const ESTABLISHED: u8 = 1;
    /// `TCP_SYN_SENT`
    pub const SYN_SENT: u8 = 2;
    /// `TCP_SYN_RECV`
    pub const SYN_RECV: u8 = 3;
    /// `TCP_FIN_WAIT1`
    pub const FIN_WAIT1: u8 = 4;
    /// `TCP_FIN_WAIT2`
    pub const FIN_WAIT2: u8 = 5;
    /// `TCP_TIME_WAIT`
    pub const TIME_WAIT: u8 = 6;
    /// `TCP_CLOSE`
    pub const CLOSE: u8 = 7;
    /// `TCP_CLOSE_WAIT`
    pub const CLOSE_WAIT: u8 = 8;
    /// `TCP_LAST_ACK`
    pub const LAST_ACK: u8 = 9;
    /// `TCP_LISTEN`
    pub const LISTEN: u8 = 10;
    /// `TCP_CLOSING`
    pub const CLOSING: u8 = 11;
}

/// The process that called connect(), as it was at that moment. 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Start of the process (its group leader), ns of `CLOCK_BOOTTIME`; with `tgid` it is unique.
    pub start_ns: u64,
    /// cgroup v2 id (the inode of its directory); 1 is the root, also on v1 hosts.
    pub cgroup_id: u64,
    /// Process id in the initial pid namespace; 0 when unknown.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Zero; keeps the struct free of holes.
    pub reserved: u32,
    /// Name of the process (its group leader), zero-terminated, any bytes.
    pub comm: [u8; COMM_LEN],
    /// Name of the thread, zero-terminated, any bytes.
    pub thread: [u8; COMM_LEN],
}

/// Where a connection goes from and to. 48 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    /// Inode of the socket's network namespace.
    pub netns: u32,
    /// Interface index the socket is bound to; 0 for none.
    pub ifindex: u32,
    /// Address family of the *socket*: AF_INET6 with an IPv4 form address is v4-mapped.
    pub family: u16,
    /// Source port, host order; 0 when none was found.
    pub sport: u16,
    /// Destination port, host order.
    pub dport: u16,
    /// Zero; keeps the struct free of holes.
    pub reserved: u16,
    /// Source address, IPv6 form.
    pub src: [u8; 16],
    /// Destination address, IPv6 form.
    pub dst: [u8; 16],
}

/// One fact, self-contained: the only record in the ring buffer. 160 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub ts_ns: u64,
    /// Socket cookie, as `inet_diag` and the TIME_WAIT socket carry it; 0 where the kernel gives none.
    pub cookie: u64,
    /// `CLOSED`, `TIME_WAIT`: since connect(); `OPENED`: the handshake; 0 when unknown.
    pub duration_ns: u64,
    /// Time the kernel spent looking for a source port; 0 when unknown.
    pub search_ns: u64,
    /// The process behind the socket.
    pub owner: Owner,
    /// The socket's addresses. For `BIND_FAILED` only the source side is set.
    pub tuple: Tuple,
    /// [`FLAGS`](flags) bits.
    pub flags: u32,
    /// Positive errno of a failure, or of the error that closed a connection; 0 for none.
    pub errno: u16,
    /// One of [`kind`].
    pub kind: u8,
    /// One of [`cause`].
    pub cause: u8,
    /// One of [`closer`].
    pub closer: u8,
    /// One of [`direction`].
    pub direction: u8,
    /// `TIME_WAIT`, `TIME_WAIT_END`: the substate, TIME_WAIT (6) or FIN_WAIT2 (5);
    /// `CLOSED`: the state it closed from.
    pub state: u8,
    /// One of [`reason`].
    pub reason: u8,
    /// Zero; keeps the struct free of holes.
    pub reserved: u32,
}

/// What failures are counted by: owner, pool, errno, cause. 56 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FailureKey {
    /// [`Owner::start_ns`].
    pub start_ns: u64,
    /// [`Owner::tgid`].
    pub tgid: u32,
    /// [`Tuple::netns`].
    pub netns: u32,
    /// [`Tuple::src`].
    pub src: [u8; 16],
    /// [`Tuple::dst`].
    pub dst: [u8; 16],
    /// [`Tuple::dport`].
    pub dport: u16,
    /// [`Event::errno`].
    pub errno: u16,
    /// [`Event::kind`]: `CONNECT_FAILED` or `BIND_FAILED`.
    pub kind: u8,
    /// [`Event::cause`].
    pub cause: u8,
    /// Requested port of a failed bind(), else 0.
    pub sport: u16,
}

/// How often a [`FailureKey`] failed: exact. 184 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureCount {
    /// Failures so far.
    pub count: u64,
    /// Time of the newest.
    pub last_ns: u64,
    /// Sum of the port-search times, ns.
    pub search_sum_ns: u64,
    /// The first of them, whole.
    pub first: Event,
}

/// One destination filter. 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// Network in IPv6 form, as two native-endian words of its bytes.
    pub address: [u64; 2],
    /// Mask, the same way.
    pub mask: [u64; 2],
    /// Port in host order; 0 for any.
    pub port: u32,
    /// Zero; keeps the struct free of holes.
    pub reserved: u32,
}

/// Where a traced connection stands between its events. 104 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// When connect() began, or 0 when that was not seen.
    pub opened_ns: u64,
    /// Time of the port search.
    pub search_ns: u64,
    /// [`FLAGS`](flags) bits to hand on.
    pub flags: u32,
    /// One of [`direction`].
    pub direction: u8,
    /// 1 once `OPENED` was handled.
    pub established: u8,
    /// 1 when the socket had a port before connect().
    pub bound: u8,
    /// 1 once our side closed, before the peer did.
    pub closed_first: u8,
    /// The process behind the socket.
    pub owner: Owner,
    /// Socket cookie, or 0.
    pub cookie: u64,
    /// Inode of the socket's network namespace.
    pub netns: u32,
    /// 1 once the change to SYN_SENT was seen; 0 while only the begin of connect() was.
    pub began: u32,
}

/// A connect() of one thread that failed before a SYN left, waiting for its errno. 72 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Time of the port search.
    pub search_ns: u64,
    /// Socket cookie, or 0.
    pub cookie: u64,
    /// One of [`cause`], should the errno be EADDRNOTAVAIL.
    pub cause: u32,
    /// Zero; keeps the struct free of holes.
    pub reserved: u32,
    /// The socket's addresses at the failure.
    pub tuple: Tuple,
}

/// Arguments of the connect() or bind() one thread is in. 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// User-space pointer to the sockaddr.
    pub address: u64,
    /// File descriptor of the socket.
    pub fd: u32,
    /// Zero; keeps the struct free of holes.
    pub reserved: u32,
}

/// Index into the per-CPU counters map, each a `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Events that found the ring buffer full, other than failure samples.
    RingFull = 0,
    /// Connections that found the sockets map full.
    SocketsFull = 1,
    /// Failures that found the failures map full (each is then sent as an event of its own).
    FailuresFull = 2,
    /// connect() or bind() calls that found the map of calls or of failed attempts full.
    AttemptsFull = 3,
    /// Ends of connections, failed ones too, that another program found because theirs was skipped.
    Rescued = 4,
    /// Failed calls whose socket could not be read, so it is not known whether it was TCP.
    SocketUnreadable = 5,
    /// Failures that were counted but not sent as a sample, by the rate limit or a full ring.
    SamplesSkipped = 6,
    /// Failures that were skipped and whose errno was gone when another program found them.
    Unseen = 7,
    /// Children that found the map of process ids full and are not traced.
    PidsFull = 8,
}

/// How many [`Counter`]s there are.
pub const COUNTERS: u32 = 9;

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

/// Value of a [`Layout`] field that the running kernel's BTF does not have.
pub const ABSENT: u32 = u32::MAX;

macro_rules! layout {
    ($($(#[$doc:meta])* $field:ident = $path:literal,)*) => {
        /// Byte offsets of kernel struct members, read from the running
        /// kernel's BTF before load; never baked. A frozen read-only global.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Layout {
            $($(#[$doc])* pub $field: u32,)*
        }

        impl Layout {
            /// Every field with the `struct.member` it stands for (nested
            /// members separated by further dots), in order. Of several,
            /// separated by bars, the first that the kernel has.
            pub const FIELDS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), $path),)*];

            /// All fields [`ABSENT`].
            pub const ABSENT: Self = Self { $($field: ABSENT,)* };

            /// Sets the field called `name`; false when there is none.
            pub fn set(&mut self, name: &str, offset: u32) -> bool {
                match name {
                    $(stringify!($field) => self.$field = offset,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

layout! {
    /// IPv4 destination, network order.
    skc_daddr = "sock_common.skc_daddr",
    /// IPv4 source, network order.
    skc_rcv_saddr = "sock_common.skc_rcv_saddr",
    /// Destination port, network order.
    skc_dport = "sock_common.skc_dport",
    /// Source port, host order; 0 after the port was put back.
    skc_num = "sock_common.skc_num",
    /// Address family.
    skc_family = "sock_common.skc_family",
    /// Bound interface.
    skc_bound_dev_if = "sock_common.skc_bound_dev_if",
    /// Namespace pointer.
    skc_net = "sock_common.skc_net",
    /// IPv6 destination.
    skc_v6_daddr = "sock_common.skc_v6_daddr",
    /// IPv6 source.
    skc_v6_rcv_saddr = "sock_common.skc_v6_rcv_saddr",
    /// TCP state.
    skc_state = "sock_common.skc_state",
    /// Back link of the chain of established sockets; null for one that is in none.
    skc_pprev = "sock_common.skc_node.pprev",
    /// Link in the chain of a bucket of the table of connections.
    skc_nulls = "sock_common.skc_nulls_node",
    /// Hash in that table.
    skc_hash = "sock_common.skc_hash",
    /// Flags of a socket.
    skc_flags = "sock_common.skc_flags",
    /// Socket cookie.
    skc_cookie = "sock_common.skc_cookie",
    /// Inode of a namespace.
    net_inum = "net.ns.inum",
    /// References to a namespace; 0 once it is being removed. Moved in Linux 5.11 and 6.18.
    net_count = "net.ns.__ns_ref|net.ns.count|net.count",
    /// The namespace's table of connections. A pointer lies between in Linux 5.18 to 6.0.
    net_hashinfo = "net.ipv4.tcp_death_row.hashinfo",
    /// Buckets of the table of connections.
    hashinfo_ehash = "inet_hashinfo.ehash",
    /// Their number less one.
    hashinfo_mask = "inet_hashinfo.ehash_mask",
    /// Chain of a bucket.
    bucket_chain = "inet_ehash_bucket.chain",
    /// `IPPROTO_TCP` or another.
    sk_protocol = "sock.sk_protocol",
    /// Pending error, positive.
    sk_err = "sock.sk_err",
    /// Directions that are shut.
    sk_shutdown = "sock.sk_shutdown",
    /// Source port in network order; stays after the port was put back.
    inet_sport = "inet_sock.inet_sport",
    /// Bind bucket of the source port.
    icsk_bind_hash = "inet_connection_sock.icsk_bind_hash",
    /// -1 when connect() made the bucket.
    tb_fastreuse = "inet_bind_bucket.fastreuse",
    /// Segments in flight.
    packets_out = "tcp_sock.packets_out",
    /// Bytes the peer acknowledged, the SYN among them.
    bytes_acked = "tcp_sock.bytes_acked",
    /// FIN_WAIT2 timeout of the socket, -1 for none.
    linger2 = "tcp_sock.linger2",
    /// Substate of a TIME_WAIT socket.
    tw_substate = "inet_timewait_sock.tw_substate",
    /// Source port of a TIME_WAIT socket, network order.
    tw_sport = "inet_timewait_sock.tw_sport",
    /// Timer of a TIME_WAIT socket.
    tw_timer = "inet_timewait_sock.tw_timer",
    /// Handler of a timer.
    timer_function = "timer_list.function",
    /// When a timer runs out, jiffies.
    timer_expires = "timer_list.expires",
    /// Group leader of a task.
    task_group_leader = "task_struct.group_leader",
    /// Start of a task, ns of CLOCK_BOOTTIME.
    task_start_boottime = "task_struct.start_boottime",
    /// Thread id of a task.
    task_pid = "task_struct.pid",
    /// Process id of a task.
    task_tgid = "task_struct.tgid",
    /// Name of a task.
    task_comm = "task_struct.comm",
    /// Open files of a task.
    task_files = "task_struct.files",
    /// File table.
    files_fdt = "files_struct.fdt",
    /// Array of files.
    fdt_fd = "fdtable.fd",
    /// Size of that array.
    fdt_max_fds = "fdtable.max_fds",
    /// The socket of a file.
    file_private_data = "file.private_data",
    /// The sock of a socket.
    socket_sk = "socket.sk",
    /// Number of the system call (x86-64).
    regs_number = "pt_regs.orig_ax",
    /// First argument of the system call (x86-64).
    regs_first = "pt_regs.di",
    /// Second argument of the system call (x86-64).
    regs_second = "pt_regs.si",
}

/// Names of maps, globals and programs, as the object file spells them.
pub mod names {
    /// Ring buffer of [`Event`](crate::Event).
    pub const EVENTS: &str = "EVENTS";
    /// Sockets under way: `u64` key to [`Socket`](crate::Socket).
    pub const SOCKETS: &str = "SOCKETS";
    /// Failed attempts that wait for their errno: pid_tgid to [`Attempt`](crate::Attempt).
    pub const ATTEMPTS: &str = "ATTEMPTS";
    /// Calls under way: pid_tgid to [`Call`](crate::Call).
    pub const CALLS: &str = "CALLS";
    /// [`FailureKey`](crate::FailureKey) to [`FailureCount`](crate::FailureCount).
    pub const FAILURES: &str = "FAILURES";
    /// Per-CPU `u64` by [`Counter`](crate::Counter).
    pub const COUNTERS: &str = "COUNTERS";
    /// Process ids to trace, `u32` to `u8`.
    pub const PIDS: &str = "PIDS";
    /// Network namespaces to trace, inode `u32` to `u8`.
    pub const NAMESPACES: &str = "NAMESPACES";
    /// Array of [`Destination`](crate::Destination).
    pub const DESTINATIONS: &str = "DESTINATIONS";
    /// Global [`Layout`](crate::Layout).
    pub const LAYOUT: &str = "LAYOUT";
    /// Global [`Config`](crate::Config).
    pub const CONFIG: &str = "CONFIG";
}

const _: () = {
    assert!(size_of::<Owner>() == 64);
    assert!(size_of::<Tuple>() == 48);
    assert!(size_of::<Event>() == 160);
    assert!(size_of::<FailureKey>() == 56);
    assert!(size_of::<FailureCount>() == 184);
    assert!(size_of::<Destination>() == 40);
    assert!(size_of::<Socket>() == 104);
    assert!(size_of::<Attempt>() == 72);
    assert!(size_of::<Call>() == 16);
    assert!(size_of::<Config>() == 80);
};

#[cfg(feature = "user")]
mod user {
    // SAFETY: each type is repr(C), Copy, made of integers only and has no
    // padding (sizes asserted above), so any bytes are a valid value.
    unsafe impl aya::Pod for super::Layout {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Destination {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FailureKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FailureCount {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Socket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Attempt {}
}
