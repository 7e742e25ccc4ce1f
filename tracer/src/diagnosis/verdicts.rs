/*!
Which verdict applies to which pool, and how urgent it is.

A pool matters when connect() found no port, or when half of its ports are in
use and nothing says that it stays there. Then the largest kind of holding is
what is wrong, and a second one if it holds a quarter too. A pool that does not
matter yet is looked at for what will make it matter: a leak, a churn above what
it can bear, sockets that pile up in CLOSE_WAIT or FIN_WAIT2.

A small range (fewer than 1,024 ports) is told once connect() found no port in
it. It comes first only where the load is so small that it would not be noticed in the default range: below 100 ports and
below the default's safe rate. A churn or a leak that is plain to see comes
before it, and stands alone where it would exhaust the default range too.
*/

use std::collections::BTreeMap;

use crate::event::{Cause, Error, TcpState};
use crate::ledger::dump::Namespace;
use crate::ledger::pool::{Failed, Pool, PoolId};

use super::facts::{Facts, Tally, is_collision, is_exhaustion, is_other, weight};
use super::remedies::{Case, remedies};
use super::words::destination;
use super::{
    Count, Kind, Level, Urgency, Verdict, bound, culprits, evidence, growth, myths, what_if,
};

/// A pool this full matters.
const MATTERS: f64 = 0.5;

/// A second cause is told when it holds one port in this many.
const SECOND_PART: u64 = 4;

/// A range with fewer ports is small.
const SMALL: u64 = 1_024;

/// With this many ports in its typical state, a churn or leak is plain to see.
const PLAIN: u64 = 100;

/// A pool with less than this in use is not full: what fails then is something else.
const FULL: f64 = 0.8;

/// Fewer sockets left in CLOSE_WAIT or FIN_WAIT2 are on their way, not stuck.
const STUCK: u64 = 20;

/// Connections that live longer than this do not churn: their TIME_WAIT is one in three of the ports
/// they hold, or they all ended at once.
const SHORT_NS: u64 = 30_000_000_000;

/// From this part on, a forecast of churn is believed.
const FORECAST: f64 = 0.1;

/// What is wrong with `pools`: the most urgent first, then the fullest.
///
/// `elsewhere` are failures without a pool, those of bind(): their destination is unspecified, its
/// port 0. A healthy pool gives nothing.
pub fn diagnose<'a>(
    pools: &'a [Pool],
    elsewhere: &'a [(PoolId, Failed)],
    namespace: impl Fn(u32) -> Option<&'a Namespace>,
) -> Vec<Verdict> {
    let now_ns = now(pools, elsewhere);
    let all: Vec<Facts<'_>> = pools
        .iter()
        .map(|pool| Facts::new(pool, namespace(pool.id.netns), now_ns))
        .collect();
    let (mut verdicts, covered) = bound::find(&all, elsewhere, now_ns, &namespace);
    for facts in &all {
        let is_covered = covered.contains(&facts.pool.id);
        verdicts.extend(of_pool(facts, is_covered));
    }
    verdicts.extend(of_binds(elsewhere, now_ns, &namespace));
    // Stable: of two on one pool, the dominant one was found first.
    verdicts.sort_by(|a, b| {
        b.urgency
            .cmp(&a.urgency)
            .then((a.kind == Kind::NotPorts).cmp(&(b.kind == Kind::NotPorts)))
            .then(share(&b.level).total_cmp(&share(&a.level)))
    });
    verdicts
}

fn share(level: &Level) -> f64 {
    level.used as f64 / level.capacity.max(1) as f64
}

/// The newest moment anything is known of: pools carry no clock of their own.
fn now(pools: &[Pool], elsewhere: &[(PoolId, Failed)]) -> u64 {
    let forecasts = pools.iter().filter_map(|pool| pool.forecast);
    let failures = pools.iter().flat_map(|pool| &pool.failures);
    let failures = failures.chain(elsewhere.iter().map(|(_, failed)| failed));
    forecasts
        .map(|forecast| forecast.made_ns)
        .chain(failures.map(|failed| failed.last_ns))
        .max()
        .unwrap_or_default()
}

