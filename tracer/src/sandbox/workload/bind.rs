/*! Clients that choose their source with bind(). */

use std::net::SocketAddr;

use anyhow::Context as _;
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

/// Connects to several destinations in turn, each time from a port that bind() chose, keeping
/// each connection, until bind() or connect() failed `stop_after` times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BindFirst {
    /// The source address; port 0 lets bind() choose.
    pub from: SocketAddr,
    /// The destinations.
    pub to: Vec<SocketAddr>,
    /// How many sockets at most.
    pub attempts: u64,
    /// Stop after so many failures.
    pub stop_after: u64,
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

pub(super) fn bind_first(order: &BindFirst) -> anyhow::Result<(Report, Kept)> {
    let mut report = Report {
        tids: vec![own_tid()],
        ..Report::default()
    };
    let mut kept = Vec::new();
    let mut destinations = order.to.iter().cycle();
    for _ in 0..order.attempts {
        let to = *destinations.next().context("no destination was given")?;
        let socket = stream(to)?;
        let connected = socket.bind(&order.from.into()).and_then(|()| {
            report.bound += 1;
            socket.connect(&to.into())
        });
        match connected {
            Ok(()) => {
                report.connected += 1;
                kept.push(socket);
            }
            Err(error) => report.fail(&error),
        }
        if report.failures() >= order.stop_after {
            break;
        }
    }
    Ok((report, Kept::UntilReleased(kept)))
}
