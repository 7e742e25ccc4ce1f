/*! The line `pool`: how full it is, who holds it, where it is heading. */

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::line::Time;
use super::{Json, SCHEMA};
use crate::model::{
    Ends, Failed, Forecast, Foretold, Holder, Pool, PoolId, Process, Rates, States, TcpState,
};
use crate::view::escape;

/// Processes listed of a pool; the rest is counted.
pub(super) const LISTED: usize = 20;

/// A pool. Its field names are an interface: never renamed.
#[derive(Serialize)]
pub(super) struct PoolLine<'a> {
    schema: u32,
    r#type: &'static str,
    ts: Time,
    #[serde(flatten)]
    pool: Where,
    #[serde(flatten)]
    level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<(u16, u16)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<u32>,
    peak: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_ts: Option<Time>,
    rates: Windows,
    net_rate: Milli,
    ends: Sides,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime_ns: Option<Lifetime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_ns: Option<Search>,
    drift: i64,
    #[serde(flatten)]
    heading: Heading,
    #[serde(skip_serializing_if = "Option::is_none")]
    foretold: Option<Told>,
    holders: Vec<Member<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    holders_beyond: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<Victim<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    failures_beyond: usize,
}

impl<'a> PoolLine<'a> {
    /// The pool as it stands at `now_ns`.
    pub(super) fn of(pool: &'a Pool, now_ns: u64, json: &Json) -> Self {
        let capacity = pool.capacity;
        let (peak, peak_ns) = pool.peak;
        Self {
            schema: SCHEMA,
            r#type: "pool",
            ts: json.time(now_ns),
            pool: Where::of(&pool.id),
            level: Level {
                used: pool.used(),
                capacity: capacity.map(|capacity| capacity.ports()),
                by_state: ByState(pool.states),
            },
            range: capacity.map(|capacity| capacity.range),
            reserved: capacity.map(|capacity| capacity.reserved),
            blocked: capacity.map(|capacity| capacity.blocked),
            peak,
            peak_ts: (peak > 0).then(|| json.time(peak_ns)),
            rates: Windows::of(&pool.open_rate),
            net_rate: Milli(pool.net_rate),
            ends: Sides::of(pool.ends),
            lifetime_ns: pool
                .lifetime_ns
                .map(|(median, p99)| Lifetime { median, p99 }),
            search_ns: pool.search_ns.map(|(first, now)| Search { first, now }),
            drift: pool.drift,
            heading: Heading::of(pool.forecast.as_ref(), now_ns),
            foretold: pool.foretold.as_ref().map(|told| Told::of(told, json)),
            holders: pool.holders.iter().take(LISTED).map(Member::of).collect(),
            holders_beyond: pool.holders.len().saturating_sub(LISTED),
            failures: pool.failures.iter().take(LISTED).map(Victim::of).collect(),
            failures_beyond: pool.failures.len().saturating_sub(LISTED),
        }
    }
}

/// Which pool; without a destination where ports are lost to every one.
#[derive(Serialize)]
pub(super) struct Where {
    netns: u32,
    src: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
}

impl Where {
    pub(super) fn of(id: &PoolId) -> Self {
        let any = id.dst.is_unspecified() && id.dport == 0;
        Self {
            netns: id.netns,
            src: id.src,
            dst: (!any).then_some(id.dst),
            dport: (!any).then_some(id.dport),
        }
    }
}

/// How full.
#[derive(Serialize)]
pub(super) struct Level {
    pub(super) used: u64,
    /// Absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capacity: Option<u64>,
    pub(super) by_state: ByState,
}

/// `{"TIME_WAIT":900,"ESTABLISHED":40}`: states with sockets in them, most first.
pub(super) struct ByState(pub(super) States);

impl Serialize for ByState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let list = self.0.most_first();
        let list = list.into_iter();
        serializer.collect_map(list.map(|(state, count): (TcpState, u64)| (state.name(), count)))
    }
}

/// A rate or a time that nobody needs beyond its third decimal.
#[derive(Clone, Copy)]
pub(super) struct Milli(pub(super) f64);

impl Serialize for Milli {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // No "-0.0".
        serializer.serialize_f64((self.0 * 1000.0).round() / 1000.0 + 0.0)
    }
}

