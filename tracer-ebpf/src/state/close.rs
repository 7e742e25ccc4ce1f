/*! How a connection ends: who closes first, and what is left of it. */

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
};
use tracer_ebpf::{
    Socket, births, closer, direction, flags, kind,
    tcp_state::{CLOSING, FIN_WAIT2, LAST_ACK, TIME_WAIT},
};

use super::{about, inet, is_null, opened};
use crate::{
    filter,
    maps::{SOCKETS, config, offset},
    output::{now, send},
    owner,
    sock::{Load, Pointer, Typed, follow, key, netns, tuple},
    timewait,
    witness::still_no_room,
};

/// Bit of `skc_flags` of a socket no descriptor is left of: `enum sock_flags` (include/net/sock.h).
const SOCK_DEAD: u64 = 1 << 0;

/// Bit of `skc_flags` that `tcp_fin` sets.
pub(crate) const SOCK_DONE: u64 = 1 << 1;

/// ESTABLISHED to FIN_WAIT1: the current process closes first. Gives an owner to sockets
/// whose connect() was not seen: accepted ones, and those opened before tracing began.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(never)]
pub(super) unsafe fn closing(sk: Pointer) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(socket) = SOCKETS.get_ptr_mut(key(sk)) {
            (*socket).closed_first = 1;
            let sport = Typed::load::<u16>(sk, offset!(skc_num));
            opened(&mut *socket, sk, sport, flags::INFERRED);
            return;
        }
        let owner = owner::current();
        if !filter::process(owner.tgid) {
            return;
        }
        if filter::places() && !filter::place(&tuple::<Typed>(sk, 0)) {
            return;
        }
        let cookie = if config!(socket_cookie) != 0 {
            bpf_get_socket_cookie(sk.cast_mut())
        } else {
            0
        };
        let socket = Socket {
            opened_ns: 0,
            search_ns: 0,
            flags: flags::OWNER_AT_CLOSE,
            direction: if has_chosen_port(sk) {
                direction::OUT
            } else {
                direction::IN
            },
            established: 1,
            bound: 0,
            closed_first: 1,
            owner,
            cookie,
            netns: netns::<Typed>(sk),
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

/// [`chosen_by_connect`] of a socket that may be of another kind.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
unsafe fn has_chosen_port(sk: Pointer) -> bool {
    // SAFETY: the caller's promise; the helper returns a typed pointer or null.
    unsafe {
        let tcp: Pointer = bpf_skc_to_tcp_sock(sk.cast_mut()).cast_const().cast();
        !is_null(tcp) && chosen_by_connect::<Typed>(tcp)
    }
}

/// True when connect() chose the socket's port: nobody bound or listens on its bucket.
/// Accepted sockets share the bucket of their listener.
///
/// # Safety
/// `tcp` must be a `struct tcp_sock` that `L` can follow.
#[inline(always)]
pub(crate) unsafe fn chosen_by_connect<L: Load>(tcp: Pointer) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let bucket = follow::<L>(tcp, offset!(icsk_bind_hash));
        !is_null(bucket) && L::load::<u8>(bucket, offset!(tb_fastreuse)) == u8::MAX
    }
}

/// Any state to CLOSE: the connection ended, perhaps with a TIME_WAIT born of it just before.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(never)]
pub(crate) unsafe fn closed(sk: Pointer, old: u8) {
    // SAFETY: the caller's promise; the entry stays until it is removed here.
    unsafe {
        let key = key(sk);
        if key == 0 {
            return;
        }
        let Some(socket) = SOCKETS.get_ptr_mut(key) else {
            return;
        };
        let Some((sport, _, lingers)) = inet(sk) else {
            return;
        };
        opened(&mut *socket, sk, sport, flags::INFERRED);
        let error = Typed::load::<u32>(sk, offset!(sk_err)) as u16;
        let sk_flags = Typed::load::<u64>(sk, offset!(skc_flags));
        let born = if !matches!(old, FIN_WAIT2 | CLOSING) || config!(births) == births::TRAMPOLINE {
            Some(false)
        } else if config!(births) == births::TABLE {
            timewait::has_successor(sk, key)
        } else {
            None
        };
        // A close() that finds unread data resets a socket which is neither yet.
        let seems_born = error == 0 && lingers && sk_flags & (SOCK_DEAD | SOCK_DONE) != 0;
        if born.unwrap_or(seems_born) {
            let (substate, flag) = match born {
                // A FIN that came is what makes it more than a FIN_WAIT2 (`tcp_fin`).
                Some(_) if sk_flags & SOCK_DONE == 0 => (FIN_WAIT2, 0),
                Some(_) => (TIME_WAIT, 0),
                None => (TIME_WAIT, flags::INFERRED),
            };
            timewait::born(&*socket, tuple::<Typed>(sk, sport), substate, flag);
        } else if config!(all) != 0 {
            let at = now();
            let mut event = about(&*socket, at);
            event.kind = kind::CLOSED;
            event.tuple = tuple::<Typed>(sk, sport);
            event.errno = error;
            event.state = old;
            event.closer = if old == LAST_ACK && error == 0 {
                closer::PEER
            } else {
                closer::RESET
            };
            send(event);
        }
        let _ = SOCKETS.remove(&key);
    }
}
