/*! The lines, whole: their fields are an interface. */

mod verdicts;

use std::net::IpAddr;
use std::sync::Arc;

use super::Json;
use crate::model::sample::{closed_in, exhausted, foreign_bind, opened, task, time_wait};
use crate::model::{
    About, EndReason, Event, Evicted, Failure, Kind, Loss, Lost, Ownership, Runtime, Shortfall,
};
use crate::state::{State, Tally};
use crate::view::{Frames, View};

fn json() -> Json {
    Json::new(&About {
        opens: false,
        clock_offset_ns: 1_700_000_000_000_000_000,
        ..About::default()
    })
}

fn rendered(render: impl FnOnce(&mut Json, &mut Frames) -> std::io::Result<()>) -> String {
    let mut out = Frames::default();
    out.set_room(usize::MAX);
    render(&mut json(), &mut out).unwrap();
    String::from_utf8(out.bytes().to_vec()).unwrap()
}

fn event(event: Event) -> String {
    rendered(|json, out| json.event(&event, out))
}

fn failure(failure: &Failure) -> String {
    rendered(|json, out| json.failure(failure, out))
}

#[test]
fn time_wait_with_everything() {
    let mut waiting = time_wait();
    let process = Arc::make_mut(&mut waiting.process);
    process.exe = Some("/usr/bin/web".into());
    process.cgroup = Some("/system.slice/docker-3f4e.scope".into());
    process.container = Some("3f4e".into());
    process.runtime = Some(Runtime::Docker);
    process.pod = Some("9a8b".into());
    assert_eq!(
        event(waiting),
        concat!(
            r#"{"schema":1,"type":"time_wait","ts":"2023-11-14T22:13:21.500000000Z","#,
            r#""pid":4242,"tid":4243,"comm":"web","thread":"worker","exe":"/usr/bin/web","uid":1000,"#,
            r#""container":"3f4e","runtime":"docker","pod":"9a8b","cgroup":"/system.slice/docker-3f4e.scope","#,
            r#""netns":4026531840,"direction":"out","src":"10.0.0.1","sport":40001,"dst":"10.0.0.2","dport":6432,"#,
            r#""closer":"local","state":"TIME_WAIT","duration_ns":1240000,"search_ns":650,"cookie":99}"#,
            "\n"
        )
    );
}

#[test]
fn an_owner_that_is_not_known_is_not_named() {
    let line = event(Event {
        ownership: Ownership::Unknown,
        inferred: true,
        ..time_wait()
    });
    assert_eq!(
        line,
        concat!(
            r#"{"schema":1,"type":"time_wait","ts":"2023-11-14T22:13:21.500000000Z","owner":"unknown","#,
            r#""netns":4026531840,"direction":"out","src":"10.0.0.1","sport":40001,"dst":"10.0.0.2","dport":6432,"#,
            r#""closer":"local","state":"TIME_WAIT","duration_ns":1240000,"search_ns":650,"cookie":99,"inferred":true}"#,
            "\n"
        )
    );
}

