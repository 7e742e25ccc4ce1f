/*! Numbers and names as a sentence has them: short, and safe to print. */

use std::net::SocketAddr;

use crate::model::{PoolId, Process, TaskName};

/// `1,204`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1,240/s`, `16.7/s`, `0.25/s`: cut, not rounded, so that a bound stays a bound.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        // A float this side of 2^53 has no fraction to lose.
        return format!("{}/s", grouped(per_second.floor() as u64));
    }
    let (steps, digits) = if per_second < 1.0 {
        (100.0, 2)
    } else {
        (10.0, 1)
    };
    // 0.29 * 100 is 28.999…: what was written as two digits must read as them.
    let cut = ((per_second * steps) + 1e-9).floor() / steps;
    let text = format!("{cut:.digits$}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    format!("{short}/s")
}

/// `98 %`, cut: what is not all never reads as 100 %.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let share = part
        .saturating_mul(100)
        .checked_div(whole)
        .unwrap_or_default();
    format!("{share} %")
}

/// `850 ns`, `80 µs`, `1.2 ms`, `41 s`, `12 min`.
pub(super) fn span(ns: u64) -> String {
    let (unit_ns, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        1_000_000_000..120_000_000_000 => (1_000_000_000, "s"),
        _ => return format!("{} min", grouped(ns / 60_000_000_000)),
    };
    let tenths = ns / (unit_ns / 10);
    if tenths >= 100 || tenths.is_multiple_of(10) {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// `1 port`, `1,204 ports`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{} {word}", grouped(number))
}

/// A task's name in printable ASCII: any program can choose any bytes.
pub(super) fn task(name: &TaskName) -> String {
    name.bytes().escape_ascii().to_string()
}

/// `web[4242]`; its name alone where it is nobody's.
pub(super) fn process(process: &Process) -> String {
    if process.tgid == 0 {
        return "an unknown process".to_owned();
    }
    format!("{}[{}]", task(&process.comm), process.tgid)
}

/// `10.0.0.2:6432`; `any destination` where there is none.
pub(super) fn destination(pool: &PoolId) -> String {
    if pool.dport == 0 && pool.dst.is_unspecified() {
        return "any destination".to_owned();
    }
    SocketAddr::new(pool.dst, pool.dport).to_string()
}

#[cfg(test)]
mod tests {
    use super::{counted, grouped, percent, rate, span};

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(28_232), "28,232");
        assert_eq!(rate(1_075.2), "1,075/s");
        assert_eq!(rate(470.53), "470/s");
        assert_eq!(rate(16.67), "16.6/s");
        assert_eq!(rate(50.0), "50/s");
        assert_eq!(rate(0.29), "0.29/s");
        assert_eq!(rate(0.0), "0/s");
        assert_eq!(percent(999, 1_000), "99 %");
        assert_eq!(percent(5, 0), "0 %");
        assert_eq!(span(850), "850 ns");
        assert_eq!(span(1_240_000), "1.2 ms");
        assert_eq!(span(41_000_000_000), "41 s");
        assert_eq!(span(600_000_000_000), "10 min");
        assert_eq!(counted(1, "port", "ports"), "1 port");
        assert_eq!(counted(1_204, "port", "ports"), "1,204 ports");
    }
}
