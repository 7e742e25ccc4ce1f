/*! What a verdict says: numbers, lines, myths and trade-offs. */

use std::net::IpAddr;
use std::sync::Arc;

use super::build::{
    DEFAULT, EXHAUSTED, churning, failed, failing, holder, leaking, namespace, unknown,
};
use super::verdicts;
use crate::diagnosis::{Kind, Verdict};
use crate::model::TcpState::{Established, TimeWait};
use crate::model::{Namespace, Pool, TwReuse};

fn burnt() -> Pool {
    let app = churning("app", 1, &[(TimeWait, 28_100)], 30_000, 1_000.0);
    Pool {
        lifetime_ns: Some((1_240_000, 8_000_000)),
        search_ns: Some((6_000, 80_000)),
        drift: -2,
        ..failing(
            6_432,
            &[app, unknown(&[(TimeWait, 132)])],
            &[
                failed("cron", 2, EXHAUSTED, 30),
                failed("app", 1, EXHAUSTED, 1_204),
            ],
        )
    }
}

fn one(pool: Pool, namespace: &Namespace) -> Verdict {
    verdicts(&[pool], &[], namespace).remove(0)
}

#[test]
fn evidence_has_the_numbers() {
    let verdict = one(burnt(), &namespace("host"));
    assert_eq!(
        verdict.evidence,
        [
            "1,234 connect() calls failed with EADDRNOTAVAIL: no source port was free.",
            "28,232 of 28,232 ports (100 %) are held by TIME_WAIT, each for 60 s after its \
             connection.",
            "1,246/s are asked for; 28,232 ports bear 470/s for ever.",
            "100 % of the connections were closed by this side first: that side keeps the \
             TIME_WAIT.",
            "Half of them lived less than 1.2 ms, 99 % less than 8 ms.",
            "cron[2] got the error and holds 0 ports: it is not the cause.",
            "connect() now looks 80 \u{b5}s for a port; at first it was 6 \u{b5}s.",
            "132 ports were opened before tracing: whose is not known.",
            "At the last check the books had 2 ports fewer than the kernel; that was corrected.",
        ]
    );
    assert_eq!(verdict.ceiling.floor(), 470.0);
    assert_eq!(verdict.safe_rate.floor(), 352.0);
    assert_eq!(verdict.namespace, "host");
}

#[test]
fn churn_has_four_remedies_with_their_lines_and_numbers() {
    let verdict = one(burnt(), &namespace("/run/netns/web"));
    let told: Vec<_> = verdict
        .remedies
        .iter()
        .map(|remedy| {
            let effect = remedy.effect.as_ref().unwrap();
            (remedy.name, effect.change.as_str(), effect.safe_rate)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("reuse", "pool of 20 connections", None),
            ("more_destinations", "4 destination ports", Some(1_880.0)),
            ("tw_reuse", "tcp_tw_reuse=1", Some(14_116.0)),
            ("range", "range 1024-65535 (64,512 ports)", Some(1_075.0)),
        ]
    );
    assert_eq!(
        verdict.remedies[2].lines,
        ["nsenter --net=/run/netns/web sysctl -w net.ipv4.tcp_tw_reuse=1"]
    );
    assert_eq!(
        verdict.remedies[3].lines,
        ["nsenter --net=/run/netns/web sysctl -w \
             net.ipv4.ip_local_port_range=\"1024 65535\""]
    );
}

#[test]
fn tw_reuse_is_not_advised_where_it_is_in_effect() {
    let advises = |reuse, dst: [u8; 4]| {
        let mut namespace = namespace("host");
        namespace.tw_reuse = Some(reuse);
        let mut pool = burnt();
        pool.id.dst = IpAddr::from(dst);
        let verdict = one(pool, &namespace);
        let mut remedies = verdict.remedies.into_iter();
        let line = remedies.find(|remedy| remedy.name == "tw_reuse");
        line.map(|remedy| remedy.lines[0].clone())
    };
    let far = [10, 0, 0, 2];
    let near = [127, 0, 0, 1];
    let line = |value| Some(format!("sysctl -w net.ipv4.tcp_tw_reuse={value}"));
    assert_eq!(advises(TwReuse::Off, far), line(1));
    assert_eq!(advises(TwReuse::LoopbackOnly, far), line(1));
    assert_eq!(advises(TwReuse::On, far), None);
    assert_eq!(advises(TwReuse::Off, near), line(2));
    assert_eq!(advises(TwReuse::LoopbackOnly, near), None);
}

