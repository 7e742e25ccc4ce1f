/*! What to change, the best first: what it is, the exact lines, what it costs, and its effect as a number. */

use crate::model::{Capacity, Holder, Namespace, PoolId, TwReuse};

use super::mechanism::{self, Service};
use super::words::{counted, grouped};
use super::{Kind, Remedy, settings, what_if};

/// A range with this many ports cannot be widened to any use.
const WIDE_ENOUGH: u64 = 60_000;

/// What remedies follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    /// The verdict.
    pub kind: Kind,
    /// Its pool.
    pub pool: &'a PoolId,
    /// Its namespace, where that is known.
    pub namespace: Option<&'a Namespace>,
    /// The pool's range, where it is known.
    pub capacity: Option<Capacity>,
    /// Ports the pool has.
    pub ports: Option<u64>,
    /// Ports it holds.
    pub used: u64,
    /// Ports held by what the verdict is about.
    pub weight: u64,
    /// Connections per second that are asked for.
    pub wanted: f64,
    /// 99th percentile of lifetimes, ns.
    pub lifetime_ns: Option<u64>,
    /// Who causes it.
    pub culprits: &'a [Holder],
    /// Whether open connections grow without end, so that any number of ports would run out.
    pub growing: bool,
}

/// The remedies of a verdict; none for `not_ports`, which no change of ports helps.
pub(super) fn remedies(case: &Case<'_>) -> Vec<Remedy> {
    let list = match case.kind {
        Kind::Churn => vec![
            Some(reuse(case)),
            Some(more_destinations(case)),
            tw_reuse(case),
            range(case, Purpose::Delay),
        ],
        Kind::Leak => vec![
            Some(close(case)),
            Some(limit(case)),
            (!case.growing).then(|| all_needed(case)),
        ],
        Kind::CloseWait => vec![Some(close_after_peer(case)), Some(restart(case))],
        Kind::FinWait2 => vec![Some(peer_close(case)), Some(fin_timeout(case))],
        Kind::Bound => vec![
            Some(no_port(case)),
            Some(more_sources(case)),
            range(case, Purpose::Delay),
        ],
        Kind::Collision => vec![Some(source_port()), Some(retry())],
        Kind::SmallRange => vec![
            unreserve(case),
            range(case, Purpose::Restore),
            unreserve(case).is_none().then(|| own_range(case)).flatten(),
        ],
        Kind::NotPorts => Vec::new(),
    };
    list.into_iter().flatten().collect()
}

fn reuse(case: &Case<'_>) -> Remedy {
    let advice = mechanism::reuse(case.culprits.first(), case.pool);
    let size = what_if::pool_size(case.wanted, case.lifetime_ns);
    Remedy {
        name: "reuse",
        what: advice.what.to_owned(),
        lines: advice.lines,
        trade_off: "Bound the pool and back off after errors, or a reconnect storm brings it all \
                    back; a connection kept idle may be gone when it is used next."
            .to_owned(),
        effect: Some(what_if::kept(size)),
    }
}

fn more_destinations(case: &Case<'_>) -> Remedy {
    let ports = case.ports.unwrap_or(what_if::DEFAULT_PORTS);
    let count = what_if::destinations_for(case.wanted, ports);
    let next = case.pool.dport.saturating_add(1);
    let (what, lines, trade_off) = if Service::of(case.pool) == Service::PgBouncer {
        (
            "Run PgBouncer on several ports and let clients take turns: each port is a pool of \
             its own."
                .to_owned(),
            vec![format!(
                "listen_port = {next}   # in a further PgBouncer's pgbouncer.ini"
            )],
            "It moves the ceiling and is more to run. so_reuseport adds none: those instances \
             share one port.",
        )
    } else if case.pool.dst.is_loopback() {
        (
            "Let the server listen on several ports or addresses of 127.0.0.0/8 and clients take \
             turns: each is a pool of its own. A Unix socket needs no port at all."
                .to_owned(),
            Vec::new(),
            "It moves the ceiling; what burns the ports burns on.",
        )
    } else {
        (
            "Let the server listen on several ports or addresses and clients take turns: each is \
             a pool of its own."
                .to_owned(),
            Vec::new(),
            "It moves the ceiling; what burns the ports burns on. Behind one virtual address the \
             backends are one destination.",
        )
    };
    Remedy {
        name: "more_destinations",
        what,
        lines,
        trade_off: trade_off.to_owned(),
        effect: Some(what_if::destinations(count, ports)),
    }
}

