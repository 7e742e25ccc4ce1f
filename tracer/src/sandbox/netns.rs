/*! A network namespace kept by a file descriptor only. */

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

const OWN: &str = "/proc/thread-self/ns/net";

pub(crate) struct Netns {
    fd: OwnedFd,
    inode: u64,
}

impl Netns {
    pub(crate) fn anonymous() -> io::Result<Self> {
        thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let file = File::open(OWN)?;
            let inode = file.metadata()?.ino();
            Ok(Self { fd: file.into(), inode })
        })
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    }

    pub(crate) fn run_in<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.fd, CloneFlags::CLONE_NEWNET)?;
                    Ok(f())
                })
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        })
    }

    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