#[test]
fn myths_that_somebody_tried_come_first() {
    let settings = |namespace: &Namespace| -> Vec<&'static str> {
        let verdict = one(burnt(), namespace);
        verdict.myths.iter().map(|myth| myth.setting).collect()
    };
    let mut tried = namespace("host");
    tried.tw_reuse = Some(TwReuse::Off);
    assert_eq!(
        settings(&tried),
        ["tcp_fin_timeout", "tcp_max_tw_buckets", "tcp_tw_recycle"]
    );
    tried.max_tw_buckets = Some(5_000);
    assert_eq!(settings(&tried)[0], "tcp_max_tw_buckets");
    tried.fin_timeout_s = Some(15);
    assert_eq!(settings(&tried)[0], "tcp_fin_timeout");
    let myths = one(burnt(), &tried).myths;
    assert!(
        myths[0]
            .truth
            .contains("15 seconds here, and it did not help")
    );
    assert!(myths[1].truth.contains("5,000 here"));
    assert_eq!(
        settings(&namespace("host"))[0],
        "tcp_tw_reuse",
        "the default, and this is not loopback"
    );
}

#[test]
fn no_sysctl_helps_a_leak_and_the_verdict_says_so() {
    let pool = failing(
        5_672,
        &[leaking("web", 1, 28_232, 0.0)],
        &[failed("web", 1, EXHAUSTED, 1)],
    );
    let verdict = one(pool, &namespace("host"));
    assert_eq!(verdict.kind, Kind::Leak);
    assert!(verdict.remedies[0].trade_off.contains("No sysctl helps"));
    let lines = verdict.remedies.iter().flat_map(|remedy| &remedy.lines);
    assert!(lines.into_iter().all(|line| !line.contains("sysctl")));
    assert_eq!(
        verdict.evidence[2],
        "web[1] opened 28,232 connections and closed 0."
    );
}

#[test]
fn a_hostile_name_cannot_reach_a_terminal() {
    let pool = failing(
        80,
        &[churning("\u{1b}[2Jx", 1, &[(TimeWait, 28_232)], 9, 1.0)],
        &[failed("\u{1b}]0;y\u{7}", 2, EXHAUSTED, 1)],
    );
    let evidence = one(pool, &namespace("host")).evidence.join("\n");
    assert!(evidence.contains("\\x1b]0;y\\x07[2]"), "{evidence}");
    assert!(!evidence.contains('\u{1b}'));
}

#[test]
fn the_fullest_of_equally_urgent_pools_comes_first() {
    let pool = |dport, used| {
        failing(
            dport,
            &[churning("app", 1, &[(TimeWait, used)], used, 900.0)],
            &[failed("app", 1, EXHAUSTED, 1)],
        )
    };
    let half_gone = Pool {
        peak: (u64::from(DEFAULT.1 - DEFAULT.0) + 1, 0),
        ..pool(1, 20_000)
    };
    let waiting = failing(3, &[holder("db", 2, &[(Established, 28_000)])], &[]);
    let pools = [waiting, half_gone, pool(2, 28_232)];
    let order: Vec<u16> = verdicts(&pools, &[], &namespace("host"))
        .iter()
        .map(|verdict| verdict.pool.dport)
        .collect();
    assert_eq!(order, [2, 1, 3]);
}

#[test]
fn sentences_end_and_are_not_long() {
    let pools = [
        burnt(),
        failing(
            80,
            &[leaking("web", 1, 28_232, 0.0)],
            &[failed("web", 1, EXHAUSTED, 1)],
        ),
    ];
    for verdict in verdicts(&pools, &[], &namespace("host")) {
        let remedies = verdict.remedies.iter();
        let texts = remedies.flat_map(|remedy| [&remedy.what, &remedy.trade_off]);
        let texts = texts.chain(verdict.myths.iter().map(|myth| &myth.truth));
        for text in texts.chain(&verdict.evidence) {
            assert!(text.ends_with('.'), "{text}");
            assert!(text.len() <= 240, "{text}");
            assert!(!text.contains("  "), "{text}");
        }
    }
}

#[test]
fn a_pod_gets_the_safe_sysctl_in_its_manifest_and_a_warning_for_the_other() {
    let mut pool = burnt();
    for holder in &mut pool.holders {
        Arc::make_mut(&mut holder.process).pod =
            Some("8d8c8b8a-0000-4000-8000-000000000000".into());
    }
    let verdict = one(pool, &namespace("pid 1 app"));
    let named = |name| {
        let mut remedies = verdict.remedies.iter();
        remedies.find(|remedy| remedy.name == name).unwrap()
    };
    let reuse = named("tw_reuse");
    assert!(reuse.trade_off.contains("--allowed-unsafe-sysctls"));
    let range = named("range");
    assert!(!range.trade_off.contains("unsafe"));
    let value = "    value: \"1024 65535\"";
    assert_eq!(range.lines.last().map(String::as_str), Some(value));
}
