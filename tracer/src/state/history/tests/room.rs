/*! Who has a series when there are more pools than room. */

use super::{DAY_S, History, MOST, SECOND, START, failed, failing, holding, seconds};
use crate::model::{Cause, Pool};

/// As many pools as there is room for, from port 1 on; each holds more than the one before.
fn full_house() -> Vec<Pool> {
    (1..=MOST as u16)
        .map(|dport| holding(dport, 100 + u64::from(dport)))
        .collect()
}

fn kept(history: &History) -> Vec<u16> {
    history.pools().map(|(id, _)| id.dport).collect()
}

fn has(history: &History, dport: u16) -> bool {
    kept(history).contains(&dport)
}

#[test]
fn the_least_full_goes_first() {
    let mut pools = full_house();
    let mut history = History::default();
    history.record(START, &pools);
    assert_eq!(kept(&history).len(), MOST);
    pools.push(holding(100, 102));
    history.record(START + SECOND, &pools);
    assert!(!has(&history, 1) && has(&history, 100));
    assert_eq!((history.evicted(), history.refused()), (1, 0));
    history.record(START + 2 * SECOND, &pools);
    assert_eq!((history.evicted(), history.refused()), (1, 1));
}

#[test]
fn who_has_no_more_right_is_refused() {
    let mut pools = full_house();
    let mut history = History::default();
    history.record(START, &pools);
    pools.extend([holding(100, 101), holding(101, 90), holding(102, 3)]);
    for second in 1..5 {
        history.record(START + second * SECOND, &pools);
        assert!(has(&history, 1));
        assert_eq!((history.evicted(), history.refused()), (0, 2));
    }
    pools.truncate(MOST);
    history.record(START + 5 * SECOND, &pools);
    assert_eq!(history.refused(), 0);
}

#[test]
fn who_failed_stays_before_who_is_full() {
    let mut pools = full_house();
    pools[0] = failing(1, 0, START);
    let mut history = History::default();
    history.record(START, &pools);
    let full = holding(100, 1_000);
    history.record(START + SECOND, &[&pools[..], &[full]].concat());
    assert!(has(&history, 1) && !has(&history, 2) && has(&history, 100));
    let failing = failing(101, 0, START + SECOND);
    pools.remove(1);
    history.record(START + 2 * SECOND, &[&pools[..], &[failing]].concat());
    assert!(has(&history, 1) && has(&history, 101));
    // Port 100 is gone, but for less than ten minutes.
    assert!(!has(&history, 3) && has(&history, 100));
    assert_eq!(history.evicted(), 2);
}

#[test]
fn who_is_calm_goes_before_who_is_less_full() {
    let mut pools = full_house();
    let mut history = History::default();
    history.record(START, &pools);
    pools[40] = holding(41, 0);
    pools[50] = holding(51, 0);
    history.record(START + SECOND, &pools);
    pools[40] = holding(41, 1);
    history.record(START + 2 * SECOND, &pools);
    pools[40] = holding(41, 0);
    pools.push(holding(100, 70));
    history.record(START + 599 * SECOND, &pools);
    assert!(!has(&history, 100), "ten minutes are not over");
    history.record(START + 700 * SECOND, &pools);
    assert!(!has(&history, 41) && has(&history, 51) && has(&history, 100));
}

#[test]
fn of_the_calm_the_longest_calm_goes() {
    let mut pools: Vec<_> = (1..=MOST as u16).map(|dport| holding(dport, 100)).collect();
    let mut history = History::default();
    for (second, calm) in (0..).zip([20, 60, 40]) {
        history.record(START + second * SECOND, &pools);
        pools[usize::from(calm) - 1] = holding(calm, 0);
    }
    pools.push(holding(100, 300));
    history.record(START + 1_000 * SECOND, &pools);
    assert!(!has(&history, 20) && has(&history, 40) && has(&history, 60));
}

#[test]
fn a_failure_outlives_its_row() {
    let mut pools = full_house();
    let mut history = History::default();
    history.record(START, &pools);
    pools[0] = failing(1, 0, START + SECOND);
    history.record(START + SECOND, &pools);
    pools[0] = holding(1, 0);
    history.record(START + 2 * SECOND, &pools);
    pools.push(holding(100, 900));
    history.record(START + 3 * SECOND, &pools);
    assert!(has(&history, 1) && !has(&history, 2) && has(&history, 100));
}

