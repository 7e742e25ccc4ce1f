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

mod config;
mod layout;

pub use config::{Config, births, connect_exit};
pub use layout::{ABSENT, Layout};

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
