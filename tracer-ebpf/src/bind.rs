/*!
bind() that failed: EADDRINUSE when the range or the port is taken,
EADDRNOTAVAIL when the address is not one of this host.

* trampoline: fexit of `inet_bind` and `inet6_bind` (net/ipv4/af_inet.c,
  net/ipv6/af_inet6.c). Why these and not `inet_csk_get_port`: they see the
  address asked for and also refuse before the port search; they are called
  through `proto_ops`, so they are never inlined.
* tracepoint: `syscalls/sys_exit_bind`, and `sys_enter_bind` where the arguments
  are not to be had at the exit (`syscall.rs`); io_uring binds are not seen.

# Minimum kernel version
5.8, with BTF.
*/

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{fexit, tracepoint},
    programs::{FExitContext, TracePointContext},
};
use tracer_ebpf::{AF_INET, cause, direction, kind};

use crate::{
    connect::{finish, place_of},
    maps::{EMPTY, is_floor, offset},
    sock::{Load, Pointer, Probed, Typed, follow, is_tcp, mapped, netns},
    syscall::{self, address_of, field, socket_of},
};

/// Why bind() says no: `EADDRINUSE` (98) and `EADDRNOTAVAIL` (99) by the port asked for.
#[inline(always)]
fn cause_of(errno: i64, port: u16) -> u8 {
    match (errno, port) {
        (98, 0) => cause::PORTS_EXHAUSTED,
        (98, _) => cause::TUPLE_IN_USE,
        (99, _) => cause::ADDRESS_NOT_LOCAL,
        _ => cause::OTHER,
    }
}

/// bind() begins: remembers its arguments. Only where the exit does not have them.
#[tracepoint]
pub(crate) fn bind_enter(ctx: TracePointContext) -> u32 {
    if is_floor() {
        return 0;
    }
    syscall::enter(&ctx);
    0
}

/// bind() ends.
#[tracepoint]
pub(crate) fn bind_exit(ctx: TracePointContext) -> u32 {
    if is_floor() {
        return 0;
    }
    // SAFETY: the record of a syscall's exit: result at 16.
    let errno = unsafe { field::<i64>(&ctx, 16) }.wrapping_neg();
    // EBADF, EFAULT and ENOTSOCK say nothing about an address.
    if errno > 0
        && !matches!(errno, 9 | 14 | 88)
        && let Some(call) = syscall::arguments(bpf_get_current_pid_tgid())
        && let Some(sk) = socket_of(call.fd)
        && let Some((address, port)) = address_of(&call)
    {
        let mut event = EMPTY;
        event.kind = kind::BIND_FAILED;
        event.errno = errno as u16;
        event.cause = cause_of(errno, port);
        event.tuple = place_of(sk);
        event.tuple.src = address;
        event.tuple.sport = port;
        finish(&mut event);
    }
    syscall::leave();
    0
}

/// `int inet_bind(struct socket *, struct sockaddr *, int)`
#[fexit(function = "inet_bind")]
pub(crate) fn bind_v4(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    let result = ctx.arg::<i32>(3);
    if result < 0 {
        returned(&ctx, result);
    }
    0
}

/// `int inet6_bind(struct socket *, struct sockaddr *, int)`
#[fexit(function = "inet6_bind")]
pub(crate) fn bind_v6(ctx: FExitContext) -> i32 {
    if is_floor() {
        return 0;
    }
    let result = ctx.arg::<i32>(3);
    if result < 0 {
        returned(&ctx, result);
    }
    0
}

#[inline(always)]
fn returned(ctx: &FExitContext, result: i32) {
    // SAFETY: the arguments are typed; an IPv6 address lies beyond `struct sockaddr`, so it is probed.
    unsafe {
        let sk = follow::<Typed>(ctx.arg(0), offset!(socket_sk));
        if !is_tcp::<Typed>(sk) {
            return;
        }
        let address: Pointer = ctx.arg(1);
        let port = u16::from_be(Typed::load::<u16>(address, 2));
        let errno = i64::from(result).wrapping_neg();
        let mut event = EMPTY;
        event.kind = kind::BIND_FAILED;
        event.direction = direction::UNKNOWN;
        event.errno = errno as u16;
        event.cause = cause_of(errno, port);
        event.tuple.netns = netns::<Typed>(sk);
        event.tuple.family = Typed::load::<u16>(sk, offset!(skc_family));
        event.tuple.sport = port;
        event.tuple.src = if Typed::load::<u16>(address, 0) == AF_INET {
            mapped(Typed::load::<u32>(address, 4))
        } else {
            let words = [
                Probed::load::<u64>(address, 8),
                Probed::load::<u64>(address, 16),
            ];
            core::mem::transmute::<[u64; 2], [u8; 16]>(words)
        };
        finish(&mut event);
    }
}
