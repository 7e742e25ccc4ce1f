/*!
State changes of TCP sockets: who opened, how a connect() ended, who closed.

Hook: `tp_btf/inet_sock_set_state(const struct sock *sk, int oldstate, int newstate)`
(`inet_sk_state_store`, `tcp_set_state`, net/ipv4/af_inet.c), in every kernel
since 4.16. Why this one: CLOSE to SYN_SENT and ESTABLISHED to FIN_WAIT1 run in
the context of the process that calls connect() and close(), so the owner is
right; later changes run in softirq, the peer or an idle task and are joined to
the owner by the socket. The typed tracepoint needs neither tracefs nor
probe reads.

It never shows TIME_WAIT itself: see `timewait.rs`.

The kernel skips a program that would interrupt itself on one processor: a
softirq's change on top of a process's. Opening and closing first are a
process's own changes, so before Linux 7.0 they are never skipped; what a
softirq ends unseen is found by `rescue.rs`. Since 7.0 a task can be preempted
within this program, and until it runs again the kernel skips it for all others
of that processor: `witness.rs` sees what they open and close.

# Minimum kernel version
5.8, with BTF.
*/

mod close;

pub(crate) use self::close::{SOCK_DONE, chosen_by_connect, closed};

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use tracer_ebpf::{
    Event, Socket, cause, closer, direction, flags, kind,
    tcp_state::{CLOSE, ESTABLISHED, FIN_WAIT1, LISTEN, SYN_RECV, SYN_SENT},
};

use crate::{
    connect, filter,
    maps::{EMPTY, SOCKETS, config, is_floor, offset},
    output::{failed, now, send},
    owner,
    sock::{Load, Pointer, Typed, is_tcp, key, netns, tuple},
    witness::still_no_room,
};

/// Both directions of a socket are shut: include/net/sock.h.
const SHUTDOWN_MASK: u8 = 3;

#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn state(ctx: BtfTracePointContext) -> i32 {
    if is_floor() {
        return 0;
    }
    let (old, new) = (ctx.arg::<u32>(1) as u8, ctx.arg::<u32>(2) as u8);
    if matters(old, new) {
        handle(&ctx, ctx.arg(0), old, new);
    }
    0
}

/// True for the changes that say something; the others cost only this.
#[inline(always)]
fn matters(old: u8, new: u8) -> bool {
    match new {
        CLOSE => old != LISTEN,
        SYN_SENT => true,
        ESTABLISHED => old == SYN_SENT && config!(all) != 0,
        FIN_WAIT1 => true,
        _ => false,
    }
}

#[inline(always)]
fn handle(ctx: &BtfTracePointContext, sk: Pointer, old: u8, new: u8) {
    // SAFETY: sk is the tracepoint's typed argument.
    unsafe {
        if config!(skip_softirq) != 0 && by_softirq(sk, old, new) {
            return;
        }
        match (old, new) {
            (_, SYN_SENT) if is_tcp::<Typed>(sk) => {
                connecting(ctx, sk);
            }
            (SYN_SENT, ESTABLISHED) => established(sk),
            (SYN_SENT, CLOSE) => not_established(sk),
            (ESTABLISHED | SYN_RECV, FIN_WAIT1) if is_tcp::<Typed>(sk) => {
                close::closing(sk);
            }
            (_, CLOSE) => closed(sk, old),
            _ => {}
        }
    }
}

/// True for changes that softirqs mostly make: all but those of connect() and close() themselves.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn by_softirq(sk: Pointer, old: u8, new: u8) -> bool {
    match (old, new) {
        // SAFETY: the caller's promise. Within connect() there is no error yet.
        (SYN_SENT, CLOSE) => unsafe { Typed::load::<u32>(sk, offset!(sk_err)) != 0 },
        (_, ESTABLISHED | CLOSE) => true,
        _ => false,
    }
}

/// CLOSE to SYN_SENT: connect() was called, by the current process; no source port was looked for yet.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(never)]
unsafe fn connecting(ctx: &BtfTracePointContext, sk: Pointer) {
    let owner = owner::current();
    if !filter::process(owner.tgid) {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let sport = Typed::load::<u16>(sk, offset!(skc_num));
        if filter::places() && !filter::place(&tuple::<Typed>(sk, sport)) {
            if config!(witness) != 0 {
                let _ = SOCKETS.remove(&key(sk));
            }
            return;
        }
        let netns = netns::<Typed>(sk);
        if netns == 0 {
            warn!(ctx, "a TCP socket without a network namespace connects");
        }
        let cookie = if config!(socket_cookie) != 0 {
            bpf_get_socket_cookie(sk.cast_mut())
        } else {
            0
        };
        let socket = Socket {
            opened_ns: now(),
            search_ns: 0,
            flags: if sport == 0 { 0 } else { flags::BOUND },
            direction: direction::OUT,
            established: 0,
            bound: u8::from(sport != 0),
            closed_first: 0,
            owner,
            cookie,
            netns,
            began: 1,
        };
        if SOCKETS
            .insert(key(sk), &socket, u64::from(BPF_ANY))
            .is_err()
        {
            still_no_room(cookie);
        }
    }
}

