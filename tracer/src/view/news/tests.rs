/*! What is news, and what is not. */

use super::News;
use crate::diagnosis::{Urgency, Verdict};
use crate::model::Forecast;
use crate::view::sample::{NOW_NS, churn, id, leak};

const SECOND: u64 = 1_000_000_000;

/// The leak, dry so many seconds after `now_ns`.
fn dry_in(seconds: f64, now_ns: u64) -> Verdict {
    Verdict {
        forecast: Some(Forecast {
            made_ns: now_ns,
            dry_in_s: Some(seconds),
            settles_at: None,
        }),
        ..leak()
    }
}

fn with(urgency: Urgency) -> Verdict {
    Verdict {
        urgency,
        forecast: None,
        ..leak()
    }
}

/// Whether the verdict is news.
fn told(news: &mut News, verdict: &Verdict, after_s: u64) -> bool {
    let now_ns = NOW_NS + after_s * SECOND;
    !news.of(std::slice::from_ref(verdict), now_ns).is_empty()
}

#[test]
fn a_verdict_is_said_once_while_it_stays_the_same() {
    let mut news = News::new(SECOND);
    assert!(told(&mut news, &leak(), 0));
    for second in 1..40 {
        // The same moment, ever nearer.
        assert!(!told(&mut news, &leak(), second), "{second}");
    }
}

#[test]
fn another_pool_or_kind_is_another_verdict() {
    let mut news = News::new(0);
    let other = Verdict {
        pool: id("10.0.0.1", "10.0.0.3", 6432),
        ..leak()
    };
    let both = [leak(), other];
    assert_eq!(news.of(&both[..1], NOW_NS).len(), 1);
    let second = news.of(&both, NOW_NS);
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].pool, both[1].pool);
    let mut kind = leak();
    kind.kind = crate::diagnosis::Kind::CloseWait;
    assert!(told(&mut news, &kind, 0));
}

#[test]
fn a_rise_of_urgency_is_news() {
    let mut news = News::new(0);
    assert!(told(&mut news, &with(Urgency::Watch), 0));
    assert!(told(&mut news, &with(Urgency::Soon), 1));
    assert!(!told(&mut news, &with(Urgency::Soon), 2));
    assert!(told(&mut news, &with(Urgency::Failing), 3));
}

#[test]
fn a_pool_on_the_brink_is_not_told_every_second() {
    let mut news = News::new(0);
    assert!(told(&mut news, &with(Urgency::Failing), 0));
    for second in 1..60 {
        let urgency = if second % 9 == 0 {
            Urgency::Failing
        } else {
            Urgency::Soon
        };
        assert!(!told(&mut news, &with(urgency), second), "{second}");
    }
    // Ten calm seconds later it is news again.
    for second in 60..75 {
        assert!(!told(&mut news, &with(Urgency::Soon), second), "{second}");
    }
    assert!(told(&mut news, &with(Urgency::Failing), 75));
}

#[test]
fn a_forecast_must_move_far_to_be_news() {
    // (said, seconds left 10 s later, news)
    for (said, left, expected) in [
        (100.0, 90.0, false),
        (100.0, 65.0, false),
        (100.0, 59.0, true),
        (100.0, 115.0, false),
        (100.0, 121.0, true),
        // More than a third, but seconds.
        (20.0, 5.5, false),
        (20.0, 4.5, true),
        // Long past what was said.
        (5.0, 4.0, false),
        (5.0, 30.0, true),
    ] {
        let mut news = News::new(0);
        assert!(told(&mut news, &dry_in(said, NOW_NS), 0));
        let later = dry_in(left, NOW_NS + 10 * SECOND);
        assert_eq!(told(&mut news, &later, 10), expected, "{said} {left}");
    }
}

#[test]
fn a_first_forecast_is_news_and_its_end_is_not() {
    let mut news = News::new(0);
    assert!(told(&mut news, &with(Urgency::Soon), 0));
    assert!(told(&mut news, &dry_in(60.0, NOW_NS + SECOND), 1));
    assert!(!told(&mut news, &with(Urgency::Soon), 2));
    assert!(!told(&mut news, &dry_in(58.0, NOW_NS + 3 * SECOND), 3));
}

#[test]
fn once_calls_fail_only_what_was_foretold_is_news() {
    let mut news = News::new(0);
    let mut verdict = churn();
    let foretold = verdict.foretold.take();
    verdict.forecast = dry_in(50.0, NOW_NS).forecast;
    assert!(told(&mut news, &verdict, 0));
    verdict.forecast = dry_in(1.0, NOW_NS).forecast;
    assert!(!told(&mut news, &verdict, 1));
    verdict.foretold = foretold;
    assert!(told(&mut news, &verdict, 2));
    assert!(!told(&mut news, &verdict, 3));
}

#[test]
fn news_wait_for_the_gap_and_are_not_forgotten() {
    let mut news = News::new(3 * SECOND);
    assert!(told(&mut news, &with(Urgency::Watch), 0));
    assert!(!told(&mut news, &with(Urgency::Failing), 1));
    assert!(!told(&mut news, &with(Urgency::Failing), 2));
    assert!(told(&mut news, &with(Urgency::Failing), 3));
}

#[test]
fn what_was_gone_for_a_minute_is_news_and_takes_no_memory() {
    let mut news = News::new(0);
    assert!(told(&mut news, &leak(), 0));
    assert!(news.of(&[], NOW_NS + 59 * SECOND).is_empty());
    assert_eq!(news.said.len(), 1);
    assert!(!told(&mut news, &with(Urgency::Soon), 59));
    assert!(news.of(&[], NOW_NS + 119 * SECOND).is_empty());
    assert!(news.said.is_empty());
    assert!(told(&mut news, &with(Urgency::Soon), 119));
}
