/*! Clients that choose their source with bind(). */

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::connect::{port_of, stream};
use super::{Kept, Report, own_tid};

/// Calls bind() `times` times, keeping each socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    /// The address; port 0 lets the kernel choose.
    pub at: SocketAddr,
    /// How many calls.
    pub times: u64,
}

/// Connects from a chosen port, then tries the same 4-tuple again `times` times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collide {
    /// The source, with a port.
    pub from: SocketAddr,
    /// The destination.
    pub to: SocketAddr,
    /// How many further attempts.
    pub times: u64,
}

pub(super) fn run(order: &Bind) -> anyhow::Result<(Report, Kept)> {
    let mut report = Report {
        tids: vec![own_tid()],
        ..Report::default()
    };
    let mut kept = Vec::new();
    for _ in 0..order.times {
        let socket = stream(order.at)?;
        match socket.bind(&order.at.into()) {
            Ok(()) => {
                report.bound += 1;
                report.ports.push(port_of(&socket)?);
                kept.push(socket);
            }
            Err(error) => report.fail(&error),
        }
    }
    Ok((report, Kept::UntilReleased(kept)))
}

pub(super) fn collide(order: &Collide) -> anyhow::Result<(Report, Kept)> {
    let mut report = Report {
        tids: vec![own_tid()],
        ..Report::default()
    };
    let mut kept = Vec::new();
    for _ in 0..=order.times {
        let socket = stream(order.to)?;
        socket.set_reuse_address(true)?;
        socket.bind(&order.from.into())?;
        report.bound += 1;
        match socket.connect(&order.to.into()) {
            Ok(()) => {
                report.connected += 1;
                report.ports.push(port_of(&socket)?);
                kept.push(socket);
            }
            Err(error) => report.fail(&error),
        }
    }
    Ok((report, Kept::UntilReleased(kept)))
}
