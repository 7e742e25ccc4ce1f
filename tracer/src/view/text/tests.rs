/*! What a person reads, to the letter. */

mod verdicts;

use std::sync::Arc;

use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr as _;

use super::{Options, Text};
use crate::model::sample::{closed_in, exhausted, foreign_bind, opened, task, time_wait};
use crate::model::{About, EndReason, Event, Failure, Kind, Loss, Lost, Ownership, TcpState};
use crate::state::{State, Tally};
use crate::view::{Frames, Judging, View};

fn text(change: impl FnOnce(&mut Options)) -> Text {
    let mut options = Options {
        width: None,
        colour: false,
        each: false,
        ends: false,
        judging: Judging::Stream,
        zone: TimeZone::UTC,
    };
    change(&mut options);
    Text::new(options, 1_700_000_000_000_000_000)
}

/// What is written at the end, but for the last words.
fn end(view: &mut Text, state: &State) -> String {
    let mut out = Frames::default();
    view.end(state, &mut out).unwrap();
    String::from_utf8(out.bytes().to_vec()).unwrap()
}

/// The last words.
fn summary(view: &mut Text, state: &State) -> String {
    let mut out = Frames::default();
    view.summary(state, &mut out).unwrap();
    String::from_utf8(out.bytes().to_vec()).unwrap()
}

struct Screen {
    view: Text,
    out: Frames,
}

impl Screen {
    fn new(view: Text) -> Self {
        Self {
            view,
            out: Frames::default(),
        }
    }

    fn event(&mut self, event: &Event) {
        self.view.event(event, &mut self.out).unwrap();
    }

    fn failures(&mut self, count: u64, first: Event, fresh: bool) {
        let failure = Failure {
            count,
            fresh,
            ..Failure::single(first)
        };
        self.view.failure(&failure, &mut self.out).unwrap();
    }

    fn tick(&mut self, now_ns: u64) -> String {
        let state = State {
            now_ns,
            ..State::default()
        };
        self.view.look(&state, &mut self.out).unwrap();
        self.shown()
    }

    fn finish(&mut self) -> String {
        let shown = self.shown();
        shown + &end(&mut self.view, &State::default())
    }

    fn shown(&mut self) -> String {
        let shown = String::from_utf8(self.out.bytes().to_vec()).unwrap();
        self.out.clear();
        shown
    }
}

#[test]
fn a_burst_is_one_line_a_second() {
    let mut screen = Screen::new(text(|_| ()));
    assert_eq!(screen.tick(1_000_000_000), "");
    for _ in 0..3 {
        screen.event(&time_wait());
    }
    screen.failures(1200, exhausted(), true);
    screen.failures(4, exhausted(), false);
    let mut other = time_wait();
    Arc::make_mut(&mut other.process).tgid = 5;
    other.ts_ns += 1;
    screen.event(&other);
    assert_eq!(screen.tick(1_999_999_999), "");
    assert_eq!(
        screen.tick(2_000_000_000),
        "\
22:13:21 web[4242]      TIME_WAIT     ×3     → 10.0.0.2:6432 lived mean 1.24ms, from 10.0.0.1
22:13:21 web[4242]      EADDRNOTAVAIL ×1,204 → 10.0.0.2:6432 ports_exhausted, from 10.0.0.1
22:13:21 web[5]         TIME_WAIT            → 10.0.0.2:6432 lived 1.24ms, from 10.0.0.1:40001, thread worker
"
    );
    assert_eq!(screen.tick(9_000_000_000), "");
    screen.event(&time_wait());
    assert!(screen.finish().contains("TIME_WAIT"));
    assert_eq!(screen.finish(), "");
}

