/*! A workload that passes every hook, and how often it does. */

use std::net::SocketAddr;

use tracer::sandbox::workload::{Bind, Manner, Then, Work};
use tracer::sandbox::{CLIENT_V4, CLIENT_V6, SERVER_V4, SERVER_V6, Settings, Side};

use crate::world::{SOON, Skip, World, connect, server_v4, server_v6};

/// Source ports.
const PORTS: u16 = 20;
/// Connections of each family to a server: some find no port.
const CONNECTS: u64 = 30;
/// Connections of each family that nobody listens for.
const REFUSED: u64 = 5;
/// Sockets in FIN_WAIT2 whose timer runs out.
const EXPIRED: u64 = 5;
/// bind() calls of each family: the first alone is good.
const BINDS: u64 = 3;
/// Times two processes that come and go.
const FORKS: u64 = 10;

/// What a hook is called for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Least {
    /// Each state change of a connection: three at least.
    Changes,
    /// Each end of a connection.
    Sockets,
    /// Each refusal.
    Refused,
    /// Each connect() of a family, or of both.
    ConnectsV4,
    ConnectsV6,
    Connects,
    /// Each bind() of a family, or of both.
    BindsV4,
    BindsV6,
    Binds,
    /// Each birth of a TIME_WAIT.
    Births,
    /// Each end of a TIME_WAIT.
    Ends,
    /// Each process that comes, or goes.
    Forks,
}

impl Least {
    /// How often [`run`] makes it fire, or `FORKS` lines for a process that forks.
    pub(super) fn runs(self) -> u64 {
        const HELD: u64 = PORTS as u64;
        match self {
            Self::Changes => 3 * Self::Sockets.runs(),
            Self::Sockets => Self::Connects.runs(),
            Self::Refused => 2 * REFUSED,
            Self::ConnectsV4 => EXPIRED + CONNECTS + REFUSED,
            Self::ConnectsV6 => CONNECTS + REFUSED,
            Self::Connects => Self::ConnectsV4.runs() + Self::ConnectsV6.runs(),
            Self::BindsV4 | Self::BindsV6 => BINDS,
            Self::Binds => 2 * BINDS,
            Self::Births => EXPIRED + 2 * HELD,
            Self::Ends => EXPIRED,
            Self::Forks => FORKS,
        }
    }
}

/// Runs it to its end, each part with the outcome it should have.
pub(super) fn run() -> Result<(), Skip> {
    let settings = Settings::with_ports(PORTS).client_sysctl("net/ipv4/tcp_fin_timeout", "1");
    let world = World::new(&settings)?;
    if !world.pair.has_v6() {
        return Err(Skip("this kernel does no IPv6".to_owned()));
    }
    let mut silent = world.server(Manner::Keep);
    act(
        &world,
        &connect(server_v4(), EXPIRED, Then::Close),
        EXPIRED,
        0,
    );
    world.wait_until_over(Side::Client);
    silent.release();
    silent.wait(SOON).unwrap();
    let _server = world.server(Manner::Echo);
    let held = u64::from(PORTS);
    for to in [server_v4(), server_v6()] {
        let work = connect(to, CONNECTS, Then::Keep);
        act(&world, &work, held, CONNECTS - held);
    }
    for ip in [SERVER_V4.into(), SERVER_V6.into()] {
        let work = connect(SocketAddr::new(ip, 81), REFUSED, Then::Keep);
        act(&world, &work, 0, REFUSED);
    }
    for ip in [CLIENT_V4.into(), CLIENT_V6.into()] {
        let at = SocketAddr::new(ip, 31_000);
        let work = Work::Bind(Bind { at, times: BINDS });
        act(&world, &work, 1, BINDS - 1);
    }
    Ok(())
}

/// Does one piece of work, of which so much goes well and so much does not.
fn act(world: &World, work: &Work, good: u64, bad: u64) {
    let report = world.client("client", work).finish(SOON).unwrap();
    let done = report.connected + report.bound;
    assert_eq!((done, report.failures()), (good, bad), "{report:?}");
}
