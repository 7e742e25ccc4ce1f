/*!
What a pool could bear, and what it could bear after a change: arithmetic on
ports and the 60 s a TIME_WAIT holds one.
*/

use super::words::{counted, grouped};
use super::{Effect, TIME_WAIT_S};

/// Ports of the kernel's default `ip_local_port_range`, 32768 to 60999.
pub(super) const DEFAULT_PORTS: u64 = 28_232;

/// That range.
pub(super) const DEFAULT_RANGE: (u16, u16) = (32_768, 60_999);

/// The widest range without the ports below 1024, which are for servers.
pub(super) const WIDE_RANGE: (u16, u16) = (1_024, 65_535);

/// What a pool may be filled to for ever: three quarters. Above the half connect() searches
/// longer, since one parity of ports has run out, and the last quarter is for bursts: at a
/// steady rate twice the mean over 15 s still fits in.
pub(super) const SAFE_SHARE: f64 = 0.75;

/// A port in TIME_WAIT may be taken over in the second after next where `tcp_tw_reuse` covers it:
/// kernels up to 6.12 count whole seconds.
const REUSED_AFTER_S: f64 = 2.0;

/// Connections per second that `ports` bear for ever when each holds one for the 60 s after it.
pub(super) fn ceiling(ports: u64) -> f64 {
    ports as f64 / TIME_WAIT_S
}

/// The rate to stay below: it fills three quarters of the ports.
pub(super) fn safe_rate(ports: u64) -> f64 {
    ceiling(ports) * SAFE_SHARE
}

/// The ceiling as it is told: whole connections, tenths where it is small.
fn told(ports: u64) -> f64 {
    let exact = ceiling(ports);
    if exact >= 100.0 {
        exact.floor()
    } else {
        (exact * 10.0).floor() / 10.0
    }
}

/// Another range: `range 1024-65535 (64,512 ports)`. `reserved` are ports taken out of it.
pub(super) fn range((low, high): (u16, u16), reserved: u32) -> Effect {
    let ports = (u64::from(high) + 1).saturating_sub(u64::from(low));
    let ports = ports.saturating_sub(u64::from(reserved));
    Effect {
        change: format!("range {low}-{high} ({} ports)", grouped(ports)),
        safe_rate: Some(told(ports)),
        ports: None,
    }
}

/// The same traffic spread over `count` destination ports: `3 destination ports`.
pub(super) fn destinations(count: u64, ports: u64) -> Effect {
    Effect {
        change: counted(count, "destination port", "destination ports"),
        safe_rate: Some(count as f64 * told(ports)),
        ports: None,
    }
}

/// The same traffic from `count` source addresses.
pub(super) fn sources(count: u64, ports: u64) -> Effect {
    Effect {
        change: counted(count, "source address", "source addresses"),
        safe_rate: Some(count as f64 * told(ports)),
        ports: None,
    }
}

/// How many destinations bear `rate` with the safe margin: at least 2, for what is done needs change.
pub(super) fn destinations_for(rate: f64, ports: u64) -> u64 {
    let one = safe_rate(ports);
    if one <= 0.0 {
        return 3;
    }
    // The usual advice is three; more only where three would not do.
    (rate / one).ceil().clamp(3.0, 64.0) as u64
}

/// A pool of `connections` that stay open: they hold as many ports, whatever the rate.
pub(super) fn kept(connections: u64) -> Effect {
    Effect {
        change: format!(
            "pool of {}",
            counted(connections, "connection", "connections")
        ),
        safe_rate: None,
        ports: Some(connections),
    }
}

/// One connection for each process that has many now.
pub(super) fn shared(processes: u64) -> Effect {
    Effect {
        change: format!(
            "1 connection per process, {}",
            counted(processes, "process", "processes")
        ),
        safe_rate: None,
        ports: Some(processes),
    }
}

/// Ports that come back once `freed` of `used` are let go.
pub(super) fn freed(freed: u64, used: u64) -> Effect {
    Effect {
        change: format!("{} closed", counted(freed, "connection", "connections")),
        safe_rate: None,
        ports: Some(used.saturating_sub(freed)),
    }
}

/// A port in TIME_WAIT can be taken over within two seconds.
pub(super) fn reused(setting: &str, ports: u64) -> Effect {
    Effect {
        change: setting.to_owned(),
        safe_rate: Some((ports as f64 / REUSED_AFTER_S).floor()),
        ports: None,
    }
}

/// A port is lost to one destination instead of to all: each has the whole range.
pub(super) fn unbound(ports: u64) -> Effect {
    Effect {
        change: format!("{} for each destination", counted(ports, "port", "ports")),
        safe_rate: Some(told(ports)),
        ports: None,
    }
}

/// Connections that a pool of them needs to do `rate`, each busy for `lifetime_ns`, with as many
/// again to spare; 20 where nothing is known.
pub(super) fn pool_size(rate: f64, lifetime_ns: Option<u64>) -> u64 {
    let busy = lifetime_ns.map_or(0.0, |ns| rate * ns as f64 / 1e9);
    let size = (busy * 2.0).ceil().clamp(0.0, 10_000.0) as u64;
    size.div_ceil(10).saturating_mul(10).max(20)
}

#[cfg(test)]
mod tests {
    use super::{
        DEFAULT_PORTS, WIDE_RANGE, ceiling, destinations, destinations_for, kept, pool_size, range,
        reused, safe_rate, unbound,
    };
    use crate::diagnosis::words::rate;

    #[test]
    fn the_numbers_people_quote() {
        let wide = range(WIDE_RANGE, 0);
        assert_eq!(wide.change, "range 1024-65535 (64,512 ports)");
        assert_eq!(wide.safe_rate, Some(1_075.0));
        let three = destinations(3, DEFAULT_PORTS);
        assert_eq!(three.change, "3 destination ports");
        assert_eq!(three.safe_rate, Some(1_410.0));
        let pool = kept(20);
        assert_eq!(pool.change, "pool of 20 connections");
        assert_eq!(pool.ports, Some(20));
        assert_eq!(rate(ceiling(DEFAULT_PORTS)), "470/s");
        assert_eq!(reused("tcp_tw_reuse=1", 28_232).safe_rate, Some(14_116.0));
        assert_eq!(unbound(1_000).safe_rate, Some(16.6));
    }

    #[test]
    fn reserved_ports_are_not_promised() {
        let wide = range(WIDE_RANGE, 4_512);
        assert_eq!(wide.change, "range 1024-65535 (60,000 ports)");
        assert_eq!(wide.safe_rate, Some(1_000.0));
    }

    #[test]
    fn ten_a_second_is_safe_on_a_thousand_ports_and_fifteen_is_not() {
        assert!(10.0 < safe_rate(1_000));
        assert!(15.0 > safe_rate(1_000));
    }

    #[test]
    fn advice_grows_with_the_load() {
        assert_eq!(destinations_for(0.0, DEFAULT_PORTS), 3);
        assert_eq!(destinations_for(1_500.0, DEFAULT_PORTS), 5);
        assert_eq!(destinations_for(10.0, 0), 3);
        assert_eq!(pool_size(1_240.0, Some(1_000_000)), 20);
        assert_eq!(pool_size(1_000.0, Some(50_000_000)), 100);
        assert_eq!(pool_size(1_000.0, None), 20);
    }
}
