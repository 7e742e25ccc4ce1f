/*! Failures that are not about source ports: one sentence each that says so, and no remedy. */

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::model::{Cause, Elsewhere, Failed, Namespace, PoolId, States, TcpState};

use super::facts::{Facts, Tally, is_exhaustion};
use super::verdicts::{counts, name};
use super::words::{counted, grouped};
use super::{Count, Kind, Level, Urgency, Verdict, bound, culprits};

/// What a failure that is not about ports means.
pub(super) fn evidence(
    facts: Option<&Facts<'_>>,
    groups: &[Count],
    destination: &str,
) -> Vec<String> {
    let mut list: Vec<String> = groups
        .iter()
        .map(|group| meaning(group, destination))
        .collect();
    let timed_out = groups.iter().any(|group| group.cause == Cause::TimedOut);
    if let Some(facts) = facts.filter(|_| timed_out) {
        let waiting = facts.pool.states.get(TcpState::SynSent);
        if waiting > 0 {
            list.push(format!(
                "{} still in SYN_SENT: the SYN leaves this host and no answer comes back.",
                counted(waiting, "connection is", "connections are")
            ));
        }
        list.extend(conntrack(facts));
        list.push(
            "A NAT on the way that is out of ports looks like this too; it cannot be seen from here."
                .to_owned(),
        );
    }
    list
}

fn conntrack(facts: &Facts<'_>) -> Option<String> {
    let (count, max) = facts.namespace?.conntrack?;
    let near = u64::from(count) * 10 >= u64::from(max) * 9;
    let (count, max) = (grouped(u64::from(count)), grouped(u64::from(max)));
    Some(if near {
        format!("nf_conntrack has {count} of {max} entries: once full, the kernel drops new SYNs.")
    } else {
        format!("nf_conntrack is not full: {count} of {max} entries.")
    })
}

fn meaning(group: &Count, destination: &str) -> String {
    let errno = group
        .errno
        .map_or_else(|| "no errno".into(), |errno| errno.name());
    let call = if group.bind { "bind()" } else { "connect()" };
    let calls = if group.count == 1 {
        format!("1 {call}")
    } else {
        format!("{} {call} calls", grouped(group.count))
    };
    let why = match group.cause {
        Cause::Refused => format!("{destination} answered that nobody listens there"),
        Cause::TimedOut => format!("{destination} did not answer"),
        Cause::Reset => format!("{destination} reset the connection"),
        Cause::NoRoute => format!("there is no route to {destination}"),
        Cause::AddressNotLocal if destination.starts_with("[::1]") => {
            "this namespace has no ::1, as in containers without IPv6; use 127.0.0.1".to_owned()
        }
        Cause::AddressNotLocal => "the source address is not one of this namespace's".to_owned(),
        Cause::TupleInUse => {
            format!("another socket has {destination}; the port range plays no part")
        }
        Cause::PortsExhausted => "no port was free".to_owned(),
        Cause::Other => other(&errno).to_owned(),
    };
    format!("{calls} failed with {errno}: {why}.")
}

fn other(errno: &str) -> &'static str {
    match errno {
        "EMFILE" | "ENFILE" => "there are too many open files",
        "EACCES" | "EPERM" => {
            "a policy of this host forbids it (privileges, firewall, cgroup or LSM)"
        }
        "ENOMEM" | "ENOBUFS" => "the kernel had no memory for it",
        "EINVAL" | "EAFNOSUPPORT" | "EISCONN" | "EALREADY" | "EBADF" => {
            "the program asked for something that cannot be"
        }
        "EINTR" | "ECANCELED" => "the program gave up waiting",
        _ => "it is not about source ports",
    }
}

/// Failures of bind() that are not about a dry range: one verdict an address and port.
pub(super) fn of_binds<'a>(
    elsewhere: &[Elsewhere],
    now_ns: u64,
    namespace: impl Fn(u32) -> Option<&'a Namespace>,
) -> Vec<Verdict> {
    let mut sources: BTreeMap<_, Vec<&Failed>> = BTreeMap::new();
    for one in elsewhere.iter().filter(|one| !is_exhaustion(&one.failed)) {
        let asked_for = (one.netns, one.src, one.sport);
        sources.entry(asked_for).or_default().push(&one.failed);
    }
    let mut verdicts = Vec::new();
    for ((netns, src, sport), failures) in sources {
        if !Tally::of(failures.iter().copied(), |_| true).recent(now_ns) {
            continue;
        }
        let failures_counted = counts(failures.iter().copied());
        let at = SocketAddr::new(src, sport).to_string();
        verdicts.push(Verdict {
            kind: Kind::NotPorts,
            urgency: Urgency::Failing,
            pool: PoolId {
                netns,
                src,
                dst: bound::anywhere(src),
                dport: 0,
            },
            namespace: name(namespace(netns), netns),
            level: Level::default(),
            states: States::default(),
            evidence: evidence(None, &failures_counted, &at),
            culprits: Vec::new(),
            victims: culprits::victims(failures),
            failures: failures_counted,
            ceiling: 0.0,
            safe_rate: 0.0,
            rate: 0.0,
            forecast: None,
            foretold: None,
            remedies: Vec::new(),
            myths: Vec::new(),
        });
    }
    verdicts
}
