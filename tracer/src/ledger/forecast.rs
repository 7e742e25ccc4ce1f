/*!
Where a pool is heading.

A TIME_WAIT holds its port for 60 s, so churn at `r` connections a second holds
`r × 60` ports in the long run and no more: below the capacity it goes on for
ever. Open connections that only grow, a leak, have no such level. Both are
added up second by second, as are the TIME_WAITs there are already, which leave
60 s after they were born; those whose birth nobody saw leave evenly within 60 s.
*/

use crate::model::Forecast;

/// Nobody plans further than this.
const HORIZON_S: f64 = 30.0 * 24.0 * 3600.0;

/// What a forecast is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// Ports connect() can choose from.
    pub ports: f64,
    /// Ports held by anything but TIME_WAITs and FIN_WAIT2 mini-sockets.
    pub open: f64,
    /// Ports held by those.
    pub time_wait: f64,
    /// Births of TIME_WAITs per second, less those whose port was used again before its time.
    pub births_per_s: f64,
    /// Growth of `open` per second: a leak's slope.
    pub opens_per_s: f64,
    /// Births of TIME_WAITs of the last 60 seconds, the newest second first.
    pub ages: [f64; 60],
    /// How long a TIME_WAIT holds its port, seconds.
    pub lifetime_s: f64,
}

impl Outlook {
    /// Ports in TIME_WAIT can be taken over after so many seconds (`tcp_tw_reuse`): younger ones
    /// are all that is in the way.
    pub fn reuse_after(&mut self, seconds: f64) {
        self.lifetime_s = seconds;
        self.time_wait = self.time_wait.min(self.births_per_s * seconds);
        self.ages = [0.0; 60];
    }

    /// When the pool runs dry, and what it will hold otherwise.
    pub fn forecast(&self, made_ns: u64) -> Forecast {
        let leaks = self.opens_per_s > 0.0;
        let dry_in_s = self.dry_in_s().filter(|&seconds| seconds <= HORIZON_S);
        Forecast {
            made_ns,
            dry_in_s,
            settles_at: (!leaks).then_some(self.open + self.births_per_s * self.lifetime_s),
        }
    }

    fn dry_in_s(&self) -> Option<f64> {
        let mut used = self.open + self.time_wait;
        if used >= self.ports {
            return Some(0.0);
        }
        let mut open = self.open;
        for second in 0..60 {
            let grown = (open + self.opens_per_s).max(0.0);
            let next = used + grown - open + self.births_per_s - self.leaving(second);
            if next >= self.ports {
                return Some(second as f64 + (self.ports - used) / (next - used));
            }
            (used, open) = (next, grown);
        }
        (self.opens_per_s > 0.0).then(|| 60.0 + (self.ports - used) / self.opens_per_s)
    }

    /// TIME_WAITs that leave in the second that begins `second` seconds from now.
    fn leaving(&self, second: usize) -> f64 {
        let lived_s = second as f64 + 1.0;
        if self.lifetime_s < 60.0 {
            // Those there are, evenly over their lifetime; then as many as came.
            let of_old = if lived_s <= self.lifetime_s {
                self.time_wait / self.lifetime_s
            } else {
                0.0
            };
            let of_new = if lived_s > self.lifetime_s {
                self.births_per_s
            } else {
                0.0
            };
            return of_old + of_new;
        }
        let seen: f64 = self.ages.iter().sum();
        // More births than TIME_WAITs: some ended before their time, of any age.
        let part = if seen > self.time_wait && seen > 0.0 {
            self.time_wait / seen
        } else {
            1.0
        };
        let unseen = (self.time_wait - seen).max(0.0);
        self.ages[59 - second] * part + unseen / 60.0
    }
}

/// A sign of a pool that fills, before anything fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warning {
    /// Half of the range is in use: the ports of one parity, which connect() tries first, are
    /// gone, and every connect() from now on looks through all of them before it tries the others.
    HalfRange {
        /// Ports in use.
        used: u64,
        /// Ports there are.
        ports: u64,
    },
    /// The search for a port takes far longer than it did.
    SlowSearch {
        /// Mean of the first thousand searches, ns.
        at_first_ns: u64,
        /// Mean of the last second, ns.
        now_ns: u64,
    },
}

/// A search this much longer than at first is a sign.
const SLOWER: u64 = 4;