#[test]
fn after_a_day_a_level_is_forgotten() {
    for is_gone in [false, true] {
        let mut pools = full_house();
        pools[0] = holding(1, 1_000);
        let mut history = History::default();
        history.record(START, &pools);
        pools[0] = holding(1, 5);
        history.record(START + (DAY_S - 400) * SECOND, &pools);
        let newcomer = holding(100, 101);
        let look = if is_gone { &pools[1..] } else { &pools };
        let look = [look, std::slice::from_ref(&newcomer)].concat();
        history.record(START + (DAY_S - 1) * SECOND, &look);
        assert!(has(&history, 1) && !has(&history, 100));
        history.record(START + DAY_S * SECOND, &look);
        assert!(!has(&history, 1) && has(&history, 100));
    }
}

#[test]
fn after_a_day_the_present_level_counts() {
    let mut pools = full_house();
    pools[0] = holding(1, 1_000);
    let mut history = History::default();
    history.record(START, &pools);
    pools[0] = holding(1, 500);
    history.record(START + SECOND, &pools);
    pools.push(holding(100, 400));
    history.record(START + DAY_S * SECOND, &pools);
    assert!(has(&history, 1) && !has(&history, 2) && has(&history, 100));
}

#[test]
fn of_equals_the_last_pool_goes() {
    let mut pools: Vec<_> = (1..=MOST as u16).map(|dport| holding(dport, 100)).collect();
    let mut history = History::default();
    history.record(START, &pools);
    pools.extend([holding(200, 300), holding(201, 300)]);
    history.record(START + SECOND, &pools);
    let last = MOST as u16;
    assert!(has(&history, last - 2) && !has(&history, last - 1) && !has(&history, last));
    assert!(has(&history, 200) && has(&history, 201));
}

#[test]
fn of_too_many_at_once_those_with_most_right_are_taken() {
    let mut pools: Vec<_> = (1..=200).map(|dport| holding(dport, 100)).collect();
    pools[149] = holding(150, 900);
    pools[198] = failing(199, 0, START);
    let mut history = History::default();
    history.record(START, &pools);
    let expected: Vec<u16> = (1..=62).chain([150, 199]).collect();
    assert_eq!(kept(&history), expected);
    assert_eq!((history.evicted(), history.refused()), (0, 136));
}

#[test]
fn who_had_to_go_does_not_come_back_at_once() {
    let mut pools: Vec<_> = (1..=MOST as u16 + 10)
        .map(|dport| failing(dport, 500 + u64::from(dport % 7), START))
        .collect();
    let mut history = History::default();
    // Each has its turn at the highest level, again and again.
    let mut evicted = Vec::new();
    for second in 0..370_u64 {
        let turn = second as usize % pools.len();
        let before = std::mem::replace(&mut pools[turn], failing(turn as u16 + 1, 999, START));
        history.record(START + second * SECOND, &pools);
        pools[turn] = before;
        evicted.push(history.evicted());
    }
    let (first, rest) = evicted.split_at(pools.len());
    assert!(first.last() < Some(&30), "{evicted:?}");
    assert_eq!(rest.first(), rest.last());
    assert_eq!(history.refused(), 10);
}

#[test]
fn failures_that_had_no_room_are_none_of_later() {
    let mut pools: Vec<_> = (1..=MOST as u16)
        .map(|dport| failing(dport, 500, START))
        .collect();
    let mut history = History::default();
    pools.push(failing(100, 100, START));
    history.record(START, &pools);
    assert_eq!(history.refused(), 1);
    history.record(START + 60 * SECOND, &pools);
    let late = &mut pools[MOST];
    *late = holding(100, 600);
    late.failures = vec![
        failed(Cause::PortsExhausted, 70, START, START + 60 * SECOND),
        failed(Cause::Refused, 5, START + 60 * SECOND, START + 60 * SECOND),
    ];
    history.record(START + 61 * SECOND, &pools);
    let first = seconds(&history, 100)[0];
    assert_eq!(first.failed(Cause::PortsExhausted), 0);
    assert_eq!(first.failed(Cause::Refused), 5);
}

#[test]
fn after_a_day_a_failure_is_forgotten() {
    let mut pools = full_house();
    pools[0] = failing(1, 0, START);
    let mut history = History::default();
    history.record(START, &pools);
    pools.push(holding(100, 101));
    history.record(START + (DAY_S - 1) * SECOND, &pools);
    assert!(has(&history, 1) && !has(&history, 100));
    history.record(START + DAY_S * SECOND, &pools);
    assert!(!has(&history, 1) && has(&history, 100));
}
