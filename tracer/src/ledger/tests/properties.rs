/*! What holds for every stream of events: made-up ones, any length, any order. */

use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::{collection, proptest};

use super::scene::{ALL, MS, SECOND, START, WATCH, dump, event, ledger, listed, tell, unknown};
use crate::ledger::Ledger;
use crate::model::{Closer, Event, Kind, Ownership, States, TcpState};

const SOCKET_STATES: [TcpState; 9] = States::ALL;

/// An event that may make no sense after those before it.
fn anything() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![
        Just(Kind::Opened),
        Just(Kind::Closed),
        Just(Kind::TimeWait),
        Just(Kind::TimeWaitEnd),
        Just(Kind::ConnectFailed),
    ];
    let what = (kind, 0..200_u64, 1..4_u32, 32_000..32_005_u16, 80..83_u16);
    let how = (
        0..9_usize,
        any::<bool>(),
        any::<bool>(),
        0..300_u64,
        0..3_u8,
    );
    (what, how).prop_map(
        |((kind, at, tgid, sport, dport), (state, is_mini, is_unknown, lived, closer))| {
            let mut event = event(kind, START + at * 10 * MS, tgid, sport, dport);
            event.duration_ns = (lived > 0).then_some(lived * 10 * MS);
            event.closer = Some([Closer::Local, Closer::Peer, Closer::Reset][usize::from(closer)]);
            event.state = Some(match kind {
                Kind::TimeWait | Kind::TimeWaitEnd if is_mini => TcpState::FinWait2,
                Kind::TimeWait | Kind::TimeWaitEnd => TcpState::TimeWait,
                _ => SOCKET_STATES[state],
            });
            event.bound = lived % 7 == 0;
            if is_unknown && kind == Kind::TimeWaitEnd {
                event = unknown(event);
            } else if is_unknown {
                event.ownership = Ownership::AtClose;
            }
            event
        },
    )
}

/// Sockets a dump lists: state, owner (0 for none), source port, destination port.
fn sockets() -> impl Strategy<Value = Vec<(usize, u32, u16, u16)>> {
    collection::vec(
        (0..9_usize, 0..5_u32, 32_000..32_999_u16, 80..84_u16),
        0..60,
    )
}

fn fold(ledger: &mut Ledger, events: &[Event]) {
    for event in events {
        tell(ledger, event);
    }
}

/// The numbers of the books agree with each other.
fn check(ledger: &Ledger, now_ns: u64) {
    let mut total = 0;
    for pool in ledger.pools(now_ns) {
        let held: u64 = pool.holders.iter().map(|one| one.states.total()).sum();
        assert_eq!(held, pool.used(), "holders are the pool: {pool:?}");
        // A count below zero would be a huge one.
        assert!(pool.used() < 1_000_000, "{pool:?}");
        assert!(pool.peak.0 >= pool.used(), "{pool:?}");
        total += pool.used();
    }
    assert_eq!(total, ledger.used_total());
}

