/*! What there is to watch. */

use std::fmt;
use std::net::SocketAddr;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tracer::host::sock_diag::tcp_sockets;
use tracer::sandbox::workload::{Chat, Connect, Manner, Serve, Then, Threads, Work};
use tracer::sandbox::{Pair, Process, SERVER_V4, Settings, Side};

/// Longest time a load may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Source ports of a storm's client.
const PORTS: u16 = 40_000;

/// Destinations of a storm, in turn: so many that no pool gets far. From half of its ports on,
/// what the kernel does is look for a free one.
const DESTINATIONS: u16 = 16;

/// Connections kept in use.
const KEPT: u32 = 1_000;

/// Source ports of a pool that is dry.
const DRY: u16 = 100;

/// How long an idle host is looked at.
const IDLE: Duration = Duration::from_secs(5);

/// How much of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Connections, answers or failures.
    pub(crate) operations: u64,
    /// Clients at a time.
    pub(crate) clients: u16,
}

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Load {
    /// connect() and close(), as fast as it goes.
    Storm,
    /// The same, of which only the side that accepts is watched.
    Inbound,
    /// 1,000 connections that stay open and are used.
    KeepAlive,
    /// connect() in a pool without a free port, as fast as it goes.
    DryPool,
    /// Nothing at all.
    Idle,
}

impl fmt::Display for Load {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Storm => "connect+close storm",
            Self::Inbound => "inbound only",
            Self::KeepAlive => "1,000 keep-alives",
            Self::DryPool => "failures on a dry pool",
            Self::Idle => "idle host",
        })
    }
}

impl Load {
    /// Every load.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Storm,
        Self::Inbound,
        Self::KeepAlive,
        Self::DryPool,
        Self::Idle,
    ];

    /// How much it is beside storms of so many thousand connections by so many clients.
    pub(crate) fn size(self, thousands: u32, clients: u16) -> Size {
        let storm = u64::from(thousands) * 1000;
        let (operations, clients) = match self {
            Self::Storm | Self::Inbound => {
                let each = storm / u64::from(clients);
                (each * u64::from(clients), clients)
            }
            // An answer costs a third of a connection, a failure an eighth.
            Self::KeepAlive => (storm * 3 / u64::from(KEPT) * u64::from(KEPT), 1),
            Self::DryPool => (storm * 8, 1),
            Self::Idle => (0, 1),
        };
        Size {
            operations,
            clients,
        }
    }

    /// What an operation is.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Storm | Self::Inbound => "connection",
            Self::KeepAlive => "answer",
            Self::DryPool => "failure",
            Self::Idle => "second",
        }
    }

    /// Makes the namespaces and whoever works in them.
    pub(crate) fn prepare(self, size: Size) -> anyhow::Result<Stage> {
        let ports = if self == Self::DryPool { DRY } else { PORTS };
        let pair = Pair::create(&Settings::with_ports(ports))?;
        let program = std::env::current_exe()?;
        let listening = 7000..7000 + DESTINATIONS;
        let at = |port| SocketAddr::new(SERVER_V4.into(), port);
        let serve = Work::Serve(Serve {
            at: listening.clone().map(at).collect(),
            manner: Manner::Echo,
        });
        let server = pair.spawn(Side::Server, &program, "server", &serve)?;
        let client = |work: &Work| pair.spawn(Side::Client, &program, "client", work);
        let mut clients = Vec::new();
        let mut kept = None;
        match self {
            Self::Storm | Self::Inbound => {
                let attempts = size.operations / u64::from(size.clients);
                let storm = Connect::new(at(listening.start), attempts).spread(DESTINATIONS);
                for _ in 0..size.clients {
                    clients.push(client(&Work::Connect(storm.clone()))?);
                }
            }
            Self::KeepAlive => {
                let rounds = u32::try_from(size.operations / u64::from(KEPT))?;
                let to = at(listening.start);
                clients.push(client(&Work::Chat(Chat {
                    to,
                    connections: KEPT,
                    rounds,
                }))?);
            }
            Self::DryPool => {
                let to = at(listening.start);
                let keep = Connect::new(to, u64::from(DRY)).then(Then::Keep);
                let mut holder = client(&Work::Connect(keep))?;
                holder.go()?;
                holder.report(LIMIT)?;
                kept = Some(holder);
                let mut fail = Connect::new(to, size.operations / 2);
                fail.threads = Some(Threads {
                    count: 2,
                    name: "worker".to_owned(),
                });
                clients.push(client(&Work::Connect(fail))?);
            }
            Self::Idle => {}
        }
        if clients.len() < available_parallelism()?.get() {
            // Where they run decides how dear it is to wake the other.
            let all = clients.iter().chain([&server]);
            for (processor, process) in all.enumerate() {
                pin(process, processor)?;
            }
        }
        Ok(Stage {
            load: self,
            operations: size.operations,
            pair,
            clients,
            _server: server,
            _kept: kept,
        })
    }
}

/// Keeps a process on one processor.
fn pin(process: &Process, processor: usize) -> anyhow::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    sched_setaffinity(Pid::from_raw(process.pid().cast_signed()), &only)?;
    Ok(())
}

/// A load that is ready to go.
pub(crate) struct Stage {
    load: Load,
    operations: u64,
    pair: Pair,
    clients: Vec<Process>,
    _server: Process,
    _kept: Option<Process>,
}

impl Stage {
    /// The namespace to watch, where it is not all of them.
    pub(crate) fn watched(&self) -> Option<u32> {
        (self.load == Load::Inbound).then(|| self.pair.inode(Side::Server))
    }

    /// The namespace whose source ports are used.
    pub(crate) fn client_netns(&self) -> u32 {
        self.pair.inode(Side::Client)
    }

    /// Does it all, and says how long that took.
    ///
    /// # Errors
    /// When not everything went as it has to.
    pub(crate) fn play(&mut self) -> anyhow::Result<Duration> {
        if self.load == Load::Idle {
            std::thread::sleep(IDLE);
            return Ok(IDLE);
        }
        let began = Instant::now();
        for client in &mut self.clients {
            client.go()?;
        }
        let (mut connected, mut failed) = (0, 0);
        for client in &mut self.clients {
            let report = client.report(LIMIT)?;
            connected += report.connected;
            failed += report.failures();
        }
        let took = began.elapsed();
        let wanted = match self.load {
            Load::DryPool => (0, self.operations),
            Load::KeepAlive => (u64::from(KEPT), 0),
            _ => (self.operations, 0),
        };
        ensure!(
            (connected, failed) == wanted,
            "of {wanted:?} connections and failures there were {:?}",
            (connected, failed)
        );
        Ok(took)
    }

    /// Waits until no connection of the client is between two states.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        let waits = tracer_ebpf::tcp_state::TIME_WAIT;
        loop {
            let sockets = self.pair.run_in(Side::Client, tcp_sockets)??;
            if sockets.iter().all(|socket| socket.state == waits) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "some connections never ended");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
