/*! Dumps that run while connections come and go: whatever they have of them, the books end up right. */

use proptest::prelude::{ProptestConfig, Strategy, any};
use proptest::{collection, proptest};

use super::scene::{ALL, MS, SECOND, START, WATCH, dump, event, ledger, listed, namespace, tell};
use crate::ledger::{Feed, Ledger};
use crate::model::{Dump, Event, Kind, Pool, States, TcpState};

const DPORT: u16 = 80;

/// What times are made of.
const STEP: u64 = MS / 10;

/// A connection: opened, closed by us, its TIME_WAIT over; all in ns after [`START`].
#[derive(Clone, Copy, Debug)]
struct Life {
    tgid: u32,
    sport: u16,
    opened: u64,
    closed: u64,
    over: u64,
    /// When a list passes it by, from 0 to 1 of the time that the list takes.
    passed: f64,
}

impl Life {
    fn events(self) -> [Event; 4] {
        let one = |kind, after: u64| {
            let mut event = event(kind, START + after, self.tgid, self.sport, DPORT);
            event.duration_ns = (kind != Kind::Opened).then_some(after - self.opened);
            event
        };
        [
            one(Kind::Opened, self.opened),
            one(Kind::Closed, self.closed),
            one(Kind::TimeWait, self.closed),
            one(Kind::TimeWaitEnd, self.over),
        ]
    }

    /// When a list that ran from `began` to `ended` passes it by.
    fn passed(self, began: u64, ended: u64) -> u64 {
        began + ((ended - began) as f64 * self.passed) as u64
    }

    /// What it is in after this time.
    fn state(self, at: u64) -> Option<TcpState> {
        if at < self.opened || at >= self.over {
            None
        } else if at < self.closed {
            Some(TcpState::Established)
        } else {
            Some(TcpState::TimeWait)
        }
    }
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let life = (1..4_u32, 10..600_u64, 0..200_u64, 0..400_u64, 0.0..1.0_f64);
    collection::vec(life, 1..80).prop_map(|lives| {
        lives
            .into_iter()
            .zip(0..)
            .map(|((tgid, opened, lived, waited, passed), number)| {
                // No two things happen at one time, nor when a list begins or ends.
                let at = |step: u64, nth: u64| step * STEP + 10 + 3 * u64::from(number) + nth;
                Life {
                    tgid,
                    sport: 32_000 + number,
                    opened: at(opened, 0),
                    closed: at(opened + lived, 1),
                    over: at(opened + lived + waited, 2),
                    passed,
                }
            })
            .collect()
    })
}

/// What a list that ran from `began` to `ended` has of them.
fn list(lives: &[Life], began: u64, ended: u64) -> Dump {
    let sockets = lives.iter().filter_map(|life| {
        let state = life.state(life.passed(began, ended))?;
        let owner = (state == TcpState::Established).then_some(life.tgid);
        Some(listed(state, owner, life.sport, DPORT))
    });
    Dump {
        began_ns: START + began,
        ended_ns: START + ended,
        namespace: namespace(),
        sockets: sockets.collect(),
    }
}

/// What is held at a time.
fn truth(lives: &[Life], at: u64) -> States {
    let mut states = States::default();
    for state in lives.iter().filter_map(|life| life.state(at)) {
        *states.get_mut(state).unwrap() += 1;
    }
    states
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A failure prints what it shrank to: that is the next test to write.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_books_are_right_whenever_a_list_is_booked(
        lives in lives(),
        times in (10..600_u64, 0..400_u64, 0..400_u64),
        first in any::<bool>(),
    ) {
        let (ledger, after, [began, ended, booked]) = booked(ALL, &lives, times, first, |_| true);
        let highest = lives
            .iter()
            .flat_map(|life| [life.opened, life.closed])
            .map(|at| truth(&lives, at).total())
            .max()
            .unwrap();
        if let Some(pool) = only(&ledger) {
            assert_eq!(pool.states, truth(&lives, booked), "{began} to {ended}");
            assert_eq!(pool.drift, 0);
        }
        let pool = only(&folded(ledger, &after)).unwrap();
        assert_eq!(pool.used(), 0, "{pool:?}");
        assert_eq!(pool.peak.0, highest);
    }

    #[test]
    fn births_alone_take_from_what_was_listed_open(
        lives in lives(),
        times in (10..600_u64, 0..400_u64, 0..400_u64),
        first in any::<bool>(),
    ) {
        let told = |event: &Event| matches!(event.kind, Kind::TimeWait | Kind::TimeWaitEnd);
        let (ledger, after, [began, ended, booked]) = booked(WATCH, &lives, times, first, told);
        let listed_open = lives.iter().filter(|life| {
            life.state(life.passed(began, ended)) == Some(TcpState::Established)
                && life.state(booked) == Some(TcpState::Established)
        });
        let listed_open = listed_open.count() as u64;
        if let Some(pool) = only(&ledger) {
            let wait = TcpState::TimeWait;
            assert_eq!(pool.states.get(wait), truth(&lives, booked).get(wait));
            assert_eq!(pool.states.get(TcpState::Established), listed_open);
            assert_eq!(pool.drift, 0);
        }
        if let Some(pool) = only(&folded(ledger, &after)) {
            assert_eq!(pool.used(), 0, "{pool:?}");
        }
    }
}

/// The books at the moment a list is booked, the events to come, and when the list began, ended
/// and was booked.
fn booked(
    feed: Feed,
    lives: &[Life],
    (began, took, later): (u64, u64, u64),
    first: bool,
    told: impl Fn(&Event) -> bool,
) -> (Ledger, Vec<Event>, [u64; 3]) {
    let times @ [began, ended, booked] =
        [began, began + took, began + took + later].map(|steps| steps * STEP);
    let mut events: Vec<Event> = lives.iter().flat_map(|life| life.events()).collect();
    events.retain(told);
    events.sort_by_key(|event| event.ts_ns);
    let mut ledger = ledger(feed);
    if !first {
        // So that this is not the namespace's first.
        ledger.dump(&dump(START, Vec::new()));
    }
    let (before, after): (Vec<_>, Vec<_>) = events
        .into_iter()
        .partition(|event| event.ts_ns <= START + booked);
    let mut ledger = folded(ledger, &before);
    ledger.dump(&list(lives, began, ended));
    (ledger, after, times)
}

fn folded(mut ledger: Ledger, events: &[Event]) -> Ledger {
    for event in events {
        tell(&mut ledger, event);
    }
    ledger
}

fn only(ledger: &Ledger) -> Option<Pool> {
    ledger.pools(START + SECOND).pop()
}
