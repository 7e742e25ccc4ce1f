/*! Live over a kernel made of vectors. */

mod end;

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use tracer_ebpf::{COUNTERS, FailureCount, FailureKey, Socket, cause, flags, kind};

use super::survey::{Answer, Ask, Reading, Survey};
use super::{Kernel, Live};
use crate::kernel::probes::Misses;
use crate::model::sample::namespace;
use crate::model::{About, Cause, Direction, Dump, Event, Failure, Kind, Lost, Ownership};
use crate::source::live::repair::List;
use crate::source::{Batch, Flow, Item, Source};

struct Fake {
    ring: Vec<Vec<u8>>,
    failures: Vec<(FailureKey, FailureCount)>,
    counters: [u64; COUNTERS as usize],
    misses: Misses,
    surprises: Vec<String>,
    unfinished: Vec<Socket>,
    /// Records of a round.
    at_once: usize,
    detached: bool,
    wake: (std::io::PipeReader, std::io::PipeWriter),
}

impl Kernel for Fake {
    fn ring(&self) -> BorrowedFd<'_> {
        self.wake.0.as_fd()
    }
    fn drain(&mut self, at_most: usize, each: &mut dyn FnMut(&[u8])) -> bool {
        let count = self.ring.len().min(at_most).min(self.at_once);
        for record in self.ring.drain(..count) {
            each(&record);
        }
        self.ring.is_empty()
    }
    fn surprises(&mut self) -> Vec<String> {
        std::mem::take(&mut self.surprises)
    }
    fn unfinished(&self, each: &mut dyn FnMut(u64, &Socket)) -> anyhow::Result<()> {
        for socket in &self.unfinished {
            each(socket.cookie, socket);
        }
        Ok(())
    }
    fn unfinished_one(&self, key: u64) -> Option<Socket> {
        let mut all = self.unfinished.iter().copied();
        all.find(|socket| socket.cookie == key)
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

fn live_with(
    read: impl FnMut(&Ask) -> Reading + Send + 'static,
    list: impl Fn(u32) -> List + Send + Sync + 'static,
) -> Live<Fake> {
    let kernel = Fake {
        ring: Vec::new(),
        failures: Vec::new(),
        counters: [0; COUNTERS as usize],
        misses: Misses::default(),
        surprises: Vec::new(),
        unfinished: Vec::new(),
        at_once: usize::MAX,
        detached: false,
        wake: std::io::pipe().unwrap(),
    };
    let about = About {
        ends: true,
        ..About::default()
    };
    Live::new(
        kernel,
        about,
        Survey::start(read, list).unwrap(),
        Vec::new(),
    )
}

fn live() -> Live<Fake> {
    live_with(|_| Reading::default(), |_| List::Gone)
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

/// A namespace without sockets, as it is now.
fn dump() -> Dump {
    Dump {
        began_ns: super::clock::now_ns(),
        ended_ns: super::clock::now_ns(),
        namespace: namespace(),
        sockets: Vec::new(),
    }
}

/// What a batch holds.
struct Told {
    batch: Batch,
}

impl Told {
    fn events(&self) -> Vec<&Event> {
        let mut events = Vec::new();
        for item in &self.batch.items {
            if let Item::Event(event) = item {
                events.push(event);
            }
        }
        events
    }

    fn failures(&self) -> Vec<&Failure> {
        let mut failures = Vec::new();
        for item in &self.batch.items {
            if let Item::Failures(failure) = item {
                failures.push(&**failure);
            }
        }
        failures
    }

    /// As it was told last.
    fn lost(&self) -> Lost {
        let mut lost = Lost::default();
        for item in &self.batch.items {
            if let Item::Loss(loss) = item {
                lost = loss.lost;
            }
        }
        lost
    }
}

/// One round, without waiting.
fn round(live: &mut Live<Fake>) -> Told {
    let mut batch = Batch::default();
    live.round(None, &mut batch).unwrap();
    Told { batch }
}

/// Everything there is in the ring and the map.
fn drained(live: &mut Live<Fake>) -> Told {
    let mut batch = Batch::default();
    live.drain_ring(&mut batch);
    live.drain_failures(&mut batch).unwrap();
    Told { batch }
}

/// All until the end, and how many batches that took.
async fn ended(live: &mut Live<Fake>) -> (Told, u32) {
    let mut batch = Batch::default();
    for count in 1.. {
        let next = live.next(&mut batch, Duration::from_secs(1));
        let next = tokio::time::timeout(Duration::from_secs(30), next);
        if next.await.expect("within 30 seconds").unwrap() == Flow::Ended {
            return (Told { batch }, count);
        }
    }
    unreachable!()
}

#[test]
fn a_sample_is_not_counted_again_and_its_map_entry_is_counted_once() {
    let mut live = live();
    let sample = record(event(kind::CONNECT_FAILED, flags::SAMPLE));
    live.kernel.ring = vec![sample; 3];
    live.kernel.failures = vec![counted(1, 150)];
    let told = drained(&mut live);
    assert!(told.events().is_empty());
    let failures = told.failures();
    let [failure] = failures.as_slice() else {
        panic!("{failures:?}")
    };
    assert_eq!((failure.count, failure.last_ns), (150, 1150));
    assert_eq!(failure.search_sum_ns, 70 * 150);
    assert!(failure.fresh);
    assert_eq!(failure.first.cause, Some(Cause::PortsExhausted));

    assert!(drained(&mut live).batch.items.is_empty());

    live.kernel.failures = vec![counted(1, 152), counted(2, 1)];
    let told = drained(&mut live);
    let steps: Vec<_> = told
        .failures()
        .iter()
        .map(|failure| (failure.count, failure.search_sum_ns, failure.fresh))
        .collect();
    assert_eq!(steps, [(2, 140, false), (1, 70, true)]);
}

#[test]
fn an_entry_that_was_removed_and_made_again_counts_from_zero() {
    let mut live = live();
    live.kernel.failures = vec![counted(1, 10)];
    drained(&mut live);
    live.kernel.failures = vec![counted(1, 4)];
    assert_eq!(drained(&mut live).failures()[0].count, 4);
}

#[test]
fn a_failure_that_is_not_in_the_map_counts_by_itself() {
    let mut live = live();
    live.kernel.ring = vec![
        record(event(kind::CONNECT_FAILED, flags::COUNTED_HERE)),
        record(event(kind::BIND_FAILED, flags::COUNTED_HERE)),
        record(event(kind::OPENED, 0)),
    ];
    let told = drained(&mut live);
    let events = told.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind, Kind::Opened);
    let counts: Vec<_> = told
        .failures()
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
    round(&mut live);
    assert!(!live.failures.sampled);
    live.kernel.failures = vec![counted(1, 1)];
    live.kernel.ring = vec![record(event(kind::CONNECT_FAILED, flags::SAMPLE))];
    let mut told = round(&mut live);
    assert!(live.failures.sampled);
    let started = Instant::now();
    while told.failures().is_empty() {
        told = round(&mut live);
        std::thread::yield_now();
        assert!(started.elapsed() < Duration::from_secs(30));
    }
    assert!(live.failures.sampled, "more may follow without a sample");
    drained(&mut live);
    assert!(!live.failures.sampled, "it stands still");
}

#[tokio::test]
async fn what_is_no_event_is_counted_as_lost() {
    let mut live = live();
    live.kernel.ring = vec![vec![0; 160], vec![1; 7], record(event(kind::OPENED, 0))];
    let mut nonsense = counted(3, 20);
    nonsense.1.first.kind = 99;
    live.kernel.failures = vec![nonsense];
    assert_eq!(round(&mut live).events().len(), 1);
    assert_eq!(live.undecodable, 22);
    live.stop();
    let (told, _) = ended(&mut live).await;
    assert!(told.events().is_empty() && told.failures().is_empty());
    assert_eq!((told.lost().undecodable, told.lost().total()), (22, 22));
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

/// A reading after which none is due for a long time.
fn costly() -> Reading {
    Reading {
        cost: Duration::from_secs(60),
        ..Reading::default()
    }
}

#[tokio::test]
async fn a_wake_up_ends_the_wait() {
    let mut live = live_with(|_| costly(), |_| List::Gone);
    let mut batch = Batch::default();
    // The first does not wait, and asks for a reading; the others end when that has come.
    while live.dumps.expects() || batch.items.is_empty() {
        let next = live.next(&mut batch, Duration::from_secs(1));
        assert_eq!(next.await.unwrap(), Flow::More);
    }
    live.kernel.wake.1.write_all(b"!").unwrap();
    live.rest = Duration::from_secs(60);
    let next = live.next(&mut batch, Duration::from_secs(60));
    let woken = tokio::time::timeout(Duration::from_secs(30), next);
    assert_eq!(woken.await.expect("it wakes").unwrap(), Flow::More);
}

#[test]
fn what_was_in_the_ring_comes_before_the_dump_that_came_after_it() {
    let mut live = live();
    let dumped = || {
        Answer::Dumps(Reading {
            dumps: vec![dump()],
            ..Reading::default()
        })
    };
    let kinds = |batch: &Batch| -> Vec<&str> {
        let kind = |item: &Item| match item {
            Item::Event(_) => "event",
            Item::Dump(_) => "dump",
            _ => "other",
        };
        let mut kinds: Vec<_> = batch.items.iter().map(kind).collect();
        kinds.retain(|kind| *kind != "other");
        kinds
    };
    live.kernel.ring = vec![record(event(kind::OPENED, 0)); 2];
    let mut batch = Batch::default();
    live.round(Some(dumped()), &mut batch).unwrap();
    assert_eq!(kinds(&batch), ["event", "event", "dump"]);
    // Also where that takes more than one round.
    live.kernel.ring = vec![record(event(kind::OPENED, 0)); 3];
    live.kernel.at_once = 2;
    batch.items.clear();
    live.round(Some(dumped()), &mut batch).unwrap();
    assert_eq!(kinds(&batch), ["event", "event"]);
    assert_eq!(live.rest, Duration::ZERO);
    live.round(None, &mut batch).unwrap();
    assert_eq!(kinds(&batch), ["event", "event", "event", "dump"]);
}

#[test]
fn the_clock_offset_leads_from_monotonic_to_the_calendar() {
    let live = live();
    let shown = i128::from(super::clock::now_ns()) + i128::from(live.about().clock_offset_ns);
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
    let told = drained(&mut live);
    let owners: Vec<_> = told
        .events()
        .iter()
        .map(|event| (event.ownership, event.process.tgid, event.direction))
        .collect();
    let known = (Ownership::Seen, 42, Some(Direction::Out));
    let unknown = (Ownership::Unknown, 0, None);
    assert_eq!(owners, [known, known, unknown, unknown]);
    let notice = Item::Notice("a surprise".into());
    assert!(told.batch.items.contains(&notice));
}