/// The verdicts on one pool, the dominant one first.
fn of_pool(facts: &Facts<'_>, is_covered: bool) -> Vec<Verdict> {
    let mut list = Vec::new();
    let full = facts.peak_share().is_some_and(|share| share >= 0.9);
    let collided = facts.collided.remembered(facts.now_ns) && !full;
    if collided && facts.collided.count >= facts.exhausted.count {
        list.push(verdict(facts, Kind::Collision, collision_urgency(facts)));
    }
    if !is_covered {
        let kinds = kinds(facts).into_iter();
        list.extend(kinds.map(|kind| verdict(facts, kind, facts.urgency())));
    }
    if collided && facts.collided.count < facts.exhausted.count {
        list.push(verdict(facts, Kind::Collision, collision_urgency(facts)));
    }
    let unrelated = facts.other.recent(facts.now_ns);
    if unrelated && !list.iter().any(|verdict| verdict.kind == Kind::NotPorts) {
        list.push(verdict(facts, Kind::NotPorts, Urgency::Failing));
    }
    list
}

fn collision_urgency(facts: &Facts<'_>) -> Urgency {
    if facts.collided.recent(facts.now_ns) {
        Urgency::Failing
    } else {
        Urgency::Watch
    }
}

/// What is wrong with the ports of a pool; nothing when it is healthy.
fn kinds(facts: &Facts<'_>) -> Vec<Kind> {
    let exhausted = facts.exhausted.remembered(facts.now_ns);
    let half_full = facts.share().is_some_and(|share| share >= MATTERS);
    let matters = exhausted || half_full && !facts.sustainable();
    let mut kinds = if matters {
        dominant(facts, exhausted)
    } else {
        early(facts)
    };
    if exhausted && facts.ports.is_some_and(|ports| ports < SMALL) {
        place_small_range(facts, &mut kinds);
    }
    kinds
}

/// The causes of a pool that matters.
fn dominant(facts: &Facts<'_>, exhausted: bool) -> Vec<Kind> {
    let not_full = facts.peak_share().is_some_and(|share| share < FULL);
    if exhausted && not_full && facts.ports.is_some_and(|ports| ports >= SMALL) {
        return vec![Kind::SmallRange];
    }
    // It was dry and has drained since: what is left says less than how its connections ended.
    let drained = facts
        .share()
        .is_none_or(|share| share < 1.0 / SECOND_PART as f64);
    if exhausted && drained {
        return vec![in_hindsight(facts)];
    }
    let grows = leaks(facts);
    let mut causes: Vec<(Kind, u64)> = [
        Kind::Churn,
        Kind::Leak,
        Kind::CloseWait,
        Kind::FinWait2,
        Kind::NotPorts,
    ]
    .into_iter()
    .map(|kind| (kind, facts.weight(kind)))
    .filter(|&(_, held)| held > 0)
    .collect();
    causes.sort_by_key(|&(_, held)| std::cmp::Reverse(held));
    let mut kinds = Vec::new();
    for (index, (kind, held)) in causes.into_iter().enumerate() {
        let applies = match kind {
            Kind::Churn => exhausted || short_lived(facts),
            // Open connections that neither grow nor fail are a healthy pool, unless it is full.
            Kind::Leak if index > 0 => grows,
            Kind::Leak => grows || exhausted || stands_high(facts),
            _ => true,
        };
        let counts = index == 0 || held * SECOND_PART >= facts.used || kind == Kind::Leak && grows;
        if applies && counts {
            kinds.push(turned_over(facts, kind, grows));
        }
    }
    kinds.dedup();
    if kinds.is_empty() && exhausted {
        kinds.push(in_hindsight(facts));
    }
    kinds
}

/// Whether open connections fill the pool so far that it is worth a word though they do not grow.
fn stands_high(facts: &Facts<'_>) -> bool {
    let seen_once = facts.pool.forecast.is_none();
    seen_once
        || facts
            .share()
            .is_some_and(|share| share >= what_if::SAFE_SHARE)
}

