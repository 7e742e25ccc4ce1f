/*! Incidents of programs that choose their source port, or let bind() choose it. */

use super::build::{
    DEFAULT, EXHAUSTED, EXHAUSTED_BIND, bind, churning, failed, failing, holder, namespace,
};
use super::{first, verdicts};
use crate::diagnosis::Kind;
use crate::model::TcpState::{Established, TimeWait};
use crate::model::{Capacity, Cause, Holder, Pool};

#[test]
fn case_2_bind_finds_no_port_and_the_remedy_is_not_more_destinations() {
    // bind(ip, 0) before connect() to ten endpoints (7: Envoy, shadowsocks; 2: Bluesky).
    let pools: Vec<Pool> = (0..10)
        .map(|index| Pool {
            capacity: Some(Capacity {
                range: DEFAULT,
                reserved: 0,
                blocked: 25_409,
            }),
            ..failing(
                8_000 + index,
                &[Holder {
                    bound: 2_823,
                    ..churning("envoy", 1, &[(TimeWait, 2_823)], 2_823, 40.0)
                }],
                &[],
            )
        })
        .collect();
    let elsewhere = [bind([10, 0, 0, 1], ("envoy", 1), EXHAUSTED_BIND, 77)];
    let verdicts = verdicts(&pools, &elsewhere, &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::Bound, "envoy".to_owned(), "no_port")
    );
    assert_eq!(verdicts.len(), 1, "ten pools, one cause");
    let bound = &verdicts[0];
    assert_eq!(bound.culprits[0].states.total(), 28_230);
    assert_eq!(bound.level.used, 28_232);
    assert_eq!(bound.level.capacity, 28_232);
    assert_eq!(bound.victims[0].count, 77);
    assert!(
        bound
            .remedies
            .iter()
            .all(|one| one.name != "more_destinations")
    );
}

#[test]
fn who_cannot_bind_is_named_though_it_holds_nothing() {
    let elsewhere = [bind([127, 0, 0, 6], ("envoy", 5), EXHAUSTED_BIND, 9)];
    let verdicts = verdicts(&[], &elsewhere, &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::Bound, "envoy".to_owned(), "no_port")
    );
}

#[test]
fn a_pool_that_starves_on_others_bound_ports_names_those() {
    let eaten = Some(Capacity {
        range: (40_000, 40_999),
        reserved: 0,
        blocked: 1_000,
    });
    let binder = Pool {
        capacity: eaten,
        ..failing(
            80,
            &[Holder {
                bound: 1_000,
                opened: 1_000,
                ..holder("proxy", 1, &[(Established, 1_000)])
            }],
            &[],
        )
    };
    let victim = Pool {
        capacity: eaten,
        ..failing(
            5_432,
            &[holder("app", 2, &[])],
            &[failed("app", 2, EXHAUSTED, 5)],
        )
    };
    let verdicts = verdicts(&[victim, binder], &[], &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::Bound, "proxy".to_owned(), "no_port")
    );
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].victims[0].process.tgid, 2);
}

#[test]
fn case_3_a_proxy_with_its_clients_port_collides_on_an_empty_pool() {
    let holders = [
        holder("app", 1, &[(Established, 1_900)]),
        Holder {
            bound: 60,
            ..holder("wrk:worker_3", 2, &[(Established, 60)])
        },
    ];
    let collided = failed("wrk:worker_3", 2, (99, Cause::TupleInUse), 37);
    let verdicts = verdicts(
        &[failing(8_080, &holders, &[collided])],
        &[],
        &namespace("host"),
    );
    assert_eq!(
        first(&verdicts),
        (Kind::Collision, "wrk:worker_3".to_owned(), "source_port")
    );
    assert_eq!(verdicts.len(), 1);
}

#[test]
fn who_collides_is_named_though_it_holds_nothing() {
    let failure = failed("proxy", 7, (99, Cause::TupleInUse), 3);
    let pool = failing(80, &[], &[failure]);
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::Collision, "proxy".to_owned(), "source_port")
    );
}
