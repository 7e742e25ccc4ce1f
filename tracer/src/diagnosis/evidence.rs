/*! The facts that led to a verdict, as sentences: the strongest first. */

use crate::model::{Cause, Holder, TwReuse};

use super::facts::{Facts, ended, weight};
use super::words::{counted, grouped, percent, process, rate, span, task};
use super::{Kind, culprits, what_if};

/// connect() that takes less time than this to find a port is not slow, ns.
const SLOW_SEARCH_NS: u64 = 20_000;

/// What a verdict on one pool rests on.
pub(super) fn of_pool(facts: &Facts<'_>, kind: Kind, culprits: &[Holder]) -> Vec<String> {
    let mut list = Vec::new();
    list.extend(failures(facts, kind));
    list.extend(held(facts, kind));
    match kind {
        Kind::Churn => list.extend(churn(facts)),
        Kind::Leak => list.extend(leak(facts, culprits)),
        Kind::CloseWait => list
            .push("The peer has closed these; nobody here has called close() on them.".to_owned()),
        Kind::FinWait2 => list.push(
            "This side has closed these and has its answer; the peer's FIN does not come."
                .to_owned(),
        ),
        Kind::SmallRange => list.extend(small_range(facts)),
        Kind::Collision => list.push(
            "A program brought the port along: bind() chose it before connect(), so it could not \
             move to a free one."
                .to_owned(),
        ),
        Kind::NotPorts => list.push(
            "Each attempt that is not answered holds its port for as long as the SYNs are \
             repeated: by default about two minutes."
                .to_owned(),
        ),
        Kind::Bound => {}
    }
    list.extend(program(facts, kind, culprits));
    list.extend(victims(facts, kind, culprits));
    if !matches!(kind, Kind::SmallRange | Kind::Collision) {
        list.extend(narrow(facts));
    }
    list.extend(search(facts));
    list.extend(doubts(facts));
    list
}

fn failures(facts: &Facts<'_>, kind: Kind) -> Option<String> {
    let (tally, why) = if kind == Kind::Collision {
        (
            &facts.collided,
            "the connection from the chosen port to that destination exists already",
        )
    } else {
        (&facts.exhausted, "no source port was free")
    };
    if tally.count == 0 {
        return None;
    }
    let calls = counted(tally.count, "connect() failed", "connect() calls failed");
    let ago = if tally.recent(facts.now_ns) {
        String::new()
    } else {
        let age = facts.now_ns.saturating_sub(tally.last_ns);
        format!(", the last {} ago", span(age))
    };
    Some(format!("{calls} with EADDRNOTAVAIL{ago}: {why}."))
}

fn held(facts: &Facts<'_>, kind: Kind) -> Option<String> {
    let what = match kind {
        Kind::Churn => "TIME_WAIT, each for 60 s after its connection",
        Kind::Leak => "open connections",
        Kind::CloseWait => "CLOSE_WAIT",
        Kind::FinWait2 => "FIN_WAIT2",
        Kind::NotPorts => "SYN_SENT: the destination does not answer",
        Kind::Collision => {
            return facts.ports.map(|ports| {
                format!(
                    "Only {} of {} are in use: there are ports.",
                    grouped(facts.used),
                    counted(ports, "port", "ports")
                )
            });
        }
        Kind::Bound | Kind::SmallRange => return None,
    };
    let held = facts.weight(kind);
    Some(match facts.ports {
        Some(ports) => format!(
            "{} of {} ({}) are held by {what}.",
            grouped(held),
            counted(ports, "port", "ports"),
            percent(held, ports)
        ),
        None => format!("{} held by {what}.", counted(held, "port is", "ports are")),
    })
}

fn churn(facts: &Facts<'_>) -> Vec<String> {
    let mut list = Vec::new();
    let wanted = facts.wanted();
    if let Some(ports) = facts.ports.filter(|_| wanted > 0.0) {
        list.push(format!(
            "{} are asked for; {} bear {} for ever.",
            rate(wanted),
            counted(ports, "port", "ports"),
            rate(what_if::ceiling(ports))
        ));
    }
    let ends = &facts.pool.ends;
    let ended = facts.ended();
    if ended > 0 && ends.local * 2 > ended {
        list.push(format!(
            "{} of the connections were closed by this side first: that side keeps the TIME_WAIT.",
            percent(ends.local, ended)
        ));
    }
    if let Some((half, most)) = facts.pool.lifetime_ns {
        list.push(format!(
            "Half of them lived less than {}, 99 % less than {}.",
            span(half),
            span(most)
        ));
    }
    let rates = &facts.pool.open_rate;
    if rates.minute > 0.0 && rates.peak >= 10.0 * rates.minute && rates.peak >= 100.0 {
        list.push(format!(
            "They come in bursts: {} within 100 ms, {} on average.",
            rate(rates.peak),
            rate(rates.minute)
        ));
    }
    let reuse = facts.namespace.and_then(|namespace| namespace.tw_reuse);
    if reuse == Some(TwReuse::On) {
        list.push(
            "tcp_tw_reuse is 1 already: it frees only what is older than a second and has TCP \
             timestamps."
                .to_owned(),
        );
    }
    list
}