/// Openings per second.
#[derive(Serialize)]
struct Windows {
    last_1s: Milli,
    last_10s: Milli,
    last_60s: Milli,
    peak: Milli,
}

impl Windows {
    fn of(rates: &Rates) -> Self {
        Self {
            last_1s: Milli(rates.second),
            last_10s: Milli(rates.ten),
            last_60s: Milli(rates.minute),
            peak: Milli(rates.peak),
        }
    }
}

#[derive(Serialize)]
struct Sides {
    local: u64,
    peer: u64,
    reset: u64,
}

impl Sides {
    fn of(ends: Ends) -> Self {
        Self {
            local: ends.local,
            peer: ends.peer,
            reset: ends.reset,
        }
    }
}

#[derive(Serialize)]
struct Lifetime {
    median: u64,
    p99: u64,
}

#[derive(Serialize)]
struct Search {
    first: u64,
    now: u64,
}

/// The forecast, counted from the time of the line.
#[derive(Serialize)]
pub(super) struct Heading {
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast_s: Option<Milli>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settles_at: Option<Milli>,
}

impl Heading {
    pub(super) fn of(forecast: Option<&Forecast>, now_ns: u64) -> Self {
        Self {
            forecast_s: forecast
                .and_then(|forecast| crate::view::words::dry_in_s(forecast, now_ns))
                .map(Milli),
            settles_at: forecast.and_then(|forecast| forecast.settles_at).map(Milli),
        }
    }
}

/// What had been forecast, and what came.
#[derive(Serialize)]
pub(super) struct Told {
    made: Time,
    used: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast_s: Option<Milli>,
    dry: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    off_s: Option<Milli>,
}

impl Told {
    pub(super) fn of(told: &Foretold, json: &Json) -> Self {
        Self {
            made: json.time(told.forecast.made_ns),
            used: told.used,
            forecast_s: told.forecast.dry_in_s.map(Milli),
            dry: json.time(told.dry_ns),
            off_s: told.off_s().map(Milli),
        }
    }
}

/// A process by name; without a pid when nobody is known.
#[derive(Serialize)]
struct Named<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'static str>,
}

impl<'a> Named<'a> {
    fn of(process: &'a Process) -> Self {
        let known = process.tgid != 0;
        Self {
            pid: known.then_some(process.tgid),
            comm: known.then(|| escape::lossless(process.comm.bytes())),
            exe: process.exe.as_deref(),
            uid: known.then_some(process.uid),
            container: process.container.as_deref(),
            runtime: process.runtime.map(crate::model::Runtime::as_str),
            pod: process.pod.as_deref(),
            cgroup: process.cgroup.as_deref(),
            owner: (!known).then_some("unknown"),
        }
    }
}

/// A process and what it holds.
#[derive(Serialize)]
pub(super) struct Member<'a> {
    #[serde(flatten)]
    named: Named<'a>,
    holding: u64,
    by_state: ByState,
    rate: Milli,
    net_rate: Milli,
    opened: u64,
    ends: Sides,
    bound: u64,
}

impl<'a> Member<'a> {
    pub(super) fn of(holder: &'a Holder) -> Self {
        Self {
            named: Named::of(&holder.process),
            holding: holder.states.total(),
            by_state: ByState(holder.states),
            rate: Milli(holder.open_rate.ten),
            net_rate: Milli(holder.net_rate),
            opened: holder.opened,
            ends: Sides::of(holder.ends),
            bound: holder.bound,
        }
    }
}

/// A process and how often its calls failed.
#[derive(Serialize)]
pub(super) struct Victim<'a> {
    #[serde(flatten)]
    named: Named<'a>,
    call: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<Cow<'static, str>>,
    cause: &'static str,
    count: u64,
}

impl<'a> Victim<'a> {
    pub(super) fn of(failed: &'a Failed) -> Self {
        Self {
            named: Named::of(&failed.process),
            call: call(failed.bind),
            errno: failed.errno.map(crate::model::Error::name),
            cause: failed.cause.name(),
            count: failed.count,
        }
    }
}

/// Which call failed.
pub(super) fn call(bind: bool) -> &'static str {
    if bind { "bind" } else { "connect" }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
pub(super) fn is_zero(count: &usize) -> bool {
    *count == 0
}
