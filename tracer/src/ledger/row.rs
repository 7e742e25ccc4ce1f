/*! One pool's row in the books: who holds what, how fast that changes, and what was foretold of it. */

use std::sync::Arc;

use foldhash::HashMap;

use super::account::Account;
use super::forecast::{self, Outlook};
use super::meter::{Meter, Ring, SECOND, Sizes, Slope, TENTH, Trend};
use super::search::Searches;
use crate::model::{
    Capacity, Cause, Ends, Error, Failed, Forecast, Foretold, OwnerId, Pool, PoolId, Process,
    States, TcpState,
};

/// From this part of the capacity on a forecast is held to what then happens.
const QUARTER: f64 = 0.25;

/// A forecast is made anew when the rate it was made at grew or shrank by this factor.
const ANOTHER_RATE: f64 = 1.5;

/// So long must it be another, not to be chance.
const LASTING: u64 = 5 * SECOND;

/// After so long without a birth, the next one starts a churn.
const PAUSE: u64 = 10 * SECOND;

/// What failures of a pool are told apart by.
pub(super) type FailureId = (OwnerId, Option<Error>, Cause, bool);

/// A forecast, and what it was made from.
#[derive(Clone, Copy, Debug)]
struct Kept {
    forecast: Forecast,
    used: u64,
    rate: f64,
    /// Since when the rate is another.
    other_since: Option<u64>,
}

/// One pool's row. About 4 kB, and 1 kB an account.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: PoolId,
    pub(super) accounts: Vec<(OwnerId, Box<Account>)>,
    pub(super) used: u64,
    pub(super) peak: (u64, u64),
    /// The most ports held since that was last asked for.
    high: u64,
    pub(super) opens: Meter,
    pub(super) ends: Ends,
    pub(super) lifetimes: Sizes,
    pub(super) searches: Searches,
    pub(super) failures: HashMap<FailureId, Failed>,
    pub(super) open_trend: Trend<61>,
    pub(super) used_trend: Trend<16>,
    pub(super) drift: i64,
    /// Ports a dump told of and no event: their ends may come without one as well.
    pub(super) adopted: u64,
    /// Changes that the last dump may or may not have had.
    pub(super) unsure: u64,
    /// Something happened last.
    pub(super) touched_ns: u64,
    births: Ring<64, SECOND>,
    births_fine: Ring<101, TENTH>,
    early_ends: Ring<11, SECOND>,
    churning_since: u64,
    born_ns: u64,
    /// Ports of the capacity when it was last looked at.
    ports: Option<u64>,
    reusable: bool,
    kept: Option<Kept>,
    foretold: Option<Foretold>,
    dry: bool,
}

impl Row {
    pub(super) fn new(id: PoolId) -> Self {
        Self {
            id,
            accounts: Vec::new(),
            used: 0,
            peak: (0, 0),
            high: 0,
            opens: Meter::default(),
            ends: Ends::default(),
            lifetimes: Sizes::default(),
            searches: Searches::default(),
            failures: HashMap::default(),
            open_trend: Trend::default(),
            used_trend: Trend::default(),
            drift: 0,
            adopted: 0,
            unsure: 0,
            touched_ns: 0,
            births: Ring::default(),
            births_fine: Ring::default(),
            early_ends: Ring::default(),
            churning_since: 0,
            born_ns: 0,
            ports: None,
            reusable: false,
            kept: None,
            foretold: None,
            dry: false,
        }
    }

    pub(super) fn find(&self, owner: OwnerId) -> Option<usize> {
        self.accounts.iter().position(|&(id, _)| id == owner)
    }

    pub(super) fn account(&mut self, owner: OwnerId) -> Option<&mut Account> {
        let index = self.find(owner)?;
        Some(&mut *self.accounts[index].1)
    }

    /// The account of `owner`, new where there is none.
    pub(super) fn open_account(&mut self, id: OwnerId, process: &Arc<Process>) -> &mut Account {
        let index = self.find(id).unwrap_or_else(|| {
            self.accounts.push((id, Box::new(Account::new(process))));
            self.accounts.len() - 1
        });
        &mut self.accounts[index].1
    }

    /// One port more is held, as an account says.
    pub(super) fn grew(&mut self, at_ns: u64) {
        self.used += 1;
        self.mark(at_ns);
    }

    /// Notes the level when it is higher than ever, or all there is.
    pub(super) fn mark(&mut self, at_ns: u64) {
        self.high = self.high.max(self.used);
        if self.used > self.peak.0 {
            self.peak = (self.used, at_ns);
        }
        let is_full = |ports: u64| self.used >= ports && ports > 0;
        if !self.reusable && self.ports.is_some_and(is_full) {
            self.ran_dry(at_ns);
        }
    }

    /// So many ports less are held.
    pub(super) fn shrank(&mut self, by: u64) {
        self.used = self.used.saturating_sub(by);
    }

