/*!
From pools to verdicts: each with its evidence, culprits, victims and remedies, the
most urgent first. Which cause applies is [`causes`]'s to say.
*/

use std::collections::BTreeMap;

use crate::model::{Cause, Elsewhere, Error, Failed, Namespace, Pool};

use super::facts::{Facts, is_collision, is_exhaustion, is_other, weight};
use super::remedies::{Case, remedies};
use super::words::destination;
use super::{
    Count, Kind, Level, Urgency, Verdict, bound, causes, culprits, evidence, myths, not_ports,
    what_if,
};

/// What is wrong with `pools`: the most urgent first, then the fullest.
///
/// A healthy pool gives nothing. Pools that were looked at once only should have no forecast: that
/// they stay as they are is then not known.
pub fn diagnose<'a>(
    pools: &'a [Pool],
    elsewhere: &'a [Elsewhere],
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
    verdicts.extend(not_ports::of_binds(elsewhere, now_ns, &namespace));
    // Stable: of two on one pool, the dominant one was found first.
    verdicts.sort_by(|a, b| {
        b.urgency
            .cmp(&a.urgency)
            .then((a.kind == Kind::NotPorts).cmp(&(b.kind == Kind::NotPorts)))
            .then(share(&b.level).total_cmp(&share(&a.level)))
    });
    verdicts
}

/// The part in use; 0 where it is not known of what.
fn share(level: &Level) -> f64 {
    if level.capacity == 0 {
        return 0.0;
    }
    level.used as f64 / level.capacity as f64
}

/// The newest moment anything is known of: pools carry no clock of their own.
fn now(pools: &[Pool], elsewhere: &[Elsewhere]) -> u64 {
    let forecasts = pools.iter().filter_map(|pool| pool.forecast);
    let failures = pools.iter().flat_map(|pool| &pool.failures);
    let failures = failures.chain(elsewhere.iter().map(|one| &one.failed));
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
        let kinds = causes::kinds(facts).into_iter();
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
    let by_errno = counts(failures.iter().copied());
    let at = destination(&pool.id);
    let evidence = match kind {
        Kind::NotPorts if facts.exhausted.count == 0 => {
            not_ports::evidence(Some(facts), &by_errno, &at)
        }
        Kind::NotPorts => {
            let mut list = evidence::of_pool(facts, kind, &culprits);
            let rest = failures.iter().copied().filter(|failed| is_other(failed));
            let rest = counts(rest);
            list.extend(not_ports::evidence(Some(facts), &rest, &at));
            list
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
        growing: causes::leaks(facts),
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
        failures: by_errno,
        ceiling: what_if::ceiling(ports),
        safe_rate: what_if::safe_rate(ports),
        rate: pool.open_rate.ten,
        forecast: pool.forecast,
        foretold: pool.foretold,
    }
}

/// Those who bring ports along: the ones that failed, then the ones that hold bound ports.
fn colliding(facts: &Facts<'_>, failures: &[&Failed]) -> Vec<crate::model::Holder> {
    let failed = |tgid: u32| -> u64 {
        let mine = failures.iter().filter(|failed| failed.process.tgid == tgid);
        mine.map(|failed| failed.count).sum()
    };
    let binds = facts
        .pool
        .holders
        .iter()
        .filter(|holder| holder.bound > 0 || failed(holder.process.tgid) > 0);
    let ranked = culprits::rank(binds, |holder| {
        failed(holder.process.tgid).saturating_add(holder.bound)
    });
    if ranked.is_empty() {
        // The connection it collides with may be somebody else's, or in TIME_WAIT.
        return culprits::victims(failures.iter().copied())
            .iter()
            .map(culprits::empty_handed)
            .collect();
    }
    ranked
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
