/*! The books fed with made-up events and dumps. */

mod bounds;
mod dumps;
mod forecasts;
mod properties;
mod scene;

use scene::{
    ALL, MS, SECOND, START, WATCH, dump, event, held, ledger, listed, listener, pool, pool_id,
    process, tell, unknown,
};

use super::{Drift, Feed, Ledger};
use crate::model::{
    Closer, Direction, Event, Kind, OwnerId, Ownership, Process, TcpState, TwReuse,
};

#[test]
fn with_all_events_a_connection_goes_through_its_states() {
    let mut ledger = ledger(ALL);
    tell(&mut ledger, &event(Kind::Opened, START, 1, 32_000, 80));
    let pools = pool(&ledger, START, 80);
    assert_eq!(held(&pools, 1, TcpState::Established), 1);
    tell(&mut ledger, &event(Kind::Closed, START + MS, 1, 32_000, 80));
    tell(
        &mut ledger,
        &event(Kind::TimeWait, START + MS, 1, 32_000, 80),
    );
    let pools = pool(&ledger, START, 80);
    assert_eq!((pools.used(), held(&pools, 1, TcpState::TimeWait)), (1, 1));
    assert_eq!((pools.ends.local, pools.holders[0].opened), (1, 1));
    let end = event(Kind::TimeWaitEnd, START + 60 * SECOND, 1, 32_000, 80);
    tell(&mut ledger, &end);
    assert_eq!(
        (ledger.used_total(), pool(&ledger, START, 80).peak.0),
        (0, 1)
    );
}

#[test]
fn a_mini_socket_counts_as_what_it_becomes() {
    let mut ledger = ledger(WATCH);
    let mut birth = event(Kind::TimeWait, START, 1, 32_000, 80);
    birth.state = Some(TcpState::FinWait2);
    tell(&mut ledger, &birth);
    assert_eq!(held(&pool(&ledger, START, 80), 1, TcpState::TimeWait), 1);
    let listed = listed(TcpState::FinWait2, None, 32_000, 80);
    ledger.dump(&dump(START + MS, vec![listed]));
    assert_eq!(held(&pool(&ledger, START, 80), 1, TcpState::FinWait2), 1);
    let mut end = event(Kind::TimeWaitEnd, START + SECOND, 1, 32_000, 80);
    end.state = Some(TcpState::FinWait2);
    tell(&mut ledger, &end);
    assert_eq!(ledger.used_total(), 0);
}

#[test]
fn a_birth_takes_one_only_from_what_a_dump_had_counted() {
    let mut ledger = ledger(WATCH);
    let open = listed(TcpState::Established, Some(1), 32_000, 80);
    ledger.dump(&dump(START, vec![open]));
    // Opened and closed since: not the one the dump had.
    tell(
        &mut ledger,
        &event(Kind::TimeWait, START + 5 * MS, 1, 32_001, 80),
    );
    let pools = pool(&ledger, START + SECOND, 80);
    assert_eq!(held(&pools, 1, TcpState::Established), 1);
    assert_eq!(pools.used(), 2);
    let mut old = event(Kind::TimeWait, START + 6 * MS, 1, 32_000, 80);
    old.duration_ns = Some(SECOND);
    tell(&mut ledger, &old);
    let pools = pool(&ledger, START + SECOND, 80);
    assert_eq!(held(&pools, 1, TcpState::Established), 0);
    assert_eq!(held(&pools, 1, TcpState::TimeWait), 2);
    assert_eq!(pools.holders[0].opened, 1);
}

