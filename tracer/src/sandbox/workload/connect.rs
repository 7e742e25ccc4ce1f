/*! A client that calls connect() many times and counts the answers. */

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpFastOpenConnect;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::then::{self, Then};
use super::{Kept, Pace, Report, own_tid};

/// Calls connect() `attempts` times, one after the other, at once or at a steady rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connect {
    /// Where to; an IPv6 socket also for `::ffff:a.b.c.d`.
    pub to: SocketAddr,
    /// How many calls; each thread makes as many.
    pub attempts: u64,
    /// Stop after so many failures.
    pub stop_after: Option<u64>,
    /// What to do with an established connection.
    pub then: Then,
    /// Make the socket non-blocking and wait for the outcome by poll().
    pub nonblocking: bool,
    /// Leave the SYN to the first write: TCP Fast Open.
    pub fast_open: bool,
    /// Threads that do it at once; none for the process's first thread.
    pub threads: Option<Threads>,
    /// List the source ports in the report.
    pub list_ports: bool,
    /// List how long each successful call took in the report.
    pub list_times: bool,
    /// Calls per second; as fast as it goes without.
    pub per_second: Option<f64>,
    /// Ports of the destination that are taken in turn, from that of `to` on.
    pub spread: u16,
}

/// Threads of a workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Threads {
    /// How many.
    pub count: u32,
    /// Their name, at most 15 bytes.
    pub name: String,
}

impl Connect {
    /// `attempts` connections to `to`, each closed at once.
    #[must_use]
    pub fn new(to: SocketAddr, attempts: u64) -> Self {
        Self {
            to,
            attempts,
            stop_after: None,
            then: Then::Close,
            nonblocking: false,
            fast_open: false,
            threads: None,
            list_ports: false,
            list_times: false,
            per_second: None,
            spread: 1,
        }
    }

    /// Does `then` with what is established.
    #[must_use]
    pub fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    /// Stops after `failures` failures.
    #[must_use]
    pub fn stop_after(mut self, failures: u64) -> Self {
        self.stop_after = Some(failures);
        self
    }

    /// Uses non-blocking sockets.
    #[must_use]
    pub fn nonblocking(mut self) -> Self {
        self.nonblocking = true;
        self
    }

    /// Leaves the SYN to the first write.
    #[must_use]
    pub fn fast_open(mut self) -> Self {
        self.fast_open = true;
        self
    }

    /// Works in `count` threads called `name`.
    #[must_use]
    pub fn threads(mut self, count: u32, name: &str) -> Self {
        self.threads = Some(Threads {
            count,
            name: name.to_owned(),
        });
        self
    }

    /// Lists the source ports in the report.
    #[must_use]
    pub fn list_ports(mut self) -> Self {
        self.list_ports = true;
        self
    }

    /// Lists how long each call took.
    #[must_use]
    pub fn list_times(mut self) -> Self {
        self.list_times = true;
        self
    }

    /// Takes so many ports of the destination in turn: each has a pool of its own.
    #[must_use]
    pub fn spread(mut self, ports: u16) -> Self {
        self.spread = ports;
        self
    }

    /// Calls connect() so often a second (each thread does), by a fixed timetable: a call that
    /// took long is made up for.
    #[must_use]
    pub fn paced(mut self, per_second: f64) -> Self {
        self.per_second = Some(per_second);
        self
    }
}

pub(super) fn run(order: &Connect) -> anyhow::Result<(Report, Kept)> {
    let (report, kept) = match &order.threads {
        None => work(order)?,
        Some(threads) => thread::scope(|scope| {
            let mut started = Vec::new();
            for _ in 0..threads.count {
                let builder = thread::Builder::new().name(threads.name.clone());
                started.push(builder.spawn_scoped(scope, || work(order))?);
            }
            let mut all = (Report::default(), Vec::new());
            for thread in started {
                let (report, kept) = thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
                all.0.add(report);
                all.1.extend(kept);
            }
            io::Result::Ok(all)
        })?,
    };
    let kept = match order.then {
        Then::Exit => Kept::UntilExit(kept),
        _ => Kept::UntilReleased(kept),
    };
    Ok((report, kept))
}

fn work(order: &Connect) -> io::Result<(Report, Vec<Socket>)> {
    let mut report = Report {
        tids: vec![own_tid()],
        ..Report::default()
    };
    let mut kept = Vec::new();
    let mut pace = order.per_second.map(Pace::new);
    let ports = (0..order.spread).cycle();
    for (_, port) in (0..order.attempts).zip(ports) {
        if let Some(pace) = &mut pace {
            pace.wait();
        }
        let mut to = order.to;
        to.set_port(to.port() + port);
        let socket = stream(to)?;
        if order.fast_open {
            setsockopt(&socket, TcpFastOpenConnect, &true)?;
        }
        let began = Instant::now();
        match attempt(order, to, &socket) {
            Ok(()) => {
                if order.list_times {
                    let took = began.elapsed().as_nanos();
                    report.times_ns.push(took.try_into().unwrap_or(u64::MAX));
                }
                report.connected += 1;
                if order.list_ports {
                    report.ports.push(port_of(&socket)?);
                }
                kept.extend(then::after(order.then, socket, &mut report)?);
            }
            Err(error) => {
                report.fail(&error);
                if order
                    .stop_after
                    .is_some_and(|most| report.failures() >= most)
                {
                    break;
                }
            }
        }
    }
    Ok((report, kept))
}

fn attempt(order: &Connect, to: SocketAddr, socket: &Socket) -> io::Result<()> {
    if !order.nonblocking {
        return socket.connect(&to.into());
    }
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
        outcome => return outcome,
    }
    if order.then == Then::Abandon {
        return Ok(());
    }
    then::wait_for(socket, PollFlags::POLLOUT)?;
    socket.take_error()?.map_or(Ok(()), Err)
}

pub(super) fn stream(to: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
}

pub(super) fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    Ok(address.map_or(0, |address| address.port()))
}
