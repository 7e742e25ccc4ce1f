/*! What the tracer found: the lines `pool` and `verdict`, and what a right one says. */

use std::net::SocketAddr;

use serde_json::{Value, json};
use tracer::sandbox::Process;

use crate::trace::assert_each;

/// The last line on each pool of a namespace.
pub(crate) fn pools(lines: &[Value], netns: u32) -> Vec<&Value> {
    let mut last: Vec<&Value> = Vec::new();
    for line in lines {
        if line["type"] == "pool" && line["netns"] == netns {
            last.retain(|earlier| {
                let fields = ["src", "dst", "dport"];
                fields.iter().any(|&field| earlier[field] != line[field])
            });
            last.push(line);
        }
    }
    last
}

/// The last line on the pool towards `to`, which must be there.
pub(crate) fn pool(lines: &[Value], netns: u32, to: SocketAddr) -> &Value {
    let pools = pools(lines, netns);
    let mut pools = pools.into_iter().filter(|pool| is_towards(pool, to));
    let pool = pools
        .next()
        .unwrap_or_else(|| panic!("no pool line on {to}"));
    assert!(pools.next().is_none(), "two sources towards {to}");
    pool
}

/// Whether the pool of a line, or of a verdict, is one towards `to`.
pub(crate) fn is_towards(pool: &Value, to: SocketAddr) -> bool {
    pool["dst"] == json!(to.ip()) && pool["dport"] == to.port()
}

/// The verdicts on a namespace's pools, as they came.
pub(crate) fn verdicts(lines: &[Value], netns: u32) -> Vec<&Value> {
    let verdicts = lines.iter().filter(|line| line["type"] == "verdict");
    verdicts
        .filter(|line| line["pool"]["netns"] == netns)
        .collect()
}

/// The most urgent verdict of the last judgement, which must be there.
pub(crate) fn last_verdict(lines: &[Value], netns: u32) -> &Value {
    let verdicts = verdicts(lines, netns);
    let last = verdicts.last().expect("no verdict");
    let mut together = verdicts.iter().filter(|line| line["ts"] == last["ts"]);
    together.next().expect("the last one is among them")
}

/// The verdicts that call for something to be done at once.
pub(crate) fn alarms(lines: &[Value], netns: u32) -> Vec<&Value> {
    let mut verdicts = verdicts(lines, netns);
    verdicts.retain(|verdict| verdict["urgency"] == "failing");
    verdicts
}

/// A verdict must be `kind`, on the pool towards `to`, by `culprit` before anybody else.
pub(crate) fn assert_verdict(verdict: &Value, kind: &str, culprit: &Process, to: SocketAddr) {
    assert_eq!(verdict["verdict"], kind, "{verdict}");
    assert!(is_towards(&verdict["pool"], to), "{verdict}");
    let first = &verdict["culprits"][0];
    let fields = json!({ "pid": culprit.pid(), "comm": culprit.name() });
    assert_each(&[first], &fields);
    assert!(
        verdict["remedies"]
            .as_array()
            .is_some_and(|list| !list.is_empty()),
        "{verdict}"
    );
}

/// A number of a line that must have it.
pub(crate) fn number(line: &Value, field: &str) -> f64 {
    let value = line[field].as_f64();
    value.unwrap_or_else(|| panic!("no number {field} in {line}"))
}
