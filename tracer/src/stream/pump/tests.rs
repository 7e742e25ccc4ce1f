/*! The whole way, with a source made of batches and a pipe for standard output. */

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, PipeReader, Read as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::{ProptestConfig, any};
use proptest::{collection, proptest};
use tokio::sync::Notify;

use super::{End, Output, Pump, Shown};
use crate::model::sample::{exhausted, opened, task, time_wait};
use crate::model::{About, Event, Failure, Loss, Lost, Process, Selection};
use crate::source::{Batch, Flow, Item, Source};
use crate::state::State;
use crate::stream::made_up::{about, cut, items};
use crate::stream::tracker::Tracker;
use crate::view::json::Json;
use crate::view::{Frames, View};

/// Gives one prepared batch a call, and the last one only when it is ended.
#[derive(Default)]
struct Prepared {
    batches: VecDeque<(Vec<Event>, Vec<Failure>)>,
    last: Vec<Event>,
    losses: VecDeque<u64>,
    lost: u64,
    about: About,
    now_ns: u64,
    drained: Arc<Notify>,
    stopped: u32,
    /// How often it must be asked to end until it does.
    stubborn: u32,
}

impl Prepared {
    fn put(batch: &mut Batch, events: Vec<Event>, failures: Vec<Failure>) {
        batch.items.extend(events.into_iter().map(Item::Event));
        let failures = failures.into_iter().map(Box::new);
        batch.items.extend(failures.map(Item::Failures));
    }
}

impl Source for Prepared {
    fn about(&self) -> &About {
        &self.about
    }

    async fn next(&mut self, batch: &mut Batch, at_most: Duration) -> anyhow::Result<Flow> {
        assert!(at_most <= Duration::from_secs(1));
        let ends = self.stopped > self.stubborn;
        if self.batches.is_empty() && !ends {
            // The next batch is there at once, then nothing happens any more.
            self.drained.notify_one();
            tokio::time::sleep(at_most).await;
        }
        self.now_ns += 1_000_000_000;
        let (events, failures) = self.batches.pop_front().unwrap_or_default();
        Self::put(batch, events, failures);
        if ends {
            for (events, failures) in self.batches.drain(..) {
                Self::put(batch, events, failures);
            }
            Self::put(batch, std::mem::take(&mut self.last), Vec::new());
        }
        self.lost = self.losses.pop_front().unwrap_or(self.lost);
        batch.push(Item::Loss(Box::new(Loss {
            lost: Lost {
                ring_full: self.lost,
                ..Lost::default()
            },
            ..Loss::default()
        })));
        batch.push(Item::Clock {
            now_ns: self.now_ns,
            expects_dump: false,
        });
        Ok(if ends { Flow::Ended } else { Flow::More })
    }

    fn stop(&mut self) {
        self.stopped += 1;
    }
}

async fn pump(
    source: &mut Prepared,
    selection: Selection,
    output: &Output,
    stop: impl AsyncFnMut(),
) -> State {
    pump_shown(source, selection, Shown::Details, output, stop).await
}

async fn pump_shown(
    source: &mut Prepared,
    selection: Selection,
    shown: Shown,
    output: &Output,
    stop: impl AsyncFnMut(),
) -> State {
    let mut tracker = Tracker::new(&source.about, selection, true);
    let mut view = Json::new(&source.about);
    let pump = Pump {
        tracker: &mut tracker,
        view: &mut view,
        shown,
        output,
        say: &mut |words| panic!("{words}"),
    };
    let run = pump.run(source, stop);
    let end = tokio::time::timeout(Duration::from_secs(60), run).await;
    end.expect("within a minute").unwrap();
    tracker.state().clone()
}

fn read(reader: PipeReader) -> std::thread::JoinHandle<Vec<serde_json::Value>> {
    std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines();
        lines
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect()
    })
}

fn of_type<'a>(
    lines: &'a [serde_json::Value],
    kind: &'static str,
) -> impl Iterator<Item = &'a serde_json::Value> {
    lines.iter().filter(move |line| line["type"] == kind)
}

