/*!
TIME_WAIT: its birth, with the owner of the connection, and its end.

A TIME_WAIT is an object of its own (`struct inet_timewait_sock`): no state
change shows it, its birth runs in softirq, the peer or an idle task, and it
inherits the socket's cookie. The owner comes from the socket's entry, which the
birth consumes: a FIN_WAIT2 that a reset ends never gets here.

Two backends see it exactly:

* tracepoint: `state.rs` sees the socket change to CLOSE. If a TIME_WAIT was born
  of it, that is in the kernel's table of connections by then (`tcp_time_wait`,
  net/ipv4/tcp_minisocks.c), so it is looked for there; `rescue.rs` does the same
  for changes that were skipped. Why not `tp_btf/timer_start`: it fires for every
  timer of the host, seven times a connection. The end is
  `tp_btf/timer_expire_entry`, whose handler is `tw_timer_handler`; an early end
  (reuse, RST) is not seen. Needs cookies in tracing programs and probe reads: 5.12.
* trampoline: fexit of `inet_twsk_alloc(sk, death_row, state)` with a result, and
  fentry of `inet_twsk_kill(tw)`, through which every end passes. 5.10.

# Minimum kernel version
5.8, with BTF; without either backend births are inferred in `state.rs`.
*/

use aya_ebpf::{
    helpers::generated::{bpf_jiffies64, bpf_skc_to_tcp_timewait_sock},
    macros::{btf_tracepoint, fentry, fexit},
    programs::{BtfTracePointContext, FEntryContext, FExitContext},
};
use tracer_ebpf::{ABSENT, Socket, Tuple, closer, direction, flags, kind, reason, tcp_state};

use crate::{
    filter,
    maps::{EMPTY, EXPIRING, SOCKETS, config, is_floor, offset},
    output::{now, send},
    sock::{Load, Pointer, Probed, Typed, follow, key, tuple},
    state::about,
};

/// Reports a birth, and the close that led to it.
#[inline(always)]
pub(crate) fn born(socket: &Socket, tuple: Tuple, substate: u8, flag: u32) {
    let at = now();
    let mut event = about(socket, at);
    event.tuple = tuple;
    event.closer = closer::LOCAL;
    event.state = substate;
    if config!(all) != 0 {
        if socket.established == 0 {
            // Both the change that opened it and the one that began its end were skipped.
            let mut opened = event;
            opened.kind = kind::OPENED;
            opened.closer = closer::UNKNOWN;
            opened.state = 0;
            opened.duration_ns = 0;
            opened.flags |= flags::INFERRED;
            send(opened);
        }
        event.kind = kind::CLOSED;
        send(event);
    }
    event.kind = kind::TIME_WAIT;
    event.flags |= flag;
    send(event);
}

/// The `inet_timewait_sock` a timer belongs to, when it is one's.
///
/// # Safety
/// `timer` must be a typed `struct timer_list`.
#[inline(always)]
unsafe fn owner_of(timer: Pointer) -> Option<Pointer> {
    // SAFETY: the caller's promise.
    let handler = unsafe { Typed::load::<u64>(timer, offset!(timer_function)) };
    (handler == config!(tw_timer_handler))
        .then(|| timer.wrapping_byte_sub(offset!(tw_timer) as usize))
}

/// Most sockets of a chain that are looked at. With room for its connections a table has one or two.
const LONGEST: u32 = 64;

/// Bytes of a `struct inet_ehash_bucket`: the loader checks it.
const BUCKET: u64 = 8;

/// Whether a TIME_WAIT has taken the place of a socket in the kernel's table of connections, where
/// it has the same hash and inherits the cookie. Nothing when the chain could not be read to its
/// end: it is too long, or changed meanwhile, twice.
///
/// # Safety
/// `sk` must be a typed `struct sock` that is out of the table.
#[inline(always)]
pub(crate) unsafe fn has_successor(sk: Pointer, cookie: u64) -> Option<bool> {
    // SAFETY: the caller's promise; probed loads take any address.
    unsafe {
        let table = follow::<Typed>(follow::<Typed>(sk, offset!(skc_net)), offset!(net_hashinfo));
        let index = u64::from(
            Typed::load::<u32>(sk, offset!(skc_hash))
                & Typed::load::<u32>(table, offset!(hashinfo_mask)),
        );
        let buckets = Probed::load::<u64>(table, offset!(hashinfo_ehash));
        let bucket = at(buckets + index * BUCKET);
        is_in_chain(bucket, index, cookie).or_else(|| is_in_chain(bucket, index, cookie))
    }
}

