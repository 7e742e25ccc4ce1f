/*! The lines `pool` and `verdict`, whole, and when they are written. */

use std::sync::Arc;

use serde_json::Value;

use super::json;
use crate::diagnosis::{Urgency, Verdict};
use crate::model::sample::task;
use crate::model::{Pool, Rates, TcpState};
use crate::state::State;
use crate::view::json::Json;
use crate::view::sample::{NOW_NS, before, churn, dry_pool, failed, holder, id, leak};
use crate::view::{Frames, View};

const SECOND: u64 = 1_000_000_000;

fn lines(json: &mut Json, now_ns: u64, pools: &[Pool], verdicts: &[Verdict], last: bool) -> String {
    let state = State {
        now_ns,
        judgements: now_ns,
        pools: pools.to_vec(),
        verdicts: verdicts.to_vec(),
        ..State::default()
    };
    let mut out = Frames::default();
    if !last {
        json.look(&state, &mut out).unwrap();
        return text(&out);
    }
    json.end(&state, &mut out).unwrap();
    text(&out)
}

fn text(out: &Frames) -> String {
    String::from_utf8(out.bytes().to_vec()).unwrap()
}

fn at_the_end(pools: &[Pool], verdicts: &[Verdict]) -> String {
    lines(&mut json(), NOW_NS, pools, verdicts, true)
}

#[test]
fn a_pool_with_everything() {
    assert_eq!(
        at_the_end(&[dry_pool()], &[]),
        concat!(
            r#"{"schema":1,"type":"pool","ts":"2023-11-14T22:15:00.000000000Z","netns":4026532281,"src":"10.0.0.1""#,
            r#","dst":"10.0.0.2","dport":6432,"used":1000,"capacity":1000,"by_state":{"TIME_WAIT":960"#,
            r#","ESTABLISHED":40},"range":[40000,41009],"reserved":8,"blocked":2,"peak":1000"#,
            r#","peak_ts":"2023-11-14T22:14:50.000000000Z","rates":{"last_1s":1250.0,"last_10s":1240.0"#,
            r#","last_60s":413.333,"peak":2480.0},"net_rate":0.0,"ends":{"local":4900,"peer":40,"reset":3}"#,
            r#","lifetime_ns":{"median":1240000,"p99":9000000},"search_ns":{"first":650,"now":81000},"drift":-2"#,
            r#","settles_at":74400.0,"foretold":{"made":"2023-11-14T22:14:06.000000000Z","used":260"#,
            r#","forecast_s":41.0,"dry":"2023-11-14T22:14:50.000000000Z","off_s":-3.0},"holders":[{"pid":4242"#,
            r#","comm":"web","exe":"/usr/local/bin/web","uid":1000,"container":"3f4e5d6c7b8a99aabbcc""#,
            r#","runtime":"containerd","pod":"9a8b7c6d-1111-2222-3333-444455556666""#,
            r#","cgroup":"/kubepods.slice/x.scope","holding":940,"by_state":{"TIME_WAIT":900,"ESTABLISHED":40}"#,
            r#","rate":1240.0,"net_rate":4.82,"opened":5000,"ends":{"local":4900,"peer":40,"reset":0}"#,
            r#","bound":0},{"owner":"unknown","holding":60,"by_state":{"TIME_WAIT":60},"rate":0.0,"net_rate":0.0"#,
            r#","opened":0,"ends":{"local":0,"peer":0,"reset":0},"bound":0}],"failures":[{"pid":4242,"comm":"web""#,
            r#","uid":1000,"call":"connect","errno":"EADDRNOTAVAIL","cause":"ports_exhausted""#,
            r#","count":1204},{"pid":77,"comm":"cron","uid":1000,"call":"connect","errno":"EADDRNOTAVAIL""#,
            r#","cause":"ports_exhausted","count":12}]}"#,
            "\n"
        )
    );
}

