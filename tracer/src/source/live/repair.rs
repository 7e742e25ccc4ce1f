/*!
What the programs did not see, found in the kernel's own list of sockets.

A kernel may run no program where it should: recursion in two programs for one socket,
or a kernel that keeps tracing programs away from some task, and with it from
the softirqs that happen to run on top of that task. What such a softirq ends
stays in the sockets map. While the programs are still attached that proves
itself: an entry that was there before the list was made and is there after it,
of a socket the list shows in TIME_WAIT, or no longer, ended unseen.
*/

use std::collections::BTreeMap;

use foldhash::HashMap;
use tracer_ebpf::{Event, Socket, Tuple, closer, flags, kind, tcp_state};

use crate::host::sock_diag::TcpSocket;
use crate::model::TIME_WAIT_NS;

/// What the kernel lists of one network namespace.
#[derive(Debug)]
pub enum List {
    /// Its TCP sockets.
    Sockets(Vec<TcpSocket>),
    /// It could not be listed, and is taken to be gone with all its sockets.
    Gone,
    /// It may well be there, and cannot be listed: namespaces other than our own are out of reach.
    OutOfReach,
}

/// Sockets younger than this may not be listed yet: the kernel lists them once they have a port.
const SETTLED_NS: u64 = 1_000_000_000;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Births of TIME_WAITs, marked inferred.
    pub(super) births: Vec<Event>,
    /// Other ends: nothing is known of them but that they were, or may have been.
    pub(super) unseen: u64,
}

/// Connections whose end no program has seen, by namespace. There may be a million: 24 bytes each.
#[derive(Debug, Default)]
pub(super) struct Unfinished(BTreeMap<u32, Vec<One>>);

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct One {
    cookie: u64,
    opened_ns: u64,
    /// Whether our side closed it.
    closed: bool,
}

impl Unfinished {
    /// One more, with its key.
    pub(super) fn add(&mut self, key: u64, socket: &Socket) {
        // Without a cookie (before Linux 5.12) a socket cannot be recognised.
        if socket.cookie == key && key != 0 {
            self.0.entry(socket.netns).or_default().push(One {
                cookie: key,
                opened_ns: socket.opened_ns,
                closed: socket.closed_first != 0,
            });
        }
    }

    /// Takes those of one namespace out, with its inode.
    pub(super) fn pop(&mut self) -> Option<(u32, Vec<One>)> {
        self.0.pop_first()
    }
}

/// Looks up the unfinished connections of one namespace in the list that was asked for at `asked_ns`,
/// after they were found to be. `still` must give those that are unfinished now.
pub(super) fn look(
    unfinished: &[One],
    asked_ns: u64,
    list: List,
    still: impl Fn(u64) -> Option<Socket>,
) -> Found {
    let mut found = Found::default();
    let listed: HashMap<u64, TcpSocket> = match list {
        List::Sockets(list) => list.into_iter().map(|one| (one.cookie, one)).collect(),
        List::Gone => return found,
        List::OutOfReach => {
            // Which of those that were closed ended unseen cannot be told: none may be left out.
            let may_be_over = |one: &&One| one.closed && still(one.cookie).is_some();
            found.unseen = unfinished.iter().filter(may_be_over).count() as u64;
            return found;
        }
    };
    for &One {
        cookie, opened_ns, ..
    } in unfinished
    {
        let one = listed.get(&cookie);
        let waits = one.is_some_and(|one| one.state == tcp_state::TIME_WAIT);
        let gone = one.is_none() && asked_ns.saturating_sub(opened_ns) > SETTLED_NS;
        if !(waits || gone) {
            continue;
        }
        match (still(cookie), one) {
            (Some(socket), Some(one)) => found.births.push(birth(&socket, one, asked_ns)),
            (Some(_), None) => found.unseen += 1,
            (None, _) => {}
        }
    }
    found
}

