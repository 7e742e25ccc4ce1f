/*! What a person reads, to the letter. */

mod verdicts;

use std::sync::Arc;

use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr as _;

use super::{Options, Text};
use crate::event::sample::{closed_in, exhausted, foreign_bind, opened, task, time_wait};
use crate::event::{EndReason, Event, Kind, Ownership, TcpState};
use crate::host::process::Identity;
use crate::source::{About, Failure, Loss, Lost};
use crate::stream::books::{Judgement, Shortfall};
use crate::stream::tally::Tally;
use crate::view::{Summary, View};

fn text(change: impl FnOnce(&mut Options)) -> Text {
    let mut options = Options {
        width: None,
        colour: false,
        each: false,
        ends: false,
        zone: TimeZone::UTC,
    };
    change(&mut options);
    Text::new(options, 1_700_000_000_000_000_000)
}

struct Screen {
    view: Text,
    out: Vec<u8>,
    who: Arc<Identity>,
}

impl Screen {
    fn new(view: Text) -> Self {
        Self {
            view,
            out: Vec::new(),
            who: Arc::default(),
        }
    }

    fn event(&mut self, event: &Event) {
        self.view.event(event, &self.who, &mut self.out).unwrap();
    }

    fn failures(&mut self, count: u64, first: Event, fresh: bool) {
        let failure = Failure {
            count,
            fresh,
            ..Failure::single(first)
        };
        self.view
            .failure(&failure, &self.who, &mut self.out)
            .unwrap();
    }

    fn tick(&mut self, now_ns: u64) -> String {
        self.view.tick(now_ns, &mut self.out).unwrap();
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    fn finish(&mut self) -> String {
        self.view.finish(&mut self.out).unwrap();
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
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
    other.owner.tgid = 5;
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
    screen.who = Arc::new(Identity {
        container: Some("3f4e5d6c7b8a99aabbcc".into()),
        ..Identity::default()
    });
    screen.event(&opened());
    screen.event(&closed_in());
    screen.event(&Event {
        kind: Kind::TimeWaitEnd,
        end_reason: Some(EndReason::Expired),
        ..time_wait()
    });
    screen.event(&Event {
        ownership: Ownership::Unknown,
        inferred: true,
        ..time_wait()
    });
    screen.failures(1, foreign_bind(), true);
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
    long.owner.comm = task(b"a-very-long-pro");
    long.owner.tgid = 4_194_304;
    long.tuple.dst = "2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap();
    screen.event(&long);
    let mut wide = long;
    wide.owner.comm = task("\u{65e5}\u{672c}\u{8a9e}".as_bytes());
    wide.owner.tgid = 1;
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
    hostile.owner.comm = task(b"\x1b]52;c;x\x07\nroot");
    hostile.owner.thread = task("\u{202e}gpj".as_bytes());
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

fn summary(loss: Loss) -> Summary {
    let who = Arc::default();
    let mut tally = Tally::default();
    let failure = Failure {
        count: 150,
        ..Failure::single(exhausted())
    };
    tally.failure(&failure, &who);
    for _ in 0..2000 {
        tally.event(&time_wait(), &who);
    }
    let mut other = opened();
    other.owner.tgid = 0;
    tally.event(&other, &who);
    Summary {
        judgement: Judgement::default(),
        shortfall: Shortfall::default(),
        end_ns: 6_000_000_000,
        duration_ns: 5_000_000_000,
        totals: tally.totals(),
        rows: tally.rows(),
        beyond: tally.beyond(),
        loss,
        about: About {
            kernel: "6.1.0".into(),
            backend: [("state", "tracepoint"), ("connect", "trampoline")]
                .map(|(fact, backend)| (fact.to_owned(), backend.to_owned()))
                .into(),
            opens: false,
            clock_offset_ns: 0,
        },
    }
}

#[test]
fn the_summary_ends_with_what_was_lost() {
    let mut out = Vec::new();
    let mut view = text(|_| ());
    view.summary(&summary(Loss::default()), &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
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
    let mut out = Vec::new();
    let mut last = summary(loss);
    last.shortfall.unlisted = 1204;
    last.shortfall.evicted.pools = 3;
    view.summary(&last, &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
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
    let mut out = Vec::new();
    text(|_| ()).loss(1_000_000_000, &loss, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "22:13:21 lost so far: 7 sockets map full\n"
    );
}
