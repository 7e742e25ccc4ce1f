/*! Streams that are made up: any items, in any order. */

use std::net::SocketAddr;
use std::sync::Arc;

use proptest::collection;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::model::sample::{
    closed_in, exhausted, foreign_bind, namespace, opened, task, time_wait,
};
use crate::model::{
    About, Closer, Direction, Dump, Event, Failure, Kind, Listed, Loss, Lost, Ownership, Process,
    TcpState,
};
use crate::source::{Batch, Item};

const SECOND: u64 = 1_000_000_000;
pub(crate) const MS: u64 = 1_000_000;

/// When things begin: nothing here may depend on the clock being small.
pub(crate) const START: u64 = 1_000_000 * SECOND;

pub(crate) fn process(tgid: u32) -> Arc<Process> {
    Arc::new(Process {
        tgid,
        start_ns: u64::from(tgid) * 10 * MS,
        comm: task(if tgid == 1 { b"web" } else { b"cron" }),
        ..Process::default()
    })
}

pub(crate) fn about(opens: bool, ends: bool) -> About {
    About {
        opens,
        ends,
        ..About::default()
    }
}

/// An event of a connection of one of three processes to one of two destinations.
fn event() -> impl Strategy<Value = Event> {
    let base = prop_oneof![
        Just(time_wait()),
        Just(opened()),
        Just(closed_in()),
        Just(Event {
            kind: Kind::Closed,
            closer: Some(Closer::Local),
            ..time_wait()
        }),
        Just(Event {
            kind: Kind::TimeWaitEnd,
            ..time_wait()
        }),
        Just(Event {
            kind: Kind::TimeWaitEnd,
            ownership: Ownership::Unknown,
            process: Process::nobody(),
            direction: None,
            ..time_wait()
        }),
    ];
    let what = (base, 0..8_000_u64, 1..4_u32, 0..40_u16, 0..2_u16);
    what.prop_map(|(base, at, tgid, sport, dport)| {
        let mut event = Event {
            ts_ns: START + at * MS,
            cookie: Some(u64::from(sport) + 1),
            ..base
        };
        if event.ownership != Ownership::Unknown {
            event.process = process(tgid);
        }
        event.tuple.netns = namespace().inode;
        event.tuple.sport = 20_000 + sport;
        event.tuple.dport = 80 + dport;
        event.bound = sport % 7 == 0 && event.direction == Some(Direction::Out);
        event
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    let base = prop_oneof![Just(exhausted()), Just(foreign_bind())];
    (base, 0..8_000_u64, 1..4_u32, 1..50_u64, any::<bool>()).prop_map(
        |(base, at, tgid, count, fresh)| {
            let mut first = Event {
                ts_ns: START + at * MS,
                process: process(tgid),
                ..base
            };
            first.tuple.netns = namespace().inode;
            Failure {
                count,
                fresh,
                last_ns: START + at * MS,
                ..Failure::single(first)
            }
        },
    )
}

fn dump() -> impl Strategy<Value = Dump> {
    let socket = (0..40_u16, 0..4_u32, 0..4_usize, 0..2_u16);
    (collection::vec(socket, 0..40), 0..8_000_u64, 0..50_u64).prop_map(|(sockets, at, took)| {
        let states = [
            TcpState::Established,
            TcpState::TimeWait,
            TcpState::CloseWait,
            TcpState::SynSent,
        ];
        let listed = |(sport, tgid, state, dport): (u16, u32, usize, u16)| Listed {
            state: states[state],
            local: SocketAddr::from(([10, 0, 0, 1], 20_000 + sport)),
            remote: SocketAddr::from(([10, 0, 0, 2], 80 + dport)),
            cookie: u64::from(sport) + 1,
            process: (tgid > 0).then(|| process(tgid)),
            due_in: None,
        };
        Dump {
            began_ns: START + at * MS,
            ended_ns: START + (at + took) * MS,
            namespace: namespace(),
            sockets: sockets.into_iter().map(listed).collect(),
        }
    })
}

/// Anything a source may tell; the clock goes on with each.
pub(crate) fn items() -> impl Strategy<Value = Vec<Item>> {
    let item = prop_oneof![
        8 => event().prop_map(Item::Event),
        2 => failure().prop_map(|failure| Item::Failures(Box::new(failure))),
        1 => dump().prop_map(|dump| Item::Dump(Box::new(dump))),
        1 => Just(Item::Gone(namespace().inode)),
        1 => (0..3_u64).prop_map(Item::Unlisted),
        1 => (0..9_u64).prop_map(|ring_full| Item::Loss(Box::new(Loss {
            lost: Lost { ring_full, ..Lost::default() },
            ..Loss::default()
        }))),
        3 => any::<bool>().prop_map(|expects_dump| Item::Clock { now_ns: 0, expects_dump }),
    ];
    collection::vec(item, 0..150).prop_map(|mut items| {
        let count = items.len() as u64;
        for (index, item) in (0..count).zip(&mut items) {
            if let Item::Clock { now_ns, .. } = item {
                *now_ns = START + index * 8 * SECOND / count;
            }
        }
        items
    })
}

/// Cuts a stream at these places.
pub(crate) fn cut(mut items: Vec<Item>, places: &[usize]) -> Vec<Batch> {
    let mut batches = Vec::new();
    for place in places {
        let rest = items.split_off(place % (items.len() + 1));
        let items = std::mem::replace(&mut items, rest);
        batches.push(Batch { items });
    }
    batches.push(Batch { items });
    batches
}