/// Open connections that are closed as fast as they are opened are no leak: there are too many of
/// them, and what a churn needs helps them too.
fn turned_over(facts: &Facts<'_>, kind: Kind, grows: bool) -> Kind {
    let opened = facts.opened();
    let closes = opened > 0 && facts.ended() * 2 > opened;
    if kind == Kind::Leak && !grows && closes && short_lived(facts) {
        Kind::Churn
    } else {
        kind
    }
}

fn short_lived(facts: &Facts<'_>) -> bool {
    let half = facts.pool.lifetime_ns.map(|(half, _)| half);
    half.is_none_or(|half| half < SHORT_NS)
}

/// The cause of failures whose sockets are gone: by how connections ended.
fn in_hindsight(facts: &Facts<'_>) -> Kind {
    let opened = facts.opened();
    if opened > 0 && facts.pool.ends.local * 2 >= opened {
        Kind::Churn
    } else if opened > 0 {
        Kind::Leak
    } else {
        Kind::SmallRange
    }
}

fn leaks(facts: &Facts<'_>) -> bool {
    let mut holders = facts.pool.holders.iter();
    holders.any(|holder| growth::leaks(holder, facts.pool))
}

/// What will make a pool matter, while it does not yet.
fn early(facts: &Facts<'_>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if leaks(facts) {
        kinds.push(Kind::Leak);
    }
    if burns(facts) {
        kinds.push(Kind::Churn);
    }
    for (kind, state) in [
        (Kind::CloseWait, TcpState::CloseWait),
        (Kind::FinWait2, TcpState::FinWait2),
    ] {
        let stuck = facts.pool.states.get(state);
        if stuck >= STUCK && stuck * 2 > facts.used {
            kinds.push(kind);
        }
    }
    kinds
}

/// Whether a churn is above what the pool can bear.
fn burns(facts: &Facts<'_>) -> bool {
    let (Some(share), Some(forecast)) = (facts.share(), facts.pool.forecast) else {
        return false;
    };
    let mostly_time_wait = facts.weight(Kind::Churn) * 2 > facts.used;
    let ports = facts.ports.unwrap_or_default() as f64;
    let settles_high = forecast
        .settles_at
        .is_some_and(|level| level > ports * what_if::SAFE_SHARE);
    mostly_time_wait
        && short_lived(facts)
        && share >= FORECAST
        && (facts.dry_soon() || settles_high)
}

/// Adds `small_range` where it belongs, see this file's head.
fn place_small_range(facts: &Facts<'_>, kinds: &mut Vec<Kind>) {
    if kinds.contains(&Kind::SmallRange) {
        return;
    }
    let default_bears = facts.wanted() < what_if::safe_rate(what_if::DEFAULT_PORTS);
    if !default_bears || leaks(facts) {
        return;
    }
    let plain = kinds
        .first()
        .is_some_and(|&kind| facts.weight(kind) >= PLAIN);
    let bursts = facts.pool.open_rate.peak > what_if::ceiling(what_if::DEFAULT_PORTS);
    if plain || bursts {
        kinds.push(Kind::SmallRange);
    } else {
        kinds.clear();
        kinds.push(Kind::SmallRange);
    }
}

