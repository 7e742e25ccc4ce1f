/*! What a client does with a connection once it is established. */

use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::{Report, take_name};

/// Longest wait for the other side, in milliseconds.
const PATIENCE: u16 = 20_000;

/// What to do with an established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// Close it at once: ours is the first FIN.
    Close,
    /// Keep it open until released.
    Keep,
    /// Send and receive a byte, then keep it: a leak that looks alive.
    PingAndKeep,
    /// Wait until the other side closed or reset it, then close.
    AwaitPeer,
    /// Send a byte, then as [`Then::AwaitPeer`].
    SpeakAndAwaitPeer,
    /// Wait until the other side closed it, and keep it: CLOSE_WAIT.
    ReadAndKeep,
    /// Send a FIN, wait for data, close without reading it: a RST out of FIN_WAIT2.
    HalfCloseUnread,
    /// Send a FIN and wait until the other side resets the connection.
    HalfCloseReset,
    /// Close a non-blocking socket before the handshake is done.
    Abandon,
    /// Leave it to the end of the process, which comes right after the report.
    Exit,
    /// A forked child called `closer` closes the last copy.
    ForkClose,
}

/// Does it; returns the socket when it stays open.
pub(super) fn after(then: Then, socket: Socket, report: &mut Report) -> io::Result<Option<Socket>> {
    match then {
        Then::Close | Then::Abandon => Ok(None),
        Then::Keep | Then::Exit => Ok(Some(socket)),
        Then::PingAndKeep => {
            socket.send(b"ping")?;
            (&socket).read_exact(&mut [0; 4])?;
            Ok(Some(socket))
        }
        Then::AwaitPeer => {
            await_end(&socket, report)?;
            Ok(None)
        }
        Then::SpeakAndAwaitPeer => {
            socket.send(b"!")?;
            await_end(&socket, report)?;
            Ok(None)
        }
        Then::ReadAndKeep => {
            await_end(&socket, report)?;
            Ok(Some(socket))
        }
        Then::HalfCloseUnread => {
            socket.shutdown(Shutdown::Write)?;
            wait_for(&socket, PollFlags::POLLIN)?;
            let mut byte = [MaybeUninit::uninit()];
            if socket.peek(&mut byte)? == 0 {
                return Err(io::Error::other("the server closed instead of sending"));
            }
            Ok(None)
        }
        Then::HalfCloseReset => {
            // The reset may overtake the FIN's return.
            let _ = socket.shutdown(Shutdown::Write);
            await_end(&socket, report)?;
            Ok(None)
        }
        Then::ForkClose => {
            fork_close(socket, report)?;
            Ok(None)
        }
    }
}

/// Waits for any of `events` or the connection's end.
pub(super) fn wait_for(socket: &Socket, events: PollFlags) -> io::Result<()> {
    let mut fds = [PollFd::new(socket.as_fd(), events)];
    match poll(&mut fds, PollTimeout::from(PATIENCE))? {
        0 => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the other side did nothing",
        )),
        _ => Ok(()),
    }
}

fn await_end(mut socket: &Socket, report: &mut Report) -> io::Result<()> {
    wait_for(socket, PollFlags::POLLIN)?;
    match socket.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(io::Error::other("the server sent instead of closing")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            report.reset += 1;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The child holds the last copy when it closes: the parent's is gone by then.
fn fork_close(socket: Socket, report: &mut Report) -> io::Result<()> {
    let (mut gate, latch) = io::pipe()?;
    // SAFETY: the process has one thread, so the child may do what it likes.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(latch);
            let named = take_name("closer").is_ok();
            let opened = gate.read(&mut [0]).is_ok();
            drop(socket);
            // SAFETY: _exit() ends the child without the parent's exit handlers.
            unsafe { nix::libc::_exit(i32::from(!(named && opened))) }
        }
        ForkResult::Parent { child } => {
            drop(socket);
            drop(latch);
            report.children.push(child.as_raw().unsigned_abs());
            match waitpid(child, None)? {
                nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
                other => Err(io::Error::other(format!("the child ended with {other:?}"))),
            }
        }
    }
}