#[test]
fn a_dump_sets_every_state_and_keeps_known_owners() {
    let mut ledger = ledger(WATCH);
    ledger.dump(&dump(START, vec![]));
    for sport in 0..3 {
        tell(
            &mut ledger,
            &event(Kind::TimeWait, START + 5 * MS, 1, 32_000 + sport, 80),
        );
        tell(
            &mut ledger,
            &event(Kind::TimeWait, START + 5 * MS, 2, 32_010 + sport, 80),
        );
    }
    let mut sockets: Vec<_> = (0..8)
        .map(|sport| listed(TcpState::TimeWait, None, 32_000 + sport, 80))
        .collect();
    sockets.push(listed(TcpState::CloseWait, Some(3), 32_020, 80));
    ledger.dump(&dump(START + SECOND, sockets));
    let pools = pool(&ledger, START + SECOND, 80);
    assert_eq!(pools.states.get(TcpState::TimeWait), 8);
    assert_eq!(held(&pools, 1, TcpState::TimeWait), 3);
    assert_eq!(held(&pools, 2, TcpState::TimeWait), 3);
    assert_eq!(held(&pools, 0, TcpState::TimeWait), 2);
    assert_eq!(held(&pools, 3, TcpState::CloseWait), 1);
    assert_eq!(pools.drift, -2);
    assert_eq!(ledger.drift(), Drift { missed: 2, left: 0 });
}

#[test]
fn what_the_peer_closed_stays_its_owners() {
    let mut ledger = ledger(ALL);
    ledger.dump(&dump(START, vec![]));
    for sport in 0..3 {
        let mut opened = event(Kind::Opened, START + 5 * MS, 1, 32_000 + sport, 80);
        opened.cookie = None;
        tell(&mut ledger, &opened);
    }
    let sockets = (0..4).map(|sport| listed(TcpState::CloseWait, None, 32_000 + sport, 80));
    ledger.dump(&dump(START + SECOND, sockets.collect()));
    let pools = pool(&ledger, START + SECOND, 80);
    assert_eq!(held(&pools, 1, TcpState::CloseWait), 3);
    assert_eq!(held(&pools, 0, TcpState::CloseWait), 1);
}

#[test]
fn what_ended_unseen_is_nobodys_first_then_everybodys() {
    let mut ledger = ledger(WATCH);
    let waits = |count: u16| {
        (0..count)
            .map(|sport| listed(TcpState::TimeWait, None, 32_000 + sport, 80))
            .collect::<Vec<_>>()
    };
    ledger.dump(&dump(START, waits(10)));
    for sport in 0..10 {
        tell(
            &mut ledger,
            &event(Kind::TimeWait, START + 5 * MS, 1, 32_100 + sport, 80),
        );
        tell(
            &mut ledger,
            &event(Kind::TimeWait, START + 5 * MS, 2, 32_200 + sport, 80),
        );
    }
    ledger.dump(&dump(START + SECOND, waits(20)));
    let pools = pool(&ledger, START + SECOND, 80);
    assert_eq!(held(&pools, 0, TcpState::TimeWait), 0);
    // Those were there before tracing: no event tells of their end where no owner is known.
    assert_eq!(pools.drift, 0);
    ledger.dump(&dump(START + 2 * SECOND, waits(10)));
    let pools = pool(&ledger, START + 2 * SECOND, 80);
    assert_eq!(held(&pools, 1, TcpState::TimeWait), 5);
    assert_eq!(held(&pools, 2, TcpState::TimeWait), 5);
    assert_eq!(pools.drift, 10);
}

#[test]
fn an_event_during_a_dump_is_no_drift_and_one_after_it_stays() {
    let mut ledger = ledger(WATCH);
    ledger.dump(&dump(START, vec![]));
    let at = START + SECOND;
    tell(
        &mut ledger,
        &event(Kind::TimeWait, at - MS / 2, 1, 32_000, 80),
    );
    tell(&mut ledger, &event(Kind::TimeWait, at + MS, 1, 32_001, 80));
    ledger.dump(&dump(at, vec![]));
    let pools = pool(&ledger, at + MS, 80);
    // The one in between was born after the list passed it by.
    assert_eq!((pools.used(), pools.drift), (2, 0));
    let both = (0..2).map(|sport| listed(TcpState::TimeWait, None, 32_000 + sport, 80));
    ledger.dump(&dump(at + SECOND, both.collect()));
    let pools = pool(&ledger, at + SECOND, 80);
    assert_eq!((pools.used(), pools.drift), (2, 0));
    assert_eq!(ledger.drift(), Drift::default());
}