fn verdict(facts: &Facts<'_>, kind: Kind, urgency: Urgency) -> Verdict {
    let pool = facts.pool;
    let which = match kind {
        Kind::Collision => is_collision,
        Kind::NotPorts if facts.exhausted.count == 0 => is_other,
        Kind::NotPorts => |failed: &Failed| !is_collision(failed),
        _ => is_exhaustion,
    };
    let failures: Vec<&Failed> = pool
        .failures
        .iter()
        .filter(|failed| which(failed))
        .collect();
    let culprits = match kind {
        // Whoever brings a port along is who collides; what others hold plays no part.
        Kind::Collision => colliding(facts, &failures),
        Kind::NotPorts if facts.exhausted.count == 0 => Vec::new(),
        _ => culprits::rank(&pool.holders, |holder| weight(&holder.states, kind)),
    };
    let counts = counts(failures.iter().copied());
    let at = destination(&pool.id);
    let evidence = match kind {
        Kind::NotPorts if facts.exhausted.count == 0 => {
            evidence::not_ports(Some(facts), &counts, &at)
        }
        _ => evidence::of_pool(facts, kind, &culprits),
    };
    let case = Case {
        kind,
        pool: &pool.id,
        namespace: facts.namespace,
        capacity: pool.capacity,
        ports: facts.ports,
        used: facts.used,
        weight: facts.weight(kind),
        wanted: facts.wanted(),
        lifetime_ns: pool.lifetime_ns.map(|(_, most)| most),
        culprits: &culprits,
        growing: leaks(facts),
    };
    let ports = facts.ports.unwrap_or_default();
    Verdict {
        kind,
        urgency,
        pool: pool.id,
        namespace: name(facts.namespace, pool.id.netns),
        level: facts.level(),
        states: pool.states,
        evidence,
        remedies: remedies(&case),
        myths: myths::myths(&case),
        culprits,
        victims: culprits::victims(failures),
        failures: counts,
        ceiling: what_if::ceiling(ports),
        safe_rate: what_if::safe_rate(ports),
        rate: pool.open_rate.ten,
        forecast: pool.forecast,
        foretold: pool.foretold,
    }
}

/// Those who bring ports along: the ones that failed, then the ones that hold bound ports.
fn colliding(facts: &Facts<'_>, failures: &[&Failed]) -> Vec<crate::ledger::pool::Holder> {
    let failed = |tgid: u32| -> u64 {
        let mine = failures.iter().filter(|failed| failed.owner.tgid == tgid);
        mine.map(|failed| failed.count).sum()
    };
    let binds = facts
        .pool
        .holders
        .iter()
        .filter(|holder| holder.bound > 0 || failed(holder.owner.tgid) > 0);
    culprits::rank(binds, |holder| {
        failed(holder.owner.tgid).saturating_add(holder.bound)
    })
}

/// What people call a namespace.
pub(super) fn name(namespace: Option<&Namespace>, netns: u32) -> String {
    namespace.map_or_else(|| format!("inode {netns}"), |known| known.name.clone())
}

/// Failures by errno and cause, most first.
pub(super) fn counts<'a>(failures: impl IntoIterator<Item = &'a Failed>) -> Vec<Count> {
    let mut sums: BTreeMap<(Option<Error>, Cause, bool), u64> = BTreeMap::new();
    for failed in failures {
        *sums
            .entry((failed.errno, failed.cause, failed.bind))
            .or_default() += failed.count;
    }
    let mut counts: Vec<Count> = sums
        .into_iter()
        .map(|((errno, cause, bind), count)| Count {
            errno,
            cause,
            bind,
            count,
        })
        .collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.count));
    counts
}

/// Failures of bind() that are not about a dry range: one verdict a source address.
fn of_binds<'a>(
    elsewhere: &[(PoolId, Failed)],
    now_ns: u64,
    namespace: impl Fn(u32) -> Option<&'a Namespace>,
) -> Vec<Verdict> {
    let mut sources: BTreeMap<_, Vec<&Failed>> = BTreeMap::new();
    for (id, failed) in elsewhere
        .iter()
        .filter(|(_, failed)| !is_exhaustion(failed))
    {
        sources.entry((id.netns, id.src)).or_default().push(failed);
    }
    let mut verdicts = Vec::new();
    for ((netns, src), failures) in sources {
        if !Tally::of(failures.iter().copied(), |_| true).recent(now_ns) {
            continue;
        }
        let failures_counted = counts(failures.iter().copied());
        verdicts.push(Verdict {
            kind: Kind::NotPorts,
            urgency: Urgency::Failing,
            pool: PoolId {
                netns,
                src,
                dst: bound::anywhere(src),
                dport: 0,
            },
            namespace: name(namespace(netns), netns),
            level: Level::default(),
            states: Default::default(),
            evidence: evidence::not_ports(None, &failures_counted, &src.to_string()),
            culprits: Vec::new(),
            victims: culprits::victims(failures),
            failures: failures_counted,
            ceiling: 0.0,
            safe_rate: 0.0,
            rate: 0.0,
            forecast: None,
            foretold: None,
            remedies: Vec::new(),
            myths: Vec::new(),
        });
    }
    verdicts
}