/// SYN_SENT to ESTABLISHED.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(never)]
unsafe fn established(sk: Pointer) {
    // SAFETY: the caller's promise; the entry stays while the socket lives.
    unsafe {
        let Some(socket) = SOCKETS.get_ptr_mut(key(sk)) else {
            return;
        };
        opened(
            &mut *socket,
            sk,
            Typed::load::<u16>(sk, offset!(skc_num)),
            0,
        );
    }
}

/// Reports that the handshake ended, once; with the flag `INFERRED` when that is seen later.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn opened(socket: &mut Socket, sk: Pointer, sport: u16, flag: u32) {
    if config!(all) == 0 || socket.established != 0 {
        return;
    }
    socket.established = 1;
    let mut event = about(socket, now());
    event.kind = kind::OPENED;
    event.flags |= flag;
    if flag != 0 {
        // How long the handshake took is not known any more.
        event.duration_ns = 0;
    }
    // SAFETY: the caller's promise.
    event.tuple = unsafe { tuple::<Typed>(sk, sport) };
    send(event);
}

/// SYN_SENT to CLOSE: no source port, an error, or a close() before the handshake ended.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(never)]
pub(crate) unsafe fn not_established(sk: Pointer) {
    // SAFETY: the caller's promise; the entry stays until it is removed here.
    unsafe {
        let key = key(sk);
        let Some(socket) = SOCKETS.get_ptr(key) else {
            return;
        };
        let Some((sport, in_flight, _)) = inet(sk) else {
            return;
        };
        let at = now();
        let mut event = about(&*socket, at);
        event.kind = kind::CONNECT_FAILED;
        event.search_ns = (*socket).search_ns;
        event.errno = Typed::load::<u32>(sk, offset!(sk_err)) as u16;
        let bound = (*socket).bound != 0;
        if event.errno == 0 && in_flight == 0 && !is_abandoned(sk) {
            // It failed inside connect(), before a SYN left: no port, a tuple in use, or no route.
            event.search_ns = at.wrapping_sub((*socket).opened_ns);
            event.tuple = tuple::<Typed>(sk, if bound { sport } else { 0 });
            event.cause = if bound {
                cause::TUPLE_IN_USE
            } else {
                cause::PORTS_EXHAUSTED
            };
            if connect::failed_inside(&event) && config!(witness) != 0 {
                // What reports the errno takes the entry away: one that stays was not reported.
                return;
            }
        } else if event.errno != 0 {
            event.tuple = tuple::<Typed>(sk, sport);
            event.duration_ns = at.wrapping_sub((*socket).opened_ns);
            failed(&event);
            connect::reported(key, &*socket, event.errno);
        } else if config!(all) != 0 {
            event.kind = kind::CLOSED;
            event.closer = closer::LOCAL;
            event.state = SYN_SENT;
            event.duration_ns = at.wrapping_sub((*socket).opened_ns);
            event.tuple = tuple::<Typed>(sk, sport);
            send(event);
        }
        let _ = SOCKETS.remove(&key);
    }
}

/// Whether a socket that has sent nothing is being closed: with TCP Fast Open connect() leaves the
/// SYN to the first write. `tcp_close` shuts both directions before it changes the state.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn is_abandoned(sk: Pointer) -> bool {
    // SAFETY: the caller's promise.
    let shut = unsafe { Typed::load::<u8>(sk, offset!(sk_shutdown)) };
    shut == SHUTDOWN_MASK && !connect::is_under_way()
}

/// Source port, segments in flight, and whether FIN_WAIT2 may wait, of a TCP socket.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn inet(sk: Pointer) -> Option<(u16, u32, bool)> {
    // SAFETY: the caller's promise; the helper returns a typed pointer or null.
    unsafe {
        let tcp: Pointer = bpf_skc_to_tcp_sock(sk.cast_mut()).cast_const().cast();
        if is_null(tcp) {
            return None;
        }
        Some((
            u16::from_be(Typed::load::<u16>(tcp, offset!(inet_sport))),
            Typed::load::<u32>(tcp, offset!(packets_out)),
            Typed::load::<u32>(tcp, offset!(linger2)) as i32 >= 0,
        ))
    }
}

/// Compares with null without arithmetic, which the verifier refuses on typed pointers.
#[inline(always)]
fn is_null(pointer: Pointer) -> bool {
    pointer.is_null()
}

/// An event with what the entry knows.
#[inline(always)]
pub(crate) fn about(socket: &Socket, at: u64) -> Event {
    let mut event = EMPTY;
    event.ts_ns = at;
    event.cookie = socket.cookie;
    event.search_ns = socket.search_ns;
    event.duration_ns = if socket.opened_ns == 0 {
        0
    } else {
        at.wrapping_sub(socket.opened_ns)
    };
    event.owner = socket.owner;
    event.flags = socket.flags;
    event.direction = socket.direction;
    event
}
