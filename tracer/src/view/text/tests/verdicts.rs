/*! Verdicts in the stream and at its end. */

use super::{end, text};
use crate::diagnosis::{Urgency, Verdict};
use crate::model::Pool;
use crate::state::State;
use crate::view::sample::{NOW_NS, churn, dry_pool, id};
use crate::view::text::Text;
use crate::view::{Frames, View};

const SECOND: u64 = 1_000_000_000;

fn shown(view: &mut Text, second: u64, pools: &[Pool], verdicts: &[Verdict], last: bool) -> String {
    let state = State {
        now_ns: NOW_NS + second * SECOND,
        judgements: 1 + second,
        pools: pools.to_vec(),
        verdicts: verdicts.to_vec(),
        ..State::default()
    };
    if last {
        return end(view, &state);
    }
    let mut out = Frames::default();
    view.look(&state, &mut out).unwrap();
    String::from_utf8(out.bytes().to_vec()).unwrap()
}

#[test]
fn the_stream_has_the_news_and_the_end_has_all() {
    let mut view = text(|options| options.width = Some(80));
    let pools = [dry_pool()];
    let mut soon = churn();
    soon.urgency = Urgency::Soon;
    assert_eq!(shown(&mut view, 0, &pools, &[], false), "");
    let first = shown(&mut view, 1, &pools, std::slice::from_ref(&soon), false);
    assert!(
        first.starts_with("22:15:01 churn: will run dry  10.0.0.1 \u{2192} 10.0.0.2:6432"),
        "{first}"
    );
    assert_eq!(first.lines().count(), 3);
    // It fails a second later, which waits for the gap.
    assert_eq!(shown(&mut view, 2, &pools, &[churn()], false), "");
    let second = shown(&mut view, 4, &pools, &[churn()], false);
    assert!(
        second.starts_with("22:15:04 churn: connect() fails"),
        "{second}"
    );
    assert_eq!(shown(&mut view, 9, &pools, &[churn()], false), "");
    let end = shown(&mut view, 10, &pools, &[churn()], true);
    assert!(
        end.starts_with("\u{2500}\u{2500} churn: connect() fails"),
        "{end}"
    );
    assert!(end.ends_with("\n\n"), "{end}");
}

#[test]
fn where_nothing_is_wrong_the_end_has_the_fullest_pools() {
    let mut view = text(|options| options.width = Some(80));
    let pools = vec![dry_pool(); 7];
    let end = shown(&mut view, 0, &pools, &[], true);
    assert!(end.contains("TOP HOLDER"), "{end}");
    assert!(end.ends_with("and 2 more pools\n\n"), "{end}");
    assert_eq!(shown(&mut view, 0, &[], &[], true), "");
}

#[test]
fn a_flood_of_verdicts_is_counted() {
    let mut view = text(|options| options.width = Some(80));
    let verdicts: Vec<Verdict> = (0..40)
        .map(|port| Verdict {
            pool: id("10.0.0.1", "10.0.0.2", 5000 + port),
            ..churn()
        })
        .collect();
    let news = shown(&mut view, 0, &[], &verdicts, false);
    assert_eq!(news.lines().count(), 5 * 3 + 1);
    assert!(news.ends_with("and 35 more verdicts\n"), "{news}");
    assert_eq!(shown(&mut view, 5, &[], &verdicts, false), "");
}