/// `tcp_tw_reuse`, where it is not in effect already.
fn tw_reuse(case: &Case<'_>) -> Option<Remedy> {
    let now = case.namespace.and_then(|namespace| namespace.tw_reuse);
    let value = match (now, case.pool.dst.is_loopback()) {
        (Some(TwReuse::On), _) | (Some(TwReuse::LoopbackOnly) | None, true) => return None,
        (Some(TwReuse::Off), true) => "2",
        _ => "1",
    };
    let pod = case
        .culprits
        .iter()
        .any(|holder| holder.process.pod.is_some());
    let kubernetes = if pod {
        " Kubernetes counts it as unsafe: the kubelet needs --allowed-unsafe-sysctls."
    } else {
        ""
    };
    Some(Remedy {
        name: "tw_reuse",
        what: "Let connect() take over a port whose TIME_WAIT is more than a second old."
            .to_owned(),
        lines: settings::lines(
            "net.ipv4.tcp_tw_reuse",
            value,
            case.namespace,
            case.culprits,
        ),
        trade_off: format!(
            "Only for connections opened here, and only with TCP timestamps on both ends; a late \
             segment is then told by its timestamp.{kubernetes}"
        ),
        effect: case
            .ports
            .map(|ports| what_if::reused(&format!("tcp_tw_reuse={value}"), ports)),
    })
}

/// What a wider range is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It only takes longer until the ports run out.
    Delay,
    /// It is the cure: somebody made the range small.
    Restore,
}

/// A wider range, where there is one.
fn range(case: &Case<'_>, purpose: Purpose) -> Option<Remedy> {
    let capacity = case.capacity?;
    let (low, high) = capacity.range;
    let have = (u64::from(high) + 1).saturating_sub(u64::from(low));
    let default_does =
        have < what_if::DEFAULT_PORTS && case.wanted < what_if::safe_rate(what_if::DEFAULT_PORTS);
    let (to, what) = match purpose {
        _ if have >= WIDE_ENOUGH => return None,
        Purpose::Restore if default_does => (
            what_if::DEFAULT_RANGE,
            "Give this namespace the kernel's default range back.",
        ),
        _ => (what_if::WIDE_RANGE, "Widen the range in this namespace."),
    };
    let trade_off = match purpose {
        Purpose::Restore if to == what_if::DEFAULT_RANGE => {
            "Somebody chose the small range, perhaps to keep ports for servers: those belong into \
             ip_local_reserved_ports."
                .to_owned()
        }
        Purpose::Restore => taken_from_servers(),
        Purpose::Delay => format!("It buys time, it is no cure. {}", taken_from_servers()),
    };
    let (low, high) = to;
    Some(Remedy {
        name: "range",
        what: what.to_owned(),
        lines: settings::lines(
            "net.ipv4.ip_local_port_range",
            &format!("{low} {high}"),
            case.namespace,
            case.culprits,
        ),
        trade_off,
        effect: Some(what_if::range(to, capacity.reserved)),
    })
}

fn taken_from_servers() -> String {
    "Ports of servers and NodePorts are then in the range: put them into \
     ip_local_reserved_ports, or a connection takes one before its server starts."
        .to_owned()
}

/// Fewer reserved ports, where they eat most of the range.
fn unreserve(case: &Case<'_>) -> Option<Remedy> {
    let capacity = case.capacity?;
    let left = case.ports.unwrap_or_default();
    if u64::from(capacity.reserved) <= left || capacity.reserved == 0 {
        return None;
    }
    Some(Remedy {
        name: "reserved",
        what: format!(
            "Reserve fewer ports: ip_local_reserved_ports takes {} out of the range.",
            grouped(u64::from(capacity.reserved))
        ),
        lines: settings::lines(
            "net.ipv4.ip_local_reserved_ports",
            "",
            case.namespace,
            case.culprits,
        ),
        trade_off: "Leave in the list what a server will listen on; the line empties it."
            .to_owned(),
        effect: Some(what_if::range(capacity.range, 0)),
    })
}

/// A socket's own range, where that of the namespace is wide: the only limit left.
fn own_range(case: &Case<'_>) -> Option<Remedy> {
    let ports = case.ports.filter(|&ports| ports >= 1_024)?;
    Some(Remedy {
        name: "own_range",
        what: "Look for IP_LOCAL_PORT_RANGE in the program: a socket that sets it uses that part \
               of the range only."
            .to_owned(),
        lines: Vec::new(),
        trade_off: format!(
            "Without it the program has all {}, and shares them with the rest.",
            counted(ports, "port", "ports")
        ),
        effect: None,
    })
}

fn close(case: &Case<'_>) -> Remedy {
    let advice = mechanism::close(case.pool);
    let known = case
        .culprits
        .iter()
        .filter(|holder| holder.process.tgid != 0);
    let processes = known.count().max(1) as u64;
    Remedy {
        name: "close",
        what: advice.what.to_owned(),
        lines: advice.lines,
        trade_off: "It is a change of the program. No sysctl helps: an open connection keeps its \
                    port for as long as it is open."
            .to_owned(),
        effect: Some(what_if::shared(processes)),
    }
}

/// More destinations, for open connections that may all be needed.
fn all_needed(case: &Case<'_>) -> Remedy {
    Remedy {
        trade_off:
            "Only where all of these connections are needed: a leak fills the further pools \
                    too."
                .to_owned(),
        // No rate bounds connections that stay: only their number does.
        effect: None,
        ..more_destinations(case)
    }
}