    /// Takes one holding: of `owner`, else of those whose owner is not known (both kinds).
    pub(super) fn take(
        &mut self,
        owner: OwnerId,
        states: &[TcpState],
    ) -> Option<(OwnerId, TcpState)> {
        [owner, OwnerId::BEYOND, OwnerId::UNKNOWN]
            .into_iter()
            .find_map(|id| self.take_of(id, states))
    }

    /// Takes one holding of whoever has most.
    pub(super) fn take_of_most(&mut self, states: &[TcpState]) -> Option<(OwnerId, TcpState)> {
        let most = |account: &Account| -> u64 {
            states.iter().map(|&state| account.states.get(state)).sum()
        };
        let id = self
            .accounts
            .iter()
            .max_by_key(|(_, account)| most(account))?
            .0;
        self.take_of(id, states)
    }

    fn take_of(&mut self, id: OwnerId, states: &[TcpState]) -> Option<(OwnerId, TcpState)> {
        let state = self.account(id)?.take(states)?;
        self.shrank(1);
        Some((id, state))
    }

    /// Recounts after the accounts were changed as a whole.
    pub(super) fn recount(&mut self) {
        self.used = self
            .accounts
            .iter()
            .map(|(_, account)| account.states.total())
            .sum();
    }

    /// TIME_WAITs and FIN_WAIT2 mini-sockets.
    pub(super) fn waits(&self) -> u64 {
        self.accounts
            .iter()
            .map(|(_, account)| account.waits())
            .sum()
    }

    /// A TIME_WAIT was born.
    pub(super) fn born(&mut self, at_ns: u64) {
        if self.born_ns + PAUSE < at_ns {
            self.churning_since = at_ns;
        }
        self.born_ns = self.born_ns.max(at_ns);
        self.births.add(at_ns, 1);
        self.births_fine.add(at_ns, 1);
    }

    /// A TIME_WAIT gave its port back before its time.
    pub(super) fn ended_early(&mut self, at_ns: u64) {
        self.early_ends.add(at_ns, 1);
    }

    /// Lets TIME_WAITs leave where no event tells.
    pub(super) fn expire(&mut self, now_ns: u64) {
        let gone = self
            .accounts
            .iter_mut()
            .map(|(_, account)| account.expire(now_ns))
            .sum();
        self.shrank(gone);
    }

    /// Notes the levels, at most once a second.
    pub(super) fn sample(&mut self, at_ns: u64) {
        let open = self.used - self.waits().min(self.used);
        self.open_trend.push(at_ns, open, SECOND);
        for (_, account) in &mut self.accounts {
            let open = account.open();
            account.trend.push(at_ns, open, 2 * SECOND);
        }
    }

    /// The pool has no port left, by an errno or by the count.
    pub(super) fn ran_dry(&mut self, at_ns: u64) {
        if self.dry {
            return;
        }
        self.dry = true;
        if let Some(kept) = self.kept
            && kept.forecast.made_ns <= at_ns
        {
            self.foretold = Some(Foretold {
                forecast: kept.forecast,
                used: kept.used,
                dry_ns: at_ns,
            });
        }
    }

    /// Looks at where the pool is heading, and keeps the first forecast made from a quarter full
    /// on, to be held to it. It is replaced when for five seconds the rate was another by half, or
    /// whether there is an end; it is dropped when the pool falls below a quarter.
    pub(super) fn look_ahead(&mut self, now_ns: u64, capacity: Option<Capacity>, reusable: bool) {
        self.used_trend.push(now_ns, self.used, SECOND);
        self.reusable = reusable;
        self.ports = capacity.map(|capacity| capacity.ports());
        let Some(ports) = self.ports.filter(|&ports| ports > 0) else {
            return;
        };
        if (self.used as f64) < ports as f64 * QUARTER {
            self.kept = None;
            self.dry = false;
            return;
        }
        if self.dry {
            return;
        }
        let outlook = self.outlook(now_ns, ports);
        let rate = outlook.births_per_s + outlook.opens_per_s;
        let forecast = outlook.forecast(now_ns);
        if let Some(kept) = &mut self.kept {
            let (less, more) = (rate.min(kept.rate), rate.max(kept.rate));
            let is_same = kept.forecast.dry_in_s.is_some() == forecast.dry_in_s.is_some()
                && (more <= less * ANOTHER_RATE || more - less < 0.5);
            if is_same {
                kept.other_since = None;
                return;
            }
            let since = *kept.other_since.get_or_insert(now_ns);
            if now_ns.saturating_sub(since) < LASTING {
                return;
            }
        }
        self.kept = Some(Kept {
            forecast,
            used: self.used,
            rate,
            other_since: None,
        });
    }

