/*! Expressions, good and bad, and what they let pass. */

use super::{Gate, Metric};
use crate::model::sample::exhausted;
use crate::model::{Capacity, Error, Event, Failure, Pool};
use crate::state::State;
use crate::view::sample::dry_pool;

fn gate(text: &str) -> Gate {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Nothing but a pool of 1,600 ports that was once so full.
fn filled(peak: u64) -> State {
    State {
        pools: vec![Pool {
            capacity: Some(Capacity {
                range: (20_000, 21_599),
                ..Capacity::default()
            }),
            peak: (peak, 0),
            ..dry_pool()
        }],
        ..State::default()
    }
}

fn fail(state: &mut State, errno: Option<u16>, count: u64) {
    let event = Event {
        errno: errno.map(Error),
        ..exhausted()
    };
    state.totals.failure(&Failure {
        count,
        ..Failure::single(event)
    });
}

fn measured() -> State {
    let mut state = filled(1_300);
    fail(&mut state, Some(99), 50);
    fail(&mut state, Some(111), 1);
    state.load.time_wait = 300;
    state.load.open_peak = 12;
    state.load.rate_peak = 450;
    state
}

fn reasons(text: &str, state: &State) -> Vec<String> {
    let reasons = gate(text).check(state);
    reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn each_metric_and_operator() {
    let quiet = State::default();
    for (text, busy, idle) in [
        ("eaddrnotavail>0", true, false),
        ("eaddrnotavail>49", true, false),
        ("eaddrnotavail>50", false, false),
        ("eaddrnotavail>=50", true, false),
        ("eaddrnotavail==50", true, false),
        ("eaddrnotavail<50", false, true),
        ("eaddrnotavail<=50", true, true),
        ("etimedout>0", false, false),
        ("etimedout==0", true, true),
        ("failures>50", true, false),
        ("failures>51", false, false),
        ("utilization>0.8", true, false),
        ("utilization>=0.8125", true, false),
        ("utilization>.9", false, false),
        ("time_wait>=300", true, false),
        ("open>11", true, false),
        ("rate>449.5", true, false),
        ("rate<450", false, true),
        ("lost>0", false, false),
        (" etimedout > 0 , open >= 12 ", true, false),
        ("etimedout>0,open>12", false, false),
    ] {
        assert_eq!(!gate(text).check(&measured()).is_empty(), busy, "{text}");
        assert_eq!(!gate(text).check(&quiet).is_empty(), idle, "{text}");
    }
}

#[test]
fn says_which_condition_and_its_value() {
    assert_eq!(
        reasons("eaddrnotavail>0,utilization>0.8,open>12", &measured()),
        [
            "eaddrnotavail>0 was met: eaddrnotavail is 50",
            "utilization>0.8 was met: utilization is 0.813",
        ]
    );
}

#[test]
fn never_passes_what_was_not_seen() {
    let mut lost = State::default();
    lost.losses.lost.ring_full = 3;
    // Lines that found the output too slow were measured all the same.
    lost.losses.lost.output = 5;
    let said = reasons("eaddrnotavail>0", &lost);
    assert_eq!(said, ["3 events were lost, and a gate never passes unseen"]);
    assert_eq!(reasons("lost>0", &lost), ["lost>0 was met: lost is 3"]);
    // A tolerance for losses is none for what hides in them.
    assert_eq!(reasons("lost>5", &lost).len(), 1);

    let broken = State {
        broken: Some("the ring is gone".into()),
        ..State::default()
    };
    let said = reasons("eaddrnotavail>0", &broken);
    assert!(said[0].ends_with(": the ring is gone"), "{said:?}");

    let mut nowhere = filled(1_600);
    nowhere.pools[0].capacity = None;
    assert_eq!(nowhere.highest_utilization(), None);
    let said = reasons("utilization>0.8", &nowhere);
    assert!(said[0].contains("utilization>0.8"), "{said:?}");

    let mut nameless = State::default();
    fail(&mut nameless, None, 2);
    assert_eq!(reasons("eaddrnotavail>0", &nameless).len(), 1);
    assert_eq!(reasons("failures>2", &nameless).len(), 0);
    assert_eq!(reasons("failures>1", &nameless).len(), 1);
}

#[test]
fn a_bad_expression_names_the_part_and_the_way_out() {
    for (text, part, way) in [
        ("", "missing", "eaddrnotavail>0"),
        ("eaddrnotavail>0,", "missing", "utilization>0.8"),
        (",", "missing", "eaddrnotavail>0"),
        ("eaddrnotavail", "`eaddrnotavail`", ">="),
        ("eaddrnotavail=0", "`eaddrnotavail=0`", "=="),
        ("eaddrnotavial>0", "`eaddrnotavial`", "utilization"),
        ("EADDRNOTAVAIL>0", "`EADDRNOTAVAIL`", "lower case"),
        (">0", "``", "time_wait"),
        ("unknownerrno>0", "`unknownerrno`", "rate"),
        ("open>0,utilisation>0.8", "`utilisation`", "utilization"),
        ("utilization>80%", "`80%`", "0.8"),
        ("open>", "``", "`open>`"),
        ("open>-1", "`-1`", "1000"),
        ("open>nan", "`nan`", "0.8"),
        ("open>inf", "`inf`", "0.8"),
        ("open>1e3", "`1e3`", "1000"),
        ("open>>1", "`>1`", "`open>>1`"),
        ("open=>1", "`open=>1`", ">="),
        ("utilization>80", "utilization>80", "from 0 to 1"),
        ("utilization>1", "utilization>1", "from 0 to 1"),
        ("utilization>=1.1", "utilization>=1.1", "from 0 to 1"),
        ("failures<0", "failures<0", "less than 0"),
    ] {
        let said = text.parse::<Gate>().unwrap_err().to_string();
        assert!(said.contains(part) && said.contains(way), "{text}: {said}");
    }
}

#[test]
fn a_full_pool_can_be_asked_for() {
    let full = filled(1_600);
    for text in ["utilization>=1", "utilization==1"] {
        assert_eq!(reasons(text, &full).len(), 1, "{text}");
    }
}

#[test]
fn every_errno_of_a_connect_is_a_metric() {
    for name in [
        "eaddrnotavail",
        "eaddrinuse",
        "econnrefused",
        "etimedout",
        "ehostunreach",
        "enetunreach",
        "econnreset",
        "eacces",
        "eperm",
        "einval",
        "emfile",
        "ehwpoison",
    ] {
        assert_eq!(name.parse(), Ok(Metric::Errno(name.into())));
    }
}
