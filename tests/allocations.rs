/*!
From the ring to the line of output, an event costs no allocation once its
process and its pool are known: counted by the allocator itself.
*/

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use tracer::kernel::probes::Misses;
use tracer::model::{About, Selection};
use tracer::source::live::repair::List;
use tracer::source::live::survey::{Reading, Survey};
use tracer::source::live::{Kernel, Live};
use tracer::source::{Batch, Item, Source as _};
use tracer::stream::tracker::Tracker;
use tracer::view::json::Json;
use tracer::view::{Frames, View as _};
use tracer_ebpf::{
    COUNTERS, Event, FailureCount, FailureKey, Owner, Socket, Tuple, closer, direction, kind,
    reason, tcp_state,
};

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Connections between two drains.
const BURST: u32 = 1_000;

/// Bursts; the first half may fill tables and buffers.
const BURSTS: u32 = 100;

/// Processes that connect, in turn.
const PROCESSES: u32 = 16;

/// Connections that are in TIME_WAIT at a time.
const WAITING: u32 = 10_000;

/// A kernel whose ring has one more burst each time it is read: births of several processes in
/// turn, and as many ends.
struct Ring {
    burst: u32,
    wake: (std::io::PipeReader, std::io::PipeWriter),
}

/// What befalls connection `number`, at the time when connection `now` closes.
fn event(number: u32, kind: u8, now: u32) -> Event {
    let address = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last];
    let birth = kind == kind::TIME_WAIT;
    let process = 1000 + number % PROCESSES;
    let owner = Owner {
        start_ns: u64::from(process),
        tgid: process,
        tid: process,
        comm: *b"client\0\0\0\0\0\0\0\0\0\0",
        ..Owner::default()
    };
    Event {
        ts_ns: 1_000_000_000_000 + u64::from(now) * 20_000,
        cookie: u64::from(number) + 1,
        owner: if birth { owner } else { Owner::default() },
        tuple: Tuple {
            netns: 4_026_531_840,
            family: tracer_ebpf::AF_INET,
            sport: 20_000 + (number % 20_000) as u16,
            dport: 7000,
            src: address(1),
            dst: address(2),
            ..Tuple::default()
        },
        flags: if birth {
            0
        } else {
            tracer_ebpf::flags::OWNER_UNKNOWN
        },
        kind,
        closer: if birth { closer::LOCAL } else { 0 },
        direction: if birth { direction::OUT } else { 0 },
        state: tcp_state::TIME_WAIT,
        reason: if birth { 0 } else { reason::EXPIRED },
        ..Event::default()
    }
}

impl Kernel for Ring {
    fn ring(&self) -> BorrowedFd<'_> {
        self.wake.0.as_fd()
    }

    fn drain(&mut self, _: usize, each: &mut dyn FnMut(&[u8])) -> bool {
        let mut send = |event: Event| {
            // SAFETY: the wire types are made of integers without padding.
            let bytes: [u8; size_of::<Event>()] = unsafe { std::mem::transmute(event) };
            each(&bytes);
        };
        let first = self.burst * BURST;
        for number in first..first + BURST {
            send(event(number, kind::TIME_WAIT, number));
            if let Some(old) = number.checked_sub(WAITING) {
                send(event(old, kind::TIME_WAIT_END, number));
            }
        }
        self.burst += 1;
        true
    }

    fn surprises(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn failures(&mut self) -> anyhow::Result<Vec<(FailureKey, FailureCount)>> {
        Ok(Vec::new())
    }

    fn counters(&mut self) -> anyhow::Result<[u64; COUNTERS as usize]> {
        Ok([0; COUNTERS as usize])
    }

    fn misses(&self) -> Misses {
        Misses::default()
    }

    fn unfinished(&self, _: &mut dyn FnMut(u64, &Socket)) -> anyhow::Result<()> {
        Ok(())
    }

    fn unfinished_one(&self, _key: u64) -> Option<Socket> {
        None
    }

    fn detach(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

#[test]
fn an_event_costs_no_allocation() {
    let ring = Ring {
        burst: 0,
        wake: std::io::pipe().unwrap(),
    };
    let about = About {
        ends: true,
        ..About::default()
    };
    // Asked once; it does not answer, so that only the ring is looked at.
    let survey = Survey::start(
        |_| {
            std::thread::park();
            Reading::default()
        },
        |_| List::Gone,
    );
    let mut source = Live::new(ring, about.clone(), survey.unwrap(), Vec::new());
    let mut json = Json::new(&about);
    let mut tracker = Tracker::new(&about, Selection::default(), false);
    let mut batch = Batch::default();
    let mut frames = Frames::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut events, mut allocations) = (0, 0);
    for burst in 0..BURSTS {
        batch.items.clear();
        frames.clear();
        let before = ALLOCATIONS.get();
        // As soon as there is something, which is always.
        runtime
            .block_on(source.next(&mut batch, Duration::ZERO))
            .unwrap();
        let mut told = 0;
        for item in batch.items.drain(..) {
            match item {
                Item::Event(event) => {
                    told += 1;
                    if tracker.event(&event) {
                        json.event(&event, &mut frames).unwrap();
                    }
                }
                // What time costs is asked once a second, not of an event.
                Item::Clock { .. } | Item::Loss(_) => {}
                item => tracker.take(item),
            }
        }
        if burst >= BURSTS / 2 {
            allocations += ALLOCATIONS.get() - before;
            events += told;
        }
    }
    assert_eq!(events, BURST * BURSTS);
    tracker.judge();
    let held: u64 = tracker.state().pools.iter().map(|pool| pool.used()).sum();
    assert_eq!(held, u64::from(WAITING));
    // A look at the loss counters, once a second, is boxed.
    assert!(
        allocations < 20,
        "{allocations} allocations for {events} events"
    );
}