#[tokio::test]
async fn every_event_is_a_line_and_the_summary_comes_last() {
    let (reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 64 << 20).unwrap();
    let lines = read(reader);
    let failed = |count, fresh| Failure {
        count,
        fresh,
        ..Failure::single(exhausted())
    };
    let mut source = Prepared {
        batches: [
            (vec![time_wait(); 12_000], vec![failed(100, true)]),
            (vec![time_wait(); 7_999], vec![failed(50, false)]),
        ]
        .into(),
        last: vec![time_wait()],
        ..Prepared::default()
    };
    // Stopped before the first wait: the rest must come out all the same.
    let summary = pump(&mut source, Selection::default(), &output, async || ()).await;
    output.finish().await.unwrap();
    drop(output);
    assert!(source.stopped > 0);
    let lines = lines.join().unwrap();
    assert_eq!(of_type(&lines, "time_wait").count(), 20_000);
    assert!(of_type(&lines, "time_wait").all(|line| line["pid"] == 4242));
    let counts = of_type(&lines, "connect_failed").map(|line| line["count"].as_u64());
    assert_eq!(counts.sum::<Option<u64>>(), Some(150));
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "summary");
    assert_eq!(last["events"]["time_wait"], 20_000);
    assert_eq!(last["events"]["connect_failed"], 150);
    assert_eq!(last["lost"]["output"], 0);
    assert_eq!(of_type(&lines, "loss").count(), 0);
    assert_eq!(summary.totals.totals().time_wait, 20_000);
    assert_eq!(summary.totals.rows().len(), 1);
}

#[tokio::test]
async fn the_filters_hide_and_do_not_count() {
    let (reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 1 << 20).unwrap();
    let lines = read(reader);
    let mut other = time_wait();
    other.process = Arc::new(Process {
        comm: task(b"other"),
        thread: task(b"other"),
        ..Process::default()
    });
    let mut source = Prepared {
        batches: [(vec![time_wait(), other, time_wait()], vec![])].into(),
        ..Prepared::default()
    };
    let selection = Selection {
        comms: vec!["web".into()],
        ..Selection::default()
    };
    let summary = pump(&mut source, selection, &output, async || ()).await;
    output.finish().await.unwrap();
    assert_eq!(of_type(&lines.join().unwrap(), "time_wait").count(), 2);
    assert_eq!(summary.totals.totals().time_wait, 2);
}

#[tokio::test]
async fn a_loss_is_said_once_and_added_up_at_the_end() {
    let (reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 1 << 20).unwrap();
    let lines = read(reader);
    let mut source = Prepared {
        batches: vec![(vec![time_wait()], vec![]); 5].into(),
        losses: [0, 3, 3, 8].into(),
        ..Prepared::default()
    };
    let drained = Arc::clone(&source.drained);
    let stop = async || drained.notified().await;
    let summary = pump(&mut source, Selection::default(), &output, stop).await;
    output.finish().await.unwrap();
    let lines = lines.join().unwrap();
    let said: Vec<_> = of_type(&lines, "loss")
        .map(|line| line["lost"]["ring_full"].as_u64().unwrap())
        .collect();
    assert_eq!(said, [3, 8]);
    assert_eq!(summary.losses.lost.total(), 8);
    assert_eq!(lines.last().unwrap()["lost"]["ring_full"], 8);
}

