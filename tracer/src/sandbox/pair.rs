/*! Two anonymous network namespaces with a veth between them. */

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;

use super::link;
use super::process::{self, Process};
use super::workload::Work;
use crate::exit::NotAllowed;
use crate::host::netns::{Netns, NetnsError};
use crate::host::sysctl::{self, SysctlError};

/// The client's IPv4 address; like all below from the blocks kept for documentation.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The server's IPv4 address.
pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// An address that takes packets and never answers: connect() times out.
pub const SILENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
/// An address neither side has: bind() refuses it.
pub const FOREIGN_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// An address neither side has a route to.
pub const UNROUTED_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// The client's IPv6 address.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The server's IPv6 address.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// TIME_WAITs a namespace may have. By default as many as fit the machine's memory (4,096 with
/// 1 GiB): beyond that the kernel ends connections without one.
const TIME_WAITS: &str = "262144";

/// How long a fresh veth may take until packets pass.
const LINK_DEADLINE: Duration = Duration::from_secs(10);

/// What a [`Pair`] is made like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The client's `ip_local_port_range`.
    pub ports: RangeInclusive<u16>,
    /// Further sysctls of the client such as `net/ipv4/tcp_syn_retries`.
    pub client: Vec<(String, String)>,
    /// Further sysctls of the server, likewise.
    pub server: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ports: 20_000..=29_999,
            client: Vec::new(),
            server: Vec::new(),
        }
    }
}

impl Settings {
    /// A client with `count` source ports, from 20,000 up.
    #[must_use]
    pub fn with_ports(count: u16) -> Self {
        let last = 20_000_u16.saturating_add(count.saturating_sub(1));
        Self {
            ports: 20_000..=last,
            ..Self::default()
        }
    }

    /// Adds a sysctl of the client.
    #[must_use]
    pub fn client_sysctl(mut self, name: &str, value: &str) -> Self {
        self.client.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// One of the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where connect() is called.
    Client,
    /// Where it is answered.
    Server,
}

/// Two namespaces; dropping it lets the kernel take them down.
pub struct Pair {
    client: Netns,
    server: Netns,
    ports: RangeInclusive<u16>,
    has_v6: bool,
}

impl Pair {
    /// Makes the namespaces, the veth, addresses and sysctls, and waits until
    /// packets pass.
    ///
    /// # Errors
    /// [`NotAllowed`] where privileges or the kernel's configuration refuse
    /// it, with what to do; else what failed.
    pub fn create(settings: &Settings) -> anyhow::Result<Self> {
        let client = Netns::anonymous().map_err(explain)?;
        let server = Netns::anonymous().map_err(explain)?;
        client.run_in(|| link::connect(server.as_fd()))??;
        let has_v6 = Path::new("/proc/sys/net/ipv6").exists();
        let addresses = |v4: Ipv4Addr, v6: Ipv6Addr| {
            let mut list = vec![(IpAddr::V4(v4), 24)];
            list.extend(has_v6.then_some((IpAddr::V6(v6), 64)));
            list
        };
        server.run_in(|| -> anyhow::Result<()> {
            write_sysctl("net/ipv4/tcp_rfc1337", "1")?;
            write_sysctl("net/ipv4/tcp_max_tw_buckets", TIME_WAITS)?;
            write_sysctls(&settings.server)?;
            link::configure(&addresses(SERVER_V4, SERVER_V6))
        })??;
        client.run_in(|| -> anyhow::Result<()> {
            let range = format!("{} {}", settings.ports.start(), settings.ports.end());
            write_sysctl("net/ipv4/ip_local_port_range", &range)?;
            // 2, the default, would reuse over loopback only, 1 everywhere: the
            // namespaces shall not depend on which one the host prefers.
            write_sysctl("net/ipv4/tcp_tw_reuse", "0")?;
            // Else a RST that answers a late ACK takes a TIME_WAIT away now and
            // then, and no count of them is exact.
            write_sysctl("net/ipv4/tcp_rfc1337", "1")?;
            write_sysctl("net/ipv4/tcp_max_tw_buckets", TIME_WAITS)?;
            write_sysctls(&settings.client)?;
            link::configure(&addresses(CLIENT_V4, CLIENT_V6))?;
            link::silence(SILENT_V4)
        })??;
        let pair = Self {
            client,
            server,
            ports: settings.ports.clone(),
            has_v6,
        };
        pair.wait_for_packets(SERVER_V4.into())?;
        if has_v6 {
            pair.wait_for_packets(SERVER_V6.into())?;
        }
        Ok(pair)
    }