#[test]
fn a_verdict_with_everything() {
    assert_eq!(
        at_the_end(&[], &[churn()]),
        concat!(
            r#"{"schema":1,"type":"verdict","ts":"2023-11-14T22:15:00.000000000Z","verdict":"churn""#,
            r#","urgency":"failing","namespace":"web","pool":{"netns":4026532281,"src":"10.0.0.1","dst":"10.0.0.2""#,
            r#","dport":6432,"used":1000,"capacity":1000,"by_state":{"TIME_WAIT":960,"ESTABLISHED":40}},"peak":1000"#,
            r#","rate":1240.0,"ceiling":16.667,"safe_rate":12.5,"settles_at":74400.0"#,
            r#","foretold":{"made":"2023-11-14T22:14:06.000000000Z","used":260,"forecast_s":41.0"#,
            r#","dry":"2023-11-14T22:14:50.000000000Z","off_s":-3.0},"culprits":[{"pid":4242,"comm":"web""#,
            r#","exe":"/usr/local/bin/web","uid":1000,"container":"3f4e5d6c7b8a99aabbcc","runtime":"containerd""#,
            r#","pod":"9a8b7c6d-1111-2222-3333-444455556666","cgroup":"/kubepods.slice/x.scope","holding":940"#,
            r#","by_state":{"TIME_WAIT":900,"ESTABLISHED":40},"rate":1240.0,"net_rate":4.82,"opened":5000"#,
            r#","ends":{"local":4900,"peer":40,"reset":0},"bound":0},{"owner":"unknown","holding":60"#,
            r#","by_state":{"TIME_WAIT":60},"rate":0.0,"net_rate":0.0,"opened":0,"ends":{"local":0,"peer":0"#,
            r#","reset":0},"bound":0}],"victims":[{"pid":4242,"comm":"web","uid":1000,"call":"connect""#,
            r#","errno":"EADDRNOTAVAIL","cause":"ports_exhausted","count":1204},{"pid":77,"comm":"cron","uid":1000"#,
            r#","call":"connect","errno":"EADDRNOTAVAIL","cause":"ports_exhausted","count":12}]"#,
            r#","failures":[{"call":"connect","errno":"EADDRNOTAVAIL","cause":"ports_exhausted","count":1216}]"#,
            r#","evidence":["960 of 1,000 ports are in TIME_WAIT, 60 s each.""#,
            r#","Half of the connections lived less than 1.24 ms, and our side closed 4,900 of 4,943 first, so TIME_WAIT stays here."]"#,
            r#","remedies":[{"name":"reuse""#,
            r#","what":"Keep connections open and reuse them: a pool of 20 is enough for this rate.","lines":[]"#,
            r#","trade_off":"the server holds 20 connections all the time","effect":{"change":"pool of 20""#,
            r#","ports":20}},{"name":"range","what":"Widen the range in that namespace.""#,
            r#","lines":["ip netns exec web sysctl -w net.ipv4.ip_local_port_range='1024 65535' net.ipv4.ip_local_reserved_ports=8080,9090"]"#,
            r#","trade_off":"services that listen above 1024 can find their port taken""#,
            r#","effect":{"change":"range 1024-65535","safe_rate":1075.2}}],"myths":[{"setting":"tcp_fin_timeout""#,
            r#","truth":"It bounds FIN_WAIT2 of orphans; TIME_WAIT lasts 60 s whatever it says."}]}"#,
            "\n"
        )
    );
}

