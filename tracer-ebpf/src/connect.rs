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
* tracepoint: `syscalls/sys_exit_connect`, and `sys_enter_connect` where the
  arguments are not to be had at the exit (`syscall.rs`). Why these: nothing
  else gives the errno without trampolines. What connects otherwise (io_uring,
  the kernel) is reported from the state change, marked inferred; so is what
  `sys_exit_connect` was skipped for, once the socket goes (`rescue.rs`). Any
  syscall tracepoint makes every system call of the host a little slower.

Failures that come later (RST, timeout) are reported by `state.rs`.

# Minimum kernel version
5.8, with BTF.
*/

mod trampoline;

use aya_ebpf::{
    bindings::BPF_ANY, helpers::bpf_get_current_pid_tgid, macros::tracepoint,
    programs::TracePointContext,
};
use tracer_ebpf::{
    AF_INET, Attempt, Counter, Event, Socket, Tuple, cause, connect_exit, direction, flags, kind,
};

use crate::{
    filter,
    maps::{ATTEMPTS, EMPTY, REPORTED, SOCKETS, config, count, is_floor, offset},
    output::{failed, now},
    owner,
    sock::{Load, Pointer, Probed, tuple},
    syscall::{self, address_of, field, socket_of},
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

/// Notes that a state change reported why this connection failed, for errnos that a call that
/// never got to a connection returns as well.
#[inline(always)]
pub(crate) fn reported(key: u64, socket: &Socket, errno: u16) {
    if config!(connect_exit) == connect_exit::SYSCALL && !reported_elsewhere(i64::from(errno)) {
        // It cannot be full; where memory is out, the failure is reported twice.
        let _ = REPORTED.insert(&thread_of(socket), &key, u64::from(BPF_ANY));
    }
}

/// Whether the current thread is in a connect() whose errno its end will tell.
#[inline(always)]
pub(crate) fn is_under_way() -> bool {
    config!(connect_exit) == connect_exit::SYSCALL
        && syscall::is_connect(bpf_get_current_pid_tgid())
}

/// A connect() failed before a SYN left; `event` has all but the errno. True when another program
/// will report it, with the errno.
#[inline(always)]
pub(crate) fn failed_inside(event: &Event) -> bool {
    if config!(connect_exit) == connect_exit::TRAMPOLINE {
        return true;
    }
    if is_under_way() {
        remember(
            bpf_get_current_pid_tgid(),
            &Attempt {
                search_ns: event.search_ns,
                cookie: event.cookie,
                cause: u32::from(event.cause),
                reserved: 0,
                tuple: event.tuple,
            },
        );
        return true;
    }
    // Nobody will tell the errno.
    inferred(*event);
    false
}

/// Reports a failed port search whose errno is not known: EADDRNOTAVAIL is what it gives.
#[inline(always)]
fn inferred(mut event: Event) {
    event.errno = EADDRNOTAVAIL as u16;
    event.flags |= flags::INFERRED;
    failed(&event);
}

/// The last connect() of this socket failed, and the kernel skipped the program that has the errno.
/// True when the attempt is still there: then it is reported.
#[inline(never)]
pub(crate) fn left_behind(socket: &Socket) -> bool {
    let thread = thread_of(socket);
    let Some(attempt) = ATTEMPTS.get_ptr(&thread) else {
        return false;
    };
    let mut event = EMPTY;
    // SAFETY: the entry stays until it is removed here.
    unsafe {
        if (*attempt).cookie != socket.cookie {
            return false;
        }
        take(&mut event, &*attempt, EADDRNOTAVAIL);
    }
    let _ = ATTEMPTS.remove(&thread);
    event.kind = kind::CONNECT_FAILED;
    event.direction = direction::OUT;
    event.ts_ns = now();
    event.owner = socket.owner;
    inferred(event);
    true
}

/// The thread that called connect(), as the helper gives it.
#[inline(always)]
fn thread_of(socket: &Socket) -> u64 {
    u64::from(socket.owner.tgid) << 32 | u64::from(socket.owner.tid)
}

/// Keeps a failed attempt until the errno is known.
#[inline(always)]
fn remember(thread: u64, attempt: &Attempt) {
    if ATTEMPTS
        .insert(&thread, attempt, u64::from(BPF_ANY))
        .is_err()
    {
        count(Counter::AttemptsFull);
    }
}

/// connect() begins: remembers its arguments. Only where the exit does not have them.
#[tracepoint]
pub(crate) fn connect_enter(ctx: TracePointContext) -> u32 {
    if is_floor() {
        return 0;
    }
    syscall::enter(&ctx);
    0
}

/// connect() ends: reports a failure that no state change tells whole.
#[tracepoint]
pub(crate) fn connect_exit(ctx: TracePointContext) -> u32 {
    if is_floor() {
        return 0;
    }
    // SAFETY: the record of a syscall's exit: result at 16 (struct syscall_trace_exit).
    let errno = unsafe { field::<i64>(&ctx, 16) }.wrapping_neg();
    if errno > 0 {
        report(errno);
    }
    syscall::leave();
    0
}

/// Reports the failed attempt of the current thread.
#[inline(always)]
fn report(errno: i64) {
    let thread = bpf_get_current_pid_tgid();
    let mut event = EMPTY;
    event.kind = kind::CONNECT_FAILED;
    event.direction = direction::OUT;
    event.errno = errno as u16;
    if let Some(attempt) = ATTEMPTS.get_ptr(&thread) {
        // SAFETY: the entry belongs to the current thread.
        take(&mut event, unsafe { &*attempt }, errno);
        if config!(witness) != 0 {
            let _ = SOCKETS.remove(&event.cookie);
        }
        let _ = ATTEMPTS.remove(&thread);
    } else {
        if reported_elsewhere(errno) {
            return;
        }
        let Some(call) = syscall::arguments(thread) else {
            return;
        };
        let Some(sk) = socket_of(call.fd) else {
            return;
        };
        if was_reported(thread, sk) {
            return;
        }
        let began = witnessed(sk);
        event.tuple = place_of(sk);
        let Some((address, port)) = address_of(&call) else {
            return;
        };
        event.tuple.dst = address;
        event.tuple.dport = port;
        if errno == EADDRNOTAVAIL {
            event.cause = match began {
                None => cause::ADDRESS_NOT_LOCAL,
                Some(false) if event.tuple.sport == 0 => cause::PORTS_EXHAUSTED,
                Some(_) => cause::TUPLE_IN_USE,
            };
        }
    }
    finish(&mut event);
}

/// Takes the entry of a socket away whose connect() failed while `state` was skipped. Returns
/// whether it had a port before, or nothing where a port was never looked for.
#[inline(always)]
fn witnessed(sk: Pointer) -> Option<bool> {
    if config!(witness) == 0 {
        return None;
    }
    // SAFETY: probed loads take any address; the entry stays until it is removed here.
    unsafe {
        let key = Probed::load::<u64>(sk, offset!(skc_cookie));
        let socket = SOCKETS.get_ptr(&key)?;
        let v4 = Probed::load::<u16>(sk, offset!(skc_family)) == AF_INET;
        // Of IPv6, one without a source address fails before the change to SYN_SENT.
        let bound = ((*socket).began != 0 || v4).then_some((*socket).bound != 0);
        let _ = SOCKETS.remove(&key);
        bound
    }
}

/// Takes over what was kept of a failed attempt.
#[inline(always)]
fn take(event: &mut Event, attempt: &Attempt, errno: i64) {
    event.tuple = attempt.tuple;
    event.search_ns = attempt.search_ns;
    event.cookie = attempt.cookie;
    if errno == EADDRNOTAVAIL {
        event.cause = attempt.cause as u8;
    }
}

/// Whether [`reported`] was told of this thread's socket.
#[inline(always)]
fn was_reported(thread: u64, sk: Pointer) -> bool {
    // SAFETY: probed loads take any address; the entry is a number.
    unsafe {
        let key = if config!(socket_cookie) != 0 {
            Probed::load::<u64>(sk, offset!(skc_cookie))
        } else {
            sk as u64
        };
        REPORTED
            .get(&thread)
            .is_some_and(|&reported| reported == key)
    }
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