#[test]
fn each_kind_has_its_words() {
    let mut screen = Screen::new(text(|options| {
        options.each = true;
        options.ends = true;
    }));
    let contained = |mut event: Event| {
        Arc::make_mut(&mut event.process).container = Some("3f4e5d6c7b8a99aabbcc".into());
        event
    };
    screen.event(&contained(opened()));
    screen.event(&contained(closed_in()));
    screen.event(&contained(Event {
        kind: Kind::TimeWaitEnd,
        end_reason: Some(EndReason::Expired),
        ..time_wait()
    }));
    screen.event(&contained(Event {
        ownership: Ownership::Unknown,
        inferred: true,
        ..time_wait()
    }));
    screen.failures(1, contained(foreign_bind()), true);
    assert_eq!(
        screen.finish(),
        "\
22:13:21.500 web[4242]      opened               → 10.0.0.2:6432 from 10.0.0.1:40001, thread worker, container 3f4e5d6c7b8a
22:13:21.500 web[4242]      closed               ← 10.0.0.1:5432 lived 2.00s, closed by peer, thread worker, owner at close, container 3f4e5d6c7b8a
22:13:21.500 web[4242]      freed                → 10.0.0.2:6432 TIME_WAIT expired, from 10.0.0.1:40001, thread worker, container 3f4e5d6c7b8a
22:13:21.500 ?              TIME_WAIT            → 10.0.0.2:6432 lived 1.24ms, from 10.0.0.1:40001, inferred, container 3f4e5d6c7b8a
22:13:21.500 web[4242]      EADDRNOTAVAIL        bind 10.0.0.1:8080 address_not_local, thread worker, container 3f4e5d6c7b8a
"
    );
}

#[test]
fn a_mix_of_substates_is_one_line() {
    let waiting = Event {
        state: Some(TcpState::FinWait2),
        ..time_wait()
    };
    let mut screen = Screen::new(text(|_| ()));
    screen.event(&waiting);
    screen.event(&waiting);
    assert_eq!(
        screen.finish(),
        "22:13:21 web[4242]      FIN_WAIT2     ×2     → 10.0.0.2:6432 lived mean 1.24ms, from 10.0.0.1\n"
    );
    screen.event(&waiting);
    screen.event(&time_wait());
    screen.event(&time_wait());
    assert_eq!(
        screen.finish(),
        "22:13:21 web[4242]      TIME_WAIT     ×3     → 10.0.0.2:6432 lived mean 1.24ms, 1 in FIN_WAIT2, from 10.0.0.1\n"
    );
}

#[test]
fn ends_are_silent_unless_asked_for() {
    let mut screen = Screen::new(text(|_| ()));
    screen.event(&Event {
        kind: Kind::TimeWaitEnd,
        ..time_wait()
    });
    assert_eq!(screen.finish(), "");
}

#[test]
fn eighty_columns_are_enough() {
    let mut screen = Screen::new(text(|options| options.width = Some(80)));
    screen.failures(1204, exhausted(), true);
    assert_eq!(
        screen.finish(),
        "22:13:21 web[4242]      EADDRNOTAVAIL ×1,204 → 10.0.0.2:6432 ports_exhausted, f…\n"
    );
    let mut long = time_wait();
    let process = Arc::make_mut(&mut long.process);
    process.comm = task(b"a-very-long-pro");
    process.tgid = 4_194_304;
    long.tuple.dst = "2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap();
    screen.event(&long);
    let mut wide = long.clone();
    let process = Arc::make_mut(&mut wide.process);
    process.comm = task("\u{65e5}\u{672c}\u{8a9e}".as_bytes());
    process.tgid = 1;
    screen.event(&wide);
    for width in [0, 1, 20, 40, 60, 80, 120] {
        let mut narrow = Screen::new(text(|options| options.width = Some(width)));
        narrow.event(&long);
        narrow.event(&wide);
        for line in narrow.finish().lines() {
            assert!(line.width() <= width, "{width}: {line}");
        }
    }
    for line in screen.finish().lines() {
        assert!(line.width() <= 80, "{line}");
        assert!(
            line.contains(":6432") && line.contains("TIME_WAIT"),
            "{line}"
        );
    }
}

#[test]
fn a_hostile_name_stays_in_its_column() {
    let mut screen = Screen::new(text(|options| options.each = true));
    let mut hostile = time_wait();
    let process = Arc::make_mut(&mut hostile.process);
    process.comm = task(b"\x1b]52;c;x\x07\nroot");
    process.thread = task("\u{202e}gpj".as_bytes());
    screen.event(&hostile);
    let line = screen.finish();
    assert_eq!(line.lines().count(), 1);
    assert!(
        line.contains("\\u{1b}]52;c;x\\u{7}\\u{a}root[4242]"),
        "{line}"
    );
    assert!(line.contains("thread \\u{202e}gpj"), "{line}");
    assert!(!line.trim_end().contains(crate::view::escape::is_hazardous));
}

