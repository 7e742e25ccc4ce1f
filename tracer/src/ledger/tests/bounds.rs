/*! Failures, and what is kept together where there is too much of it. */

use std::net::IpAddr;

use super::super::{Ledger, Limits};
use super::scene::{
    ALL, MS, NETNS, SECOND, START, WATCH, anywhere, dump, event, ledger, listed, namespace, pool,
    pool_id, tell,
};
use crate::model::sample::foreign_bind;
use crate::model::{Cause, Failure, Kind, Pool, Process, TcpState};

#[test]
fn failures_are_exact_and_bounded() {
    let mut limits = Limits::new(WATCH);
    limits.failures = 2;
    let mut ledger = Ledger::new(limits);
    let mut fail = |tgid, count| {
        let first = event(Kind::ConnectFailed, START, tgid, 0, 80);
        let failure = Failure {
            count,
            ..Failure::single(first)
        };
        ledger.failure(&failure);
    };
    fail(1, 3);
    fail(1, 4);
    fail(2, 1);
    fail(3, 10);
    let mut sample = event(Kind::ConnectFailed, START, 1, 0, 80);
    sample.sample = true;
    tell(&mut ledger, &sample);
    let mut bind = foreign_bind();
    bind.tuple.netns = NETNS;
    tell(&mut ledger, &bind);
    let pools = pool(&ledger, START, 80);
    let counts: Vec<_> = pools
        .failures
        .iter()
        .map(|one| (one.process.tgid, one.count))
        .collect();
    assert_eq!(counts, [(0, 10), (1, 7), (2, 1)]);
    assert_eq!(pools.failures[0].process, Process::others());
    let elsewhere = ledger.elsewhere();
    assert_eq!(elsewhere.len(), 1);
    assert!(elsewhere[0].failed.bind && elsewhere[0].src == anywhere());
    assert_eq!(ledger.evicted().failures, 11);
}

#[test]
fn a_failed_search_of_unknown_source_is_in_the_fullest_pool_there() {
    let mut ledger = ledger(ALL);
    tell(&mut ledger, &event(Kind::Opened, START, 1, 32_000, 80));
    let mut other = event(Kind::Opened, START, 1, 32_001, 80);
    other.tuple.src = "192.0.2.77".parse().unwrap();
    for sport in [32_001, 32_002] {
        other.tuple.sport = sport;
        tell(&mut ledger, &other);
    }
    tell(&mut ledger, &event(Kind::Opened, START, 1, 32_000, 81));
    let mut fail = |cause, dport| {
        let mut failed = event(Kind::ConnectFailed, START, 2, 0, dport);
        (failed.tuple.src, failed.cause) = (anywhere(), Some(cause));
        tell(&mut ledger, &failed);
    };
    fail(Cause::PortsExhausted, 80);
    fail(Cause::TupleInUse, 80);
    // There is no source where there is no route.
    fail(Cause::NoRoute, 80);
    fail(Cause::PortsExhausted, 90);
    let pools = ledger.pools(START);
    let failed = |src: IpAddr, dport| {
        let is_it = |pool: &&Pool| (pool.id.src, pool.id.dport) == (src, dport);
        let pool = pools.iter().find(is_it);
        pool.map(|pool| pool.failures.iter().map(|one| one.count).sum::<u64>())
    };
    assert_eq!(failed(other.tuple.src, 80), Some(2));
    assert_eq!(failed(pool_id(80).src, 80), Some(0));
    assert_eq!(failed(anywhere(), 80), Some(1));
    assert_eq!(failed(anywhere(), 90), Some(1));
}

#[test]
fn pools_and_owners_beyond_the_limit_share_a_row() {
    let mut limits = Limits::new(ALL);
    (limits.pools, limits.owners) = (4, 3);
    let mut ledger = Ledger::new(limits);
    for tgid in 1..=5 {
        tell(&mut ledger, &event(Kind::Opened, START, tgid, 32_000, 80));
    }
    for dport in 81..=90 {
        tell(&mut ledger, &event(Kind::Opened, START, 1, 32_000, dport));
    }
    assert_eq!(ledger.used_total(), 15);
    let pools = ledger.pools(START);
    assert_eq!(pools.len(), 5);
    let others = pools.iter().find(|pool| pool.id.is_beyond()).unwrap();
    assert_eq!((others.used(), others.capacity), (7, None));
    assert_eq!(pool(&ledger, START, 80).holders.len(), 4);
    assert_eq!((ledger.evicted().pools, ledger.evicted().owners), (7, 2));
    // They leave from where they were counted.
    for dport in 81..=90 {
        tell(
            &mut ledger,
            &event(Kind::Closed, START + MS, 1, 32_000, dport),
        );
    }
    for tgid in 1..=5 {
        tell(
            &mut ledger,
            &event(Kind::Closed, START + MS, tgid, 32_000, 80),
        );
    }
    assert_eq!(ledger.used_total(), 0);
    // And the idle make room.
    ledger.advance(START + 100 * SECOND);
    assert!(ledger.pools(START).is_empty());
}

#[test]
fn a_namespace_that_is_gone_takes_all_along() {
    let mut ledger = ledger(WATCH);
    ledger.dump(&dump(
        START,
        vec![listed(TcpState::TimeWait, None, 32_000, 80)],
    ));
    assert_eq!(ledger.namespace(NETNS), Some(&namespace()));
    ledger.forget(NETNS);
    assert_eq!((ledger.used_total(), ledger.namespace(NETNS)), (0, None));
    assert!(ledger.pools(START).is_empty());
}
