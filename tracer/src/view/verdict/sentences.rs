/*! The facts of a verdict that take a sentence. */

use super::growth;
use crate::diagnosis::{Effect, Kind, Verdict};
use crate::model::Foretold;
use crate::view::escape;
use crate::view::text::columns::grouped;
use crate::view::words::{level, rate, seconds};

/// `you open 1,240/s; this pool bears 470/s for ever, 350/s to be safe`
pub(super) fn rates(verdict: &Verdict) -> Option<String> {
    let opens = format!("you open {}", rate(verdict.rate));
    match verdict.kind {
        Kind::NotPorts => None,
        // What stays open is not freed after 60 s: the pool bears no rate of these for ever.
        Kind::Leak | Kind::CloseWait | Kind::FinWait2 => {
            let grows = rate(growth(verdict));
            Some(format!("{opens}, and {grows} of them stay"))
        }
        _ if verdict.ceiling > 0.0 => {
            let ceiling = rate(verdict.ceiling);
            let mut words = format!("{opens}; this pool bears {ceiling} for ever");
            if verdict.safe_rate > 0.0 && verdict.safe_rate < verdict.ceiling {
                words += &format!(", {} to be safe", rate(verdict.safe_rate));
            }
            Some(words)
        }
        _ => (verdict.rate > 0.0).then_some(opens),
    }
}

/// `████████░░`; full only when the pool is.
pub(super) fn bar(used: u64, capacity: u64, cells: usize) -> String {
    let part = u128::from(used) * cells as u128 / u128::from(capacity.max(1));
    let full = usize::try_from(part).unwrap_or(cells).min(cells);
    "\u{2588}".repeat(full) + &"\u{2591}".repeat(cells - full)
}

/// `at 260 of 1,000 ports: dry in 41 s; it took 44 s, 3.0 s more`
pub(super) fn foretold(told: &Foretold, capacity: u64) -> String {
    let took_s = told.dry_ns.saturating_sub(told.forecast.made_ns) as f64 / 1e9;
    let at = match capacity {
        0 => format!("at {} ports", grouped(told.used)),
        ports => format!("at {} of {} ports", grouped(told.used), grouped(ports)),
    };
    let took = seconds(took_s);
    let Some((forecast, off)) = told.forecast.dry_in_s.zip(told.off_s()) else {
        return format!("{at} no end was forecast; it was dry {took} later");
    };
    let off = match seconds(off.abs()) {
        exact if exact == "0.0 s" => "as forecast".to_owned(),
        off_by if off < 0.0 => format!("{off_by} more"),
        off_by => format!("{off_by} less"),
    };
    format!(
        "{at} it was forecast to be dry in {}; it took {took}, {off}",
        seconds(forecast)
    )
}

/// `settles at 750 of 1,000 ports, 75 %, at this rate`
pub(super) fn settles(ports: f64, capacity: u64) -> String {
    let ports = ports.max(0.0).round() as u64;
    if capacity > 0 && ports > capacity {
        let there = grouped(capacity);
        return format!(
            "this rate takes {} ports; there are {there}",
            grouped(ports)
        );
    }
    format!("settles at {}, at this rate", level(ports, capacity))
}

/// `with range 1024-65535: 1,075/s`
pub(super) fn gives(effect: &Effect) -> String {
    let mut numbers = Vec::new();
    if let Some(safe) = effect.safe_rate {
        numbers.push(rate(safe));
    }
    if let Some(ports) = effect.ports {
        numbers.push(format!("{} ports", grouped(ports)));
    }
    let change = escape::terminal(effect.change.as_bytes());
    format!("with {change}: {}", numbers.join(", "))
        .trim_end_matches(": ")
        .to_owned()
}
