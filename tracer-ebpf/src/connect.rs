/*!
connect() that failed at once, with its final errno.

The state changes show that a port search failed, but not the errno, and the
return of `tcp_v4_connect` has the errno but no addresses any more (`failure:`
clears them). So the addresses wait in ATTEMPTS, by thread, for the errno:

* trampoline: fexit of `inet_hash_connect` and `inet6_hash_connect` (port
  search: the tuple is intact, `skc_num` 0 tells exhaustion from a tuple in
  use), then fexit of `tcp_v4_connect` and `tcp_v6_connect`. For a v4-mapped
  destination the latter calls the former: the outer one reports. Why these:
  they pass every connect(), by system call, io_uring or the kernel, and their
  prototypes are the same from 5.10 to 7.3.
* tracepoint: `syscalls/sys_enter_connect` and `sys_exit_connect`. Why these:
  nothing else gives the errno without trampolines. What connects otherwise
  (io_uring, the kernel) is reported from the state change, marked inferred.
  Any syscall tracepoint makes every system call of the host a little slower.

Failures that come later (RST, timeout) are reported by `state.rs`.

# Minimum kernel version
5.8, with BTF.
*/

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
    macros::{fexit, tracepoint},
    programs::{FExitContext, TracePointContext},
};
use tracer_ebpf::{
    AF_INET, AF_INET6, Attempt, Counter, Event, Tuple, cause, connect_exit, direction, flags, kind,
};

use crate::{
    filter,
    maps::{ATTEMPTS, NO_FAILURES, SOCKETS, config, count, offset},
    output::{failed, now},
    owner,
    sock::{Load, Pointer, Probed, Typed, follow, is_tcp, key, mapped, netns, tuple},
};

/// `EADDRNOTAVAIL`
const EADDRNOTAVAIL: i64 = 99;

/// Results that are no failure, or that state changes report: EINTR, EBADF, EFAULT, ENOTSOCK,
/// ECONNABORTED, ECONNRESET, EISCONN, ETIMEDOUT, ECONNREFUSED, EALREADY, EINPROGRESS, and the
/// kernel's own restart codes from 512 on.
#[inline(always)]
fn reported_elsewhere(errno: i64) -> bool {
    matches!(
        errno,
        i64::MIN..=0 | 4 | 9 | 14 | 88 | 103 | 104 | 106 | 110 | 111 | 114 | 115 | 512..=i64::MAX
    )
}

/// Notes that the attempt of this thread got a SYN_SENT socket.
#[inline(always)]
pub(crate) fn reached_syn_sent(thread: u64) {
    if let Some(attempt) = ATTEMPTS.get_ptr_mut(thread) {
        // SAFETY: the entry belongs to the current thread.
        unsafe { (*attempt).syn_sent = 1 };
    }
}

/// A connect() failed before a SYN left; `event` has all but the errno.
#[inline(always)]
pub(crate) fn failed_inside(event: &Event) {
    if config!(connect_exit) == connect_exit::TRAMPOLINE {
        return;
    }
    if config!(connect_exit) == connect_exit::SYSCALL
        && let Some(attempt) = ATTEMPTS.get_ptr_mut(bpf_get_current_pid_tgid())
    {
        // SAFETY: the entry belongs to the current thread.
        unsafe {
            (*attempt).tuple = event.tuple;
            (*attempt).search_ns = event.search_ns;
            (*attempt).cookie = event.cookie;
            (*attempt).cause = u32::from(event.cause);
            (*attempt).failed = 1;
        }
        return;
    }
    // Nobody will tell the errno: EADDRNOTAVAIL is what a failed port search gives.
    let mut event = *event;
    event.errno = EADDRNOTAVAIL as u16;
    event.flags |= flags::INFERRED;
    failed(&event);
}

/// Begin of a system call with `(fd, sockaddr *, length)`.
#[inline(always)]
pub(crate) fn enter(ctx: &TracePointContext) {
    // SAFETY: the record of a syscall's entry: number at 8, arguments from 16, eight bytes each
    // (kernel/trace/trace.h, struct syscall_trace_enter).
    let (fd, address, length) = unsafe {
        (
            field::<u64>(ctx, 16) as u32,
            field::<u64>(ctx, 24),
            field::<u64>(ctx, 32) as u32,
        )
    };
    let attempt = Attempt {
        address,
        search_ns: 0,
        cookie: 0,
        fd,
        address_len: length,
        syn_sent: 0,
        failed: 0,
        cause: 0,
        reserved: 0,
        tuple: NO_FAILURES.first.tuple,
    };
    if ATTEMPTS
        .insert(bpf_get_current_pid_tgid(), &attempt, u64::from(BPF_ANY))
        .is_err()
    {
        count(Counter::AttemptsFull);
    }
}

