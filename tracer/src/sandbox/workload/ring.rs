/*! A client whose connect() goes through `io_uring`. */

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use io_uring::{IoUring, opcode, types};
use serde::{Deserialize, Serialize};
use socket2::SockAddr;

use super::connect::{port_of, stream};
use super::{Kept, Report, own_tid};

/// Calls connect() through a ring `attempts` times, keeping what is established.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ring {
    /// Where to.
    pub to: SocketAddr,
    /// How many calls.
    pub attempts: u64,
}

pub(super) fn run(order: &Ring) -> anyhow::Result<(Report, Kept)> {
    let mut report = Report {
        tids: vec![own_tid()],
        ..Report::default()
    };
    let mut ring = match IoUring::new(4) {
        Ok(ring) => ring,
        Err(error) => {
            report.refused = Some(format!("this kernel refuses io_uring_setup(): {error}"));
            return Ok((report, Kept::NOTHING));
        }
    };
    let mut kept = Vec::new();
    let address = SockAddr::from(order.to);
    for _ in 0..order.attempts {
        let socket = stream(order.to)?;
        let entry = opcode::Connect::new(
            types::Fd(socket.as_raw_fd()),
            address.as_ptr().cast(),
            address.len(),
        )
        .build();
        // SAFETY: the address and the socket live until the completion below.
        unsafe { ring.submission().push(&entry) }.context("the ring is full")?;
        ring.submit_and_wait(1)?;
        let result = ring
            .completion()
            .next()
            .context("the ring completed nothing")?
            .result();
        if result < 0 {
            report.fail(&io::Error::from_raw_os_error(-result));
        } else {
            report.connected += 1;
            report.ports.push(port_of(&socket)?);
            kept.push(socket);
        }
    }
    Ok((report, Kept::UntilReleased(kept)))
}
