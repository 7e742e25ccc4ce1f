/*! Samples, their spans and bounds, on pools made up by hand. */

use std::net::IpAddr;

use super::{History, MOST, Sample, Series};
use crate::model::{Capacity, Cause, Ends, Failed, Pool, PoolId, Process, Rates, States, TcpState};

mod properties;
mod room;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = SECOND / 1_000;
const DAY_S: u64 = 86_400;

/// Where the tests begin: the border of a minute.
const START: u64 = 6_000 * SECOND;

/// A pool of 1,000 ports that did nothing yet.
fn pool(dport: u16) -> Pool {
    Pool {
        id: PoolId {
            netns: 7,
            src: IpAddr::from([10, 0, 0, 1]),
            dst: IpAddr::from([10, 0, 0, 2]),
            dport,
        },
        capacity: Some(Capacity {
            range: (40_000, 40_999),
            ..Capacity::default()
        }),
        states: States::default(),
        peak: (0, 0),
        holders: Vec::new(),
        failures: Vec::new(),
        open_rate: Rates::default(),
        opened: 0,
        searched: (0, 0),
        high: (0, 0),
        net_rate: 0.0,
        ends: Ends::default(),
        lifetime_ns: None,
        search_ns: None,
        drift: 0,
        forecast: None,
        foretold: None,
    }
}

/// The same with so many ports in TIME_WAIT.
fn holding(dport: u16, ports: u64) -> Pool {
    let mut pool = pool(dport);
    *pool.states.get_mut(TcpState::TimeWait).unwrap() = ports;
    pool
}

fn failed(cause: Cause, count: u64, first_ns: u64, last_ns: u64) -> Failed {
    Failed {
        process: Process::nobody(),
        errno: None,
        cause,
        bind: false,
        count,
        first_ns,
        last_ns,
    }
}

/// The same as [`holding`], and one failure at `at_ns`.
fn failing(dport: u16, ports: u64, at_ns: u64) -> Pool {
    let mut pool = holding(dport, ports);
    pool.failures = vec![failed(Cause::PortsExhausted, 1, at_ns, at_ns)];
    pool
}

fn series(history: &History, dport: u16) -> &Series {
    history.of(&pool(dport).id).unwrap()
}

fn seconds(history: &History, dport: u16) -> Vec<Sample> {
    series(history, dport).seconds().copied().collect()
}

fn times<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<u64> {
    samples.map(|sample| sample.at_s).collect()
}

#[test]
fn two_looks_within_a_second_are_one_sample() {
    let mut history = History::default();
    let mut one = holding(80, 100);
    history.record(START, std::slice::from_ref(&one));

    one.opened = 50;
    one.high = (150, 20);
    one.searched = (9_000, 3);
    one.ends.local = 4;
    one.failures = vec![failed(Cause::Refused, 2, START, START)];
    history.record(START + SECOND + 100 * MS, &[one.clone()]);

    one.opened = 60;
    one.high = (120, 30);
    one.searched = (9_500, 4);
    one.ends = Ends {
        local: 5,
        peer: 6,
        reset: 7,
    };
    one.failures.push(failed(Cause::NoRoute, 8, START, START));
    *one.states.get_mut(TcpState::TimeWait).unwrap() = 90;
    *one.states.get_mut(TcpState::Established).unwrap() = 5;
    history.record(START + SECOND + 900 * MS, &[one]);

    let samples = seconds(&history, 80);
    assert_eq!(samples.len(), 2);
    let sample = samples[1];
    assert_eq!(sample.at_s, 6_001);
    assert_eq!(sample.states.get(TcpState::TimeWait), 90);
    assert_eq!(sample.states.get(TcpState::Established), 5);
    assert_eq!(sample.states.get(TcpState::Listen), 0);
    assert_eq!(sample.states.total(), 95);
    assert_eq!((sample.peak, sample.open_peak), (150, 30));
    assert_eq!(sample.opened, 60);
    assert_eq!((sample.search_ns, sample.searches), (9_500, 4));
    let closed = sample.closed;
    assert_eq!((closed.local, closed.peer, closed.reset), (5, 6, 7));
    let failures: Vec<_> = sample.failures().filter(|one| one.1 > 0).collect();
    assert_eq!(failures, [(Cause::NoRoute, 8), (Cause::Refused, 2)]);
    assert_eq!(sample.failed(Cause::Refused), 2);
}