#[test]
fn colour_is_only_where_asked_for() {
    let mut plain = Screen::new(text(|_| ()));
    plain.failures(1, exhausted(), true);
    assert!(!plain.finish().contains('\u{1b}'));
    let mut coloured = Screen::new(text(|options| options.colour = true));
    coloured.failures(1, exhausted(), true);
    assert!(
        coloured
            .finish()
            .contains("\u{1b}[31mEADDRNOTAVAIL\u{1b}[0m")
    );
}

fn state(losses: Loss) -> State {
    let mut tally = Tally::default();
    let failure = Failure {
        count: 150,
        ..Failure::single(exhausted())
    };
    tally.failure(&failure);
    for _ in 0..2000 {
        tally.event(&time_wait());
    }
    let mut other = opened();
    Arc::make_mut(&mut other.process).tgid = 0;
    tally.event(&other);
    State {
        now_ns: 6_000_000_000,
        began_ns: 1_000_000_000,
        totals: tally,
        losses,
        about: About {
            kernel: "6.1.0".into(),
            backend: [("state", "tracepoint"), ("connect", "trampoline")]
                .map(|(fact, backend)| (fact.to_owned(), backend.to_owned()))
                .into(),
            opens: false,
            clock_offset_ns: 0,
            ..About::default()
        },
        ..State::default()
    }
}

#[test]
fn the_summary_ends_with_what_was_lost() {
    let mut view = text(|_| ());
    assert_eq!(
        summary(&mut view, &state(Loss::default())),
        "\
summary of 5.00s
  connect() failed          150
  bind() failed               0
  TIME_WAIT               2,000
  opened                      1
  web[4242]  → 10.0.0.2:6432  150 EADDRNOTAVAIL ports_exhausted, 2,000 TIME_WAIT
  ?          → 10.0.0.2:6432  1 opened
  lost              nothing
  seen with         tracepoints (state), trampolines (connect); Linux 6.1.0
"
    );
    let loss = Loss {
        lost: Lost {
            ring_full: 1204,
            output: 3,
            ..Lost::default()
        },
        recursion_skipped: 12,
        recursion_rescued: 12,
        ..Loss::default()
    };
    let mut last = state(loss);
    last.shortfall.unlisted = 1204;
    last.shortfall.evicted.pools = 3;
    let shown = summary(&mut view, &last);
    for line in [
        "  not listed        the sockets of 1,204 network namespaces, for want of time\n",
        "  not kept apart    3 events and sockets of pools beyond the limit, 0 of owners, 0 of failures\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(
        shown.contains("  lost              1,204 ring buffer full, 3 slow output\n"),
        "{shown}"
    );
    assert!(
        shown
            .contains("  recursion         12 skipped by the kernel, 12 ends found all the same\n"),
        "{shown}"
    );
}

#[test]
fn a_loss_is_said_when_it_happens() {
    let loss = Loss {
        lost: Lost {
            sockets_full: 7,
            ..Lost::default()
        },
        ..Loss::default()
    };
    let state = State {
        now_ns: 1_000_000_000,
        losses: loss,
        ..State::default()
    };
    let mut screen = Screen::new(text(|_| ()));
    screen.out.set_room(usize::MAX);
    screen.view.look(&state, &mut screen.out).unwrap();
    assert_eq!(screen.shown(), "22:13:21 lost so far: 7 sockets map full\n");
}

#[test]
fn what_is_held_back_has_a_time_by_which_it_is_due() {
    let mut screen = Screen::new(text(|_| ()));
    assert_eq!(screen.view.due_ns(), None);
    screen.view.event(&time_wait(), &mut screen.out).unwrap();
    let due_ns = screen.view.due_ns().unwrap();
    let at = |now_ns| State {
        now_ns,
        ..State::default()
    };
    screen.view.look(&at(due_ns - 1), &mut screen.out).unwrap();
    assert_eq!(screen.view.due_ns(), Some(due_ns));
    screen.view.look(&at(due_ns), &mut screen.out).unwrap();
    assert_eq!(screen.view.due_ns(), None);
    assert_eq!(screen.shown().lines().count(), 1);
}
