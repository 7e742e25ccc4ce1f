/*! A server with manners, good and bad. */

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener as Listener};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::{Ready, Report, own_tid, say};

/// Connections that may wait for accept().
const BACKLOG: i32 = 4096;

/// Accepts until released.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Serve {
    /// Where to listen; port 0 lets the kernel choose.
    pub at: Vec<SocketAddr>,
    /// What to do with a connection.
    pub manner: Manner,
}

/// What a server does with an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// Send back what comes, close after the client did.
    Echo,
    /// Close at once: its is the first FIN.
    CloseFirst,
    /// Reset when a byte came: its connect() is over by then, and succeeded.
    Reset,
    /// Reset when the client's FIN came.
    ResetAtEof,
    /// Send a byte when the client's FIN came, and keep open until released.
    TalkAtEof,
    /// Keep open until released.
    Keep,
    /// Keep open until released, reset then.
    KeepThenReset,
}

pub(super) fn run(order: &Serve) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let local = LocalSet::new();
    let report = local.block_on(&runtime, serve(order))?;
    say(&report)
}

async fn serve(order: &Serve) -> anyhow::Result<Report> {
    let accepted = Rc::new(RefCell::new(0_u64));
    let kept = Rc::new(RefCell::new(Vec::new()));
    let mut ports = Vec::new();
    for &at in &order.at {
        let listener = listen(at).with_context(|| format!("cannot listen at {at}"))?;
        ports.push(listener.local_addr()?.port());
        let listener = TcpListener::from_std(listener)?;
        let (accepted, kept, manner) = (Rc::clone(&accepted), Rc::clone(&kept), order.manner);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *accepted.borrow_mut() += 1;
                let kept = Rc::clone(&kept);
                tokio::task::spawn_local(async move {
                    // A connection that breaks is the client's to count.
                    if let Ok(Some(stream)) = treat(manner, stream).await {
                        kept.borrow_mut().push(stream);
                    }
                });
            }
        });
    }
    let (release, released) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let end = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = release.send(end);
    });
    say(&Ready { ports })?;
    released.await??;
    kept.borrow_mut().clear();
    let connected = *accepted.borrow();
    Ok(Report {
        pid: std::process::id(),
        tids: vec![own_tid()],
        connected,
        ..Report::default()
    })
}

/// Returns the connection when it stays open.
async fn treat(manner: Manner, mut stream: TcpStream) -> io::Result<Option<TcpStream>> {
    match manner {
        Manner::Echo => {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await?;
            Ok(None)
        }
        Manner::CloseFirst => Ok(None),
        Manner::Reset => {
            stream.read_exact(&mut [0]).await?;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            Ok(None)
        }
        Manner::ResetAtEof => {
            end_of(&mut stream).await?;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            Ok(None)
        }
        Manner::TalkAtEof => {
            end_of(&mut stream).await?;
            stream.write_all(b"!").await?;
            Ok(Some(stream))
        }
        Manner::Keep => Ok(Some(stream)),
        Manner::KeepThenReset => {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            Ok(Some(stream))
        }
    }
}

/// Waits for the client's FIN.
async fn end_of(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("the client sent instead of closing")),
    }
}

fn listen(at: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
