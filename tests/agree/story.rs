/*! What a tracer told of a namespace, less what no two tracers have in common. */

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tracer::sandbox::Side;

use crate::findings;
use crate::trace::Trace;

/// Lines, and how often each was told: for failures, how often it befell.
type Lines = BTreeMap<String, u64>;

/// Fields of any line that are times, or taken from times; how it was learnt is compared apart.
const TIMES: &[&str] = &[
    "ts",
    "peak_ts",
    "duration_ns",
    "search_ns",
    "lifetime_ns",
    "rates",
    "rate",
    "net_rate",
    "opened",
    "forecast_s",
    "settles_at",
    "foretold",
    "inferred",
];

/// Fields of a pool that depend on when the kernel's list of sockets was read: that corrects what
/// events did not tell yet, and finds bound sockets.
const DUMPS: &[&str] = &["drift", "peak"];

/// Fields of a failure that stand for one of many: which one is a matter of timing.
const SAMPLES: &[&str] = &["count", "cookie", "tid"];

/// All that is compared.
#[derive(Debug)]
pub(super) struct Story {
    told: Lines,
    ends: Lines,
}

impl Story {
    /// The story of a namespace. Where births are inferred the substate is not known.
    pub(super) fn of(trace: &Trace, netns: u32, births_inferred: bool) -> Self {
        let mut story = Self {
            told: Lines::new(),
            ends: Lines::new(),
        };
        for line in &trace.lines {
            if line["netns"] != netns {
                continue;
            }
            let kind = line["type"].as_str().unwrap();
            let mut plain = line.clone();
            strip(&mut plain, TIMES);
            match kind {
                "connect_failed" | "bind_failed" => {
                    strip(&mut plain, SAMPLES);
                    if kind == "connect_failed" {
                        strip(&mut plain, &["sport"]);
                    }
                    let count = line["count"].as_u64().unwrap();
                    add(&mut story.told, &plain, count);
                }
                "time_wait_end" => add(&mut story.ends, &plain, 1),
                // Told again and again: the last is compared.
                "pool" => {}
                "time_wait" | "closed" if births_inferred => {
                    strip(&mut plain, &["state"]);
                    add(&mut story.told, &plain, 1);
                }
                _ => add(&mut story.told, &plain, 1),
            }
        }
        for pool in findings::pools(&trace.lines, netns) {
            let mut plain = pool.clone();
            strip(&mut plain, TIMES);
            strip(&mut plain, DUMPS);
            if let Some(holders) = plain["holders"].as_array_mut() {
                holders.retain(|holder| holder["holding"] != 0);
            }
            add(&mut story.told, &plain, 1);
        }
        // The last judgement is told at the end, with the pools; one before was of its own time.
        let end = trace.lines.iter().rfind(|line| line["type"] == "pool");
        let end = end.map(|line| &line["ts"]);
        let verdicts = findings::verdicts(&trace.lines, netns).into_iter();
        for verdict in verdicts.filter(|line| Some(&line["ts"]) == end) {
            let name = |one: &Value| json!([one["pid"], one["comm"], one["exe"]]);
            let victims = verdict["victims"].as_array().unwrap().iter();
            let mut victims: Vec<_> = victims.map(name).collect();
            victims.sort_by_key(Value::to_string);
            // Of those that collide the one whose port was found last comes first.
            let culprit =
                Some(&verdict["culprits"][0]).filter(|_| verdict["verdict"] != "collision");
            let plain = json!({
                "type": "verdict",
                "verdict": verdict["verdict"],
                "pool": verdict["pool"],
                "culprit": culprit.map(name),
                "victims": victims,
            });
            add(&mut story.told, &plain, 1);
        }
        story
    }
}

/// Takes fields out of a value, wherever in it they are.
fn strip(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !fields.contains(&name.as_str()));
            map.values_mut().for_each(|value| strip(value, fields));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| strip(value, fields)),
        _ => {}
    }
}

fn add(lines: &mut Lines, line: &Value, count: u64) {
    *lines.entry(line.to_string()).or_default() += count;
}

/// Both must have told the same. Trampolines see every end of a TIME_WAIT, tracepoints those by
/// its timer: these must be the same.
pub(super) fn assert_same(side: Side, trampoline: &Story, tracepoint: &Story) {
    let mut differences = different(&trampoline.told, &tracepoint.told);
    let expired = |story: &Story| {
        let mut ends = story.ends.clone();
        ends.retain(|line, _| line.contains(r#""reason":"expired""#));
        ends
    };
    differences.extend(different(&expired(trampoline), &expired(tracepoint)));
    assert!(
        differences.is_empty(),
        "{side:?}: the two backends differ:\n{}",
        differences.join("\n")
    );
}

/// What only one of the two told, or told more often.
fn different(trampoline: &Lines, tracepoint: &Lines) -> Vec<String> {
    let more = |who: &str, these: &Lines, those: &Lines| {
        let mut more = Vec::new();
        for (line, &count) in these {
            let other = those.get(line).copied().unwrap_or_default();
            if count > other {
                more.push(format!("{who} alone, {} times: {line}", count - other));
            }
        }
        more
    };
    let mut all = more("trampolines", trampoline, tracepoint);
    all.extend(more("tracepoints", tracepoint, trampoline));
    all
}
