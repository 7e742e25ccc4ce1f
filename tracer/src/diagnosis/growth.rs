/*!
Whether an owner leaks: long before the pool is full, and not while a healthy
program opens the connections it will keep.
*/

use crate::model::{Holder, Pool, TcpState};

use super::Kind;
use super::facts::weight;

/// Fewer open connections than this are nobody's leak.
const FEWEST_OPEN: u64 = 20;

/// Fewer connections gained in a minute are noise.
const FEWEST_A_MINUTE: f64 = 10.0;

/// Seconds an owner must have been opening: a pool is warm by then.
const STEADY_S: f64 = 30.0;

/// The rate of the last 10 s by that of the last minute, where growth is steady. Below, it levels
/// off. Above, it began less than 35 s ago: 10 s at rate r after a growth of w seconds in a full
/// minute make `60 / w`.
const STEADY: std::ops::RangeInclusive<f64> = 0.5..=1.7;

/// Whether the open connections of `holder` grow, steadily, and still do.
///
/// Either most of what it opens stays open; or it closes most, but has far more open than its rate
/// and the lifetime of those that end account for, and gains more than chance would.
pub(super) fn leaks(holder: &Holder, pool: &Pool) -> bool {
    let open = weight(&holder.states, Kind::Leak);
    let rates = &holder.open_rate;
    let gained = holder.net_rate * 60.0;
    if open < FEWEST_OPEN || gained < FEWEST_A_MINUTE || rates.minute <= 0.0 {
        return false;
    }
    // An owner that gains sockets in CLOSE_WAIT is another case: its peers do close.
    if holder.states.get(TcpState::CloseWait) > open {
        return false;
    }
    // The newest window has to show it too; TIME_WAITs that end may hide it for a while.
    if pool.net_rate <= 0.0 || !STEADY.contains(&(rates.ten / rates.minute)) {
        return false;
    }
    // A window not yet full counts the time there was, so this is at most that time.
    if holder.opened as f64 / rates.minute < STEADY_S {
        return false;
    }
    if holder.net_rate * 2.0 >= rates.minute {
        return true;
    }
    let Some((_, most_ns)) = pool.lifetime_ns else {
        return false;
    };
    let due = rates.minute * most_ns as f64 / 1e9;
    open as f64 >= 2.0 * due && gained >= 3.0 * (open as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::leaks;
    use crate::diagnosis::tests::build::{holder, pool};
    use crate::model::TcpState::Established;
    use crate::model::{Holder, Pool, Rates};

    fn opening(open: u64, opened: u64, ten: f64, minute: f64, net_rate: f64) -> Holder {
        Holder {
            opened,
            open_rate: Rates {
                ten,
                minute,
                ..Rates::default()
            },
            net_rate,
            ..holder("app", 1, &[(Established, open)])
        }
    }

    fn growing() -> Pool {
        Pool {
            net_rate: 1.0,
            ..pool(&[])
        }
    }

    #[test]
    fn what_is_opened_and_kept_for_half_a_minute_leaks() {
        assert!(leaks(&opening(90, 90, 3.0, 3.0, 3.0), &growing()));
        assert!(leaks(&opening(400, 400, 2.0, 2.2, 1.9), &growing()));
    }

    #[test]
    fn a_pool_that_warms_up_does_not() {
        // 50 connections in the first two seconds, seen after 5 s, 10 s, 20 s and 70 s.
        assert!(!leaks(&opening(50, 50, 10.0, 10.0, 10.0), &growing()));
        assert!(!leaks(&opening(50, 50, 5.0, 5.0, 5.0), &growing()));
        assert!(!leaks(&opening(50, 50, 0.0, 2.5, 2.5), &growing()));
        assert!(!leaks(&opening(50, 50, 0.0, 0.0, 0.0), &growing()));
        // The same in a trace that is hours old, 3 s after it began.
        assert!(!leaks(&opening(50, 50, 5.0, 0.83, 0.83), &growing()));
        // Twenty seconds of growth in an old trace.
        assert!(!leaks(&opening(200, 200, 10.0, 3.3, 3.3), &growing()));
    }

    #[test]
    fn growth_that_stopped_does_not() {
        assert!(!leaks(&opening(600, 600, 0.5, 8.0, 8.0), &growing()));
        let full = Pool {
            net_rate: 0.0,
            ..pool(&[])
        };
        assert!(!leaks(&opening(600, 600, 8.0, 8.0, 8.0), &full));
    }

    #[test]
    fn a_tenth_that_is_never_closed_is_found_among_churn() {
        let holder = opening(600, 6_000, 100.0, 100.0, 10.0);
        let short = Pool {
            lifetime_ns: Some((5_000_000, 40_000_000)),
            ..growing()
        };
        assert!(leaks(&holder, &short));
        // Lifetimes of up to 6 s make 600 open connections normal.
        let long = Pool {
            lifetime_ns: Some((5_000_000, 6_000_000_000)),
            ..growing()
        };
        assert!(!leaks(&holder, &long));
        // Chance: 20 more within a minute, of 600.
        assert!(!leaks(&opening(600, 6_000, 100.0, 100.0, 0.4), &short));
    }
}