/// Below this no search is slow: a system call interrupted once takes as long.
const SLOW_NS: u64 = 20_000;

/// The early signs in a pool that holds `used` of `ports`; `search_ns` as
/// [`Pool::search_ns`](crate::model::Pool::search_ns).
pub fn warnings(used: u64, ports: Option<u64>, search_ns: Option<(u64, u64)>) -> Vec<Warning> {
    let half = ports
        .filter(|&ports| ports > 0 && used * 2 >= ports)
        .map(|ports| Warning::HalfRange { used, ports });
    let slow = search_ns
        .filter(|&(first, now)| now >= SLOW_NS && now >= first.saturating_mul(SLOWER))
        .map(|(at_first_ns, now_ns)| Warning::SlowSearch {
            at_first_ns,
            now_ns,
        });
    half.into_iter().chain(slow).collect()
}

#[cfg(test)]
mod tests {
    use super::{Outlook, Warning, warnings};

    fn churn(rate: f64, seconds: usize) -> Outlook {
        let mut ages = [0.0; 60];
        ages[..seconds].fill(rate);
        Outlook {
            ports: 1_000.0,
            open: 0.0,
            time_wait: rate * seconds as f64,
            births_per_s: rate,
            opens_per_s: 0.0,
            ages,
            lifetime_s: 60.0,
        }
    }

    #[test]
    fn churn_below_the_ceiling_settles() {
        let forecast = churn(10.0, 25).forecast(7);
        assert_eq!(forecast.made_ns, 7);
        assert_eq!(forecast.dry_in_s, None);
        assert_eq!(forecast.settles_at, Some(600.0));
        let settled = churn(10.0, 60).forecast(0);
        assert_eq!((settled.dry_in_s, settled.settles_at), (None, Some(600.0)));
    }

    #[test]
    fn churn_above_the_ceiling_runs_dry() {
        let dry = churn(25.0, 10).forecast(0).dry_in_s.unwrap();
        assert!((dry - 30.0).abs() < 0.01, "{dry}");
    }

    #[test]
    fn a_leak_has_no_level() {
        let mut leak = churn(0.0, 0);
        leak.open = 250.0;
        leak.opens_per_s = 5.0;
        let forecast = leak.forecast(0);
        let dry = forecast.dry_in_s.unwrap();
        assert!((dry - 150.0).abs() < 0.01, "{dry}");
        assert_eq!(forecast.settles_at, None);
    }

    #[test]
    fn a_leak_on_top_of_churn_uses_up_what_churn_leaves() {
        let mut both = churn(10.0, 60);
        both.open = 100.0;
        both.opens_per_s = 2.0;
        let dry = both.forecast(0).dry_in_s.unwrap();
        assert!((dry - 150.0).abs() < 0.01, "{dry}");
    }

    #[test]
    fn time_waits_from_before_leave_evenly() {
        let mut steady = churn(15.0, 0);
        steady.time_wait = 900.0;
        assert_eq!(steady.forecast(0).dry_in_s, None);
        steady.births_per_s = 20.0;
        let dry = steady.forecast(0).dry_in_s.unwrap();
        assert!((dry - 20.0).abs() < 0.01, "{dry}");
    }

    #[test]
    fn ports_that_are_used_again_do_not_run_dry() {
        let mut reused = churn(100.0, 9);
        assert!(reused.forecast(0).dry_in_s.is_some());
        reused.reuse_after(1.0);
        let forecast = reused.forecast(0);
        assert_eq!(
            (forecast.dry_in_s, forecast.settles_at),
            (None, Some(100.0))
        );
        let mut too_fast = churn(1_500.0, 0);
        too_fast.reuse_after(1.0);
        let dry = too_fast.forecast(0).dry_in_s.unwrap();
        assert!(dry < 1.0, "{dry}");
    }

    #[test]
    fn signs_come_at_half_the_range_and_with_slow_searches() {
        assert!(warnings(499, Some(1_000), Some((600, 2_300))).is_empty());
        assert!(warnings(0, None, None).is_empty());
        assert_eq!(
            warnings(500, Some(1_000), Some((600, 90_000))),
            [
                Warning::HalfRange {
                    used: 500,
                    ports: 1_000
                },
                Warning::SlowSearch {
                    at_first_ns: 600,
                    now_ns: 90_000
                },
            ]
        );
    }
}