/// Reads the tracepoint's record, which is the context itself.
///
/// # Safety
/// `offset` must lie in the record and be aligned.
#[inline(always)]
pub(crate) unsafe fn field<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    use aya_ebpf::EbpfContext;
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(ctx.as_ptr().byte_add(offset).cast::<T>()) }
}

/// connect() begins: remembers its arguments, which the exit does not have.
#[tracepoint]
pub(crate) fn connect_enter(ctx: TracePointContext) -> u32 {
    enter(&ctx);
    0
}

/// connect() ends: reports a failure that no state change tells whole.
#[tracepoint]
pub(crate) fn connect_exit(ctx: TracePointContext) -> u32 {
    // SAFETY: the record of a syscall's exit: result at 16 (struct syscall_trace_exit).
    let errno = unsafe { field::<i64>(&ctx, 16) }.wrapping_neg();
    let thread = bpf_get_current_pid_tgid();
    if errno > 0
        && let Some(attempt) = ATTEMPTS.get_ptr(thread)
    {
        // SAFETY: the entry belongs to the current thread.
        unsafe { report(&*attempt, errno) };
    }
    let _ = ATTEMPTS.remove(thread);
    0
}

/// Reports the failed attempt of the current thread.
#[inline(always)]
fn report(attempt: &Attempt, errno: i64) {
    let mut event = NO_FAILURES.first;
    event.kind = kind::CONNECT_FAILED;
    event.direction = direction::OUT;
    event.errno = errno as u16;
    event.search_ns = attempt.search_ns;
    event.cookie = attempt.cookie;
    if attempt.failed != 0 {
        event.tuple = attempt.tuple;
        if errno == EADDRNOTAVAIL {
            event.cause = attempt.cause as u8;
        }
    } else {
        if attempt.syn_sent != 0 || reported_elsewhere(errno) {
            return;
        }
        let Some(sk) = socket_of(attempt.fd) else {
            return;
        };
        event.tuple = place_of(sk);
        let Some((address, port)) = address_of(attempt) else {
            return;
        };
        event.tuple.dst = address;
        event.tuple.dport = port;
        if errno == EADDRNOTAVAIL {
            event.cause = cause::ADDRESS_NOT_LOCAL;
        }
    }
    finish(&mut event);
}

/// Adds time and owner, and counts the failure if it is asked for.
#[inline(always)]
pub(crate) fn finish(event: &mut Event) {
    event.ts_ns = now();
    event.owner = owner::current();
    if filter::process(event.owner.tgid) && filter::place(&event.tuple) {
        failed(event);
    }
}

/// Namespace, family, source and bound port of a socket at any address.
#[inline(always)]
pub(crate) fn place_of(sk: Pointer) -> Tuple {
    // SAFETY: probed loads take any address.
    unsafe {
        let mut place = tuple::<Probed>(sk, Probed::load::<u16>(sk, offset!(skc_num)));
        place.dst = [0; 16];
        place.dport = 0;
        place
    }
}

/// The TCP socket behind a file descriptor of the current task.
#[inline(always)]
pub(crate) fn socket_of(fd: u32) -> Option<Pointer> {
    if config!(probe_read) == 0 {
        count(Counter::SocketUnreadable);
        return None;
    }
    // SAFETY: the helper returns the current task's address; probed loads take any.
    unsafe {
        let task = aya_ebpf::helpers::generated::bpf_get_current_task() as Pointer;
        let files = follow::<Probed>(task, offset!(task_files));
        let table = follow::<Probed>(files, offset!(files_fdt));
        let array = follow::<Probed>(table, offset!(fdt_fd));
        let file = Probed::load::<u64>(array.wrapping_byte_add(fd as usize * 8), 0) as Pointer;
        let socket = follow::<Probed>(file, offset!(file_private_data));
        let sk = follow::<Probed>(socket, offset!(socket_sk));
        if sk.is_null() {
            count(Counter::SocketUnreadable);
            return None;
        }
        is_tcp::<Probed>(sk).then_some(sk)
    }
}