/// Whether a socket with this cookie is in the chain of a bucket.
#[inline(always)]
fn is_in_chain(bucket: Pointer, index: u64, cookie: u64) -> Option<bool> {
    // SAFETY: probed loads take any address.
    unsafe {
        let mut node = Probed::load::<u64>(bucket, offset!(bucket_chain));
        for _ in 0..LONGEST {
            if node & 1 != 0 {
                // A chain ends in the number of its bucket: another's was got into by a move.
                return (node >> 1 == index).then_some(false);
            }
            let tw = at(node.wrapping_sub(u64::from(offset!(skc_nulls))));
            if Probed::load::<u64>(tw, offset!(skc_cookie)) == cookie {
                return Some(true);
            }
            node = Probed::load::<u64>(at(node), 0);
            if node == 0 {
                return None;
            }
        }
        None
    }
}

/// An address as a pointer.
#[inline(always)]
fn at(address: u64) -> Pointer {
    address as Pointer
}

/// End by its timer, tracepoint backend.
#[btf_tracepoint(function = "timer_expire_entry")]
pub(crate) fn timewait_timer_expire(ctx: BtfTracePointContext) -> i32 {
    if is_floor() {
        return 0;
    }
    // SAFETY: the argument is typed; the TIME_WAIT around the timer is probed.
    unsafe {
        if let Some(tw) = owner_of(ctx.arg(0)) {
            ended::<Probed>(tw, reason::EXPIRED);
        }
    }
    0
}

/// Birth, trampoline backend: `struct inet_timewait_sock *inet_twsk_alloc(const struct sock *,
/// struct inet_timewait_death_row *, const int state)`. The tuple is read from the socket: the
/// TIME_WAIT's IPv6 addresses are filled in later.
#[fexit(function = "inet_twsk_alloc")]
pub(crate) fn timewait_alloc(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    allocated(&ctx);
    0
}

/// Second copy, for when the first was skipped because it would have interrupted itself.
#[fexit(function = "inet_twsk_alloc")]
pub(crate) fn timewait_alloc_again(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    allocated(&ctx);
    0
}

#[inline(always)]
fn allocated(ctx: &FExitContext) {
    if ctx.arg::<u64>(3) == 0 {
        return;
    }
    // SAFETY: the first argument is typed; the entry stays until it is removed here.
    unsafe {
        let sk: Pointer = ctx.arg(0);
        let key = key(sk);
        let Some(socket) = SOCKETS.get_ptr(key) else {
            return;
        };
        let sport = Typed::load::<u16>(sk, offset!(skc_num));
        let substate = ctx.arg::<u32>(2) as u8;
        born(&*socket, tuple::<Typed>(sk, sport), substate, 0);
        let _ = SOCKETS.remove(key);
    }
}

/// A timer ran out, trampoline backend: `void tw_timer_handler(struct timer_list *)`, which calls
/// `inet_twsk_kill` next.
#[fentry(function = "tw_timer_handler")]
pub(crate) fn timewait_expires(ctx: FEntryContext) -> i32 {
    if is_floor() {
        return 0;
    }
    if let Some(slot) = EXPIRING.get_ptr_mut(0) {
        // SAFETY: a per-CPU slot; timers of one processor run one after the other.
        unsafe { *slot = ctx.arg::<u64>(0) };
    }
    0
}

/// End, trampoline backend: `void inet_twsk_kill(struct inet_timewait_sock *)`.
#[fentry(function = "inet_twsk_kill")]
pub(crate) fn timewait_kill(ctx: FEntryContext) -> i32 {
    if is_floor() {
        return 0;
    }
    // SAFETY: the argument is typed.
    unsafe {
        let tw: Pointer = ctx.arg(0);
        let expired = handled(tw);
        let why = if taken_over(tw) {
            reason::REUSED
        } else if expired {
            reason::EXPIRED
        } else if in_dying_namespace(tw) {
            reason::NETNS_REMOVED
        } else if offset!(skc_pprev) == ABSENT || offset!(net_count) == ABSENT {
            reason::EARLY
        } else {
            reason::KILLED
        };
        ended::<Typed>(tw, why);
    }
    0
}