fn birth(socket: &Socket, one: &TcpSocket, now_ns: u64) -> Event {
    // When it was born, and not when it was found: lists of sockets may have it already.
    let left_ns = u64::from(one.left_ms.unwrap_or_default()) * 1_000_000;
    let ts_ns = match one.left_ms {
        Some(_) => now_ns.saturating_sub(TIME_WAIT_NS.saturating_sub(left_ns)),
        None => now_ns,
    };
    Event {
        ts_ns,
        duration_ns: match socket.opened_ns {
            0 => 0,
            opened_ns => ts_ns.saturating_sub(opened_ns),
        },
        cookie: socket.cookie,
        search_ns: socket.search_ns,
        owner: socket.owner,
        tuple: Tuple {
            netns: socket.netns,
            family: one.family,
            sport: one.local.port(),
            dport: one.remote.port(),
            src: wire(one.local.ip()),
            dst: wire(one.remote.ip()),
            ..Tuple::default()
        },
        flags: socket.flags | flags::INFERRED,
        kind: kind::TIME_WAIT,
        closer: closer::LOCAL,
        direction: socket.direction,
        state: one.state,
        ..Event::default()
    }
}

fn wire(ip: std::net::IpAddr) -> [u8; 16] {
    match ip {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tracer_ebpf::{AF_INET, Socket, direction, flags, tcp_state};

    use super::{Found, List, SETTLED_NS, Unfinished, look};
    use crate::host::sock_diag::TcpSocket;

    const NOW_NS: u64 = 10 * SETTLED_NS;

    fn socket(cookie: u64, opened_ns: u64) -> Socket {
        Socket {
            cookie,
            opened_ns,
            netns: 7,
            direction: direction::OUT,
            ..Socket::default()
        }
    }

    /// Looks all of them up in one list.
    fn found(
        mut unfinished: Unfinished,
        list: List,
        still: impl Fn(u64) -> Option<Socket>,
    ) -> Found {
        let (netns, sockets) = unfinished.pop().unwrap();
        assert_eq!((netns, unfinished.pop().is_none()), (7, true));
        look(&sockets, NOW_NS, list, still)
    }

    fn unfinished(sockets: &[Socket]) -> Unfinished {
        let mut all = Unfinished::default();
        for socket in sockets {
            all.add(socket.cookie, socket);
        }
        all
    }

    fn listed() -> List {
        let one = |cookie, state| TcpSocket {
            state,
            family: AF_INET,
            local: SocketAddr::from(([10, 0, 0, 1], 40_000)),
            remote: SocketAddr::from(([10, 0, 0, 2], 5432)),
            cookie,
            inode: 0,
            left_ms: (state == tcp_state::TIME_WAIT).then_some(58_000),
        };
        List::Sockets(vec![
            one(1, tcp_state::TIME_WAIT),
            one(2, tcp_state::ESTABLISHED),
            one(3, tcp_state::TIME_WAIT),
        ])
    }

    #[test]
    fn only_what_ended_unseen_is_found() {
        let unfinished = unfinished(&[
            socket(1, 1),
            socket(2, 1),
            // Its end was seen while the list was made.
            socket(3, 1),
            // Gone; and too young to be listed.
            socket(4, 1),
            socket(5, NOW_NS - 1),
        ]);
        let found = found(unfinished, listed(), |key| {
            (key != 3).then(|| socket(key, 1))
        });
        assert_eq!(found.unseen, 1);
        let [birth] = found.births.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!((birth.cookie, birth.tuple.sport), (1, 40_000));
        assert_eq!(birth.tuple.dst[10..], [0xff, 0xff, 10, 0, 0, 2]);
        assert_ne!(birth.flags & flags::INFERRED, 0);
        assert_eq!(
            (birth.ts_ns, birth.duration_ns),
            (8 * SETTLED_NS, 8 * SETTLED_NS - 1)
        );
    }

    #[test]
    fn an_unreachable_namespace_says_nothing() {
        let found = found(unfinished(&[socket(1, 1)]), List::Gone, |key| {
            Some(socket(key, 1))
        });
        assert!(found.births.is_empty() && found.unseen == 0);
    }

    #[test]
    fn what_was_closed_out_of_reach_may_have_ended() {
        let mut closed = socket(1, 1);
        closed.closed_first = 1;
        let mut seen = socket(2, 1);
        seen.closed_first = 1;
        let unfinished = unfinished(&[closed, seen, socket(3, 1)]);
        let found = found(unfinished, List::OutOfReach, |key| {
            (key != 2).then(|| socket(key, 1))
        });
        assert!(found.births.is_empty());
        assert_eq!(found.unseen, 1);
    }
}