fn limit(case: &Case<'_>) -> Remedy {
    let size = what_if::pool_size(0.0, None);
    let destination = super::words::destination(case.pool);
    Remedy {
        name: "limit",
        what: format!("Bound the connections the program may have to {destination}."),
        lines: Vec::new(),
        trade_off: "It cures nothing, but the program that leaks then fails, early and alone, and \
                    no others with it."
            .to_owned(),
        effect: Some(what_if::kept(size)),
    }
}

fn close_after_peer(case: &Case<'_>) -> Remedy {
    Remedy {
        name: "close",
        what: "Close the socket when read() returns 0: drain the body and close it, and close \
               connections that were given up on."
            .to_owned(),
        lines: Vec::new(),
        trade_off: "It is a change of the program. No sysctl helps: CLOSE_WAIT has no timeout."
            .to_owned(),
        effect: Some(what_if::freed(case.weight, case.used)),
    }
}

fn restart(case: &Case<'_>) -> Remedy {
    let who = match case.culprits.first() {
        Some(holder) if holder.process.tgid != 0 => super::words::process(&holder.process),
        _ => "the program".to_owned(),
    };
    Remedy {
        name: "restart",
        what: format!("Restart {who}: its end closes all it has."),
        lines: Vec::new(),
        trade_off: "It buys the time until they have piled up again.".to_owned(),
        effect: Some(what_if::freed(case.weight, case.used)),
    }
}

fn peer_close(case: &Case<'_>) -> Remedy {
    let destination = super::words::destination(case.pool);
    Remedy {
        name: "peer_close",
        what: format!(
            "Make {destination} close: it has our FIN and keeps its side open. Look at its idle \
             and read timeouts, and for a handler that hangs."
        ),
        lines: Vec::new(),
        trade_off: "It is a change of the other side.".to_owned(),
        effect: Some(what_if::freed(case.weight, case.used)),
    }
}

fn fin_timeout(case: &Case<'_>) -> Remedy {
    Remedy {
        name: "fin_timeout",
        what: "Give up on such peers sooner: here tcp_fin_timeout does apply.".to_owned(),
        lines: settings::lines(
            "net.ipv4.tcp_fin_timeout",
            "15",
            case.namespace,
            case.culprits,
        ),
        trade_off: "Only for sockets the program has closed; one that was only shut down stays. \
                    A slow peer's last bytes are answered with a reset."
            .to_owned(),
        effect: case.ports.map(|ports| super::Effect {
            change: "tcp_fin_timeout=15".to_owned(),
            safe_rate: Some((ports as f64 / 15.0).floor()),
            ports: None,
        }),
    }
}

fn no_port(case: &Case<'_>) -> Remedy {
    Remedy {
        name: "no_port",
        what: "Set IP_BIND_ADDRESS_NO_PORT before bind(): connect() then chooses the port, and \
               for its destination only. Or drop the bind()."
            .to_owned(),
        lines: vec![
            "int one = 1;".to_owned(),
            "setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);".to_owned(),
        ],
        trade_off: "It is a change of the program or its settings. Until then more destinations \
                    do not help: a bound port is lost to all of them, in TIME_WAIT too."
            .to_owned(),
        effect: case.ports.map(what_if::unbound),
    }
}

fn more_sources(case: &Case<'_>) -> Remedy {
    let ports = case.ports.unwrap_or(what_if::DEFAULT_PORTS);
    let what = if case.pool.src.is_loopback() {
        "Bind to several addresses of 127.0.0.0/8 in turn: each has the whole range."
    } else {
        "Bind to several source addresses in turn: each has the whole range."
    };
    Remedy {
        name: "more_sources",
        what: what.to_owned(),
        lines: Vec::new(),
        trade_off: "It moves the ceiling; the peer has to accept all of the addresses.".to_owned(),
        effect: Some(what_if::sources(3, ports)),
    }
}

fn source_port() -> Remedy {
    Remedy {
        name: "source_port",
        what: "Let the kernel choose the source port: bind() the address with port 0 and \
               IP_BIND_ADDRESS_NO_PORT, or do not bind() at all."
            .to_owned(),
        lines: vec![
            "int one = 1;".to_owned(),
            "setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);".to_owned(),
        ],
        trade_off: "The peer then sees another port than the one asked for: a proxy that keeps \
                    its client's address and port gives up the port."
            .to_owned(),
        effect: None,
    }
}

fn retry() -> Remedy {
    Remedy {
        name: "retry",
        what: "Where the port has to be that one: wait until the old connection is gone, its 60 s \
               of TIME_WAIT included, or let the peer close first."
            .to_owned(),
        lines: Vec::new(),
        trade_off: "SO_REUSEADDR lets bind() pass, and connect() still fails.".to_owned(),
        effect: None,
    }
}
