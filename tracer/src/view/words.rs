/*! Pools, processes, rates and times in words, the same in the box and in the tables. */

use crate::diagnosis::{Kind, Urgency, Verdict};
use crate::model::{Forecast, PoolId, Process, States};
use crate::view::escape;
use crate::view::text::columns::{endpoint, grouped};

/// Seconds from `now_ns` until the pool is dry, as it was forecast; 0 when that is past.
pub(super) fn dry_in_s(forecast: &Forecast, now_ns: u64) -> Option<f64> {
    let since = now_ns.saturating_sub(forecast.made_ns) as f64 / 1e9;
    forecast.dry_in_s.map(|dry| (dry - since).max(0.0))
}

/// `web[4242]`; `before tracing` for sockets whose process nobody saw.
pub(super) fn process(process: &Process) -> String {
    if process.tgid == 0 {
        return "before tracing".to_owned();
    }
    format!(
        "{}[{}]",
        escape::terminal(process.comm.bytes()),
        process.tgid
    )
}

/// `10.0.0.1 → 10.0.0.2:6432`; where ports are lost to every destination, `any`.
pub(super) fn place(id: &PoolId) -> String {
    let src = if id.src.is_unspecified() {
        "any".to_owned()
    } else {
        id.src.to_string()
    };
    let dst = if id.dst.is_unspecified() && id.dport == 0 {
        "any".to_owned()
    } else {
        endpoint(id.dst, id.dport)
    };
    format!("{src} \u{2192} {dst}")
}

/// `TIME_WAIT 940, ESTABLISHED 60`
pub(super) fn states(states: &States) -> String {
    let list: Vec<String> = states
        .most_first()
        .into_iter()
        .map(|(state, count)| format!("{} {}", state.name(), grouped(count)))
        .collect();
    list.join(", ")
}

/// `4.2/s`, `16.7/s`, `1,240/s`
pub(super) fn rate(per_second: f64) -> String {
    if !per_second.is_finite() {
        return "?/s".to_owned();
    }
    // Rounded to the decimal shown before asking on which side of a hundred it is.
    let tenths = (per_second * 10.0).round();
    if tenths.abs() < 1000.0 {
        // No "-0.0".
        return format!("{:.1}/s", tenths / 10.0 + 0.0);
    }
    let sign = if per_second < 0.0 { "-" } else { "" };
    format!("{sign}{}/s", grouped(per_second.abs().round() as u64))
}

/// `3.2 s`, `41 s`, `12 min 30 s`, `2 h 5 min`, `3 d 4 h`
pub(super) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "? s".to_owned();
    }
    let tenths = (seconds.max(0.0) * 10.0).round();
    if tenths < 100.0 {
        return format!("{:.1} s", tenths / 10.0);
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {} h", grouped(whole / 86_400), whole / 3_600 % 24),
    }
}

/// `26 %`; cut, so that 100 % is full.
pub(super) fn percent(used: u64, capacity: u64) -> String {
    match (u128::from(used) * 100).checked_div(u128::from(capacity)) {
        Some(percent) => format!("{percent} %"),
        None => "? %".to_owned(),
    }
}

/// `1,000 of 1,000 ports, 100 %`
pub(super) fn level(used: u64, capacity: u64) -> String {
    if capacity == 0 {
        return format!("{} ports, of how many is not known", grouped(used));
    }
    format!(
        "{} of {} ports, {}",
        grouped(used),
        grouped(capacity),
        percent(used, capacity)
    )
}

/// What is the matter, and how soon: `churn: connect() fails, 1,204 × EADDRNOTAVAIL`, `leak: dry in 41 s`.
pub(super) fn headline(verdict: &Verdict, now_ns: u64) -> String {
    let dry = verdict
        .forecast
        .as_ref()
        .and_then(|forecast| dry_in_s(forecast, now_ns));
    let settles = verdict.forecast.and_then(|forecast| forecast.settles_at);
    let matter = match (verdict.urgency, dry, settles) {
        (Urgency::Failing, ..) => failing(verdict),
        (_, Some(dry), _) if dry < 1.0 => "dry any moment".to_owned(),
        (_, Some(dry), _) => format!("dry in {}", seconds(dry)),
        (Urgency::Soon, None, _) => "will run dry".to_owned(),
        (Urgency::Watch, None, Some(ports)) => {
            format!(
                "settles at {} ports",
                grouped(ports.max(0.0).round() as u64)
            )
        }
        (Urgency::Watch, None, None) => "nothing fails yet".to_owned(),
    };
    format!("{}: {matter}", verdict.kind.name())
}

