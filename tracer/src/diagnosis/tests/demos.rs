/*! The demos, and how small a range may be before it is the verdict. */

use super::build::{
    EXHAUSTED, EXHAUSTED_BIND, NOW_NS, bind, churning, failed, failing, holder, namespace, small,
};
use super::{first, verdicts};
use crate::diagnosis::Kind;
use crate::model::TcpState::{CloseWait, Established, FinWait2, TimeWait};
use crate::model::{Capacity, Cause, Ends, Forecast, Holder, Pool, Rates};

#[test]
fn demos_in_a_thousand_ports_get_their_own_verdict() {
    let thousand = |holder: Holder, dport| {
        let failure = failed("app", 1, EXHAUSTED, 50);
        small((40_000, 40_999), failing(dport, &[holder], &[failure]))
    };
    let rates = Rates {
        second: 1_000.0,
        ten: 1_800.0,
        minute: 1_800.0,
        peak: 2_100.0,
    };
    let churn = thousand(
        Holder {
            open_rate: rates,
            ..churning("app", 1, &[(TimeWait, 995), (FinWait2, 5)], 1_000, 0.0)
        },
        5_432,
    );
    let leak = thousand(
        Holder {
            opened: 1_000,
            open_rate: rates,
            ..holder("app", 1, &[(Established, 1_000)])
        },
        5_672,
    );
    let close_wait = thousand(
        Holder {
            opened: 1_000,
            open_rate: rates,
            ends: Ends::default(),
            ..holder("app", 1, &[(CloseWait, 1_000)])
        },
        8_080,
    );
    for (pool, kind, remedy) in [
        (churn, Kind::Churn, "reuse"),
        (leak, Kind::Leak, "close"),
        (close_wait, Kind::CloseWait, "close"),
    ] {
        let verdicts = verdicts(&[pool], &[], &namespace("/run/netns/demo"));
        assert_eq!(first(&verdicts), (kind, "app".to_owned(), remedy));
        assert_eq!(verdicts.len(), 1, "{kind:?}: a wider range is no verdict");
    }
}

#[test]
fn the_demo_that_binds_its_thousand_ports_gets_one_verdict() {
    // Eight destinations share 1,000 ports; what a pool has bound itself is not blocked for it.
    let pools: Vec<Pool> = (0..8)
        .map(|index| Pool {
            capacity: Some(Capacity {
                range: (40_000, 40_999),
                reserved: 0,
                blocked: 875,
            }),
            forecast: Some(Forecast {
                made_ns: NOW_NS,
                dry_in_s: Some(0.0),
                settles_at: None,
            }),
            ..failing(
                6_379 + index,
                &[Holder {
                    bound: 125,
                    opened: 125,
                    ..holder("binding-app", 1, &[(Established, 125)])
                }],
                &[],
            )
        })
        .collect();
    let elsewhere = [bind([10, 0, 0, 1], ("binding-app", 1), EXHAUSTED_BIND, 50)];
    let verdicts = verdicts(&pools, &elsewhere, &namespace("/run/netns/demo"));
    assert_eq!(
        first(&verdicts),
        (Kind::Bound, "binding-app".to_owned(), "no_port")
    );
    assert_eq!(verdicts.len(), 1);
    assert_eq!(
        (verdicts[0].level.used, verdicts[0].level.capacity),
        (1_000, 1_000)
    );
}

#[test]
fn the_demo_of_one_pinned_port_collides() {
    let pinned = Holder {
        bound: 1,
        opened: 1,
        ..holder("pinned-app", 1, &[(Established, 1)])
    };
    let failure = failed("pinned-app", 1, (99, Cause::TupleInUse), 50);
    let pool = small((40_000, 40_999), failing(9_042, &[pinned], &[failure]));
    let verdicts = verdicts(&[pool], &[], &namespace("/run/netns/demo"));
    assert_eq!(
        first(&verdicts),
        (Kind::Collision, "pinned-app".to_owned(), "source_port")
    );
    assert_eq!(verdicts.len(), 1);
}

#[test]
fn a_modest_churn_in_a_small_range_is_a_churn_that_says_so() {
    let pool = small(
        (40_000, 40_999),
        failing(
            5_432,
            &[churning("app", 1, &[(TimeWait, 1_000)], 1_500, 16.0)],
            &[failed("app", 1, EXHAUSTED, 50)],
        ),
    );
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(first(&verdicts), (Kind::Churn, "app".to_owned(), "reuse"));
    assert_eq!(verdicts.len(), 1);
    let narrow = "The pool has only 1,000 ports; the kernel's default range has 28,232, for 470/s.";
    assert!(verdicts[0].evidence.iter().any(|fact| fact == narrow));
}