#[test]
fn inbound_and_opened_and_ended() {
    let line = event(closed_in());
    assert!(line.contains(r#""owner":"at_close""#), "{line}");
    assert!(
        line.contains(r#""direction":"in","src":"10.0.0.1","sport":5432"#),
        "{line}"
    );
    assert!(
        line.contains(r#""closer":"peer","state":"LAST_ACK""#),
        "{line}"
    );
    assert!(event(opened()).contains(r#""type":"opened""#));
    let line = event(Event {
        kind: Kind::TimeWaitEnd,
        end_reason: Some(EndReason::Early),
        ..time_wait()
    });
    assert!(line.contains(r#""type":"time_wait_end""#), "{line}");
    assert!(line.contains(r#""reason":"early""#), "{line}");
}

#[test]
fn ipv6_and_mapped() {
    let mut six = time_wait();
    six.tuple.src = "fe80::1".parse::<IpAddr>().unwrap();
    six.tuple.dst = "fd00::2".parse::<IpAddr>().unwrap();
    six.tuple.ifindex = 3;
    let line = event(six);
    assert!(
        line.contains(
            r#""ifindex":3,"direction":"out","src":"fe80::1","sport":40001,"dst":"fd00::2""#
        ),
        "{line}"
    );
    let mut mapped = time_wait();
    mapped.tuple.mapped = true;
    assert!(event(mapped).contains(r#""dst":"10.0.0.2","dport":6432,"mapped":true"#));
}

#[test]
fn failures_carry_their_count_and_the_time_of_the_newest() {
    let many = Failure {
        count: 150,
        last_ns: 2_000_000_000,
        search_sum_ns: 150 * 81_000,
        first: exhausted(),
        fresh: true,
    };
    assert_eq!(
        failure(&many),
        concat!(
            r#"{"schema":1,"type":"connect_failed","ts":"2023-11-14T22:13:22.000000000Z","#,
            r#""pid":4242,"tid":4243,"comm":"web","thread":"worker","uid":1000,"#,
            r#""netns":4026531840,"direction":"out","src":"10.0.0.1","dst":"10.0.0.2","dport":6432,"#,
            r#""errno":"EADDRNOTAVAIL","cause":"ports_exhausted","count":150,"search_ns":81000}"#,
            "\n"
        )
    );
}

#[test]
fn a_source_port_does_not_stand_for_other_failures() {
    let mut first = exhausted();
    first.tuple.sport = 40001;
    let mut some = Failure::single(first);
    assert!(failure(&some).contains(r#""sport":40001"#));
    assert!(failure(&some).contains(r#""cookie":99"#));
    some.fresh = false;
    assert!(!failure(&some).contains("sport") && !failure(&some).contains("cookie"));
    let mut bind = Failure::single(foreign_bind());
    bind.count = 5;
    assert_eq!(
        failure(&bind),
        concat!(
            r#"{"schema":1,"type":"bind_failed","ts":"2023-11-14T22:13:21.500000000Z","#,
            r#""pid":4242,"tid":4243,"comm":"web","thread":"worker","uid":1000,"#,
            r#""netns":4026531840,"src":"10.0.0.1","sport":8080,"#,
            r#""errno":"EADDRNOTAVAIL","cause":"address_not_local","count":5}"#,
            "\n"
        )
    );
}

#[test]
fn hostile_names_are_the_same_string_to_a_reader_and_nothing_to_a_terminal() {
    for (name, string) in [
        (b"\x1b]52;c;x\x07".as_slice(), "\u{1b}]52;c;x\u{7}"),
        ("a\u{202e}b\u{9b}".as_bytes(), "a\u{202e}b\u{9b}"),
        ("tag\u{e0041}".as_bytes(), "tag\u{e0041}"),
        (b"two\nlines", "two\nlines"),
        (b"\"quoted\"\\", "\"quoted\"\\\\"),
        (b"\xffbad\xc3", "\\xffbad\\xc3"),
    ] {
        let mut hostile = time_wait();
        Arc::make_mut(&mut hostile.process).comm = task(name);
        let line = event(hostile);
        assert!(
            line.trim_end()
                .bytes()
                .all(|byte| (b' '..0x7f).contains(&byte)),
            "{line:?}"
        );
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["comm"], string);
    }
}

#[test]
fn loss_and_summary() {
    let loss = Loss {
        lost: Lost {
            ring_full: 3,
            output: 4,
            ..Lost::default()
        },
        recursion_skipped: 12,
        recursion_rescued: 12,
        samples_skipped: 5,
        failures_full: 0,
    };
    let lost = concat!(
        r#""lost":{"ring_full":3,"sockets_full":0,"pids_full":0,"attempts_full":0,"recursion":0,"#,
        r#""undecodable":0,"unreadable":0,"unseen":0,"output":4}"#
    );
    let lossy = State {
        losses: loss,
        ..State::default()
    };
    assert_eq!(
        rendered(|json, out| json.look(&lossy, out)),
        format!(
            "{}{lost}}}\n",
            r#"{"schema":1,"type":"loss","ts":"2023-11-14T22:13:20.000000000Z","#
        )
    );
    let mut totals = Tally::default();
    totals.failure(&Failure {
        count: 150,
        ..Failure::single(exhausted())
    });
    for _ in 0..2000 {
        totals.event(&time_wait());
    }
    let state = State {
        now_ns: 5_000_000_000,
        began_ns: 0,
        totals,
        losses: loss,
        shortfall: Shortfall {
            unlisted: 2,
            evicted: Evicted {
                pools: 7,
                owners: 8,
                failures: 9,
            },
        },
        about: About {
            kernel: "6.1.0".into(),
            backend: [("state".to_owned(), "tracepoint".to_owned())].into(),
            opens: false,
            clock_offset_ns: 0,
            ..About::default()
        },
        ..State::default()
    };
    assert_eq!(
        rendered(|json, out| json.summary(&state, out)),
        format!(
            "{}{}{lost},{}\n",
            r#"{"schema":1,"type":"summary","ts":"2023-11-14T22:13:25.000000000Z","duration_ns":5000000000,"#,
            r#""events":{"connect_failed":150,"bind_failed":0,"time_wait":2000,"time_wait_inferred":0,"time_wait_end":0,"opened":0,"closed":0},"#,
            r#""recursion":{"skipped":12,"rescued":12},"samples_skipped":5,"failures_full":0,"unlisted":2,"evicted":{"pools":7,"owners":8,"failures":9},"kernel":"6.1.0","backend":{"state":"tracepoint"}}"#
        )
    );
}
