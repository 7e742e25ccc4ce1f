/*! A client that keeps many connections and uses them all, again and again. */

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::connect::stream;
use super::{Kept, Report, own_tid};

/// Opens connections, then sends a byte over each and waits for the answers, many times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chat {
    /// Where to; the server must send back what comes.
    pub to: SocketAddr,
    /// How many connections.
    pub connections: u32,
    /// How often each is used.
    pub rounds: u32,
}

pub(super) fn run(order: &Chat) -> anyhow::Result<(Report, Kept)> {
    let mut sockets = Vec::new();
    for _ in 0..order.connections {
        let socket = stream(order.to)?;
        socket.connect(&order.to.into())?;
        sockets.push(socket);
    }
    for _ in 0..order.rounds {
        // All at once: as many answers as connections are under way.
        for mut socket in &sockets {
            socket.write_all(b"?")?;
        }
        for mut socket in &sockets {
            socket.read_exact(&mut [0])?;
        }
    }
    let report = Report {
        tids: vec![own_tid()],
        connected: u64::from(order.connections),
        ..Report::default()
    };
    Ok((report, Kept::UntilReleased(sockets)))
}
