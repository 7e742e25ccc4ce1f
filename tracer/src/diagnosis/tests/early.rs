/*! What is found before anything fails, or is no fault of any program. */

use super::build::{
    DEFAULT, EXHAUSTED, NOW_NS, churning, failed, failing, holder, leaking, namespace, pool, small,
};
use super::{first, verdicts};
use crate::diagnosis::{Kind, Urgency};
use crate::model::TcpState::{CloseWait, Established, FinWait2, TimeWait};
use crate::model::{Capacity, Forecast, Pool};

#[test]
fn case_17_close_wait_is_found_before_anything_fails() {
    for held in [40, 27_000] {
        let list = [(CloseWait, held), (Established, 12)];
        let pool = pool(&[holder("gorouter", 1, &list)]);
        let verdicts = verdicts(&[pool], &[], &namespace("host"));
        assert_eq!(
            first(&verdicts),
            (Kind::CloseWait, "gorouter".to_owned(), "close")
        );
        assert_eq!(verdicts[0].urgency, Urgency::Watch);
    }
}

#[test]
fn a_peer_that_does_not_close_is_told_to() {
    let list = [(FinWait2, 900), (TimeWait, 90)];
    let pool = small((40_000, 40_999), pool(&[holder("app", 1, &list)]));
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::FinWait2, "app".to_owned(), "peer_close")
    );
}

#[test]
fn case_18_a_leak_is_found_long_before_it_fails() {
    let leaking = leaking("web", 1, 200, 2.0);
    let pool = Pool {
        net_rate: 2.0,
        forecast: Some(Forecast {
            made_ns: NOW_NS,
            dry_in_s: Some(14_016.0),
            settles_at: None,
        }),
        ..failing(5_672, &[leaking], &[])
    };
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(first(&verdicts), (Kind::Leak, "web".to_owned(), "close"));
    assert_eq!(verdicts[0].urgency, Urgency::Watch, "in four hours");
    assert!(verdicts[0].level.used * 100 < verdicts[0].level.capacity);
}

#[test]
fn a_churn_above_the_ceiling_is_found_before_it_fails() {
    let pool = Pool {
        net_rate: 600.0,
        forecast: Some(Forecast {
            made_ns: NOW_NS,
            dry_in_s: Some(41.0),
            settles_at: Some(36_000.0),
        }),
        ..failing(
            6_432,
            &[churning("app", 1, &[(TimeWait, 3_600)], 3_600, 600.0)],
            &[],
        )
    };
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(first(&verdicts), (Kind::Churn, "app".to_owned(), "reuse"));
    assert_eq!(verdicts[0].urgency, Urgency::Soon);
}

#[test]
fn reserved_ports_that_eat_the_range_are_named() {
    let pool = Pool {
        capacity: Some(Capacity {
            range: DEFAULT,
            reserved: 28_200,
            blocked: 0,
        }),
        ..failing(
            9_090,
            &[holder("app", 1, &[(Established, 32)])],
            &[failed("app", 1, EXHAUSTED, 4)],
        )
    };
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::SmallRange, "app".to_owned(), "reserved")
    );
}
