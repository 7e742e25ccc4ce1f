/*! What must give no verdict, and what must not give one for ever. */

use super::build::{EXHAUSTED, NOW_NS, churning, failed, failing, holder, namespace, pool};
use super::verdicts;
use crate::diagnosis::Urgency;
use crate::model::TcpState::{Established, TimeWait};
use crate::model::{Capacity, Forecast, Holder, Pool, Rates, TwReuse};

const THOUSAND: Option<Capacity> = Some(Capacity {
    range: (40_000, 40_999),
    reserved: 0,
    blocked: 0,
});

fn quiet(pool: Pool) -> bool {
    let found = verdicts(std::slice::from_ref(&pool), &[], &namespace("host"));
    found.is_empty()
}

#[test]
fn nothing_gives_nothing() {
    assert!(verdicts(&[], &[], &namespace("host")).is_empty());
    assert!(quiet(pool(&[])));
}

#[test]
fn a_pool_that_warms_up_is_healthy() {
    // 50 connections within two seconds, and a forecast that takes them for a trend.
    for (ten, minute) in [
        (10.0, 10.0),
        (5.0, 5.0),
        (0.0, 2.5),
        (5.0, 0.83),
        (0.0, 0.0),
    ] {
        let rates = Rates {
            second: ten,
            ten,
            minute,
            peak: 500.0,
        };
        let holder = Holder {
            opened: 50,
            open_rate: rates,
            net_rate: minute,
            ..holder("app", 1, &[(Established, 50)])
        };
        let warm = Pool {
            net_rate: ten,
            forecast: Some(Forecast {
                made_ns: NOW_NS,
                dry_in_s: Some(190.0),
                settles_at: None,
            }),
            capacity: THOUSAND,
            ..pool(&[holder])
        };
        assert!(quiet(warm), "{ten} {minute}");
    }
}

#[test]
fn ten_short_connections_a_second_on_a_thousand_ports_are_sustainable() {
    for used in [100, 300, 600] {
        let steady = Pool {
            capacity: THOUSAND,
            lifetime_ns: Some((1_000_000, 2_000_000)),
            forecast: Some(Forecast {
                made_ns: NOW_NS,
                dry_in_s: None,
                settles_at: Some(600.0),
            }),
            ..pool(&[churning("app", 1, &[(TimeWait, used)], 5_000, 10.0)])
        };
        assert!(quiet(steady), "{used}");
    }
}

#[test]
fn a_large_pool_of_open_connections_that_stays_is_healthy() {
    let steady = Holder {
        opened: 600,
        ..holder("app", 1, &[(Established, 600)])
    };
    assert!(quiet(Pool {
        capacity: THOUSAND,
        ..pool(&[steady])
    }));
}

#[test]
fn long_connections_that_all_end_at_once_are_no_churn() {
    let ended = churning("app", 1, &[(TimeWait, 800)], 800, 0.0);
    assert!(quiet(Pool {
        capacity: THOUSAND,
        lifetime_ns: Some((3_600_000_000_000, 7_200_000_000_000)),
        forecast: Some(Forecast {
            made_ns: NOW_NS,
            dry_in_s: None,
            settles_at: None,
        }),
        ..pool(&[ended])
    }));
}

#[test]
fn a_few_sockets_in_close_wait_are_on_their_way() {
    use crate::model::TcpState::CloseWait;
    assert!(quiet(pool(&[holder("app", 1, &[(CloseWait, 8)])])));
}

#[test]
fn failures_fade() {
    // The pool failed `ago` seconds back and has drained since; a later forecast tells the time.
    let after = |ago: u64| {
        let mut failure = failed("app", 1, EXHAUSTED, 50);
        failure.first_ns = NOW_NS - (ago + 1) * 1_000_000_000;
        failure.last_ns = NOW_NS - ago * 1_000_000_000;
        let drained = Pool {
            capacity: THOUSAND,
            peak: (1_000, NOW_NS),
            ..failing(5_432, &[churning("app", 1, &[], 1_000, 0.0)], &[failure])
        };
        let found = verdicts(&[drained], &[], &namespace("host"));
        found.first().map(|verdict| verdict.urgency)
    };
    assert_eq!(after(30), Some(Urgency::Failing));
    assert_eq!(after(90), Some(Urgency::Watch));
    assert_eq!(after(900), None);
}

#[test]
fn time_waits_that_connect_may_take_over_are_in_nobodys_way() {
    let loopback = |reuse| {
        let mut namespace = namespace("host");
        namespace.tw_reuse = Some(reuse);
        let mut pool = Pool {
            capacity: THOUSAND,
            forecast: Some(Forecast {
                made_ns: NOW_NS,
                dry_in_s: None,
                settles_at: Some(50.0),
            }),
            ..pool(&[churning("app", 1, &[(TimeWait, 950)], 9_000, 50.0)])
        };
        pool.id.dst = std::net::IpAddr::from([127, 0, 0, 1]);
        verdicts(&[pool], &[], &namespace).is_empty()
    };
    assert!(loopback(TwReuse::LoopbackOnly));
    assert!(loopback(TwReuse::On));
    assert!(!loopback(TwReuse::Off));
}