#[tokio::test]
async fn a_closed_pipe_ends_the_stream_at_once() {
    let (reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 1 << 20).unwrap();
    drop(reader);
    let mut source = Prepared::default();
    let started = Instant::now();
    let never = async || std::future::pending::<()>().await;
    pump(&mut source, Selection::default(), &output, never).await;
    assert!(source.stopped > 0, "the programs must be detached");
    assert!(started.elapsed() < Duration::from_secs(30));
    let error = output.finish().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_stuck_reader_does_not_hold_up_the_source_and_its_lines_are_counted() {
    let (reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 64 << 10).unwrap();
    let mut source = Prepared {
        batches: vec![(vec![time_wait(); 1000], vec![]); 20].into(),
        ..Prepared::default()
    };
    let drained = Arc::clone(&source.drained);
    let stop = async || drained.notified().await;
    // Nobody reads until the source was drained to its end.
    let summary = pump(&mut source, Selection::default(), &output, stop).await;
    assert_eq!(summary.totals.totals().time_wait, 20_000);
    let lines = read(reader);
    output.finish().await.unwrap();
    let lines = lines.join().unwrap();
    let arrived = of_type(&lines, "time_wait").count() as u64;
    assert!(arrived < 20_000);
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "summary");
    // One line of the pool at the end.
    let pools = of_type(&lines, "pool").count() as u64;
    let lost = (20_000 - arrived) + (1 - pools);
    assert_eq!(last["lost"]["output"].as_u64(), Some(lost));
    assert!(of_type(&lines, "loss").count() >= 1);
}

#[tokio::test]
async fn a_source_that_takes_its_time_to_end_is_hurried_by_a_second_stop() {
    let (reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 1 << 20).unwrap();
    let lines = read(reader);
    let mut source = Prepared {
        last: vec![time_wait()],
        stubborn: 1,
        ..Prepared::default()
    };
    let summary = pump(&mut source, Selection::default(), &output, async || ()).await;
    output.finish().await.unwrap();
    assert_eq!(source.stopped, 2);
    assert_eq!(summary.totals.totals().time_wait, 1);
    assert_eq!(lines.join().unwrap().last().unwrap()["type"], "summary");
}

#[tokio::test]
async fn what_is_known_is_the_same_whatever_is_shown() {
    let mut known = Vec::new();
    for (shown, types) in [
        (Shown::Nothing, vec!["summary"]),
        (
            Shown::Plain,
            vec!["time_wait", "connect_failed", "loss", "summary"],
        ),
        (
            Shown::Details,
            vec!["opened", "time_wait", "connect_failed", "loss", "summary"],
        ),
    ] {
        let (reader, writer) = io::pipe().unwrap();
        let output = Output::start(writer, 1 << 20).unwrap();
        let lines = read(reader);
        let failure = Failure::single(exhausted());
        let mut source = Prepared {
            batches: [(vec![opened(), time_wait()], vec![failure])].into(),
            losses: [1].into(),
            ..Prepared::default()
        };
        let drained = Arc::clone(&source.drained);
        let stop = async || drained.notified().await;
        let all = Selection::default();
        let state = pump_shown(&mut source, all, shown, &output, stop).await;
        output.finish().await.unwrap();
        let lines = lines.join().unwrap();
        let mut said: Vec<_> = lines.iter().map(|line| line["type"].clone()).collect();
        said.retain(|kind| kind != "pool" && kind != "verdict");
        assert_eq!(said, types);
        known.push((state.totals, state.load, state.losses, state.pools));
    }
    assert!(known.iter().all(|one| *one == known[0]));
}

/// Gives batches as they are; a clock that it ends with is told by the last of them.
struct Cut {
    about: About,
    batches: std::vec::IntoIter<Batch>,
}

impl Source for Cut {
    fn about(&self) -> &About {
        &self.about
    }

    async fn next(&mut self, batch: &mut Batch, _: Duration) -> anyhow::Result<Flow> {
        match self.batches.next() {
            Some(next) => batch.items.extend(next.items),
            None => return Ok(Flow::Ended),
        }
        Ok(Flow::More)
    }

    fn stop(&mut self) {}
}

