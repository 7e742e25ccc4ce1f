/*! A message broker, NATS, as Debian packages it. */

use std::net::SocketAddr;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tracer::sandbox::SERVER_V4;

use super::daemon::{Account, Daemon};
use crate::world::{Skip, World, find};

/// The port of NATS.
const PORT: u16 = 4222;

/// A broker on the server's side.
pub(crate) struct Broker {
    // Dropped in this order.
    _nats: Daemon,
    _home: TempDir,
}

impl Broker {
    /// Starts it.
    pub(crate) fn start(world: &World) -> Result<Self, Skip> {
        let program = find("nats-server", "nats-server")?;
        let account = Account::of("nats", "nats-server")?;
        let home = account.home();
        let mut command = Command::new(program);
        command.args(["--addr", &SERVER_V4.to_string()]);
        command.args(["--port", &PORT.to_string()]);
        let ready = ("Server is ready", Signal::SIGKILL);
        let nats = Daemon::start(&world.pair, &account, home.path(), command, ready);
        Ok(Self {
            _nats: nats,
            _home: home,
        })
    }

    /// Where it listens.
    pub(crate) fn address() -> SocketAddr {
        SocketAddr::new(SERVER_V4.into(), PORT)
    }
}
