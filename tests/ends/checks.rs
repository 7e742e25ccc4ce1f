/*! What must be so of every end that is told, whatever ended it. */

use std::collections::BTreeMap;

use serde_json::Value;
use tracer::sandbox::Side;

use crate::findings::pools;
use crate::pools::{ss, told};
use crate::trace::Trace;
use crate::world::{Skip, World, find};

/// What a backend tells of ends.
pub(super) fn sight(trace: &Trace) -> &str {
    let backend = &trace.summary()["backend"]["time_wait_end"];
    backend.as_str().expect("how ends are seen")
}

/// A side's ends must be as many as `reasons` says, as far as they are seen, and each must follow
/// a begin of the same connection and have its owner.
pub(super) fn assert_ends<'a>(
    trace: &'a Trace,
    netns: u32,
    reasons: &[(&str, usize)],
) -> Vec<&'a Value> {
    let ends = trace.of("time_wait_end", netns);
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for end in &ends {
        *told.entry(reason(end)).or_default() += 1;
    }
    let seen = |reason: &str| match sight(trace) {
        "trampoline" => true,
        "tracepoint" => reason == "expired",
        "none" => false,
        other => panic!("ends are seen by {other}"),
    };
    let expected = reasons.iter().filter(|(reason, _)| seen(reason)).copied();
    assert_eq!(told, expected.collect());
    let mut begun: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for begin in trace.of("time_wait", netns) {
        begun.entry(connection(begin)).or_default().push(begin);
    }
    for end in &ends {
        let begins = begun.get_mut(&connection(end));
        let begins = begins.unwrap_or_else(|| panic!("no begin of {end}"));
        assert!(!begins.is_empty(), "it ended twice: {end}");
        let begin = begins.remove(0);
        assert!(begin["ts"].as_str() <= end["ts"].as_str(), "{begin} {end}");
        for field in ["pid", "tid", "comm", "thread", "uid", "exe", "direction"] {
            assert_eq!(end[field], begin[field], "{field} of {end}");
        }
        assert_ne!(end["pid"], Value::Null, "{end}");
    }
    ends
}

fn reason(end: &Value) -> &str {
    let reason = end["reason"].as_str();
    reason.unwrap_or_else(|| panic!("no reason in {end}"))
}

/// What tells connections apart: before Linux 5.12 there is no cookie, and the next one from the
/// same port comes later.
pub(super) fn connection(line: &Value) -> String {
    let fields = ["cookie", "src", "sport", "dst", "dport"];
    fields.map(|field| line[field].to_string()).join(" ")
}

/// The pools that were told last are those of `ss`.
pub(super) fn assert_pools(world: &World, trace: &Trace) -> Result<(), Skip> {
    let kernel = ss(world, &find("ss", "iproute2")?);
    let netns = world.pair.inode(Side::Client);
    assert_eq!(told(&trace.lines, netns), kernel, "watch and ss");
    Ok(())
}

/// And no reading had to correct them, where every end is seen.
pub(super) fn assert_no_drift(world: &World, trace: &Trace) {
    for pool in pools(&trace.lines, world.pair.inode(Side::Client)) {
        if sight(trace) == "trampoline" {
            assert_eq!(pool["drift"], 0, "{pool}");
        }
    }
}