/// Address and port (host order) of the sockaddr a system call was given.
#[inline(always)]
pub(crate) fn address_of(attempt: &Attempt) -> Option<([u8; 16], u16)> {
    let base = attempt.address as *const u8;
    // SAFETY: the helper checks the addresses; offsets of struct sockaddr_in and sockaddr_in6.
    unsafe {
        let family = bpf_probe_read_user::<u16>(base.cast()).ok()?;
        let port = bpf_probe_read_user::<u16>(base.wrapping_add(2).cast()).ok()?;
        let address = match family {
            AF_INET => mapped(bpf_probe_read_user::<u32>(base.wrapping_add(4).cast()).ok()?),
            AF_INET6 => bpf_probe_read_user::<[u8; 16]>(base.wrapping_add(8).cast()).ok()?,
            _ => return None,
        };
        Some((address, u16::from_be(port)))
    }
}

/// `int inet_hash_connect(struct inet_timewait_death_row *, struct sock *)`: the port search of IPv4,
/// also for v4-mapped destinations.
#[fexit(function = "inet_hash_connect")]
pub(crate) fn hash_connect_v4(ctx: FExitContext) -> i32 {
    searched(&ctx);
    0
}

/// `int inet6_hash_connect(struct inet_timewait_death_row *, struct sock *)`: the port search of IPv6.
#[fexit(function = "inet6_hash_connect")]
pub(crate) fn hash_connect_v6(ctx: FExitContext) -> i32 {
    searched(&ctx);
    0
}

#[inline(always)]
fn searched(ctx: &FExitContext) {
    // SAFETY: the second argument is typed; its entry belongs to the current thread's connect().
    unsafe {
        let sk: Pointer = ctx.arg(1);
        let result = ctx.arg::<i32>(2);
        let opened_ns = match SOCKETS.get_ptr_mut(key(sk)) {
            Some(socket) => {
                (*socket).search_ns = now().wrapping_sub((*socket).opened_ns);
                (*socket).opened_ns
            }
            None => 0,
        };
        if result >= 0 {
            return;
        }
        let sport = Typed::load::<u16>(sk, offset!(skc_num));
        let attempt = Attempt {
            address: 0,
            search_ns: if opened_ns == 0 {
                0
            } else {
                now().wrapping_sub(opened_ns)
            },
            cookie: if config!(socket_cookie) != 0 {
                key(sk)
            } else {
                0
            },
            fd: 0,
            address_len: 0,
            syn_sent: 1,
            failed: 1,
            cause: u32::from(if sport == 0 {
                cause::PORTS_EXHAUSTED
            } else {
                cause::TUPLE_IN_USE
            }),
            reserved: 0,
            tuple: tuple::<Typed>(sk, sport),
        };
        if ATTEMPTS
            .insert(bpf_get_current_pid_tgid(), &attempt, u64::from(BPF_ANY))
            .is_err()
        {
            count(Counter::AttemptsFull);
        }
    }
}

/// `int tcp_v4_connect(struct sock *, struct sockaddr *, int)`: the final errno.
#[fexit(function = "tcp_v4_connect")]
pub(crate) fn tcp_connect_v4(ctx: FExitContext) -> i32 {
    let result = ctx.arg::<i32>(3);
    if result >= 0 {
        return 0;
    }
    let sk: Pointer = ctx.arg(0);
    // SAFETY: the arguments are typed.
    unsafe {
        if Typed::load::<u16>(sk, offset!(skc_family)) == AF_INET6 {
            // Called by tcp_v6_connect for a v4-mapped destination, which reports.
            return 0;
        }
        let address: Pointer = ctx.arg(1);
        let destination = (
            mapped(Typed::load::<u32>(address, 4)),
            u16::from_be(Typed::load::<u16>(address, 2)),
        );
        returned(sk, destination, result);
    }
    0
}

/// `int tcp_v6_connect(struct sock *, struct sockaddr *, int)`: the final errno, v4-mapped too.
#[fexit(function = "tcp_v6_connect")]
pub(crate) fn tcp_connect_v6(ctx: FExitContext) -> i32 {
    let result = ctx.arg::<i32>(3);
    if result >= 0 {
        return 0;
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
    0
}

/// Reports a connect() that failed at once.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn returned(sk: Pointer, (address, port): ([u8; 16], u16), result: i32) {
    let thread = bpf_get_current_pid_tgid();
    let errno = i64::from(result).wrapping_neg();
    let mut event = NO_FAILURES.first;
    event.kind = kind::CONNECT_FAILED;
    event.direction = direction::OUT;
    event.errno = errno as u16;
    if let Some(attempt) = ATTEMPTS.get_ptr(thread) {
        // SAFETY: the entry belongs to the current thread.
        unsafe {
            event.tuple = (*attempt).tuple;
            event.search_ns = (*attempt).search_ns;
            event.cookie = (*attempt).cookie;
            if errno == EADDRNOTAVAIL {
                event.cause = (*attempt).cause as u8;
            }
        }
        let _ = ATTEMPTS.remove(thread);
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
