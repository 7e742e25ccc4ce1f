/*! Live over a kernel made of vectors. */

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use tracer_ebpf::{COUNTERS, FailureCount, FailureKey, Socket, cause, flags, kind};

use super::{Kernel, Live};
use crate::event::{Cause, Direction, Kind, Ownership};
use crate::kernel::probes::Misses;
use crate::source::{About, Batch, Source};

struct Fake {
    ring: Vec<Vec<u8>>,
    failures: Vec<(FailureKey, FailureCount)>,
    counters: [u64; COUNTERS as usize],
    misses: Misses,
    surprises: Vec<String>,
    detached: bool,
    wake: (std::io::PipeReader, std::io::PipeWriter),
}

impl Kernel for Fake {
    fn ring(&self) -> BorrowedFd<'_> {
        self.wake.0.as_fd()
    }
    fn drain(&mut self, each: &mut dyn FnMut(&[u8])) {
        for record in self.ring.drain(..) {
            each(&record);
        }
    }
    fn surprises(&mut self) -> Vec<String> {
        std::mem::take(&mut self.surprises)
    }
    fn unfinished(&self, _: &mut dyn FnMut(u64, &Socket)) -> anyhow::Result<()> {
        Ok(())
    }
    fn unfinished_one(&self, _: u64) -> Option<Socket> {
        None
    }
    fn failures(&mut self) -> anyhow::Result<Vec<(FailureKey, FailureCount)>> {
        Ok(self.failures.clone())
    }
    fn counters(&mut self) -> anyhow::Result<[u64; COUNTERS as usize]> {
        Ok(self.counters)
    }
    fn misses(&self) -> Misses {
        self.misses
    }
    fn detach(&mut self) -> anyhow::Result<()> {
        self.detached = true;
        Ok(())
    }
}

fn live() -> Live<Fake> {
    let kernel = Fake {
        ring: Vec::new(),
        failures: Vec::new(),
        counters: [0; COUNTERS as usize],
        misses: Misses::default(),
        surprises: Vec::new(),
        detached: false,
        wake: std::io::pipe().unwrap(),
    };
    Live::new(kernel, About::default(), |_| Ok(Vec::new()))
}

fn event(kind: u8, flags: u32) -> tracer_ebpf::Event {
    let mut event = tracer_ebpf::Event {
        ts_ns: 5,
        search_ns: 70,
        kind,
        flags,
        errno: 99,
        cause: cause::PORTS_EXHAUSTED,
        ..tracer_ebpf::Event::default()
    };
    event.tuple.family = tracer_ebpf::AF_INET6;
    event
}

fn record(event: tracer_ebpf::Event) -> Vec<u8> {
    // SAFETY: the struct is repr(C), 160 bytes of integers without padding.
    unsafe { std::mem::transmute::<tracer_ebpf::Event, [u8; 160]>(event) }.to_vec()
}

fn counted(tgid: u32, count: u64) -> (FailureKey, FailureCount) {
    let key = FailureKey {
        tgid,
        ..FailureKey::default()
    };
    let value = FailureCount {
        count,
        last_ns: 1000 + count,
        search_sum_ns: 70 * count,
        first: event(kind::CONNECT_FAILED, flags::SAMPLE),
    };
    (key, value)
}

fn finish(live: &mut Live<Fake>) -> Batch {
    let mut batch = Batch::default();
    live.finish(&mut batch).unwrap();
    batch
}

#[test]
fn a_sample_is_not_counted_again_and_its_map_entry_is_counted_once() {
    let mut live = live();
    let sample = record(event(kind::CONNECT_FAILED, flags::SAMPLE));
    live.kernel.ring = vec![sample; 3];
    live.kernel.failures = vec![counted(1, 150)];
    let batch = finish(&mut live);
    assert!(live.kernel.detached);
    assert!(batch.events.is_empty());
    let [failure] = batch.failures.as_slice() else {
        panic!("{batch:?}")
    };
    assert_eq!((failure.count, failure.last_ns), (150, 1150));
    assert_eq!(failure.search_sum_ns, 70 * 150);
    assert!(failure.fresh);
    assert_eq!(failure.first.cause, Some(Cause::PortsExhausted));

    assert!(finish(&mut live).is_empty());

    live.kernel.failures = vec![counted(1, 152), counted(2, 1)];
    let batch = finish(&mut live);
    let steps: Vec<_> = batch
        .failures
        .iter()
        .map(|failure| (failure.count, failure.search_sum_ns, failure.fresh))
        .collect();
    assert_eq!(steps, [(2, 140, false), (1, 70, true)]);
}

#[test]
fn an_entry_that_was_removed_and_made_again_counts_from_zero() {
    let mut live = live();
    live.kernel.failures = vec![counted(1, 10)];
    finish(&mut live);
    live.kernel.failures = vec![counted(1, 4)];
    assert_eq!(finish(&mut live).failures[0].count, 4);
}