#[test]
fn an_event_that_comes_after_its_dump_explains_and_names() {
    let mut ledger = ledger(WATCH);
    ledger.dump(&dump(START, vec![]));
    let at = START + SECOND;
    ledger.dump(&dump(
        at,
        vec![listed(TcpState::TimeWait, None, 32_000, 80)],
    ));
    assert_eq!(pool(&ledger, at, 80).drift, -1);
    tell(
        &mut ledger,
        &event(Kind::TimeWait, at - 100 * MS, 1, 32_000, 80),
    );
    let pools = pool(&ledger, at, 80);
    assert_eq!((pools.used(), pools.drift), (1, 0));
    assert_eq!(held(&pools, 1, TcpState::TimeWait), 1);
    assert_eq!(ledger.drift(), Drift::default());
}

#[test]
fn time_waits_leave_after_a_minute_where_no_event_tells() {
    let feed = Feed {
        opens: false,
        ends: false,
    };
    let mut ledger = ledger(feed);
    for second in 0..100 {
        let at = START + second * SECOND;
        for sport in 0..5 {
            tell(
                &mut ledger,
                &event(Kind::TimeWait, at, 1, 32_000 + sport, 80),
            );
        }
        ledger.advance(at);
    }
    let used = ledger.used_total();
    assert!((300..=310).contains(&used), "{used}");
    ledger.advance(START + 162 * SECOND);
    assert_eq!(ledger.used_total(), 0);
}

#[test]
fn accepted_connections_and_ports_out_of_the_range_hold_nothing() {
    let mut ledger = ledger(ALL);
    let sockets = vec![
        listener([0, 0, 0, 0], 32_100),
        listed(TcpState::Established, Some(1), 32_100, 5_000),
        listed(TcpState::Established, Some(1), 22, 5_001),
        listed(TcpState::Established, Some(1), 32_001, 80),
    ];
    ledger.dump(&dump(START, sockets));
    assert_eq!(ledger.used_total(), 1);
    let mut inbound = event(Kind::TimeWait, START + MS, 1, 32_005, 80);
    inbound.direction = Some(Direction::In);
    tell(&mut ledger, &inbound);
    tell(&mut ledger, &event(Kind::Opened, START + MS, 1, 22, 80));
    assert_eq!((ledger.used_total(), ledger.pools(START).len()), (1, 1));
    // The end of an accepted one's TIME_WAIT does not even say which side it was on.
    tell(
        &mut ledger,
        &unknown(event(Kind::TimeWaitEnd, START + MS, 1, 32_100, 5_000)),
    );
    assert_eq!(ledger.pools(START).len(), 1);
}

#[test]
fn bound_ports_are_lost_to_all_other_pools() {
    let mut ledger = ledger(WATCH);
    ledger.dump(&dump(START, vec![listener([127, 0, 0, 9], 32_500)]));
    for sport in 0..100 {
        let mut bound = event(Kind::TimeWait, START + MS, 1, 32_000 + sport, 80);
        bound.bound = true;
        tell(&mut ledger, &bound);
    }
    tell(
        &mut ledger,
        &event(Kind::TimeWait, START + MS, 2, 32_200, 81),
    );
    let capacity = |ledger: &Ledger, dport| {
        let pool = pool(ledger, START + SECOND, dport);
        pool.capacity.unwrap().ports()
    };
    assert_eq!(capacity(&ledger, 80), 999);
    assert_eq!(capacity(&ledger, 81), 899);
    assert_eq!(pool(&ledger, START, 80).holders[0].bound, 100);
    tell(
        &mut ledger,
        &event(Kind::TimeWaitEnd, START + SECOND, 1, 32_000, 80),
    );
    assert_eq!(capacity(&ledger, 81), 900);
    let left = (1..50).map(|sport| listed(TcpState::TimeWait, None, 32_000 + sport, 80));
    ledger.dump(&dump(START + 2 * SECOND, left.collect()));
    assert_eq!((capacity(&ledger, 80), capacity(&ledger, 81)), (1_000, 951));
}

