/*! Maps and frozen globals. Sizes here are the least; the loader sets the real ones. */

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_ebpf::{
    Attempt, COUNTERS as COUNTER_COUNT, Call, Config, Counter, Destination, Event, FailureCount,
    FailureKey, Layout, MAX_DESTINATIONS, Owner, Socket, Tuple,
};

/// Struct offsets of the running kernel, set before load.
#[unsafe(no_mangle)]
pub(crate) static LAYOUT: Layout = Layout::ABSENT;

/// What to do, set before load.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config = Config {
    tw_timer_handler: 0,
    wake_bytes: 0,
    sample_gap_ns: 0,
    connect_exit: 0,
    births: 0,
    socket_cookie: 0,
    task_btf: 0,
    all: 0,
    ends: 0,
    pids: 0,
    namespaces: 0,
    destinations: 0,
    probe_read: 0,
    task_regs: 0,
    skip_softirq: 0,
    witness: 0,
    floor: 0,
};

/// Reads a field of a frozen global. Volatile, or the compiler would fold the value of the build.
#[inline(always)]
pub(crate) fn frozen<T: Copy>(field: &'static T) -> T {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(field) }
}

/// Reads one field of [`LAYOUT`].
macro_rules! offset {
    ($field:ident) => {
        $crate::maps::frozen(&$crate::maps::LAYOUT.$field)
    };
}
pub(crate) use offset;

/// Reads one field of [`CONFIG`].
macro_rules! config {
    ($field:ident) => {
        $crate::maps::frozen(&$crate::maps::CONFIG.$field)
    };
}
pub(crate) use config;

/// True when programs are to do nothing: what an empty program on the same hook costs.
#[inline(always)]
pub(crate) fn is_floor() -> bool {
    config!(floor) != 0
}

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

#[map]
pub(crate) static SOCKETS: HashMap<u64, Socket> = HashMap::with_max_entries(64, 0);

#[map]
pub(crate) static ATTEMPTS: HashMap<u64, Attempt> = HashMap::with_max_entries(64, 0);

#[map]
pub(crate) static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(64, 0);

/// By thread, the key of the socket whose failure a state change reported with an errno that the
/// end of the call would report again. Non-blocking calls leave theirs behind, hence LRU. The
/// complement of a key: there was no room for an entry, and that was counted.
#[map]
pub(crate) static REPORTED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1024, 0);

#[map]
pub(crate) static FAILURES: HashMap<FailureKey, FailureCount> = HashMap::with_max_entries(64, 0);

#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

#[map]
pub(crate) static PIDS: HashMap<u32, u8> = HashMap::with_max_entries(64, 0);

#[map]
pub(crate) static NAMESPACES: HashMap<u32, u8> = HashMap::with_max_entries(64, 0);

#[map]
pub(crate) static DESTINATIONS: Array<Destination> =
    Array::with_max_entries(MAX_DESTINATIONS as u32, 0);

/// Two clocks per processor.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Clocks {
    /// When the last failure sample was sent.
    pub(crate) sampled_ns: u64,
    /// When user space was last woken other than for a failure.
    pub(crate) woken_ns: u64,
}

#[map]
pub(crate) static CLOCKS: PerCpuArray<Clocks> = PerCpuArray::with_max_entries(1, 0);

/// By processor, the timer whose TIME_WAIT is ending because it ran out, as an address.
#[map]
pub(crate) static EXPIRING: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// An event that says nothing.
pub(crate) const EMPTY: Event = Event {
    ts_ns: 0,
    cookie: 0,
    duration_ns: 0,
    search_ns: 0,
    owner: Owner {
        start_ns: 0,
        cgroup_id: 0,
        tgid: 0,
        tid: 0,
        uid: 0,
        reserved: 0,
        comm: [0; 16],
        thread: [0; 16],
    },
    tuple: Tuple {
        netns: 0,
        ifindex: 0,
        family: 0,
        sport: 0,
        dport: 0,
        reserved: 0,
        src: [0; 16],
        dst: [0; 16],
    },
    flags: 0,
    errno: 0,
    kind: 0,
    cause: 0,
    closer: 0,
    direction: 0,
    state: 0,
    reason: 0,
    reserved: 0,
};

/// A zero value to create entries of [`FAILURES`] from: it does not fit on the stack beside an event.
#[unsafe(no_mangle)]
pub(crate) static NO_FAILURES: FailureCount = FailureCount {
    count: 0,
    last_ns: 0,
    search_sum_ns: 0,
    first: EMPTY,
};

/// Adds one to a counter of this processor.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a per-CPU slot; an interrupt between load and store may lose one count at worst.
        unsafe { *slot += 1 };
    }
}
