/*!
What one event costs user space, stage by stage: decode, the books, the sums,
and each view; and what a judgement costs. A stream of TIME_WAITs, as a storm
makes them: sixteen processes to four destinations.

Times are of this machine; the stages are compared with one another. How many
events a second the books take beside many pools and dumps: `benches/ledger.rs`;
what all of it costs beside a live kernel: `benches/live`.
*/

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use jiff::tz::TimeZone;
use tracer::diagnosis::diagnose;
use tracer::ledger::{Feed, Ledger, Limits};
use tracer::model::{About, Event, Process, Task};
use tracer::source::live::wire;
use tracer::state::Tally;
use tracer::view::json::Json;
use tracer::view::text::{Options, Text};
use tracer::view::{Frames, Judging, View};
use tracer_ebpf::{closer, direction, kind, tcp_state};

/// Events of a pass.
const EVENTS: u32 = 10_000;

/// `CLOCK_MONOTONIC` of the first, ns.
const START_NS: u64 = 1_000_000_000_000;

const FEED: Feed = Feed {
    opens: false,
    ends: true,
};

/// `::ffff:192.0.2.last`
fn address(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last]
}

/// The record that the kernel side sends of one TIME_WAIT.
fn record(number: u32) -> Vec<u8> {
    let process = 1000 + number % 16;
    let owner = tracer_ebpf::Owner {
        start_ns: u64::from(process) * 1_000_000,
        cgroup_id: 1,
        tgid: process,
        tid: process,
        uid: 1000,
        comm: *b"client\0\0\0\0\0\0\0\0\0\0",
        thread: *b"worker\0\0\0\0\0\0\0\0\0\0",
        ..Default::default()
    };
    let tuple = tracer_ebpf::Tuple {
        netns: 4_026_531_840,
        family: tracer_ebpf::AF_INET,
        sport: 20_000 + (number / 4) as u16,
        dport: 7000 + (number % 4) as u16,
        src: address(1),
        dst: address(2),
        ..Default::default()
    };
    let event = tracer_ebpf::Event {
        ts_ns: START_NS + u64::from(number) * 20_000,
        cookie: u64::from(number) + 1,
        duration_ns: 40_000,
        owner,
        tuple,
        kind: kind::TIME_WAIT,
        closer: closer::LOCAL,
        direction: direction::OUT,
        state: tcp_state::TIME_WAIT,
        ..Default::default()
    };
    // SAFETY: the wire types are made of integers without padding.
    let bytes: [u8; size_of::<tracer_ebpf::Event>()] = unsafe { std::mem::transmute(event) };
    bytes.to_vec()
}

fn stages(criterion: &mut Criterion) {
    let records: Vec<Vec<u8>> = (0..EVENTS).map(record).collect();
    let mut known: HashMap<Task, Arc<Process>> = HashMap::new();
    let mut people = |task: &Task| {
        let process = known.entry(*task).or_insert_with(|| {
            Arc::new(Process {
                exe: Some("/usr/bin/client".into()),
                cgroup: Some("/system.slice/client.service".into()),
                ..Process::of(task)
            })
        });
        Arc::clone(process)
    };
    let events: Vec<Event> = records
        .iter()
        .map(|record| wire::decode(record, &mut people).expect("the record is well formed"))
        .collect();
    let about = About::default();

    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Elements(u64::from(EVENTS)));
    group.bench_function("decode", |bench| {
        bench.iter(|| {
            for record in &records {
                black_box(wire::decode(black_box(record), &mut people).is_ok());
            }
        });
    });
    group.bench_function("ledger", |bench| {
        bench.iter_batched_ref(
            || Ledger::new(Limits::new(FEED)),
            |ledger| events.iter().for_each(|event| ledger.event(event)),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("tally", |bench| {
        bench.iter_batched_ref(
            Tally::default,
            |tally| events.iter().for_each(|event| tally.event(event)),
            BatchSize::LargeInput,
        );
    });
    let mut view = |name: &str, make: &dyn Fn() -> Box<dyn View>| {
        group.bench_function(name, |bench| {
            bench.iter_batched_ref(
                || (make(), Frames::default()),
                |(view, out)| {
                    for event in &events {
                        view.event(event, out).expect("memory takes it");
                    }
                },
                BatchSize::LargeInput,
            );
        });
    };
    view("json", &|| Box::new(Json::new(&about)));
    view("text", &|| {
        let options = Options {
            width: None,
            colour: false,
            each: false,
            ends: false,
            judging: Judging::Stream,
            zone: TimeZone::UTC,
        };
        Box::new(Text::new(options, 0))
    });
    group.finish();

    let mut ledger = Ledger::new(Limits::new(FEED));
    events.iter().for_each(|event| ledger.event(event));
    let now_ns = START_NS + 1_000_000_000;
    ledger.advance(now_ns);
    criterion.bench_function("judgement", |bench| {
        bench.iter(|| {
            let (pools, elsewhere) = (ledger.pools(now_ns), ledger.elsewhere());
            black_box(diagnose(&pools, &elsewhere, |inode| ledger.namespace(inode)).len());
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    stages(&mut criterion);
    criterion.final_summary();
}