/// End, trampoline backend, where `inet_twsk_kill` is not to be had: `void
/// tcp_twsk_destructor(struct sock *)`. It is in no chain by now, however it got out of it.
#[fentry(function = "tcp_twsk_destructor")]
pub(crate) fn timewait_free(ctx: FEntryContext) -> i32 {
    if is_floor() {
        return 0;
    }
    // SAFETY: the argument is typed; the helper returns a typed pointer or null.
    unsafe {
        let sk: Pointer = ctx.arg(0);
        let tw: Pointer = bpf_skc_to_tcp_timewait_sock(sk.cast_mut())
            .cast_const()
            .cast();
        if tw.is_null() {
            return 0;
        }
        let why = if handled(tw) {
            reason::EXPIRED
        } else if in_dying_namespace(tw) {
            reason::NETNS_REMOVED
        } else if is_due(tw) {
            // A reader held it: its timer ran out before, or something else came just then.
            reason::UNKNOWN
        } else {
            reason::EARLY
        };
        ended::<Typed>(tw, why);
    }
    0
}

/// Whether the handler of its timer is running, on this processor. Asked once for each end.
///
/// # Safety
/// `tw` must be a typed `inet_timewait_sock`.
#[inline(always)]
unsafe fn handled(tw: Pointer) -> bool {
    let Some(slot) = EXPIRING.get_ptr_mut(0) else {
        return false;
    };
    let timer = tw.wrapping_byte_add(offset!(tw_timer) as usize);
    // SAFETY: a per-CPU slot, and the caller's promise.
    unsafe {
        if *slot != timer as u64 {
            return false;
        }
        // Another TIME_WAIT may get this memory, and one whose program was skipped left its mark.
        *slot = 0;
        is_due(tw)
    }
}

/// Whether its time is over.
///
/// # Safety
/// `tw` must be a typed `inet_timewait_sock`.
#[inline(always)]
unsafe fn is_due(tw: Pointer) -> bool {
    // SAFETY: the caller's promise; the helper has no preconditions.
    unsafe {
        let expires = Typed::load::<u64>(tw, offset!(tw_timer) + offset!(timer_expires));
        expires.wrapping_sub(bpf_jiffies64()) as i64 <= 0
    }
}

/// Whether a connect() took it out of the chain of established sockets, to be there itself.
///
/// # Safety
/// `tw` must be a typed `inet_timewait_sock` that was not ended yet.
#[inline(always)]
unsafe fn taken_over(tw: Pointer) -> bool {
    // SAFETY: the caller's promise.
    offset!(skc_pprev) != ABSENT && unsafe { Typed::load::<u64>(tw, offset!(skc_pprev)) } == 0
}

/// Whether its namespace is being removed.
///
/// # Safety
/// `tw` must be a typed `inet_timewait_sock`.
#[inline(always)]
unsafe fn in_dying_namespace(tw: Pointer) -> bool {
    if offset!(net_count) == ABSENT {
        return false;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let net = follow::<Typed>(tw, offset!(skc_net));
        Typed::load::<u32>(net, offset!(net_count)) == 0
    }
}

/// Addresses and substate of a TIME_WAIT.
///
/// # Safety
/// `tw` must be an `inet_timewait_sock` that `L` can follow.
#[inline(always)]
unsafe fn timewait<L: Load>(tw: Pointer) -> (Tuple, u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let sport = u16::from_be(L::load::<u16>(tw, offset!(tw_sport)));
        (
            tuple::<L>(tw, sport),
            L::load::<u8>(tw, offset!(tw_substate)),
        )
    }
}

/// Reports an end. Who owned it is joined by the cookie, or the tuple, in user space.
///
/// # Safety
/// As [`timewait`].
#[inline(always)]
unsafe fn ended<L: Load>(tw: Pointer, why: u8) {
    if config!(ends) == 0 {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let (tuple, substate) = timewait::<L>(tw);
        if !filter::place(&tuple) {
            return;
        }
        let mut event = EMPTY;
        event.ts_ns = now();
        if config!(socket_cookie) != 0 {
            event.cookie = L::load::<u64>(tw, offset!(skc_cookie));
        }
        event.tuple = tuple;
        event.kind = kind::TIME_WAIT_END;
        event.state = if substate == 0 {
            tcp_state::TIME_WAIT
        } else {
            substate
        };
        event.reason = why;
        event.flags = flags::OWNER_UNKNOWN;
        event.direction = direction::UNKNOWN;
        send(event);
    }
}