    /// Inode of a side's namespace: its `netns` in every output.
    #[must_use]
    pub fn inode(&self, side: Side) -> u32 {
        self.side(side).inode()
    }

    /// How many source ports the client has.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ports.len()
    }

    /// Whether the kernel does IPv6.
    #[must_use]
    pub fn has_v6(&self) -> bool {
        self.has_v6
    }

    /// Runs `work` in a thread inside a side's namespace.
    ///
    /// # Errors
    /// The namespace could not be entered.
    pub fn run_in<T: Send>(
        &self,
        side: Side,
        work: impl FnOnce() -> T + Send,
    ) -> anyhow::Result<T> {
        Ok(self.side(side).run_in(work)?)
    }

    /// Starts `program` as a process called `name` that is about to do `work`
    /// in a side's namespace, and waits until it is ready. `program` must hand
    /// its arguments to [`workload::from_args`](super::workload::from_args).
    ///
    /// # Errors
    /// It could not be started, or its preparation failed.
    pub fn spawn(
        &self,
        side: Side,
        program: &Path,
        name: &str,
        work: &Work,
    ) -> anyhow::Result<Process> {
        Process::spawn(self.side(side).as_fd(), program, name, work)
    }

    /// Starts `command` as [`spawn`](Self::spawn) would. Its program does what the caller's
    /// arguments say by way of [`workload::perform`](super::workload::perform) and takes `name`.
    ///
    /// # Errors
    /// It could not be started, or its preparation failed.
    pub fn start(&self, side: Side, name: &str, command: Command) -> anyhow::Result<Process> {
        Process::start(self.side(side).as_fd(), name, command)
    }

    /// Lets `command` start inside a side's namespace, in a process group of its own, and its
    /// process be killed when the thread that started it ends.
    ///
    /// # Errors
    /// The namespace could not be kept open.
    pub fn enter(&self, side: Side, command: &mut Command) -> anyhow::Result<()> {
        process::enter(self.side(side).as_fd(), command)
    }

    fn side(&self, side: Side) -> &Netns {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Sends datagrams until one arrives: the carrier is up, the neighbour
    /// known, and no source port of TCP was touched.
    fn wait_for_packets(&self, server: IpAddr) -> anyhow::Result<()> {
        let any: IpAddr = match server {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let receiver = self.server.run_in(|| UdpSocket::bind((any, 0)))??;
        let sender = self.client.run_in(|| UdpSocket::bind((any, 0)))??;
        receiver.set_read_timeout(Some(Duration::from_millis(20)))?;
        let to = SocketAddr::new(server, receiver.local_addr()?.port());
        let deadline = Instant::now() + LINK_DEADLINE;
        loop {
            // Refused as long as the link is not up; the deadline judges.
            let sent = sender.send_to(b"up?", to);
            match receiver.recv(&mut [0; 8]) {
                Ok(_) => return Ok(()),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error).context("cannot receive over the veth"),
            }
            if Instant::now() > deadline {
                let why = sent
                    .err()
                    .map_or_else(String::new, |error| format!(" ({error})"));
                bail!("no packet passed the veth to {server} within {LINK_DEADLINE:?}{why}");
            }
        }
    }
}

fn write_sysctls(list: &[(String, String)]) -> anyhow::Result<()> {
    list.iter()
        .try_for_each(|(name, value)| write_sysctl(name, value))
}

/// Writes one sysctl of this thread's namespace.
fn write_sysctl(name: &str, value: &str) -> anyhow::Result<()> {
    sysctl::write(name, value).map_err(|error| match &error {
        SysctlError::Write { source, .. }
            if matches!(
                source.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
            ) =>
        {
            NotAllowed(format!(
                "{error}; containers mount /proc/sys read-only: run this on the host, or in a \
                 privileged container"
            ))
            .into()
        }
        _ => error.into(),
    })
}

fn explain(error: NetnsError) -> anyhow::Error {
    match error {
        NetnsError::Make(Errno::ENOSPC) => NotAllowed(
            "making a network namespace was refused: the limit is reached; raise \
             /proc/sys/user/max_net_namespaces"
                .to_owned(),
        )
        .into(),
        NetnsError::Make(Errno::EPERM) => NotAllowed(format!(
            "{error} (sudo), outside of a container or in a privileged one"
        ))
        .into(),
        NetnsError::Enter { .. } => NotAllowed(error.to_string()).into(),
        _ => error.into(),
    }
}
