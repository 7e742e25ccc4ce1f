/*! Both ends of a connect() that failed at once, trampoline backend: its port search, its errno. */

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::fexit, programs::FExitContext};
use tracer_ebpf::{AF_INET, AF_INET6, Attempt, cause, direction, kind};

use super::{EADDRNOTAVAIL, finish, remember, take};
use crate::{
    maps::{ATTEMPTS, EMPTY, SOCKETS, config, is_floor, offset},
    output::now,
    sock::{Load, Pointer, Probed, Typed, key, mapped, netns, tuple},
};

/// `int inet_hash_connect(struct inet_timewait_death_row *, struct sock *)`: the port search of IPv4,
/// also for v4-mapped destinations.
#[fexit(function = "inet_hash_connect")]
pub(crate) fn hash_connect_v4(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    searched(&ctx);
    0
}

/// `int inet6_hash_connect(struct inet_timewait_death_row *, struct sock *)`: the port search of IPv6.
#[fexit(function = "inet6_hash_connect")]
pub(crate) fn hash_connect_v6(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    searched(&ctx);
    0
}

/// Second copy, for when a task was preempted within the first and the kernel skips it.
#[fexit(function = "inet_hash_connect")]
pub(crate) fn hash_again_v4(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    searched(&ctx);
    0
}

/// Second copy, likewise.
#[fexit(function = "inet6_hash_connect")]
pub(crate) fn hash_again_v6(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    searched(&ctx);
    0
}

#[inline(always)]
fn searched(ctx: &FExitContext) {
    // SAFETY: the second argument is typed; its entry belongs to the current thread's connect().
    unsafe {
        let sk: Pointer = ctx.arg(1);
        let result = ctx.arg::<i32>(2);
        let search_ns = match SOCKETS.get_ptr_mut(key(sk)) {
            Some(socket) => {
                // The first copy's is the right one.
                if (*socket).search_ns == 0 {
                    (*socket).search_ns = now().wrapping_sub((*socket).opened_ns);
                }
                (*socket).search_ns
            }
            None => 0,
        };
        if result >= 0 {
            return;
        }
        let sport = Typed::load::<u16>(sk, offset!(skc_num));
        let attempt = Attempt {
            search_ns,
            cookie: if config!(socket_cookie) != 0 {
                key(sk)
            } else {
                0
            },
            cause: u32::from(if sport == 0 {
                cause::PORTS_EXHAUSTED
            } else {
                cause::TUPLE_IN_USE
            }),
            reserved: 0,
            tuple: tuple::<Typed>(sk, sport),
        };
        remember(bpf_get_current_pid_tgid(), &attempt);
    }
}

/// `int tcp_v4_connect(struct sock *, struct sockaddr *, int)`: the final errno.
#[fexit(function = "tcp_v4_connect")]
pub(crate) fn tcp_connect_v4(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    returned_v4(&ctx);
    0
}

/// Second copy, for when a task was preempted within the first and the kernel skips it.
#[fexit(function = "tcp_v4_connect")]
pub(crate) fn tcp_again_v4(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    returned_v4(&ctx);
    0
}

#[inline(always)]
fn returned_v4(ctx: &FExitContext) {
    let result = ctx.arg::<i32>(3);
    if result >= 0 {
        return;
    }
    let sk: Pointer = ctx.arg(0);
    // SAFETY: the arguments are typed.
    unsafe {
        if Typed::load::<u16>(sk, offset!(skc_family)) == AF_INET6 {
            // Called by tcp_v6_connect for a v4-mapped destination, which reports.
            return;
        }
        let address: Pointer = ctx.arg(1);
        let destination = (
            mapped(Typed::load::<u32>(address, 4)),
            u16::from_be(Typed::load::<u16>(address, 2)),
        );
        returned(sk, destination, result);
    }
}

/// `int tcp_v6_connect(struct sock *, struct sockaddr *, int)`: the final errno, v4-mapped too.
#[fexit(function = "tcp_v6_connect")]
pub(crate) fn tcp_connect_v6(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    returned_v6(&ctx);
    0
}

/// Second copy, for when a task was preempted within the first and the kernel skips it.
#[fexit(function = "tcp_v6_connect")]
pub(crate) fn tcp_again_v6(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    returned_v6(&ctx);
    0
}

#[inline(always)]
fn returned_v6(ctx: &FExitContext) {
    let result = ctx.arg::<i32>(3);
    if result >= 0 {
        return;
    }
    let sk: Pointer = ctx.arg(0);
    // SAFETY: the arguments are typed; the address proper lies beyond `struct sockaddr`, so it is probed.
    unsafe {
        let address: Pointer = ctx.arg(1);
        let port = u16::from_be(Typed::load::<u16>(address, 2));
        let words = [
            Probed::load::<u64>(address, 8),
            Probed::load::<u64>(address, 16),
        ];
        let destination = core::mem::transmute::<[u64; 2], [u8; 16]>(words);
        returned(sk, (destination, port), result);
    }
}

/// Reports a connect() that failed at once.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn returned(sk: Pointer, (address, port): ([u8; 16], u16), result: i32) {
    if config!(witness) != 0 {
        // SAFETY: the caller's promise.
        let key = unsafe { key(sk) };
        // Taking the entry away is what one copy tells the other by.
        if key != 0 && SOCKETS.remove(&key).is_err() {
            return;
        }
    }
    let thread = bpf_get_current_pid_tgid();
    let errno = i64::from(result).wrapping_neg();
    let mut event = EMPTY;
    event.kind = kind::CONNECT_FAILED;
    event.direction = direction::OUT;
    event.errno = errno as u16;
    if let Some(attempt) = ATTEMPTS.get_ptr(&thread) {
        // SAFETY: the entry belongs to the current thread.
        take(&mut event, unsafe { &*attempt }, errno);
        let _ = ATTEMPTS.remove(&thread);
    } else {
        // SAFETY: the caller's promise.
        unsafe {
            event.tuple.netns = netns::<Typed>(sk);
            event.tuple.family = Typed::load::<u16>(sk, offset!(skc_family));
            event.tuple.sport = Typed::load::<u16>(sk, offset!(skc_num));
        }
        if event.tuple.family == AF_INET {
            event.tuple.src = mapped(0);
        }
        event.tuple.dst = address;
        event.tuple.dport = port;
        if errno == EADDRNOTAVAIL {
            event.cause = cause::ADDRESS_NOT_LOCAL;
        }
    }
    finish(&mut event);
}