#[test]
fn a_failure_that_is_not_in_the_map_counts_by_itself() {
    let mut live = live();
    live.kernel.ring = vec![
        record(event(kind::CONNECT_FAILED, flags::COUNTED_HERE)),
        record(event(kind::BIND_FAILED, flags::COUNTED_HERE)),
        record(event(kind::OPENED, 0)),
    ];
    let batch = finish(&mut live);
    assert_eq!(batch.events.len(), 1);
    assert_eq!(batch.events[0].kind, Kind::Opened);
    let counts: Vec<_> = batch
        .failures
        .iter()
        .map(|failure| (failure.first.kind, failure.count, failure.search_sum_ns))
        .collect();
    assert_eq!(
        counts,
        [(Kind::ConnectFailed, 1, 70), (Kind::BindFailed, 1, 70)]
    );
}

#[test]
fn a_sample_makes_the_next_read_of_the_map_come_sooner() {
    let mut live = live();
    let mut batch = Batch::default();
    live.drain(&mut batch).unwrap();
    assert!(!live.sampled);
    live.kernel.failures = vec![counted(1, 1)];
    live.kernel.ring = vec![record(event(kind::CONNECT_FAILED, flags::SAMPLE))];
    live.drain(&mut batch).unwrap();
    assert!(live.sampled);
    let started = Instant::now();
    while batch.failures.is_empty() {
        live.drain(&mut batch).unwrap();
        std::thread::yield_now();
        assert!(started.elapsed() < Duration::from_secs(30));
    }
    assert!(live.sampled, "more may follow without a sample");
    finish(&mut live);
    assert!(!live.sampled, "it stands still");
}

#[test]
fn what_is_no_event_is_counted_as_lost() {
    let mut live = live();
    live.kernel.ring = vec![vec![0; 160], vec![1; 7], record(event(kind::OPENED, 0))];
    let mut nonsense = counted(3, 20);
    nonsense.1.first.kind = 99;
    live.kernel.failures = vec![nonsense];
    let batch = finish(&mut live);
    assert_eq!((batch.events.len(), batch.malformed), (1, 22));
    assert_eq!(live.loss().unwrap().lost.undecodable, 22);
    assert!(finish(&mut live).is_empty());
    assert_eq!(live.loss().unwrap().lost.total(), 22);
}

#[test]
fn only_skips_that_nothing_makes_up_for_are_losses() {
    let mut live = live();
    live.kernel.misses.rescued = 12;
    live.kernel.counters = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    let loss = live.loss().unwrap();
    assert_eq!(loss.lost.recursion, 0);
    assert_eq!((loss.recursion_skipped, loss.recursion_rescued), (12, 5));
    assert_eq!((loss.lost.ring_full, loss.lost.sockets_full), (1, 2));
    assert_eq!((loss.failures_full, loss.lost.attempts_full), (3, 4));
    assert_eq!((loss.lost.unreadable, loss.samples_skipped), (6, 7));
    assert_eq!((loss.lost.unseen, loss.lost.pids_full), (8, 9));
    assert_eq!(loss.lost.total(), 1 + 2 + 4 + 6 + 8 + 9);
    live.kernel.misses = Misses {
        rescued: 15,
        lost: 4,
    };
    let loss = live.loss().unwrap();
    assert_eq!((loss.lost.recursion, loss.recursion_skipped), (4, 19));
}

#[tokio::test]
async fn a_wake_up_ends_the_wait() {
    let mut live = live();
    let started = Instant::now();
    live.ready(Duration::from_millis(1)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    live.kernel.wake.1.write_all(b"!").unwrap();
    let started = Instant::now();
    live.ready(Duration::from_secs(60)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn the_clock_offset_leads_from_monotonic_to_the_calendar() {
    let live = live();
    let shown = i128::from(live.now_ns()) + i128::from(live.about().clock_offset_ns);
    let calendar = jiff::Timestamp::now().as_nanosecond();
    assert!(
        (calendar - shown).abs() < 1_000_000_000,
        "{calendar} {shown}"
    );
}

#[test]
fn an_end_gets_the_owner_of_its_birth() {
    let mut live = live();
    let mut birth = event(kind::TIME_WAIT, 0);
    birth.cause = cause::UNKNOWN;
    birth.direction = tracer_ebpf::direction::OUT;
    (birth.owner.tgid, birth.tuple.sport) = (42, 1000);
    let mut end = event(kind::TIME_WAIT_END, flags::OWNER_UNKNOWN);
    end.tuple.sport = 1000;
    let mut stranger = end;
    stranger.tuple.sport = 1001;
    live.kernel.ring = vec![record(birth), record(end), record(end), record(stranger)];
    live.kernel.surprises = vec!["a surprise".into()];
    let batch = finish(&mut live);
    let owners: Vec<_> = batch
        .events
        .iter()
        .map(|event| (event.ownership, event.owner.tgid, event.direction))
        .collect();
    let known = (Ownership::Seen, 42, Some(Direction::Out));
    let unknown = (Ownership::Unknown, 0, None);
    assert_eq!(owners, [known, known, unknown, unknown]);
    assert_eq!(batch.surprises, ["a surprise"]);
}
