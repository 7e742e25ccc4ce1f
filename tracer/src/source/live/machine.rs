/*! The machine's own lists of sockets, as the survey's thread reads them. */

use anyhow::Context as _;
use foldhash::HashMap;

use super::repair::List;
use super::survey::{Ask, Reading, Survey};
use crate::host::cost;
use crate::host::dump::{Lookout, What, snapshot};
use crate::host::process::Processes;
use crate::host::sock_diag::tcp_sockets_of;
use crate::model::{Dump, PoolId, TcpState};

/// Open connections, in part of the ports of a pool, from which on it is being filled by them.
const FILLING: u64 = 16;

/// Starts the thread that lists sockets. `within_reach` says whether namespaces other than our own
/// can be listed.
///
/// # Errors
/// When no thread can be started.
pub fn survey(within_reach: bool) -> anyhow::Result<Survey> {
    let mut people = Processes::new();
    let mut lookout = Lookout::default();
    let read = move |what: &Ask| {
        let before = cost::spent();
        let only = Some(what.namespaces.as_slice()).filter(|only| !only.is_empty());
        let seen = if what.owners {
            snapshot(only, &mut people)
        } else {
            lookout.sockets(only, what.whole)
        };
        for missed in seen.missed.iter() {
            log::debug!("{missed}");
        }
        let late = seen.missed.iter().find(|miss| miss.what == What::Late);
        let filled = |dump: &Dump| (dump.namespace.inode, filled(dump));
        Reading {
            late: late.map(|miss| (miss.count, miss.to_string())),
            filled: seen.dumps.iter().map(filled).collect(),
            dumps: seen.dumps,
            cost: cost::spent() - before,
        }
    };
    let list = move |netns| match tcp_sockets_of(netns) {
        Ok(sockets) => List::Sockets(sockets),
        Err(error) => {
            log::debug!("cannot list the sockets of namespace {netns}: {error:#}");
            if within_reach {
                List::Gone
            } else {
                List::OutOfReach
            }
        }
    };
    Survey::start(read, list).context("cannot start the thread that lists sockets")
}

/// The open connections of the pools that are being filled by them.
fn filled(dump: &Dump) -> u64 {
    let range = dump.namespace.range;
    let blocked = dump.blocked_ports().len() as u64;
    let ports = u64::from(range.ports().saturating_sub(dump.namespace.reserved));
    let ports = ports.saturating_sub(blocked);
    let mut open: HashMap<PoolId, u64> = HashMap::default();
    for socket in &dump.sockets {
        let is_open = matches!(socket.state, TcpState::Established | TcpState::CloseWait);
        if is_open && range.contains(socket.local.port()) {
            let id = PoolId {
                netns: dump.namespace.inode,
                src: socket.local.ip(),
                dst: socket.remote.ip(),
                dport: socket.remote.port(),
            };
            *open.entry(id).or_default() += 1;
        }
    }
    open.values().filter(|&&open| open * FILLING >= ports).sum()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::filled;
    use crate::model::{Dump, Listed, Namespace, PortRange, TcpState};

    #[test]
    fn open_connections_fill_a_pool_and_time_waits_do_not() {
        let dump = |state, count: u16| Dump {
            began_ns: 1,
            ended_ns: 2,
            namespace: Namespace {
                range: PortRange {
                    low: 20_000,
                    high: 20_159,
                },
                ..crate::model::sample::namespace()
            },
            sockets: (20_000..20_000 + count)
                .map(|port| Listed {
                    state,
                    local: SocketAddr::from(([192, 0, 2, 1], port)),
                    remote: SocketAddr::from(([192, 0, 2, 2], 7000)),
                    cookie: u64::from(port),
                    process: None,
                    due_in: None,
                })
                .collect(),
        };
        assert_eq!(filled(&dump(TcpState::Established, 10)), 10);
        assert_eq!(filled(&dump(TcpState::CloseWait, 10)), 10);
        assert_eq!(filled(&dump(TcpState::Established, 9)), 0);
        assert_eq!(filled(&dump(TcpState::TimeWait, 160)), 0);
        let mut elsewhere = dump(TcpState::Established, 10);
        elsewhere.namespace.range.low = 30_000;
        elsewhere.namespace.range.high = 30_159;
        assert_eq!(
            filled(&elsewhere),
            0,
            "ports that connect() does not choose"
        );
    }
}