    fn outlook(&self, now_ns: u64, ports: u64) -> Outlook {
        let waits = self.waits();
        let (early, span) = self.early_ends.window(now_ns, 11);
        let births_per_s = (self.births_per_s(now_ns) - early as f64 / span).max(0.0);
        let mut ages = [0.0; 60];
        for (age, count) in ages.iter_mut().enumerate() {
            let second = (now_ns / SECOND).checked_sub(age as u64);
            *count = f64::from(second.map_or(0, |second| self.births.get(second)));
        }
        let mut outlook = Outlook {
            ports: ports as f64,
            open: (self.used - waits.min(self.used)) as f64,
            time_wait: waits as f64,
            births_per_s,
            opens_per_s: self.opens_per_s(now_ns),
            ages,
            lifetime_s: 60.0,
        };
        if self.reusable {
            outlook.reuse_after(1.0);
        }
        outlook
    }

    /// Births of TIME_WAITs per second: over the longest window in which they came evenly.
    fn births_per_s(&self, now_ns: u64) -> f64 {
        let churning = now_ns.saturating_sub(self.churning_since) as f64 / 1e9;
        let mut steady = None;
        for window_s in [2_u64, 5, 10, 20, 60] {
            let (count, span) = if window_s <= 10 {
                self.births_fine.window(now_ns, window_s * 10 + 1)
            } else {
                self.births.window(now_ns, window_s + 1)
            };
            let span = span.min(churning).max(0.1);
            let rate = count as f64 / span;
            if let Some((so_far, error)) = steady
                && f64::abs(rate - so_far) > error
            {
                break;
            }
            // What chance explains, and a little unevenness.
            steady = Some((rate, 2.0 * (count as f64).sqrt() / span + 0.02 * rate));
        }
        steady.map_or(0.0, |(rate, _)| rate)
    }

    /// Growth of the open holdings per second, over the longest window in which it was even; 0 where
    /// it is no more than their coming and going.
    fn opens_per_s(&self, now_ns: u64) -> f64 {
        let mut steady: Option<Slope> = None;
        for window_s in [5, 10, 20, 61] {
            let Some(mut slope) = self.open_trend.slope(now_ns, window_s * SECOND) else {
                continue;
            };
            // Connections come one by one: so much is chance, however straight the line.
            let by_chance = (slope.per_s.abs() / slope.span_s).sqrt();
            slope.error = slope.error.max(by_chance);
            if let Some(so_far) = steady {
                let error = 1.5 * (so_far.error + slope.error) + 0.02 * so_far.per_s.abs();
                if f64::abs(slope.per_s - so_far.per_s) > error {
                    break;
                }
            }
            steady = Some(slope);
        }
        steady
            .filter(|slope| {
                let grew = slope.per_s.abs();
                grew > 2.0 * slope.error && grew * slope.span_s >= 3.0
            })
            .map_or(0.0, |slope| slope.per_s)
    }

    /// Whether nothing is held, nothing failed and nothing happened for a minute.
    pub(super) fn is_idle(&self, now_ns: u64) -> bool {
        self.used == 0 && self.touched_ns + 60 * SECOND < now_ns
    }

    /// The row as others read it.
    pub(super) fn pool(&self, now_ns: u64, since_ns: u64, capacity: Option<Capacity>) -> Pool {
        let mut states = States::default();
        for (_, account) in &self.accounts {
            for state in States::ALL {
                if let Some(sum) = states.get_mut(state) {
                    *sum += account.states.get(state);
                }
            }
        }
        let mut holders: Vec<_> = self
            .accounts
            .iter()
            .map(|(_, account)| account.holder(now_ns, since_ns))
            .collect();
        holders.sort_by(|a, b| {
            let by = |holder: &crate::model::Holder| (holder.states.total(), holder.opened);
            by(b).cmp(&by(a)).then(a.process.tgid.cmp(&b.process.tgid))
        });
        let mut failures: Vec<_> = self.failures.values().cloned().collect();
        failures.sort_by_key(|failed| (std::cmp::Reverse(failed.count), failed.process.tgid));
        let ports = capacity.map(|capacity| capacity.ports());
        Pool {
            id: self.id,
            capacity,
            states,
            peak: self.peak,
            holders,
            failures,
            open_rate: self.opens.rates(now_ns, since_ns),
            opened: self.opens.total(),
            net_rate: self
                .used_trend
                .slope(now_ns, 10 * SECOND)
                .map_or(0.0, |slope| slope.per_s),
            ends: self.ends,
            lifetime_ns: self.lifetimes.median_and_p99(),
            search_ns: self.searches.first_and_now(now_ns),
            searched: self.searches.all(),
            high: (self.high.max(self.used), self.opens.high()),
            drift: self.drift,
            forecast: ports
                .filter(|&ports| ports > 0)
                .map(|ports| self.outlook(now_ns, ports).forecast(now_ns)),
            foretold: self.foretold,
        }
    }

    /// From now on the highest level and rate are others.
    pub(super) fn lower(&mut self) {
        self.high = self.used;
        self.opens.lower();
    }

    /// Early signs of a pool that fills.
    pub(super) fn warnings(&self, now_ns: u64) -> Vec<forecast::Warning> {
        forecast::warnings(self.used, self.ports, self.searches.first_and_now(now_ns))
    }
}