#[test]
fn growth_between_dumps_counts_as_opened() {
    let mut ledger = ledger(WATCH);
    let open = |count: u16| {
        (0..count)
            .map(|sport| listed(TcpState::Established, Some(1), 32_000 + sport, 80))
            .collect::<Vec<_>>()
    };
    for second in 0..20_u16 {
        let at = START + u64::from(second) * SECOND;
        ledger.dump(&dump(at, open(100 + second * 5)));
    }
    let pools = pool(&ledger, START + 19 * SECOND, 80);
    let holder = &pools.holders[0];
    assert_eq!(holder.opened, 95, "those of the first dump are older");
    assert!((holder.net_rate - 5.0).abs() < 0.2, "{}", holder.net_rate);
    assert!((pools.open_rate.ten - 5.0).abs() < 1.0);
    assert!((pools.net_rate - 5.0).abs() < 0.5, "{}", pools.net_rate);
}

#[test]
fn drift_with_all_events_is_what_no_event_told() {
    let mut ledger = ledger(ALL);
    let established = |sport| listed(TcpState::Established, Some(1), sport, 80);
    ledger.dump(&dump(START, vec![established(32_000), established(32_001)]));
    tell(
        &mut ledger,
        &event(Kind::Opened, START + 5 * MS, 1, 32_002, 80),
    );
    let mut gone = event(Kind::Closed, START + 6 * MS, 1, 32_000, 80);
    gone.closer = Some(Closer::Peer);
    gone.ownership = Ownership::AtClose;
    tell(&mut ledger, &gone);
    let connecting = listed(TcpState::SynSent, Some(1), 32_009, 80);
    let sockets = vec![established(32_001), established(32_002), connecting];
    ledger.dump(&dump(START + SECOND, sockets));
    let pools = pool(&ledger, START + SECOND, 80);
    assert_eq!((pools.used(), pools.drift), (3, 0));
    // Its handshake ends: it was counted once.
    let mut opened = event(Kind::Opened, START + SECOND + 5 * MS, 1, 32_009, 80);
    opened.duration_ns = Some(SECOND);
    tell(&mut ledger, &opened);
    assert_eq!(ledger.used_total(), 3);
    ledger.dump(&dump(START + 2 * SECOND, vec![established(32_002)]));
    // One of the two that left was there before tracing: that is not told either.
    assert_eq!(pool(&ledger, START + 2 * SECOND, 80).drift, 1);
}

#[test]
fn a_pool_whose_ports_can_be_reused_is_not_called_dry() {
    let mut ledger = ledger(WATCH);
    let mut look = dump(START, vec![]);
    look.namespace.tw_reuse = Some(TwReuse::On);
    ledger.dump(&look);
    for tick in 0..1_000_u64 {
        let at = START + SECOND + tick * 20 * MS;
        let sport = 32_000 + u16::try_from(tick).unwrap();
        tell(&mut ledger, &event(Kind::TimeWait, at, 1, sport, 80));
        ledger.advance(at);
    }
    let pools = pool(&ledger, START + 21 * SECOND, 80);
    assert_eq!(pools.used(), 1_000);
    assert_eq!(pools.foretold, None);
    assert_eq!(pools.forecast.unwrap().dry_in_s, None);
}

