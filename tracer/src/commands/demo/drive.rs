/*! Lets a demo's client fail, and sees what the kernel then holds: the truth a trace is held against. */

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::host::sock_diag::tcp_sockets;
use crate::model::{PortRange, TcpState};
use crate::sandbox::workload::Report;
use crate::sandbox::{Pair, Process, Side};

/// Longest time the client may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time between two looks at what the client holds: the connections need the processor.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is known without tracing.
pub(super) struct Known {
    /// What the client counted itself.
    pub(super) report: Report,
    /// The kernel's own sockets in the client's namespace, by destination and state.
    pub(super) holdings: BTreeMap<SocketAddr, BTreeMap<TcpState, usize>>,
    /// Source ports of the range.
    pub(super) capacity: u32,
}

/// Lets the client fail and sees what the kernel then holds, once all its connections are in
/// the state `rest`. Returns the client alive, so that its identity can be read to the end.
pub(super) fn drive(
    mut client: Process,
    pair: &Pair,
    rest: TcpState,
) -> (anyhow::Result<Known>, Process) {
    let known = (|| {
        client.go()?;
        let report = client.report(PATIENCE)?;
        let range = pair.run_in(Side::Client, PortRange::read)??;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut holdings = BTreeMap::<_, BTreeMap<_, _>>::new();
            let mut resting = 0;
            for socket in pair.run_in(Side::Client, tcp_sockets)?? {
                let Some(state) = TcpState::of_kernel(socket.state) else {
                    continue;
                };
                resting += u64::from(state == rest);
                let states = holdings.entry(socket.remote).or_default();
                *states.entry(state).or_default() += 1;
            }
            // The last connections may still be on their way into their last state.
            if resting >= report.connected || Instant::now() > deadline {
                return Ok(Known {
                    report,
                    holdings,
                    capacity: range.ports(),
                });
            }
            thread::sleep(LOOK_EVERY);
        }
    })();
    (known, client)
}