fn failing(verdict: &Verdict) -> String {
    let binds = verdict.failures.iter().any(|count| count.bind);
    let connects = verdict.failures.iter().any(|count| !count.bind);
    let mut words = match (binds, connects) {
        (true, false) => "bind() fails",
        (true, true) => "connect() and bind() fail",
        (false, _) => "connect() fails",
    }
    .to_owned();
    if let Some(most) = verdict.failures.iter().max_by_key(|count| count.count) {
        let errno = most
            .errno
            .map_or_else(|| most.cause.name().into(), crate::model::Error::name);
        words += &format!(", {} \u{d7} {errno}", grouped(most.count));
    }
    if verdict.kind == Kind::NotPorts {
        words += "; ports are not the reason";
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{headline, level, percent, rate, seconds};
    use crate::diagnosis::{Kind, Urgency, Verdict};
    use crate::model::{Cause, Error};
    use crate::view::sample::{NOW_NS, churn, leak};

    #[test]
    fn numbers_are_for_reading() {
        for (number, text) in [
            (0.0, "0.0/s"),
            (-0.01, "0.0/s"),
            (4.24, "4.2/s"),
            (16.666, "16.7/s"),
            (99.96, "100/s"),
            (1240.4, "1,240/s"),
            (-310.0, "-310/s"),
            (f64::NAN, "?/s"),
            (f64::INFINITY, "?/s"),
        ] {
            assert_eq!(rate(number), text);
        }
        for (number, text) in [
            (-1.0, "0.0 s"),
            (3.24, "3.2 s"),
            (9.97, "10 s"),
            (59.4, "59 s"),
            (59.7, "1 min 0 s"),
            (750.0, "12 min 30 s"),
            (7_500.0, "2 h 5 min"),
            (273_600.0, "3 d 4 h"),
            (f64::INFINITY, "? s"),
        ] {
            assert_eq!(seconds(number), text);
        }
    }

    #[test]
    fn only_a_full_pool_is_at_100_percent() {
        assert_eq!(percent(28_231, 28_232), "99 %");
        assert_eq!(percent(28_232, 28_232), "100 %");
        assert_eq!(percent(u64::MAX, 1 << 60), "1599 %");
        assert_eq!(level(5, 0), "5 ports, of how many is not known");
    }

    #[test]
    fn the_headline_says_what_and_how_soon() {
        let line = |change: &dyn Fn(&mut Verdict)| {
            let mut verdict = leak();
            change(&mut verdict);
            headline(&verdict, NOW_NS)
        };
        assert_eq!(line(&|_| ()), "leak: dry in 41 s");
        let later = |verdict: &mut Verdict| {
            let forecast = verdict.forecast.as_mut().unwrap();
            forecast.made_ns = NOW_NS - 60_000_000_000;
        };
        assert_eq!(line(&later), "leak: dry any moment");
        assert_eq!(
            line(&|verdict| verdict.forecast = None),
            "leak: will run dry"
        );
        assert_eq!(
            line(&|verdict| {
                verdict.kind = Kind::Churn;
                verdict.urgency = Urgency::Watch;
                let forecast = verdict.forecast.as_mut().unwrap();
                forecast.dry_in_s = None;
                forecast.settles_at = Some(1_749.6);
            }),
            "churn: settles at 1,750 ports"
        );
        assert_eq!(
            line(&|verdict| {
                verdict.urgency = Urgency::Watch;
                verdict.forecast = None;
            }),
            "leak: nothing fails yet"
        );
        let refused = |verdict: &mut Verdict| {
            verdict.kind = Kind::NotPorts;
            verdict.urgency = Urgency::Failing;
            verdict.failures = churn().failures;
            verdict.failures[0].errno = Some(Error(111));
            verdict.failures[0].cause = Cause::Refused;
        };
        assert_eq!(
            line(&refused),
            "not_ports: connect() fails, 1,216 \u{d7} ECONNREFUSED; ports are not the reason"
        );
        assert_eq!(
            line(&|verdict| {
                refused(verdict);
                verdict.kind = Kind::Bound;
                verdict.failures[0].bind = true;
                verdict.failures[0].errno = None;
            }),
            "bound: bind() fails, 1,216 \u{d7} refused"
        );
    }
}
