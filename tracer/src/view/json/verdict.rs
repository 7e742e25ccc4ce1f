/*! The line `verdict`: what is wrong with a pool, who causes it, what to change. */

use std::borrow::Cow;

use serde::Serialize;

use super::line::Time;
use super::pool::{
    ByState, Heading, LISTED, Level, Member, Milli, Told, Victim, Where, call, is_zero,
};
use super::{Json, SCHEMA};
use crate::diagnosis::{Count, Effect, Remedy, Verdict};

/// A verdict. Its field names are an interface: never renamed.
#[derive(Serialize)]
pub(super) struct VerdictLine<'a> {
    schema: u32,
    r#type: &'static str,
    ts: Time,
    verdict: &'static str,
    urgency: &'static str,
    namespace: &'a str,
    pool: PoolLevel,
    peak: u64,
    rate: Milli,
    ceiling: Milli,
    safe_rate: Milli,
    #[serde(flatten)]
    heading: Heading,
    #[serde(skip_serializing_if = "Option::is_none")]
    foretold: Option<Told>,
    culprits: Vec<Member<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    culprits_beyond: usize,
    victims: Vec<Victim<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    victims_beyond: usize,
    failures: Vec<Failures>,
    evidence: &'a [String],
    remedies: Vec<RemedyLine<'a>>,
    myths: Vec<MythLine<'a>>,
}

impl<'a> VerdictLine<'a> {
    /// The verdict as it stands at `now_ns`.
    pub(super) fn of(verdict: &'a Verdict, now_ns: u64, json: &Json) -> Self {
        let level = verdict.level;
        Self {
            schema: SCHEMA,
            r#type: "verdict",
            ts: json.time(now_ns),
            verdict: verdict.kind.name(),
            urgency: verdict.urgency.name(),
            namespace: &verdict.namespace,
            pool: PoolLevel {
                id: Where::of(&verdict.pool),
                level: Level {
                    used: level.used,
                    capacity: Some(level.capacity).filter(|&ports| ports > 0),
                    by_state: ByState(verdict.states),
                },
            },
            peak: level.peak,
            rate: Milli(verdict.rate),
            ceiling: Milli(verdict.ceiling),
            safe_rate: Milli(verdict.safe_rate),
            heading: Heading::of(verdict.forecast.as_ref(), now_ns),
            foretold: verdict.foretold.as_ref().map(|told| Told::of(told, json)),
            culprits: verdict
                .culprits
                .iter()
                .take(LISTED)
                .map(Member::of)
                .collect(),
            culprits_beyond: verdict.culprits.len().saturating_sub(LISTED),
            victims: verdict
                .victims
                .iter()
                .take(LISTED)
                .map(Victim::of)
                .collect(),
            victims_beyond: verdict.victims.len().saturating_sub(LISTED),
            failures: verdict.failures.iter().map(Failures::of).collect(),
            evidence: &verdict.evidence,
            remedies: verdict.remedies.iter().map(RemedyLine::of).collect(),
            myths: verdict
                .myths
                .iter()
                .map(|myth| MythLine {
                    setting: myth.setting,
                    truth: &myth.truth,
                })
                .collect(),
        }
    }
}

/// The pool, and how full it is.
#[derive(Serialize)]
struct PoolLevel {
    #[serde(flatten)]
    id: Where,
    #[serde(flatten)]
    level: Level,
}

#[derive(Serialize)]
struct Failures {
    call: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<Cow<'static, str>>,
    cause: &'static str,
    count: u64,
}

impl Failures {
    fn of(count: &Count) -> Self {
        Self {
            call: call(count.bind),
            errno: count.errno.map(crate::model::Error::name),
            cause: count.cause.name(),
            count: count.count,
        }
    }
}

#[derive(Serialize)]
struct RemedyLine<'a> {
    name: &'static str,
    what: &'a str,
    lines: &'a [String],
    trade_off: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<EffectLine<'a>>,
}

impl<'a> RemedyLine<'a> {
    fn of(remedy: &'a Remedy) -> Self {
        Self {
            name: remedy.name,
            what: &remedy.what,
            lines: &remedy.lines,
            trade_off: &remedy.trade_off,
            effect: remedy.effect.as_ref().map(EffectLine::of),
        }
    }
}

#[derive(Serialize)]
struct EffectLine<'a> {
    change: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    safe_rate: Option<Milli>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<u64>,
}

impl<'a> EffectLine<'a> {
    fn of(effect: &'a Effect) -> Self {
        Self {
            change: &effect.change,
            safe_rate: effect.safe_rate.map(Milli),
            ports: effect.ports,
        }
    }
}

#[derive(Serialize)]
struct MythLine<'a> {
    setting: &'static str,
    truth: &'a str,
}