#[test]
fn owners_are_those_of_events_and_of_proc_alike() {
    let mut exact = Process::clone(&process(5));
    exact.start_ns += 1_234_567;
    assert_eq!(OwnerId::of(&exact), OwnerId::of(&process(5)));
    assert_ne!(OwnerId::of(&exact), OwnerId::UNKNOWN);
    let nobody = Event {
        process: Process::nobody(),
        ownership: Ownership::Unknown,
        ..event(Kind::TimeWait, START, 5, 32_000, 80)
    };
    let mut ledger = ledger(WATCH);
    tell(&mut ledger, &nobody);
    assert_eq!(held(&pool(&ledger, START, 80), 0, TcpState::TimeWait), 1);
    assert_eq!(pool(&ledger, START, 80).id, pool_id(80));
}

/// A connection the dump met open, and whose end came before the dump was folded: each way it can
/// lie to the dump's time, both feeds.
#[test]
fn a_connection_listed_as_open_ends_once() {
    let began = START + 10 * SECOND;
    let ended = began + MS;
    for feed in [WATCH, ALL] {
        for (opened_ns, closed_ns) in [
            (START, began + MS / 2),
            (START, ended + MS),
            (began + MS / 4, began + MS / 2),
            (began + MS / 4, ended + MS),
        ] {
            for is_folded_late in [false, true] {
                let mut ledger = ledger(feed);
                ledger.dump(&dump(START - SECOND, Vec::new()));
                let about = |kind, at_ns| Event {
                    cookie: Some(7),
                    duration_ns: Some(at_ns - opened_ns),
                    ..event(kind, at_ns, 1, 32_000, 80)
                };
                let mut events = vec![about(Kind::TimeWait, closed_ns)];
                if feed.opens {
                    events.insert(0, about(Kind::Closed, closed_ns));
                    tell(&mut ledger, &about(Kind::Opened, opened_ns));
                }
                let mut open = listed(TcpState::Established, Some(1), 32_000, 80);
                open.cookie = 7;
                let dump = dump(ended, vec![open]);
                if is_folded_late {
                    ledger.dump(&dump);
                }
                for event in &events {
                    tell(&mut ledger, event);
                }
                if !is_folded_late {
                    ledger.dump(&dump);
                }
                let pools = pool(&ledger, ended + SECOND, 80);
                assert_eq!(
                    (held(&pools, 1, TcpState::TimeWait), pools.used()),
                    (1, 1),
                    "{feed:?}, opened {opened_ns}, closed {closed_ns}, late {is_folded_late}: {:?}",
                    pools.states
                );
            }
        }
    }
}

/// A connection that began, and perhaps ended, while the dump ran, which had passed its place.
#[test]
fn a_connection_a_dump_came_too_early_for_is_kept() {
    let began = START + 10 * SECOND;
    let ended = began + MS;
    for feed in [WATCH, ALL] {
        let mut ledger = ledger(feed);
        ledger.dump(&dump(START - SECOND, Vec::new()));
        let about = |kind, cookie, at_ns| Event {
            cookie: Some(cookie),
            duration_ns: Some(MS / 8),
            ..event(kind, at_ns, 1, 32_000, 80)
        };
        if feed.opens {
            tell(&mut ledger, &about(Kind::Opened, 7, began + MS / 4));
            tell(&mut ledger, &about(Kind::Closed, 7, began + MS / 2));
        }
        tell(&mut ledger, &about(Kind::TimeWait, 7, began + MS / 2));
        // One that the dump has, but whose end it came too early for.
        tell(&mut ledger, &about(Kind::TimeWait, 8, began - SECOND));
        tell(&mut ledger, &about(Kind::TimeWaitEnd, 8, began + MS / 2));
        let mut wait = listed(TcpState::TimeWait, None, 32_001, 80);
        wait.cookie = 8;
        ledger.dump(&dump(ended, vec![wait]));
        let pools = pool(&ledger, ended + SECOND, 80);
        assert_eq!(held(&pools, 1, TcpState::TimeWait), 1, "{feed:?}");
        assert_eq!((pools.used(), pools.holders.len()), (1, 1), "{feed:?}");
    }
}
