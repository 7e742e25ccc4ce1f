/*! When it judges, and what it counts. That cuts make no difference is for the pump to show. */

use super::Tracker;
use crate::model::sample::{opened, time_wait};
use crate::model::{Event, Selection};
use crate::source::Item;
use crate::stream::made_up::{MS, START, about, process};

#[test]
fn judged_once_a_second_at_once_with_a_dump_and_later_where_one_is_expected() {
    let mut tracker = Tracker::new(&about(false, true), Selection::default(), false);
    let mut judgements = |ms, expects_dump, dump: bool| {
        if dump {
            tracker.take(Item::Unlisted(0));
        }
        tracker.take(Item::Clock {
            now_ns: START + ms * MS,
            expects_dump,
        });
        tracker.state().judgements
    };
    assert_eq!(judgements(0, true, false), 1);
    assert_eq!(judgements(999, false, false), 1);
    assert_eq!(judgements(1_000, true, false), 1);
    assert_eq!(judgements(1_299, true, false), 1);
    assert_eq!(judgements(1_300, true, false), 2);
    assert_eq!(judgements(1_400, true, true), 3);
    assert_eq!(judgements(2_399, false, false), 3);
    assert_eq!(judgements(2_400, false, false), 4);
    assert_eq!(tracker.state().duration_ns(), 2_400 * MS);
}

#[test]
fn opens_are_counted_only_if_asked_for_and_only_of_those_asked_for() {
    let selection = Selection {
        pids: vec![1],
        ..Selection::default()
    };
    let of = |details| {
        let mut tracker = Tracker::new(&about(true, true), selection.clone(), details);
        for (event, tgid) in [(opened(), 1), (time_wait(), 1), (time_wait(), 2)] {
            let process = process(tgid);
            tracker.take(Item::Event(Event { process, ..event }));
        }
        let totals = tracker.state().totals.totals();
        (
            totals.opened,
            totals.time_wait,
            tracker.state().load.open_peak,
        )
    };
    assert_eq!(of(true), (1, 1, 1));
    assert_eq!(of(false), (0, 1, 0));
}