#[test]
fn what_is_not_known_is_absent() {
    let mut pool = dry_pool();
    pool.capacity = None;
    pool.forecast = None;
    pool.foretold = None;
    pool.lifetime_ns = None;
    pool.search_ns = None;
    pool.peak = (0, 0);
    pool.holders = vec![before(&[(TcpState::TimeWait, 60)])];
    pool.failures.clear();
    let line = at_the_end(&[pool], &[]);
    for field in [
        "capacity",
        "range",
        "reserved",
        "blocked",
        "forecast",
        "settles_at",
        "foretold",
        "lifetime",
        "search_ns",
        "peak_ts",
        "failures",
        "pid",
        "comm",
        "uid",
        "beyond",
    ] {
        assert!(!line.contains(&format!("\"{field}")), "{field}: {line}");
    }
    assert!(
        line.contains(r#""holders":[{"owner":"unknown","holding":60,"by_state":{"TIME_WAIT":60},"#),
        "{line}"
    );

    let mut bound = churn();
    bound.pool = id("10.0.0.1", "0.0.0.0", 0);
    bound.level.capacity = 0;
    let value: Value = serde_json::from_str(&at_the_end(&[], &[bound])).unwrap();
    let pool = value["pool"].as_object().unwrap();
    assert_eq!(pool["src"], "10.0.0.1");
    for field in ["dst", "dport", "capacity"] {
        assert!(!pool.contains_key(field), "{field}");
    }
}

#[test]
fn a_forecast_counts_from_the_line() {
    let mut json = json();
    let now = lines(&mut json, NOW_NS, &[], &[leak()], true);
    assert!(now.contains(r#""forecast_s":41.0,"#), "{now}");
    let later = lines(&mut json, NOW_NS + 50 * SECOND, &[], &[leak()], true);
    assert!(later.contains(r#""forecast_s":0.0,"#), "{later}");
}

#[test]
fn long_lists_are_cut_and_counted() {
    let mut verdict = churn();
    verdict.culprits = (1..=23)
        .map(|tgid| holder(tgid, b"web", &[(TcpState::TimeWait, 1)]))
        .collect();
    verdict.victims = (1..=21).map(|tgid| failed(tgid, b"web", 1)).collect();
    let value: Value = serde_json::from_str(&at_the_end(&[], &[verdict])).unwrap();
    assert_eq!(value["culprits"].as_array().unwrap().len(), 20);
    assert_eq!(value["culprits_beyond"], 3);
    assert_eq!(value["victims"].as_array().unwrap().len(), 20);
    assert_eq!(value["victims_beyond"], 1);
}

#[test]
fn hostile_strings_come_back_as_they_were_and_harm_no_terminal() {
    let mut verdict = churn();
    let name = "\u{1b}]0;\u{202e}\n\"\\";
    Arc::make_mut(&mut verdict.culprits[0].process).comm = task(name.as_bytes());
    verdict.namespace = name.into();
    verdict.evidence = vec![name.into()];
    verdict.remedies[0].lines = vec![name.into()];
    verdict.rate = f64::NAN;
    verdict.culprits[0].open_rate = Rates {
        ten: f64::INFINITY,
        ..Rates::default()
    };
    let line = at_the_end(&[], &[verdict]);
    assert_eq!(line.lines().count(), 1);
    assert!(
        line.trim_end()
            .bytes()
            .all(|byte| (b' '..0x7f).contains(&byte))
    );
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["namespace"], name);
    assert_eq!(value["evidence"][0], name);
    assert_eq!(value["remedies"][0]["lines"][0], name);
    assert_eq!(value["culprits"][0]["comm"], name.replace('\\', "\\\\"));
    assert_eq!(value["rate"], Value::Null);
    assert_eq!(value["culprits"][0]["rate"], Value::Null);
}

#[test]
fn verdicts_come_when_they_are_news_and_their_pools_every_ten_seconds() {
    let types = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line).unwrap();
                value["type"].as_str().unwrap().to_owned()
            })
            .collect()
    };
    let mut json = json();
    let other = Pool {
        id: id("10.0.0.1", "10.0.0.9", 80),
        ..dry_pool()
    };
    let pools = [dry_pool(), other];
    let mut soon = churn();
    soon.urgency = Urgency::Soon;
    let mut at = |second: u64, verdict: Option<&Verdict>, last| {
        let verdicts: Vec<Verdict> = verdict.into_iter().cloned().collect();
        types(&lines(
            &mut json,
            NOW_NS + second * SECOND,
            &pools,
            &verdicts,
            last,
        ))
    };
    assert!(at(0, None, false).is_empty());
    assert_eq!(at(1, Some(&soon), false), ["verdict", "pool"]);
    assert!(at(2, Some(&soon), false).is_empty());
    assert_eq!(at(3, Some(&churn()), false), ["verdict"]);
    assert!(at(10, Some(&churn()), false).is_empty());
    assert_eq!(at(11, Some(&churn()), false), ["pool"]);
    assert_eq!(at(12, Some(&churn()), true), ["verdict", "pool", "pool"]);
}