fn leak(facts: &Facts<'_>, culprits: &[Holder]) -> Vec<String> {
    let mut list = Vec::new();
    if let Some(first) = culprits.iter().find(|holder| holder.process.tgid != 0) {
        let who = process(&first.process);
        if first.opened > 0 {
            list.push(format!(
                "{who} opened {} and closed {}.",
                counted(first.opened, "connection", "connections"),
                grouped(ended(first).min(first.opened))
            ));
        }
        if first.net_rate > 0.0 {
            list.push(format!(
                "Its open connections grow by {} and do not level off.",
                rate(first.net_rate)
            ));
        }
    }
    if facts.pool.forecast.is_none() {
        list.push("One look cannot tell whether they grow; watch can.".to_owned());
    }
    list
}

fn small_range(facts: &Facts<'_>) -> Vec<String> {
    let Some(capacity) = facts.pool.capacity else {
        return vec!["How many ports there are could not be read.".to_owned()];
    };
    let (low, high) = capacity.range;
    let ports = capacity.ports();
    let mut list = Vec::new();
    if ports >= 1_024 {
        list.push(format!(
            "Yet only {} of {} were in use at most: the sockets have less than the namespace, by \
             IP_LOCAL_PORT_RANGE or ports that others have bound.",
            grouped(facts.level().peak),
            counted(ports, "port", "ports")
        ));
        return list;
    }
    list.push(format!(
        "ip_local_port_range is {low} to {high} in this namespace: {} in all.",
        counted(ports, "port is left", "ports are left")
    ));
    if capacity.reserved > 0 {
        list.push(format!(
            "ip_local_reserved_ports takes out {}.",
            grouped(u64::from(capacity.reserved))
        ));
    }
    if capacity.blocked > 0 {
        list.push(format!(
            "Listeners and bound sockets block {}.",
            grouped(u64::from(capacity.blocked))
        ));
    }
    let wanted = facts.wanted();
    if wanted > 0.0 {
        list.push(format!(
            "{} would be little for the kernel's default range of {} ports.",
            rate(wanted),
            grouped(what_if::DEFAULT_PORTS)
        ));
    }
    list
}

/// That a range is small, beside another verdict.
fn narrow(facts: &Facts<'_>) -> Option<String> {
    let ports = facts.ports.filter(|&ports| ports < 1_024)?;
    Some(format!(
        "The pool has only {}; the kernel's default range has {}, for {}.",
        counted(ports, "port", "ports"),
        grouped(what_if::DEFAULT_PORTS),
        rate(what_if::ceiling(what_if::DEFAULT_PORTS))
    ))
}

/// Who it is when it is many processes of one program.
fn program(facts: &Facts<'_>, kind: Kind, culprits: &[Holder]) -> Option<String> {
    let first = culprits.first().filter(|holder| holder.process.tgid != 0)?;
    let held = |holder: &Holder| weight(&holder.states, kind);
    let (processes, ports) = culprits::siblings(first, &facts.pool.holders, held);
    (processes > 1 && ports > 0).then(|| {
        format!(
            "{} processes of {} hold {} of them.",
            grouped(processes),
            task(&first.process.comm),
            grouped(ports)
        )
    })
}

/// Who got the error without being the cause: where people look first.
fn victims(facts: &Facts<'_>, kind: Kind, culprits: &[Holder]) -> Option<String> {
    let cause = if kind == Kind::Collision {
        return None;
    } else {
        Cause::PortsExhausted
    };
    let innocent = facts.pool.failures.iter().find(|failed| {
        failed.cause == cause
            && failed.process.tgid != 0
            && !culprits
                .iter()
                .any(|holder| holder.process.comm == failed.process.comm)
    })?;
    let holds: u64 = facts
        .pool
        .holders
        .iter()
        .filter(|holder| holder.process.tgid == innocent.process.tgid)
        .map(|holder| holder.states.total())
        .sum();
    Some(format!(
        "{} got the error and holds {}: it is not the cause.",
        process(&innocent.process),
        counted(holds, "port", "ports")
    ))
}

/// The early warning: connect() searches longer as ports become scarce.
fn search(facts: &Facts<'_>) -> Option<String> {
    let share = facts.share()?;
    if let Some((first, now)) = facts.pool.search_ns
        && now >= SLOW_SEARCH_NS
        && now >= first.saturating_mul(3)
    {
        return Some(format!(
            "connect() now looks {} for a port; at first it was {}.",
            span(now),
            span(first)
        ));
    }
    (0.5..0.9).contains(&share).then(|| {
        "More than half of the ports are in use: one parity is gone, and connect() searches longer."
            .to_owned()
    })
}

/// What limits the trust in the rest.
fn doubts(facts: &Facts<'_>) -> Vec<String> {
    let mut list = Vec::new();
    // A name without a process is that of all beyond the number the ledger keeps apart.
    let of_nobody = |named: bool| -> u64 {
        let holders = facts.pool.holders.iter();
        holders
            .filter(|holder| holder.process.tgid == 0)
            .filter(|holder| holder.process.comm.bytes().is_empty() != named)
            .map(|holder| holder.states.total())
            .sum()
    };
    let unknown = of_nobody(false);
    let others = of_nobody(true);
    if others > 0 {
        list.push(format!(
            "{} held by processes beyond those that are kept apart.",
            counted(others, "port is", "ports are")
        ));
    }
    if unknown > 0 {
        list.push(format!(
            "{} opened before tracing: whose is not known.",
            counted(unknown, "port was", "ports were")
        ));
    }
    let drift = facts.pool.drift;
    if drift != 0 {
        let direction = if drift > 0 { "more" } else { "fewer" };
        list.push(format!(
            "At the last check the books had {} {direction} than the kernel; that was corrected.",
            counted(drift.unsigned_abs(), "port", "ports")
        ));
    }
    list
}
