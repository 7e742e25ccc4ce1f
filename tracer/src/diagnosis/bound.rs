/*!
Ports that bind() took before connect(): each is lost to every destination, so
all pools of one source address suffer together, and one verdict covers them.
*/

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{
    Capacity, Elsewhere, Ends, Failed, Holder, Namespace, OwnerId, PoolId, Rates, States,
};

use super::facts::{Facts, Tally, is_exhaustion, part};
use super::remedies::{Case, remedies};
use super::verdicts::counts;
use super::words::{counted, destination, grouped, percent};
use super::{Kind, Level, Urgency, Verdict, culprits, what_if};

/// From this part of the range on, bound ports matter before anything fails.
const MATTERS: f64 = 0.5;

/// From this part on, a forecast is believed.
const FORECAST: f64 = 0.1;

/// All that binds from one source address of one namespace.
struct Source<'a> {
    id: PoolId,
    pools: Vec<&'a Facts<'a>>,
    failures: Vec<&'a Failed>,
    namespace: Option<&'a Namespace>,
    now_ns: u64,
}

/// The verdicts, and the pools they account for.
pub(super) fn find<'p, 'a: 'p>(
    pools: &'p [Facts<'a>],
    elsewhere: &'p [Elsewhere],
    now_ns: u64,
    namespace: impl Fn(u32) -> Option<&'a Namespace>,
) -> (Vec<Verdict>, BTreeSet<PoolId>) {
    let binds = |failed: &Failed| failed.bind && is_exhaustion(failed);
    let mut sources: BTreeSet<(u32, IpAddr)> = elsewhere
        .iter()
        .filter(|one| binds(&one.failed))
        .map(|one| (one.netns, one.src))
        .collect();
    let bound = pools.iter().filter(|facts| facts.bound() > 0);
    sources.extend(bound.map(|facts| (facts.pool.id.netns, facts.pool.id.src)));
    let mut verdicts = Vec::new();
    let mut covered = BTreeSet::new();
    for (netns, src) in sources {
        // bind() to any address draws on what all addresses of the namespace have left.
        let here = |id: &PoolId| id.netns == netns && (id.src == src || src.is_unspecified());
        let source = Source {
            id: PoolId {
                netns,
                src,
                dst: anywhere(src),
                dport: 0,
            },
            pools: pools.iter().filter(|facts| here(&facts.pool.id)).collect(),
            failures: elsewhere
                .iter()
                .filter(|one| one.netns == netns && one.src == src && binds(&one.failed))
                .map(|one| &one.failed)
                .collect(),
            namespace: namespace(netns),
            now_ns,
        };
        if let Some(verdict) = source.verdict() {
            verdicts.push(verdict);
            covered.extend(source.suffering().map(|facts| facts.pool.id));
        }
    }
    (verdicts, covered)
}