#[test]
fn at_first_sight_only_failures_count() {
    let mut history = History::default();
    history.record(START, &[holding(80, 10)]);
    assert_eq!(history.pools().count(), 0, "62 ports are no sixteenth");

    let mut one = holding(80, 63);
    one.opened = 5_000;
    one.ends.local = 4_000;
    one.searched = (1_000_000, 900);
    one.high = (64, 12);
    let at = START + SECOND;
    one.failures = vec![failed(Cause::TimedOut, 3, at - 5 * MS, at)];
    history.record(at, &[one.clone()]);
    one.opened += 1;
    history.record(at + SECOND, &[one]);

    let samples = seconds(&history, 80);
    let first = samples[0];
    assert_eq!(
        (first.opened, first.closed.local, first.searches),
        (0, 0, 0)
    );
    assert_eq!(first.search_ns, 0);
    assert_eq!((first.peak, first.open_peak), (64, 12));
    assert_eq!(first.failed(Cause::TimedOut), 3);
    assert_eq!(samples[1].opened, 1);
    assert_eq!(samples[1].failed(Cause::TimedOut), 0);
}

#[test]
fn a_failure_that_was_told_late_counts() {
    let mut history = History::default();
    history.record(START, &[]);
    let at = START - 900 * MS;
    history.record(START + SECOND, &[failing(80, 1, at)]);
    assert_eq!(seconds(&history, 80)[0].failed(Cause::PortsExhausted), 1);
}

#[test]
fn a_pool_matters_by_its_level_its_peak_or_a_failure() {
    let mut history = History::default();
    let mut brief = pool(81);
    brief.high = (63, 63);
    let mut unknown = holding(82, 900);
    unknown.capacity = None;
    let mut nowhere = failing(83, 0, START);
    nowhere.capacity = None;
    let pools = [holding(79, 62), holding(80, 63), brief, unknown, nowhere];
    history.record(START, &pools);
    let kept: Vec<_> = history.pools().map(|(id, _)| id.dport).collect();
    assert_eq!(kept, [80, 81, 83]);
}

#[test]
fn a_pause_leaves_a_gap_and_loses_nothing() {
    let mut history = History::default();
    let mut one = holding(80, 100);
    history.record(START, std::slice::from_ref(&one));
    one.opened = 70;
    history.record(START + 95 * SECOND, &[one]);
    let kept = series(&history, 80);
    assert_eq!(times(kept.seconds()), [6_000, 6_095]);
    assert_eq!(times(kept.tens()), [6_000, 6_090]);
    assert_eq!(times(kept.minutes()), [6_000, 6_060]);
    assert_eq!(kept.seconds().next_back().unwrap().opened, 70);
}

#[test]
fn time_that_goes_backwards_is_ignored() {
    let mut history = History::default();
    let mut one = holding(80, 100);
    history.record(START, std::slice::from_ref(&one));
    let before = history.clone();
    one.opened = 5;
    history.record(START - 1, &[one.clone()]);
    assert_eq!(history, before);
    history.record(START - SECOND, &[]);
    assert_eq!(history, before);
    history.record(START + SECOND, &[one]);
    assert_eq!(seconds(&history, 80)[1].opened, 5);
}

#[test]
fn spans_begin_at_whole_tens_and_minutes() {
    let mut history = History::default();
    let mut one = holding(80, 100);
    for second in 0..=120 {
        one.opened += second;
        history.record(START + second * SECOND + 999 * MS, &[one.clone()]);
    }
    let kept = series(&history, 80);
    let opened =
        |samples: &[Sample]| -> Vec<u32> { samples.iter().map(|sample| sample.opened).collect() };
    let tens: Vec<_> = kept.tens().copied().collect();
    assert_eq!(tens.len(), 13);
    assert_eq!(times(tens.iter())[..3], [6_000, 6_010, 6_020]);
    assert_eq!(opened(&tens)[..3], [45, 145, 245]);
    let minutes: Vec<_> = kept.minutes().copied().collect();
    assert_eq!(times(minutes.iter()), [6_000, 6_060, 6_120]);
    assert_eq!(opened(&minutes), [1_770, 5_370, 120]);
}

#[test]
fn peaks_between_looks_are_in_all_three() {
    let mut history = History::default();
    let mut one = holding(80, 100);
    for second in 0..180 {
        one.high = if second == 75 { (990, 400) } else { (101, 1) };
        history.record(START + second * SECOND, &[one.clone()]);
    }
    let kept = series(&history, 80);
    let peak = |samples: &mut dyn Iterator<Item = &Sample>| -> Vec<(u64, u32)> {
        let high = samples.filter(|sample| sample.peak == 990);
        high.map(|sample| (sample.at_s, sample.open_peak)).collect()
    };
    assert_eq!(peak(&mut kept.seconds()), [(6_075, 400)]);
    assert_eq!(peak(&mut kept.tens()), [(6_070, 400)]);
    assert_eq!(peak(&mut kept.minutes()), [(6_060, 400)]);
}

