/*! The whole way, with a source made of batches and a pipe for standard output. */

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, PipeReader};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Output, Pump};
use crate::event::sample::{exhausted, task, time_wait};
use crate::event::{Event, Owner};
use crate::host::process::Identity;
use crate::source::{About, Batch, Failure, Loss, Lost, Source};
use crate::stream::Identify;
use crate::stream::filter::Filter;
use crate::view::Summary;
use crate::view::json::Json;

/// Gives one prepared batch a drain, and the last one only when it is ended.
#[derive(Default)]
struct Prepared {
    batches: VecDeque<(Vec<Event>, Vec<Failure>)>,
    last: Vec<Event>,
    losses: VecDeque<u64>,
    lost: u64,
    about: About,
    now_ns: u64,
    drained: Arc<Notify>,
    ended: bool,
}

impl Source for Prepared {
    fn drain(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        self.now_ns += 1_000_000_000;
        if self.batches.is_empty() {
            self.drained.notify_one();
        }
        let (events, failures) = self.batches.pop_front().unwrap_or_default();
        batch.events.extend(events);
        batch.failures.extend(failures);
        Ok(())
    }

    async fn ready(&mut self, at_most: Duration) -> anyhow::Result<()> {
        assert!(at_most <= Duration::from_secs(1));
        // The next batch is there at once, then nothing happens any more.
        if self.batches.is_empty() {
            tokio::time::sleep(at_most).await;
        }
        Ok(())
    }

    fn finish(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        self.ended = true;
        for (events, failures) in self.batches.drain(..) {
            batch.events.extend(events);
            batch.failures.extend(failures);
        }
        batch.events.append(&mut self.last);
        Ok(())
    }

    fn loss(&mut self) -> anyhow::Result<Loss> {
        self.lost = self.losses.pop_front().unwrap_or(self.lost);
        Ok(Loss {
            lost: Lost {
                ring_full: self.lost,
                ..Lost::default()
            },
            ..Loss::default()
        })
    }

    fn owners(&mut self, _: &mut dyn FnMut(u64, Owner)) -> anyhow::Result<()> {
        Ok(())
    }

    fn about(&self) -> &About {
        &self.about
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

#[derive(Default)]
struct People(u64);

impl Identify for People {
    fn identify(&mut self, owner: &Owner) -> Arc<Identity> {
        self.0 += 1;
        Arc::new(Identity {
            exe: Some(format!("/proc-of/{}", owner.tgid)),
            ..Identity::default()
        })
    }
}

async fn pump(
    source: &mut Prepared,
    filter: &Filter,
    output: &Output,
    stop: impl Future<Output = ()>,
) -> Summary {
    let mut view = Json::new(&source.about);
    let mut pump = Pump {
        people: &mut People::default(),
        filter,
        view: &mut view,
        output,
        books: None,
        details: true,
        say: &mut |words| panic!("{words}"),
    };
    let run = pump.run(source, stop);
    let end = tokio::time::timeout(Duration::from_secs(60), run).await;
    end.expect("within a minute").unwrap()
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
    let summary = pump(&mut source, &Filter::default(), &output, async {}).await;
    output.finish().await.unwrap();
    drop(output);
    assert!(source.ended);
    let lines = lines.join().unwrap();
    assert_eq!(of_type(&lines, "time_wait").count(), 20_000);
    assert!(of_type(&lines, "time_wait").all(|line| line["exe"] == "/proc-of/4242"));
    let counts = of_type(&lines, "connect_failed").map(|line| line["count"].as_u64());
    assert_eq!(counts.sum::<Option<u64>>(), Some(150));
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "summary");
    assert_eq!(last["events"]["time_wait"], 20_000);
    assert_eq!(last["events"]["connect_failed"], 150);
    assert_eq!(last["lost"]["output"], 0);
    assert_eq!(of_type(&lines, "loss").count(), 0);
    assert_eq!(summary.totals.time_wait, 20_000);
    assert_eq!(summary.rows.len(), 1);
}

#[tokio::test]
async fn the_filters_hide_and_do_not_count() {
    let (reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 1 << 20).unwrap();
    let lines = read(reader);
    let mut other = time_wait();
    other.owner.comm = task(b"other");
    other.owner.thread = task(b"other");
    let mut source = Prepared {
        batches: [(vec![time_wait(), other, time_wait()], vec![])].into(),
        ..Prepared::default()
    };
    let filter = Filter {
        comms: vec!["web".into()],
        ..Filter::default()
    };
    let summary = pump(&mut source, &filter, &output, async {}).await;
    output.finish().await.unwrap();
    assert_eq!(of_type(&lines.join().unwrap(), "time_wait").count(), 2);
    assert_eq!(summary.totals.time_wait, 2);
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
    let stop = drained.notified();
    let summary = pump(&mut source, &Filter::default(), &output, stop).await;
    output.finish().await.unwrap();
    let lines = lines.join().unwrap();
    let said: Vec<_> = of_type(&lines, "loss")
        .map(|line| line["lost"]["ring_full"].as_u64().unwrap())
        .collect();
    assert_eq!(said, [3, 8]);
    assert_eq!(summary.loss.lost.total(), 8);
    assert_eq!(lines.last().unwrap()["lost"]["ring_full"], 8);
}

#[tokio::test]
async fn a_closed_pipe_ends_the_stream_at_once() {
    let (reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer, 1 << 20).unwrap();
    drop(reader);
    let mut source = Prepared::default();
    let started = Instant::now();
    pump(
        &mut source,
        &Filter::default(),
        &output,
        std::future::pending(),
    )
    .await;
    assert!(source.ended, "the programs must be detached");
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
    let stop = drained.notified();
    // Nobody reads until the source was drained to its end.
    let summary = pump(&mut source, &Filter::default(), &output, stop).await;
    assert_eq!(summary.totals.time_wait, 20_000);
    let lines = read(reader);
    output.finish().await.unwrap();
    let lines = lines.join().unwrap();
    let arrived = of_type(&lines, "time_wait").count() as u64;
    assert!(arrived < 20_000);
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "summary");
    assert_eq!(last["lost"]["output"].as_u64(), Some(20_000 - arrived));
    assert!(of_type(&lines, "loss").count() >= 1);
}
