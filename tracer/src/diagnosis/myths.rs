/*! Settings that people change here and that do nothing: said where they would be tried, louder where they were. */

use super::remedies::Case;
use super::words::{counted, grouped};
use super::{Kind, Myth};
use crate::model::{Namespace, TwReuse};

/// The kernel's default of `tcp_fin_timeout`, seconds.
const DEFAULT_FIN_TIMEOUT_S: u32 = 60;

/// What not to bother with: those somebody tried first.
pub(super) fn myths(case: &Case<'_>) -> Vec<Myth> {
    match case.kind {
        Kind::Churn => churn(case),
        Kind::Leak => vec![
            fin_timeout(case.namespace, "an open connection"),
            Myth {
                setting: "tcp_keepalive_time",
                truth:
                    "Keep-alive probes end connections whose peer is gone. A peer that is there \
                        answers, so these stay."
                        .to_owned(),
            },
        ],
        Kind::CloseWait => vec![
            fin_timeout(case.namespace, "CLOSE_WAIT"),
            Myth {
                setting: "tcp_keepalive_time",
                truth: "The peer has closed already. CLOSE_WAIT ends when the program closes, \
                        however short this is."
                    .to_owned(),
            },
        ],
        Kind::Collision => vec![Myth {
            setting: "ip_local_port_range",
            truth: "Ports are free. The program brings the port along, so a wider range changes \
                    nothing."
                .to_owned(),
        }],
        Kind::FinWait2 | Kind::Bound | Kind::SmallRange | Kind::NotPorts => Vec::new(),
    }
}

fn churn(case: &Case<'_>) -> Vec<Myth> {
    let namespace = case.namespace;
    let mut tried = Vec::new();
    let mut rest = Vec::new();
    let mut sort = |myth, was_tried: bool| {
        if was_tried {
            tried.push(myth);
        } else {
            rest.push(myth);
        }
    };
    sort(
        fin_timeout(namespace, "TIME_WAIT"),
        fin_timeout_set(namespace).is_some(),
    );
    let reuse = namespace.and_then(|namespace| namespace.tw_reuse);
    if reuse == Some(TwReuse::LoopbackOnly) && !case.pool.dst.is_loopback() {
        sort(
            Myth {
                setting: "tcp_tw_reuse",
                truth: "It is 2 here, the kernel's default: that covers loopback only, and this \
                        destination is not loopback."
                    .to_owned(),
            },
            true,
        );
    }
    let (buckets, low) = max_tw_buckets(case);
    sort(buckets, low);
    sort(
        Myth {
            setting: "tcp_tw_recycle",
            truth: "It broke clients behind NAT and is gone since Linux 4.12: sysctl will not \
                    find it."
                .to_owned(),
        },
        false,
    );
    tried.append(&mut rest);
    tried
}

/// `tcp_fin_timeout` where it is not the default.
fn fin_timeout_set(namespace: Option<&Namespace>) -> Option<u32> {
    namespace
        .and_then(|namespace| namespace.fin_timeout_s)
        .filter(|&seconds| seconds != DEFAULT_FIN_TIMEOUT_S)
}

fn fin_timeout(namespace: Option<&Namespace>, state: &str) -> Myth {
    let truth = "It ends FIN_WAIT2 of closed sockets";
    let but = if state == "TIME_WAIT" {
        "TIME_WAIT is 60 s, compiled into the kernel".to_owned()
    } else {
        format!("it does not touch {state}")
    };
    let truth = match fin_timeout_set(namespace) {
        Some(seconds) => format!(
            "Somebody set it to {} here, and it did not help. {truth}; {but}.",
            counted(u64::from(seconds), "second", "seconds")
        ),
        None => format!("{truth}; {but}."),
    };
    Myth {
        setting: "tcp_fin_timeout",
        truth,
    }
}

/// The myth, and whether the setting is so low that it bites.
fn max_tw_buckets(case: &Case<'_>) -> (Myth, bool) {
    let buckets = case
        .namespace
        .and_then(|namespace| namespace.max_tw_buckets);
    let low = buckets
        .zip(case.ports)
        .filter(|&(buckets, ports)| u64::from(buckets) < ports);
    let why = "Lowering it kills TIME_WAITs early, and a late segment can then end up in a new \
               connection. Raising it frees no port.";
    let truth = match low {
        Some((buckets, ports)) => format!(
            "It is {} here, below the {} of the pool. {why}",
            grouped(u64::from(buckets)),
            counted(ports, "port", "ports")
        ),
        None => why.to_owned(),
    };
    let myth = Myth {
        setting: "tcp_max_tw_buckets",
        truth,
    };
    (myth, low.is_some())
}
