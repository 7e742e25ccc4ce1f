/*!
connect() and close() as seen where no task preempts another's view.

Since Linux 7.0 tracepoints run with preemption on. A task that is preempted
within a program keeps it busy, and until that task runs again the kernel skips
the program for every other task of that processor: with many runnable tasks
for tens of milliseconds, in which thousands of connections are opened and
closed. What softirqs do is not preempted (TIME_WAITs begin there, sockets are
taken apart there); connect() and close() are.

Programs of a cgroup have no such guard. On the root cgroup these see, in the
process's own context:

* `cgroup/connect4`, `cgroup/connect6`: each connect() before it begins
  (`inet_stream_connect` and its `pre_connect`, net/ipv4/af_inet.c), by system
  call, io_uring or the kernel. They make the entry that `state` makes too.
* `cgroup/sock_release`: each close() of the last copy (`inet_release`).

So every connection has an entry, and whatever leaves an entry that nobody
reported is told from what is left of it when the socket goes, or counted as unseen. They never refuse anything.

# Minimum kernel version
Loaded from 7.0 on, which is where they are needed; all three exist since 5.9.
*/

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
    },
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use tracer_ebpf::{
    Counter, Socket, direction, flags,
    tcp_state::{ESTABLISHED, SYN_RECV},
};

use crate::{
    connect::left_behind,
    filter,
    maps::{REPORTED, SOCKETS, config, count, is_floor, offset},
    output::now,
    owner,
    sock::{Load, Pointer, Probed, Typed, netns, tuple},
    state::chosen_by_connect,
};

/// What the kernel takes for: go on.
const ALLOW: i32 = 1;

/// `IPPROTO_TCP`
const TCP: u32 = 6;

#[cgroup_sock_addr(connect4)]
pub(crate) fn witness_v4(ctx: SockAddrContext) -> i32 {
    if is_floor() {
        return ALLOW;
    }
    connects(&ctx);
    ALLOW
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn witness_v6(ctx: SockAddrContext) -> i32 {
    if is_floor() {
        return ALLOW;
    }
    connects(&ctx);
    ALLOW
}

/// The current process calls connect(). Neither destination nor source are settled yet: `state`
/// takes the entry away again when they are not asked for.
#[inline(always)]
fn connects(ctx: &SockAddrContext) {
    // SAFETY: the context is ours to read; the helpers check what they are given.
    unsafe {
        let address = ctx.sock_addr;
        if core::ptr::read_volatile(&raw const (*address).protocol) != TCP {
            return;
        }
        let owner = owner::current();
        if !filter::process(owner.tgid) {
            return;
        }
        let sk = core::ptr::read_volatile(&raw const (*address).__bindgen_anon_1.sk);
        if sk.is_null() {
            return;
        }
        let sk: Pointer = bpf_skc_to_tcp_sock(sk.cast()).cast_const().cast();
        if sk.is_null() {
            return;
        }
        let netns = netns::<Typed>(sk);
        if !filter::namespace(netns) {
            return;
        }
        let bound = Typed::load::<u16>(sk, offset!(skc_num)) != 0;
        let cookie = bpf_get_socket_cookie(ctx.as_ptr());
        if let Some(earlier) = SOCKETS.get_ptr(&cookie) {
            // An earlier attempt of this socket that nobody saw the end of.
            count(if left_behind(&*earlier) {
                Counter::Rescued
            } else {
                Counter::Unseen
            });
        }
        let socket = Socket {
            opened_ns: now(),
            search_ns: 0,
            flags: if bound { flags::BOUND } else { 0 },
            direction: direction::OUT,
            established: 0,
            bound: u8::from(bound),
            closed_first: 0,
            owner,
            cookie,
            netns,
            began: 0,
        };
        if SOCKETS
            .insert(&cookie, &socket, u64::from(BPF_ANY))
            .is_err()
        {
            no_room(cookie);
        }
    }
}

/// There was no room for an entry. That counts once, though `state` finds none either.
#[inline(always)]
fn no_room(cookie: u64) {
    count(Counter::SocketsFull);
    // Its complement: no key of a socket whose failure was reported.
    let _ = REPORTED.insert(&bpf_get_current_pid_tgid(), &!cookie, u64::from(BPF_ANY));
}

/// The same, found by `state`: within the same call of the same thread, if it was counted before.
#[inline(always)]
pub(crate) fn still_no_room(cookie: u64) {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: a copy of the value of an entry of the current thread.
    let noted = unsafe { REPORTED.get(thread) }.copied();
    if config!(witness) != 0 && noted == Some(!cookie) {
        let _ = REPORTED.remove(&thread);
        return;
    }
    count(Counter::SocketsFull);
}

/// The current process closes the last copy of a socket.
#[cgroup_sock(sock_release)]
pub(crate) fn witness_release(ctx: SockContext) -> i32 {
    if is_floor() {
        return ALLOW;
    }
    // SAFETY: the context is ours to read.
    let (protocol, state) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*ctx.sock).protocol),
            core::ptr::read_volatile(&raw const (*ctx.sock).state),
        )
    };
    if protocol == TCP && (state == u32::from(ESTABLISHED) || state == u32::from(SYN_RECV)) {
        closes(&ctx);
    }
    ALLOW
}

/// Our side closes first. Gives an owner to sockets whose connect() was not seen, as `state` does.
#[inline(always)]
fn closes(ctx: &SockContext) {
    // SAFETY: probed loads take any address, and the context of this kind of program is the sock.
    unsafe {
        let cookie = bpf_get_socket_cookie(ctx.as_ptr());
        if let Some(socket) = SOCKETS.get_ptr_mut(&cookie) {
            (*socket).closed_first = 1;
            return;
        }
        if config!(probe_read) == 0 {
            // Whose it is could be said, but not where it goes: `state` knows both.
            return;
        }
        let owner = owner::current();
        if !filter::process(owner.tgid) {
            return;
        }
        let sk: Pointer = ctx.as_ptr().cast_const();
        let sport = Probed::load::<u16>(sk, offset!(skc_num));
        let tuple = tuple::<Probed>(sk, sport);
        if !filter::place(&tuple) {
            return;
        }
        let socket = Socket {
            opened_ns: 0,
            search_ns: 0,
            flags: flags::OWNER_AT_CLOSE,
            direction: if chosen_by_connect::<Probed>(sk) {
                direction::OUT
            } else {
                direction::IN
            },
            established: 1,
            bound: 0,
            closed_first: 1,
            owner,
            cookie,
            netns: tuple.netns,
            began: 1,
        };
        if SOCKETS
            .insert(&cookie, &socket, u64::from(BPF_NOEXIST))
            .is_err()
        {
            no_room(cookie);
        }
    }
}
