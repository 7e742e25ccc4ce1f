/*!
From the ring to the line of output, an event costs no allocation once its
process and its pool are known: counted by the allocator itself.
*/

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use tracer::host::process::Identity;
use tracer::kernel::probes::Misses;
use tracer::ledger::{Feed, Ledger, Limits};
use tracer::source::{About, Batch, Kernel, Live, Source as _};
use tracer::stream::tally::Tally;
use tracer::view::View as _;
use tracer::view::json::Json;
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
    file: File,
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
        self.file.as_fd()
    }

    fn drain(&mut self, each: &mut dyn FnMut(&[u8])) {
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
        file: File::open("/dev/null").unwrap(),
    };
    let about = About::default();
    let mut json = Json::new(&about);
    let mut source = Live::new(ring, about, |_| Ok(Vec::new()));
    let feed = Feed {
        opens: false,
        ends: true,
    };
    let mut ledger = Ledger::new(Limits::new(feed));
    let mut tally = Tally::default();
    let who: Arc<Identity> = Arc::default();
    let mut batch = Batch::default();
    let mut out = Vec::new();
    let (mut events, mut allocations) = (0, 0);
    for burst in 0..BURSTS {
        let before = ALLOCATIONS.get();
        batch.clear();
        source.drain(&mut batch).unwrap();
        for event in &batch.events {
            ledger.event(event, &who);
            tally.event(event, &who);
            json.event(event, &who, &mut out).unwrap();
        }
        out.clear();
        if burst >= BURSTS / 2 {
            allocations += ALLOCATIONS.get() - before;
            events += batch.events.len();
        }
    }
    assert_eq!(events as u32, BURST * BURSTS);
    assert_eq!(ledger.used_total(), u64::from(WAITING));
    assert!(
        allocations < 20,
        "{allocations} allocations for {events} events"
    );
}
