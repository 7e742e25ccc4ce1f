/*! The box, to the letter. */

use std::sync::Arc;

use unicode_width::UnicodeWidthStr as _;

use super::{compact, write};
use crate::diagnosis::{Kind, Verdict};
use crate::model::sample::task;
use crate::model::{Process, States, TcpState};
use crate::view::Page;
use crate::view::escape::is_hazardous;
use crate::view::sample::{NOW_NS, churn, failed, holder, id, leak};

fn page(width: usize) -> Page {
    Page {
        width: Some(width),
        colour: false,
    }
}

fn full(verdicts: &[Verdict], page: &Page) -> String {
    let mut out = Vec::new();
    write(verdicts, NOW_NS, page, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn brief(verdict: &Verdict, page: &Page) -> String {
    let mut out = Vec::new();
    compact(verdict, NOW_NS, "22:13:21", page, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// A verdict in which everything another process chooses is hostile or long.
fn hostile() -> Verdict {
    let mut verdict = leak();
    let name = b"\x1b[2J\xffa[1]\n";
    verdict.kind = Kind::CloseWait;
    verdict.namespace = "\u{202e}sn\u{1b}]0;x\u{7}".into();
    verdict.culprits[0].process = Arc::new(Process {
        comm: task(name),
        exe: Some(format!("/opt/{}\n", "deep/".repeat(60)).into()),
        container: Some("a\u{9b}2Jbcdefghijklmnop".into()),
        pod: Some("pod-".repeat(40).into()),
        cgroup: None,
        runtime: None,
        ..Process::clone(&verdict.culprits[0].process)
    });
    verdict.victims = vec![failed(9, name, 3)];
    verdict.evidence = vec![format!("{} holds it.", "\u{1b}[31mred\r\n")];
    verdict.remedies.truncate(1);
    verdict.remedies[0].lines = vec!["kill\u{1b}[8m 7".into()];
    verdict.myths.clear();
    verdict
}

#[test]
fn churn_at_80_columns() {
    assert_eq!(full(&[churn()], &page(80)), "\
── churn: connect() fails, 1,216 × EADDRNOTAVAIL ───────────────────────────────
  pool      10.0.0.1 → 10.0.0.2:6432 in web (netns 4026532281)
  level     ████████████████████ 1,000 of 1,000 ports, 100 %, peak 1,000
            TIME_WAIT 960, ESTABLISHED 40
  who       web[4242]: 940 ports (TIME_WAIT 900, ESTABLISHED 40), opens 1,240/s
            /usr/local/bin/web, containerd container 3f4e5d6c7b8a, pod
            9a8b7c6d-1111-2222-3333-444455556666
            before tracing: 60 ports (TIME_WAIT 60)
  victims   cron[77]: 12 × EADDRNOTAVAIL of connect(), ports_exhausted
  forecast  this rate takes 74,400 ports; there are 1,000
            at 260 of 1,000 ports it was forecast to be dry in 41 s; it took
            44 s, 3.0 s more
  rate      you open 1,240/s; this pool bears 16.7/s for ever, 12.5/s to be safe
  because   - 960 of 1,000 ports are in TIME_WAIT, 60 s each.
            - Half of the connections lived less than 1.24 ms, and our side
              closed 4,900 of 4,943 first, so TIME_WAIT stays here.
  do        1. Keep connections open and reuse them: a pool of 20 is enough for
               this rate.
               with pool of 20: 20 ports
               but: the server holds 20 connections all the time
            2. Widen the range in that namespace.
    ip netns exec web sysctl -w net.ipv4.ip_local_port_range='1024 65535' net.ipv4.ip_local_reserved_ports=8080,9090
               with range 1024-65535: 1,075/s
               but: services that listen above 1024 can find their port taken
  no help   tcp_fin_timeout: It bounds FIN_WAIT2 of orphans; TIME_WAIT lasts
            60 s whatever it says.
");
}

#[test]
fn churn_at_120_columns() {
    assert_eq!(full(&[churn()], &page(120)), "\
── churn: connect() fails, 1,216 × EADDRNOTAVAIL ───────────────────────────────────────────────────────────────────────
  pool      10.0.0.1 → 10.0.0.2:6432 in web (netns 4026532281)
  level     ██████████████████████████████ 1,000 of 1,000 ports, 100 %, peak 1,000
            TIME_WAIT 960, ESTABLISHED 40
  who       web[4242]: 940 ports (TIME_WAIT 900, ESTABLISHED 40), opens 1,240/s
            /usr/local/bin/web, containerd container 3f4e5d6c7b8a, pod 9a8b7c6d-1111-2222-3333-444455556666
            before tracing: 60 ports (TIME_WAIT 60)
  victims   cron[77]: 12 × EADDRNOTAVAIL of connect(), ports_exhausted
  forecast  this rate takes 74,400 ports; there are 1,000
            at 260 of 1,000 ports it was forecast to be dry in 41 s; it took 44 s, 3.0 s more
  rate      you open 1,240/s; this pool bears 16.7/s for ever, 12.5/s to be safe
  because   - 960 of 1,000 ports are in TIME_WAIT, 60 s each.
            - Half of the connections lived less than 1.24 ms, and our side closed 4,900 of 4,943 first, so TIME_WAIT
              stays here.
  do        1. Keep connections open and reuse them: a pool of 20 is enough for this rate.
               with pool of 20: 20 ports
               but: the server holds 20 connections all the time
            2. Widen the range in that namespace.
    ip netns exec web sysctl -w net.ipv4.ip_local_port_range='1024 65535' net.ipv4.ip_local_reserved_ports=8080,9090
               with range 1024-65535: 1,075/s
               but: services that listen above 1024 can find their port taken
  no help   tcp_fin_timeout: It bounds FIN_WAIT2 of orphans; TIME_WAIT lasts 60 s whatever it says.
");
}

#[test]
fn a_leak_towards_ipv6_at_80_columns() {
    let mut leak = leak();
    leak.evidence.truncate(1);
    leak.remedies.truncate(1);
    leak.myths.clear();
    assert_eq!(
        full(&[leak], &page(80)),
        "\
── leak: dry in 41 s ───────────────────────────────────────────────────────────
  pool      fd00:10:244:1::17 → [fd00:10:96:aaaa:bbbb:cccc:dddd:eeee]:5672 in
            web (netns 4026532281)
  level     ██████████████░░░░░░ 21,000 of 28,232 ports, 74 %, peak 21,000
            ESTABLISHED 21,000
  who       broker-client[7]: 21,000 ports (ESTABLISHED 21,000), opens 5.0/s
            /usr/local/bin/web, containerd container 3f4e5d6c7b8a, pod
            9a8b7c6d-1111-2222-3333-444455556666
  forecast  dry in 41 s at this rate
  rate      you open 5.0/s, and 4.8/s of them stay
  because   - 960 of 1,000 ports are in TIME_WAIT, 60 s each.
  do        1. Keep connections open and reuse them: a pool of 20 is enough for
               this rate.
               with pool of 20: 20 ports
               but: the server holds 20 connections all the time
"
    );
}

#[test]
fn hostile_names_at_80_columns() {
    assert_eq!(
        full(&[hostile()], &page(80)),
        "\
── close_wait: dry in 41 s ─────────────────────────────────────────────────────
  pool      fd00:10:244:1::17 → [fd00:10:96:aaaa:bbbb:cccc:dddd:eeee]:5672 in
            \\u{202e}sn\\u{1b}]0;x\\u{7} (netns 4026532281)
  level     ██████████████░░░░░░ 21,000 of 28,232 ports, 74 %, peak 21,000
            ESTABLISHED 21,000
  who       \\u{1b}[2J\\xffa[1]\\u{a}[7]: 21,000 ports (ESTABLISHED 21,000), opens
            5.0/s
            /opt/deep/deep/deep/deep/deep/deep/deep/deep/deep/deep/deep/deep/d…,
            container a\\u{9b}2Jbcdefghi, pod
            pod-pod-pod-pod-pod-pod-pod-pod-pod-pod-pod-pod-pod-pod-pod-po…
  victims   \\u{1b}[2J\\xffa[1]\\u{a}[9]: 3 × EADDRNOTAVAIL of connect(),
            ports_exhausted
  forecast  dry in 41 s at this rate
  rate      you open 5.0/s, and 4.8/s of them stay
  because   - \\u{1b}[31mred\\u{d}\\u{a} holds it.
  do        1. Keep connections open and reuse them: a pool of 20 is enough for
               this rate.
    kill\\u{1b}[8m 7
               with pool of 20: 20 ports
               but: the server holds 20 connections all the time
"
    );
}

#[test]
fn what_is_no_line_to_type_fits_the_page() {
    for width in [40, 57, 80, 100, 120, 200] {
        for verdict in [churn(), leak(), hostile()] {
            let text = full(std::slice::from_ref(&verdict), &page(width));
            for line in text.lines().filter(|line| !line.contains("sysctl -w")) {
                assert!(line.width() <= width, "{width}: {line}");
                assert!(!line.contains(is_hazardous), "{line:?}");
            }
            let text = brief(&verdict, &page(width));
            assert_eq!(text.lines().count(), 3);
            for line in text.lines() {
                assert!(line.width() <= width, "{width}: {line}");
                assert!(!line.contains(is_hazardous), "{line:?}");
            }
        }
    }
}

#[test]
fn a_line_to_type_is_never_broken() {
    let typed = &churn().remedies[1].lines[0];
    for width in [40, 80, 120] {
        let text = full(&[churn()], &page(width));
        assert!(
            text.lines().any(|line| line.trim_start() == typed),
            "{text}"
        );
    }
}

#[test]
fn the_compact_form_at_80_columns() {
    let text = brief(&churn(), &page(80)) + &brief(&leak(), &page(80));
    assert_eq!(
        text,
        "\
22:13:21 churn: connect() fails, 1,216 × EADDRNOTAVAIL  10.0.0.1 → 10.0.0.2:6432
         1,000/1,000 ports; web[4242]: 940; opens 1,240/s, bears 16.7/s
         → Keep connections open and reuse them: a pool of 20 is enough for thi…
22:13:21 leak: dry in 41 s  fd00:10:244:1::17 → [fd00:10:96:aaaa:bbbb:ccc…]:5672
         21,000/28,232 ports; broker-client[7]: 21,000; opens 5.0/s, 4.8/s stay
         → Keep connections open and reuse them: a pool of 20 is enough for thi…
"
    );
}

#[test]
fn colours_change_nothing_but_colour() {
    for verdict in [churn(), leak(), hostile()] {
        let coloured = Page {
            colour: true,
            ..page(80)
        };
        let text = full(std::slice::from_ref(&verdict), &coloured);
        assert!(text.contains("\u{1b}[1m") && text.contains("\u{1b}[2m"));
        assert_eq!(plain(&text), full(&[verdict], &page(80)));
    }
}

/// Without colours, and without the spaces that stand before them at the end of a line.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for (index, part) in text.split('\u{1b}').enumerate() {
        let rest = part.split_once('m').map_or(part, |(_, rest)| rest);
        plain += if index == 0 { part } else { rest };
    }
    plain
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[test]
fn many_verdicts_are_a_table_and_a_count() {
    let verdicts: Vec<Verdict> = (0..28)
        .map(|index| Verdict {
            pool: id("10.0.0.1", "10.0.0.2", 5000 + index),
            remedies: Vec::new(),
            ..leak()
        })
        .collect();
    let text = full(&verdicts, &page(80));
    assert_eq!(text.matches("\u{2500}\u{2500} leak").count(), 5);
    let table: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.contains("VERDICT"))
        .collect();
    assert_eq!(
        table[..3],
        [
            "VERDICT            POOL                               USED  WHO",
            "leak: dry in 41 s  10.0.0.1 → 10.0.0.2:5005  21,000/28,232  broker-client[7]",
            "leak: dry in 41 s  10.0.0.1 → 10.0.0.2:5006  21,000/28,232  broker-client[7]"
        ]
    );
    assert_eq!(table.len(), 22);
    assert_eq!(table[21], "and 3 more verdicts");
}

#[test]
fn ports_are_no_matter_where_the_failures_are_not_about_ports() {
    let mut verdict = churn();
    verdict.kind = Kind::NotPorts;
    verdict.level = crate::diagnosis::Level::default();
    verdict.states = States::default();
    let text = full(&[verdict], &page(80));
    assert!(
        !text.contains("  level") && !text.contains("  rate"),
        "{text}"
    );
}

#[test]
fn an_unknown_capacity_and_an_unknown_destination_are_said() {
    let mut verdict = churn();
    verdict.kind = Kind::Bound;
    verdict.pool = id("0.0.0.0", "0.0.0.0", 0);
    verdict.namespace.clear();
    verdict.level.capacity = 0;
    verdict.ceiling = 0.0;
    let text = full(&[verdict], &page(80));
    assert!(
        text.contains("any \u{2192} any in netns 4026532281"),
        "{text}"
    );
    assert!(
        text.contains("  level     1,000 ports, of how many is not known, peak 1,000\n"),
        "{text}"
    );
    assert!(text.contains("  rate      you open 1,240/s\n"), "{text}");
}

#[test]
fn many_culprits_and_victims_are_counted() {
    let mut verdict = churn();
    verdict.culprits = (1..=9)
        .map(|tgid| holder(tgid, b"web", &[(TcpState::TimeWait, 100)]))
        .collect();
    verdict.victims = (5..=20).map(|tgid| failed(tgid, b"web", 7)).collect();
    let text = full(&[verdict], &page(80));
    assert!(text.contains("and 6 more with 600 ports\n"), "{text}");
    // Those of the culprits are not victims; of the other eleven three are named.
    assert!(text.contains("  victims   web[10]: 7 \u{d7}"), "{text}");
    assert!(text.contains("and 8 more with 56 failures\n"), "{text}");
}

#[test]
fn a_victim_nobody_knows_is_not_the_owner_of_older_sockets() {
    let mut verdict = churn();
    verdict.victims = vec![failed(0, b"", 5)];
    let text = full(&[verdict], &page(80));
    assert!(text.contains("  victims   ?: 5 \u{d7}"), "{text}");
}

#[test]
fn what_was_forecast_is_held_against_what_came() {
    let told = |made: Option<f64>, dry_ns: u64| {
        let mut told = churn().foretold.unwrap();
        told.forecast.dry_in_s = made;
        told.dry_ns = dry_ns;
        super::sentences::foretold(&told, 1_000)
    };
    let start = "at 260 of 1,000 ports";
    assert_eq!(
        told(Some(41.0), 80_000_000_000),
        format!("{start} it was forecast to be dry in 41 s; it took 34 s, 7.0 s less")
    );
    assert_eq!(
        told(Some(41.0), 87_000_000_000),
        format!("{start} it was forecast to be dry in 41 s; it took 41 s, as forecast")
    );
    assert_eq!(
        told(None, 87_000_000_000),
        format!("{start} no end was forecast; it was dry 41 s later")
    );
}
