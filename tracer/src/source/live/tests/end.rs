/*! How it ends, and that what it told leads to the same state again. */

use std::time::Duration;

use tracer_ebpf::{Socket, cause, kind};

use super::{counted, dump, ended, event, live, live_with, record};
use crate::model::Selection;
use crate::source::live::repair::List;
use crate::source::live::survey::{Ask, Reading};
use crate::source::{Batch, Flow, Source};
use crate::stream::tracker::Tracker;

#[tokio::test]
async fn the_end_waits_for_a_last_reading_and_a_second_stop_for_none() {
    let (tell, asked) = std::sync::mpsc::channel();
    let (answer, answers) = std::sync::mpsc::channel::<()>();
    let read = move |ask: &Ask| {
        tell.send(ask.clone()).unwrap();
        // Until the test lets it, or is over.
        answers.recv().ok();
        Reading::default()
    };
    let mut live = live_with(read, |_| List::Gone);
    let mut batch = Batch::default();
    live.next(&mut batch, Duration::from_secs(1)).await.unwrap();
    assert!(matches!(asked.recv(), Ok(Ask { whole: false, .. })));
    live.stop();
    for _ in 0..3 {
        let next = live.next(&mut batch, Duration::from_secs(1));
        assert_eq!(next.await.unwrap(), Flow::More);
        assert!(!live.kernel.detached);
    }
    // The one under way is waited for, then another is asked for, of everything.
    answer.send(()).unwrap();
    let last = loop {
        let next = live.next(&mut batch, Duration::from_secs(1));
        assert_eq!(next.await.unwrap(), Flow::More);
        if let Ok(last) = asked.try_recv() {
            break last;
        }
    };
    assert!(last.whole);
    live.stop();
    let (_, batches) = ended(&mut live).await;
    assert!(live.kernel.detached);
    assert_eq!(batches, 1);
}

#[tokio::test]
async fn stopped_twice_before_anything_was_asked_for_it_ends_at_once() {
    let mut live = live();
    live.stop();
    live.stop();
    let (told, batches) = ended(&mut live).await;
    assert!(live.kernel.detached);
    assert_eq!((batches, told.lost().total()), (1, 0));
}

#[tokio::test]
async fn what_no_program_saw_end_is_looked_for_namespace_by_namespace() {
    let list = |netns| match netns {
        7 => List::OutOfReach,
        _ => List::Sockets(Vec::new()),
    };
    let mut live = live_with(|_| Reading::default(), list);
    let socket = |cookie, netns| Socket {
        cookie,
        netns,
        opened_ns: 1,
        closed_first: 1,
        ..Socket::default()
    };
    live.kernel.unfinished = vec![socket(1, 7), socket(2, 7), socket(3, 8)];
    live.stop();
    let (told, _) = ended(&mut live).await;
    assert_eq!(told.lost().unseen, 3);
    assert!(live.kernel.detached);
}

#[tokio::test]
async fn batches_that_were_kept_lead_to_the_same_state_again() {
    let read = |_: &Ask| Reading {
        dumps: vec![dump()],
        late: Some((1, "no time".to_owned())),
        ..Reading::default()
    };
    let mut live = live_with(read, |_| List::Gone);
    let about = live.about().clone();
    let mut tracker = Tracker::new(&about, Selection::default(), true);
    let mut kept = Vec::new();
    for round in 0..20_u16 {
        let mut birth = event(kind::TIME_WAIT, 0);
        birth.cause = cause::UNKNOWN;
        birth.direction = tracer_ebpf::direction::OUT;
        (birth.owner.tgid, birth.tuple.sport) = (1 + u32::from(round % 3), 1000 + round);
        live.kernel.ring = vec![record(birth); 3];
        live.kernel.failures = vec![counted(1, 10 * u64::from(round))];
        live.kernel.counters[0] = u64::from(round);
        let mut batch = Batch::default();
        if round == 19 {
            live.stop();
        }
        let next = live.next(&mut batch, Duration::from_millis(1));
        next.await.unwrap();
        kept.push(batch);
    }
    let mut batch = Batch::default();
    while live.next(&mut batch, Duration::from_secs(1)).await.unwrap() == Flow::More {}
    kept.push(batch);
    for item in kept.iter().flat_map(|batch| batch.items.clone()) {
        tracker.take(item);
    }
    tracker.judge();
    let state = tracker.state();
    assert_eq!(state.totals.totals().time_wait, 60);
    assert_eq!(state.totals.totals().connect_failed, 190);
    assert!(state.shortfall.unlisted == 1 && !state.namespaces.is_empty());

    // As a recording has them, all in one.
    let text = serde_json::to_string(&kept).unwrap();
    let read: Vec<Batch> = serde_json::from_str(&text).unwrap();
    let mut again = Tracker::new(&about, Selection::default(), true);
    for item in read.into_iter().flat_map(|batch| batch.items) {
        again.take(item);
    }
    again.judge();
    assert_eq!(again.state(), state);
}
