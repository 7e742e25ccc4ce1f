/*!
What a softirq did to a traced socket while the kernel skipped `state.rs`,
because it would have interrupted itself: found by other programs, which run
all the same. A socket whose end was seen has no entry any more, so in every
other case these leave at once.

* `tp_btf/inet_sk_error_report(const struct sock *)` (`sk_error_report`,
  net/core/sock.c, Linux 5.14): a connection refused, reset or timed out. Why
  this: it follows the change to CLOSE at once, while the error is still there,
  and fires for nothing else.
* `tp_btf/tcp_destroy_sock(struct sock *)` (`tcp_v4_destroy_sock`,
  net/ipv4/tcp_ipv4.c, Linux 4.16): every other end, births of TIME_WAITs among
  them. Why this: it fires once a connection and side, where a second copy of
  `state` would run ten times; softirqs are off around it, so nothing interrupts it.

A connect() that failed at once and whose errno `connect.rs` did not get to see
(Linux 7.0 and later, where the entry stays until then) is told by the second,
marked inferred.

That one of them is skipped too, for the same socket, shows as an entry that
stays: user space looks for those when the stream ends.

# Minimum kernel version
5.8, with BTF; before 5.14 a failure that was skipped is counted as unseen.
*/

use aya_ebpf::{
    helpers::generated::bpf_skc_to_tcp_sock, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use tracer_ebpf::{
    Counter, births,
    tcp_state::{CLOSE, ESTABLISHED, FIN_WAIT2, LAST_ACK},
};

use crate::{
    connect::left_behind,
    maps::{SOCKETS, config, count, is_floor, offset},
    sock::{Load, Pointer, Typed, key},
    state::{SOCK_DONE, closed, not_established},
};

/// A socket got an error.
#[btf_tracepoint(function = "inet_sk_error_report")]
pub(crate) fn rescue_failed(ctx: BtfTracePointContext) -> i32 {
    if is_floor() {
        return 0;
    }
    let sk: Pointer = ctx.arg(0);
    // SAFETY: sk is the tracepoint's typed argument.
    unsafe {
        // Some errors are told before the change, which `state` then sees.
        if Typed::load::<u8>(sk, offset!(skc_state)) != CLOSE || !is_left(sk) {
            return 0;
        }
        count(Counter::Rescued);
        if was_established(sk) {
            closed(sk, ESTABLISHED);
        } else {
            not_established(sk);
        }
    }
    0
}

/// A socket is taken apart.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub(crate) fn rescue_closed(ctx: BtfTracePointContext) -> i32 {
    if is_floor() {
        return 0;
    }
    let sk: Pointer = ctx.arg(0);
    // SAFETY: sk is the tracepoint's typed argument; the entry stays until it is removed.
    unsafe {
        let key = key(sk);
        if key == 0 {
            // An accepted one that nobody asks about, mostly.
            return 0;
        }
        let Some(socket) = SOCKETS.get_ptr(key) else {
            return 0;
        };
        if (*socket).closed_first == 0 && !was_established(sk) {
            // A failure whose errno is gone.
            count(if left_behind(&*socket) {
                Counter::Rescued
            } else {
                Counter::Unseen
            });
            let _ = SOCKETS.remove(&key);
            return 0;
        }
        count(Counter::Rescued);
        closed(
            sk,
            if (*socket).closed_first == 0 && got_fin(sk) {
                LAST_ACK
            } else if (*socket).closed_first != 0 && config!(births) != births::TRAMPOLINE {
                // The TIME_WAIT, if that is what came of it, is still to be told of.
                FIN_WAIT2
            } else {
                // A reset: a TIME_WAIT would have taken the entry along.
                ESTABLISHED
            },
        );
    }
    0
}

/// Whether the socket has an entry.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn is_left(sk: Pointer) -> bool {
    // SAFETY: the caller's promise.
    let key = unsafe { key(sk) };
    key != 0 && SOCKETS.get_ptr(key).is_some()
}

/// Whether the peer closed.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn got_fin(sk: Pointer) -> bool {
    // SAFETY: the caller's promise.
    unsafe { Typed::load::<u64>(sk, offset!(skc_flags)) & SOCK_DONE != 0 }
}

/// Whether the peer ever acknowledged something: the SYN is the first it can.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn was_established(sk: Pointer) -> bool {
    // SAFETY: the caller's promise; the helper returns a typed pointer or null.
    unsafe {
        let tcp: Pointer = bpf_skc_to_tcp_sock(sk.cast_mut()).cast_const().cast();
        !tcp.is_null() && Typed::load::<u64>(tcp, offset!(bytes_acked)) != 0
    }
}