/// The state after these batches, and all that was written.
async fn carried(about: &About, selection: &Selection, batches: Vec<Batch>) -> (State, Vec<u8>) {
    let (mut reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 64 << 20).unwrap();
    let reading = std::thread::spawn(move || {
        let mut written = Vec::new();
        reader.read_to_end(&mut written).map(|_| written)
    });
    let mut source = Cut {
        about: about.clone(),
        batches: batches.into_iter(),
    };
    let mut tracker = Tracker::new(about, selection.clone(), true);
    let pump = Pump {
        tracker: &mut tracker,
        view: &mut Json::new(about),
        shown: Shown::Details,
        output: &output,
        say: &mut |_| (),
    };
    let never = async || std::future::pending::<()>().await;
    assert_eq!(pump.run(&mut source, never).await.unwrap(), End::Source);
    output.finish().await.unwrap();
    drop(output);
    (tracker.state().clone(), reading.join().unwrap().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A failure prints what it shrank to: that is the next test to write.
        failure_persistence: None,
        cases: 128,
        ..ProptestConfig::default()
    })]

    #[test]
    fn state_and_lines_are_the_same_however_the_stream_is_cut_and_when_it_is_read_again(
        items in items(),
        places in collection::vec(any::<usize>(), 0..20),
        opens in any::<bool>(),
        ends in any::<bool>(),
        of_one in any::<bool>(),
    ) {
        let about = about(opens, ends);
        let selection = Selection {
            comms: if of_one { vec!["web".into()] } else { Vec::new() },
            ..Selection::default()
        };
        let one_by_one = items.iter().cloned().map(|item| Batch { items: vec![item] });
        let batches = cut(items.clone(), &places);
        // Kept as text, as a recording would be.
        let kept = serde_json::to_string(&batches).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let whole = vec![Batch { items: items.clone() }];
            let expected = carried(&about, &selection, whole).await;
            for batches in [one_by_one.collect(), batches, serde_json::from_str(&kept).unwrap()] {
                let (state, lines) = carried(&about, &selection, batches).await;
                assert_eq!(state, expected.0);
                assert_eq!(String::from_utf8(lines), String::from_utf8(expected.1.clone()));
            }
        });
    }
}

/// Holds everything back for a tenth of a second.
#[derive(Default)]
struct Holding {
    now_ns: u64,
    due_ns: Option<u64>,
}

impl View for Holding {
    fn event(&mut self, _: &Event, _: &mut Frames) -> io::Result<()> {
        self.due_ns = Some(self.now_ns + 100_000_000);
        Ok(())
    }

    fn failure(&mut self, _: &Failure, _: &mut Frames) -> io::Result<()> {
        Ok(())
    }

    fn look(&mut self, state: &State, _: &mut Frames) -> io::Result<()> {
        self.now_ns = state.now_ns;
        self.due_ns = self.due_ns.filter(|&due_ns| due_ns > state.now_ns);
        Ok(())
    }

    fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    fn end(&mut self, _: &State, _: &mut Frames) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, _: &State, _: &mut Frames) -> io::Result<()> {
        Ok(())
    }
}

/// Tells the time, and once of an event; keeps how long it was to wait.
#[derive(Default)]
struct Clockwork {
    about: About,
    waits: Vec<u128>,
}

impl Source for Clockwork {
    fn about(&self) -> &About {
        &self.about
    }

    async fn next(&mut self, batch: &mut Batch, at_most: Duration) -> anyhow::Result<Flow> {
        self.waits.push(at_most.as_millis());
        let round = self.waits.len() as u64;
        if round == 2 {
            batch.push(Item::Event(time_wait()));
        }
        batch.push(Item::Clock {
            now_ns: round * 60_000_000,
            expects_dump: false,
        });
        Ok(if round == 5 { Flow::Ended } else { Flow::More })
    }

    fn stop(&mut self) {}
}

#[tokio::test]
async fn what_a_view_holds_back_is_not_waited_past() {
    let (_reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 1 << 20).unwrap();
    let mut source = Clockwork::default();
    let pump = Pump {
        tracker: &mut Tracker::new(&source.about, Selection::default(), true),
        view: &mut Holding::default(),
        shown: Shown::Details,
        output: &output,
        say: &mut |_| (),
    };
    let never = async || std::future::pending::<()>().await;
    pump.run(&mut source, never).await.unwrap();
    // The event came at 60 ms, as far as the view knew, and the next look was at 120.
    assert_eq!(source.waits, [1000, 1000, 40, 1000, 1000]);
}
