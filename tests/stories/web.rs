/*! A web server that hands each request to a broker as a job, and its visitors. */

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::sync::Mutex;
use tokio::task::{LocalSet, spawn_local};
use tracer::sandbox::workload::Report;

use super::acts::fail;

/// How often a connection to the broker is kept alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Serves until its process ends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Web {
    /// Where it listens.
    pub(crate) at: SocketAddr,
    /// The broker.
    pub(crate) broker: SocketAddr,
    /// The bug: a connection to the broker for each request, kept alive, never used again.
    pub(crate) connection_per_request: bool,
}

impl Web {
    pub(super) fn play(self) -> anyhow::Result<(Report, ())> {
        let listener = std::net::TcpListener::bind(self.at)
            .with_context(|| format!("cannot listen at {}", self.at))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = move || LocalSet::new().block_on(&runtime, self.serve(listener));
        thread::Builder::new()
            .name("http".to_owned())
            .spawn(serve)?;
        Ok((Report::default(), ()))
    }

    async fn serve(self, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let web = Rc::new(self);
        let shared = Rc::new(Mutex::new(None));
        loop {
            let (visitor, _) = listener.accept().await?;
            let (web, shared) = (Rc::clone(&web), Rc::clone(&shared));
            spawn_local(async move {
                let mut visitor = BufStream::new(visitor);
                if let Err(error) = web.answer(&mut visitor, &shared).await {
                    eprintln!("web server: {error}");
                }
            });
        }
    }

    async fn answer(
        &self,
        visitor: &mut BufStream<tokio::net::TcpStream>,
        shared: &Mutex<Option<Broker>>,
    ) -> io::Result<()> {
        let mut line = String::new();
        // The request's head ends with an empty line.
        while visitor.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let done = if self.connection_per_request {
            self.submit_over_its_own().await
        } else {
            self.submit_over(shared).await
        };
        let answer = match done {
            Ok(()) => "202 Accepted\r\n\r\n".to_owned(),
            Err(error) => format!("503 Service Unavailable\r\n\r\nthe broker is down: {error}\n"),
        };
        visitor
            .write_all(format!("HTTP/1.0 {answer}").as_bytes())
            .await?;
        visitor.flush().await
    }

    async fn submit_over_its_own(&self) -> io::Result<()> {
        let mut broker = Broker::connect(self.broker).await?;
        broker.submit("job").await?;
        spawn_local(async move { broker.keep_alive().await });
        Ok(())
    }

    async fn submit_over(&self, shared: &Mutex<Option<Broker>>) -> io::Result<()> {
        let mut shared = shared.lock().await;
        let broker = match &mut *shared {
            Some(broker) => broker,
            empty => empty.insert(Broker::connect(self.broker).await?),
        };
        broker.submit("job").await
    }
}

/// A connection to NATS.
struct Broker(BufStream<tokio::net::TcpStream>);

impl Broker {
    async fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = tokio::net::TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut broker = Self(BufStream::new(stream));
        broker.until("INFO ").await?;
        broker.say("CONNECT {\"verbose\":false}\r\n").await?;
        Ok(broker)
    }

    /// Publishes a job; back when the broker has it.
    async fn submit(&mut self, job: &str) -> io::Result<()> {
        let length = job.len();
        self.say(&format!("PUB jobs {length}\r\n{job}\r\n")).await?;
        self.ping().await
    }

    async fn ping(&mut self) -> io::Result<()> {
        self.say("PING\r\n").await?;
        self.until("PONG").await
    }

    /// Keeps it alive for good.
    async fn keep_alive(&mut self) -> io::Result<()> {
        loop {
            tokio::time::sleep(KEEP_ALIVE).await;
            self.ping().await?;
        }
    }

    /// Reads to a line that begins with `words`, and answers the broker's own pings.
    async fn until(&mut self, words: &str) -> io::Result<()> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 || line.starts_with("-ERR") {
                return Err(io::Error::other(format!("the broker said {line:?}")));
            }
            if line.starts_with("PING") {
                self.say("PONG\r\n").await?;
            }
            if line.starts_with(words) {
                return Ok(());
            }
        }
    }

    async fn say(&mut self, words: &str) -> io::Result<()> {
        self.0.write_all(words.as_bytes()).await?;
        self.0.flush().await
    }
}

/// Calls the web server at a steady rate, until the process is released.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Visits {
    /// The web server.
    pub(crate) to: SocketAddr,
    /// How many at most.
    pub(crate) most: u64,
    /// How many a second. After a delay they do not come in a throng, to make up for it.
    pub(crate) per_second: f64,
}

impl Visits {
    pub(super) fn play(&self) -> anyhow::Result<(Report, ())> {
        let mut report = Report::default();
        let gap = Duration::from_secs_f64(1.0 / self.per_second);
        for _ in 0..self.most {
            let due = Instant::now() + gap;
            match visit(self.to) {
                Ok(()) => report.connected += 1,
                Err(error) => fail(&mut report, &error),
            }
            if is_released(due.saturating_duration_since(Instant::now()))? {
                break;
            }
        }
        Ok((report, ()))
    }
}

/// Waits, but no longer than until this process is released: its standard input is closed then.
fn is_released(wait: Duration) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut waited = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    let wait = PollTimeout::try_from(wait).map_err(io::Error::other)?;
    Ok(poll(&mut waited, wait)? > 0)
}

/// An error has what the page says.
fn visit(to: SocketAddr) -> io::Result<()> {
    let mut web = TcpStream::connect(to)?;
    web.write_all(b"POST /jobs HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    web.read_to_string(&mut page)?;
    if page.starts_with("HTTP/1.0 202 ") {
        return Ok(());
    }
    Err(io::Error::other(page))
}