/// The lives of connections, each a list of its events in order.
fn lives() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let life = (0..100_u64, 1..4_u32, 80..83_u16, 0..5_u8);
    collection::vec(life, 1..60).prop_map(|lives| {
        let mut sport = 32_000;
        lives
            .into_iter()
            .map(|(at, tgid, dport, ends)| {
                sport += 1;
                let at = START + at * MS;
                let one = |kind, after: u64| event(kind, at + after * MS, tgid, sport, dport);
                let mut life = vec![one(Kind::Opened, 0)];
                if ends > 0 {
                    life.push(one(Kind::Closed, 3));
                }
                if ends > 1 {
                    life.push(one(Kind::TimeWait, 3));
                }
                if ends > 3 {
                    life.push(one(Kind::TimeWaitEnd, 9));
                }
                life
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A failure prints the events it shrank to: that is the next test to write.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_stream_makes_a_negative_holding(
        first in collection::vec(anything(), 0..150),
        sockets in sockets(),
        second in collection::vec(anything(), 0..150),
        all in any::<bool>(),
    ) {
        let mut ledger = ledger(if all { ALL } else { WATCH });
        fold(&mut ledger, &first);
        check(&ledger, START + 3 * SECOND);
        ledger.dump(&list(&sockets, START + SECOND));
        check(&ledger, START + 3 * SECOND);
        fold(&mut ledger, &second);
        ledger.advance(START + 3 * SECOND);
        check(&ledger, START + 3 * SECOND);
    }

    #[test]
    fn after_a_dump_the_states_are_those_of_the_list(
        events in collection::vec(anything(), 0..150),
        earlier in sockets(),
        sockets in sockets(),
        all in any::<bool>(),
    ) {
        let mut ledger = ledger(if all { ALL } else { WATCH });
        ledger.dump(&list(&earlier, START + SECOND));
        fold(&mut ledger, &events);
        // Later than all events.
        ledger.dump(&list(&sockets, START + 3 * SECOND));
        check(&ledger, START + 3 * SECOND);
        let mut wanted: BTreeMap<u16, States> = BTreeMap::new();
        for &(state, _, _, dport) in &sockets {
            *wanted.entry(dport).or_default().get_mut(SOCKET_STATES[state]).unwrap() += 1;
        }
        for pool in ledger.pools(START + 3 * SECOND) {
            let wanted = wanted.remove(&pool.id.dport).unwrap_or_default();
            assert_eq!(pool.states, wanted);
            for tgid in 1..5 {
                let listed = sockets.iter().filter(|one| (one.1, one.3) == (tgid, pool.id.dport));
                let held = pool.holders.iter().filter(|one| one.process.tgid == tgid);
                let held: u64 = held.map(|one| one.states.total()).sum();
                assert!(held >= listed.count() as u64, "{tgid} keeps what is listed as its own");
            }
        }
        assert!(wanted.values().all(|states| states.total() == 0), "{wanted:?}");
    }

    #[test]
    fn opened_is_open_plus_closed(lives in lives()) {
        let mut ledger = ledger(ALL);
        for life in &lives {
            fold(&mut ledger, life);
        }
        for pool in ledger.pools(START + SECOND) {
            for holder in &pool.holders {
                let open = holder.states.get(TcpState::Established);
                let ends = holder.ends.local + holder.ends.peer + holder.ends.reset;
                assert_eq!(holder.opened, open + ends);
            }
        }
    }

    #[test]
    fn the_order_within_a_batch_does_not_matter(
        lives in lives(),
        order in collection::vec(any::<u32>(), 300),
    ) {
        let mut in_order = ledger(ALL);
        for life in &lives {
            fold(&mut in_order, life);
        }
        let mut shuffled: Vec<_> = order.into_iter().zip(lives.into_iter().flatten()).collect();
        shuffled.sort_by_key(|&(order, _)| order);
        let mut any_order = ledger(ALL);
        for (_, event) in &shuffled {
            tell(&mut any_order, event);
        }
        let both = [in_order, any_order].map(|ledger| {
            let mut pools: Vec<_> = ledger
                .pools(START + SECOND)
                .into_iter()
                .map(|pool| {
                    let mut holders: Vec<_> = pool
                        .holders
                        .iter()
                        .map(|one| (one.process.tgid, one.states.most_first(), one.opened, one.ends))
                        .collect();
                    holders.sort_by_key(|one| one.0);
                    (pool.id, holders)
                })
                .collect();
            pools.sort_by_key(|one| one.0);
            pools
        });
        assert_eq!(both[0], both[1]);
    }
}

fn list(sockets: &[(usize, u32, u16, u16)], at_ns: u64) -> crate::model::Dump {
    let sockets = sockets.iter().map(|&(state, tgid, sport, dport)| {
        listed(
            SOCKET_STATES[state],
            (tgid > 0).then_some(tgid),
            sport,
            dport,
        )
    });
    dump(at_ns, sockets.collect())
}