#[test]
fn a_counter_that_went_down_began_anew() {
    let mut history = History::default();
    let mut one = holding(80, 100);
    one.opened = 1_000;
    one.ends.peer = 500;
    one.searched = (70_000, 10);
    one.failures = vec![
        failed(Cause::Refused, 40, START, START),
        failed(Cause::Reset, 9, START, START),
    ];
    history.record(START, std::slice::from_ref(&one));
    one.opened = 8;
    one.ends.peer = 3;
    // The sum is more than before, of fewer searches: those before are not in it.
    one.searched = (90_000, 2);
    one.failures = vec![failed(Cause::Refused, 4, START, START)];
    history.record(START + SECOND, &[one.clone()]);
    one.failures.push(failed(Cause::Reset, 2, START, START));
    history.record(START + 2 * SECOND, &[one]);

    let samples = seconds(&history, 80);
    assert_eq!((samples[1].opened, samples[1].closed.peer), (8, 3));
    assert_eq!((samples[1].search_ns, samples[1].searches), (90_000, 2));
    assert_eq!(samples[1].failed(Cause::Refused), 4);
    assert_eq!(samples[1].failed(Cause::Reset), 0);
    assert_eq!(samples[2].failed(Cause::Reset), 2);
    assert_eq!((samples[2].opened, samples[2].searches), (0, 0));
}

#[test]
fn a_pool_that_is_gone_holds_nothing_and_comes_back_from_zero() {
    let mut history = History::default();
    let mut one = holding(80, 100);
    one.opened = 10;
    history.record(START, std::slice::from_ref(&one));
    history.record(START + SECOND, &[]);
    history.record(START + 2 * SECOND, &[]);
    // More than before its row went, so that the counter alone does not tell.
    one.opened = 30;
    history.record(START + 3 * SECOND, &[one]);
    let samples = seconds(&history, 80);
    assert_eq!(times(samples.iter()), [6_000, 6_001, 6_003]);
    assert_eq!((samples[1].states.total(), samples[1].peak), (0, 0));
    assert_eq!((samples[2].states.total(), samples[2].opened), (100, 30));
}

#[test]
fn counts_too_large_stay_at_the_highest() {
    let mut history = History::default();
    let mut one = holding(80, 5_000_000_000);
    history.record(START, std::slice::from_ref(&one));
    one.opened = u64::MAX;
    one.searched = (u64::MAX, u64::MAX);
    let most = failed(Cause::Other, u64::MAX, START, START);
    one.failures = vec![most.clone(), most];
    history.record(START + SECOND, &[one]);
    let minute = *series(&history, 80).minutes().next().unwrap();
    assert_eq!(minute.opened, u32::MAX);
    assert_eq!(minute.failed(Cause::Other), u32::MAX);
    assert_eq!((minute.search_ns, minute.searches), (u64::MAX, u32::MAX));
    assert_eq!(minute.peak, u32::MAX);
}

#[test]
fn more_than_a_day_is_kept_within_its_bounds() {
    let mut history = History::default();
    let mut one = holding(80, 100);
    let last = DAY_S + 2 * 3_600;
    for second in 0..=last {
        one.opened += 1;
        history.record(START + second * SECOND, std::slice::from_ref(&one));
    }
    let now_s = START / SECOND + last;
    let kept = series(&history, 80);
    assert_eq!(kept.seconds().len(), 600);
    assert_eq!(kept.seconds().next().unwrap().at_s, now_s - 599);
    assert_eq!(kept.tens().len(), 720);
    assert_eq!(kept.tens().next().unwrap().at_s, now_s - 7_190);
    assert_eq!(kept.minutes().len(), 1_440);
    assert_eq!(kept.minutes().next().unwrap().at_s, now_s - 86_340);
    assert!(kept.minutes().rev().skip(1).all(|one| one.opened == 60));
}

#[test]
fn few_samples_grow_old_all_the_same() {
    let mut history = History::default();
    let one = [holding(80, 100), holding(81, 100)];
    history.record(START, &one);
    history.record(START + 599 * SECOND, &one[..1]);
    assert_eq!(seconds(&history, 80).len(), 2);
    history.record(START + 600 * SECOND, &one[..1]);
    assert_eq!(times(series(&history, 80).seconds()), [6_599, 6_600]);
    // Of a pool that is gone too: its last sample says that it is.
    history.record(START + 1_199 * SECOND, &one[..1]);
    assert_eq!(seconds(&history, 81).len(), 0);
    assert_eq!(series(&history, 81).tens().len(), 2);

    history.record(START + (540 + DAY_S - 1) * SECOND, &one[..1]);
    assert_eq!(times(series(&history, 81).minutes()), [6_540]);
    history.record(START + (540 + DAY_S) * SECOND, &one[..1]);
    assert!(history.of(&one[1].id).is_none(), "a day calm");
    assert_eq!((history.evicted(), history.refused()), (0, 0));
    assert_eq!(series(&history, 80).tens().len(), 2);
}