/// The unspecified address of the family of `src`.
pub(super) fn anywhere(src: IpAddr) -> IpAddr {
    match src {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl<'a> Source<'a> {
    fn verdict(&self) -> Option<Verdict> {
        let bound = self.pools.iter().map(|facts| bound_now(facts)).sum::<u64>();
        let capacity = self.capacity();
        let blocked = self.blocked();
        let used = bound.max(blocked);
        let ports = self.ports();
        let share = ports.map_or(0.0, |ports| part(used, ports));
        let failing = self.failing();
        let remembered = failing.remembered(self.now_ns);
        if !remembered && (bound == 0 || share < FORECAST) {
            return None;
        }
        let soon = self.suffering().any(Facts::dry_soon);
        let urgency = if failing.recent(self.now_ns) {
            Urgency::Failing
        } else if soon {
            Urgency::Soon
        } else if remembered || share >= MATTERS {
            Urgency::Watch
        } else {
            return None;
        };
        let culprits = self.culprits();
        let failures: Vec<&Failed> = self.all_failures().collect();
        let wanted: f64 = self.pools.iter().map(|facts| facts.wanted()).sum();
        let peak = self.pools.iter().map(|facts| facts.level().peak);
        let remedies = remedies(&Case {
            kind: Kind::Bound,
            pool: &self.id,
            namespace: self.namespace,
            capacity,
            ports,
            used,
            weight: used,
            wanted,
            lifetime_ns: None,
            culprits: &culprits,
            growing: false,
        });
        let forecasts = self.suffering().filter_map(|facts| facts.pool.forecast);
        Some(Verdict {
            kind: Kind::Bound,
            urgency,
            pool: self.id,
            namespace: super::verdicts::name(self.namespace, self.id.netns),
            level: Level {
                used,
                peak: peak.max().unwrap_or_default().max(used),
                capacity: ports.unwrap_or_default(),
            },
            states: self.states(),
            evidence: self.evidence(&failing, bound, blocked, ports),
            culprits,
            victims: culprits::victims(failures.iter().copied()),
            failures: counts(failures.iter().copied()),
            ceiling: what_if::ceiling(ports.unwrap_or_default()),
            safe_rate: what_if::safe_rate(ports.unwrap_or_default()),
            rate: self
                .pools
                .iter()
                .map(|facts| facts.pool.open_rate.ten)
                .sum(),
            forecast: forecasts.min_by(|a, b| {
                let dry = |seconds: Option<f64>| seconds.unwrap_or(f64::INFINITY);
                dry(a.dry_in_s).total_cmp(&dry(b.dry_in_s))
            }),
            foretold: self.suffering().find_map(|facts| facts.pool.foretold),
            remedies,
            myths: Vec::new(),
        })
    }

    /// The pools whose ports are bound, or whose ports others have bound until connect() failed.
    fn suffering(&self) -> impl Iterator<Item = &'a Facts<'a>> {
        self.pools.iter().copied().filter(|facts| {
            let capacity = facts.pool.capacity.unwrap_or_default();
            let eaten = u64::from(capacity.blocked) > capacity.ports();
            facts.mostly_bound() || eaten && facts.exhausted.count > 0
        })
    }

    /// bind() and connect() calls that found no port for this reason.
    fn all_failures(&self) -> impl Iterator<Item = &'a Failed> {
        let connects = self.suffering().flat_map(|facts| &facts.pool.failures);
        let connects = connects.filter(|failed| is_exhaustion(failed));
        self.failures.iter().copied().chain(connects)
    }

    fn failing(&self) -> Tally {
        Tally::of(self.all_failures(), |_| true)
    }

    /// Ports that are lost to all: what others block for a pool, and what it has bound itself.
    fn blocked(&self) -> u64 {
        let each = self.pools.iter().map(|facts| {
            let by_others = facts.pool.capacity.map_or(0, |capacity| capacity.blocked);
            u64::from(by_others) + bound_now(facts)
        });
        each.max().unwrap_or_default()
    }

    fn capacity(&self) -> Option<Capacity> {
        let known = self.pools.iter().filter_map(|facts| facts.pool.capacity);
        known.max_by_key(|capacity| capacity.blocked).or_else(|| {
            self.namespace.map(|namespace| Capacity {
                range: (namespace.range.low, namespace.range.high),
                reserved: namespace.reserved,
                blocked: 0,
            })
        })
    }

    /// Ports bind() can choose from, the taken ones included.
    fn ports(&self) -> Option<u64> {
        self.capacity().map(|capacity| {
            Capacity {
                blocked: 0,
                ..capacity
            }
            .ports()
        })
    }

    fn states(&self) -> States {
        let mut sum = States::default();
        for facts in self.suffering() {
            add(&mut sum, &facts.pool.states);
        }
        sum
    }

    /// Who binds, over all destinations; who failed to, where nobody is known to hold anything.
    fn culprits(&self) -> Vec<Holder> {
        let mut merged: BTreeMap<OwnerId, Holder> = BTreeMap::new();
        for holder in self.pools.iter().flat_map(|facts| &facts.pool.holders) {
            if holder.bound == 0 {
                continue;
            }
            merged
                .entry(OwnerId::of(&holder.process))
                .and_modify(|sum| merge(sum, holder))
                .or_insert_with(|| holder.clone());
        }
        if merged.is_empty() {
            for failed in &self.failures {
                merged
                    .entry(OwnerId::of(&failed.process))
                    .or_insert_with(|| culprits::empty_handed(failed));
            }
        }
        culprits::rank(merged.values(), |holder| {
            holder.bound.min(holder.states.total())
        })
    }

    fn evidence(
        &self,
        failing: &Tally,
        bound: u64,
        blocked: u64,
        ports: Option<u64>,
    ) -> Vec<String> {
        let mut list = Vec::new();
        let binds: u64 = self.failures.iter().map(|failed| failed.count).sum();
        if binds > 0 {
            list.push(format!(
                "{} with EADDRINUSE: no port was left to bind. It is not a server's port.",
                counted(binds, "bind() failed", "bind() calls failed")
            ));
        }
        if failing.count > binds {
            list.push(format!(
                "{} with EADDRNOTAVAIL: no source port was free.",
                counted(
                    failing.count - binds,
                    "connect() failed",
                    "connect() calls failed"
                )
            ));
        }
        let of_range = ports.map_or_else(String::new, |ports| {
            let share = percent(bound.max(blocked), ports);
            format!(" of {} ({share})", counted(ports, "port", "ports"))
        });
        if bound.max(blocked) > 0 {
            list.push(format!(
                "{}{of_range} were bound before connect(): each is lost to every destination, in \
                 TIME_WAIT too.",
                grouped(bound.max(blocked))
            ));
        }
        let fullest = self.suffering().max_by_key(|facts| facts.used);
        if let Some(facts) = fullest {
            let destinations = self.suffering().count() as u64;
            list.push(format!(
                "They go to {}, most of them to {}.",
                counted(destinations, "destination", "destinations"),
                destination(&facts.pool.id)
            ));
        }
        list
    }
}

/// Ports of a pool that are bound now: what was bound in all, as far as it is still held.
fn bound_now(facts: &Facts<'_>) -> u64 {
    let holders = facts.pool.holders.iter();
    holders
        .map(|holder| holder.bound.min(holder.states.total()))
        .sum()
}

fn add(sum: &mut States, states: &States) {
    for state in States::ALL {
        if let Some(count) = sum.get_mut(state) {
            *count += states.get(state);
        }
    }
}

fn merge(sum: &mut Holder, more: &Holder) {
    add(&mut sum.states, &more.states);
    sum.opened += more.opened;
    sum.bound += more.bound;
    sum.net_rate += more.net_rate;
    sum.ends = Ends {
        local: sum.ends.local + more.ends.local,
        peer: sum.ends.peer + more.ends.peer,
        reset: sum.ends.reset + more.ends.reset,
    };
    sum.open_rate = Rates {
        second: sum.open_rate.second + more.open_rate.second,
        ten: sum.open_rate.ten + more.open_rate.ten,
        minute: sum.open_rate.minute + more.open_rate.minute,
        // Peaks of two pools need not fall together: the sum is what they are at most.
        peak: sum.open_rate.peak + more.open_rate.peak,
    };
}
