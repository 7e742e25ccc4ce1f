/*!
Which causes apply to a pool, the dominant one first.

A pool matters when connect() found no port, or when half of its ports are in
use and nothing says that it stays there. Then the largest kind of holding is
what is wrong, and a second one if it holds a quarter too. A pool that does not
matter yet is looked at for what will make it matter: a leak, a churn above what
it can bear, sockets that pile up in CLOSE_WAIT or FIN_WAIT2.

A small range (fewer than 1,024 ports) is the verdict once connect() found no
port in it, where the load is so small that the default range would not notice
it: fewer than 100 ports in the typical state, no burst, less than the default's
safe rate, no leak. Else the churn or the leak is the verdict, and that the range
is small is told as evidence.
*/

use super::facts::Facts;
use super::{Kind, growth, what_if};
use crate::model::TcpState;

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

/// What is wrong with the ports of a pool; nothing when it is healthy.
pub(super) fn kinds(facts: &Facts<'_>) -> Vec<Kind> {
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
        .map_or(facts.used == 0, |share| share < 1.0 / SECOND_PART as f64);
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

/// Whether any owner's open connections grow without end.
pub(super) fn leaks(facts: &Facts<'_>) -> bool {
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

/// Puts `small_range` in the place of what is no fault of the program, see this file's head.
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
    if !plain && !bursts {
        kinds.clear();
        kinds.push(Kind::SmallRange);
    }
}
