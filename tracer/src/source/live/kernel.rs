/*! The attached programs, as far as a stream needs them: a trait, so that tests can make up a kernel. */

use std::os::fd::{AsFd as _, BorrowedFd};

use tracer_ebpf::{COUNTERS, FailureCount, FailureKey, Socket};

use crate::kernel::probes::{Misses, Probes};

/// The attached programs.
pub trait Kernel {
    /// The ring buffer's descriptor: readable when the kernel side forced a wake-up.
    fn ring(&self) -> BorrowedFd<'_>;

    /// Hands the records the ring buffer holds to `each`, at most so many, and says whether it holds
    /// no more.
    fn drain(&mut self, at_most: usize, each: &mut dyn FnMut(&[u8])) -> bool;

    /// What the kernel side had to say in words since the last call.
    fn surprises(&mut self) -> Vec<String>;

    /// The failures map as it is: absolute counts.
    ///
    /// # Errors
    /// When the map cannot be read.
    fn failures(&mut self) -> anyhow::Result<Vec<(FailureKey, FailureCount)>>;

    /// Sum over all processors, by [`Counter`](tracer_ebpf::Counter).
    ///
    /// # Errors
    /// When the map cannot be read.
    fn counters(&mut self) -> anyhow::Result<[u64; COUNTERS as usize]>;

    /// Runs of programs the kernel skipped.
    fn misses(&self) -> Misses;

    /// Hands each connection whose end no program has seen yet to `each`, with its key.
    ///
    /// # Errors
    /// When the map cannot be read.
    fn unfinished(&self, each: &mut dyn FnMut(u64, &Socket)) -> anyhow::Result<()>;

    /// One such connection, if it still has seen no end.
    fn unfinished_one(&self, key: u64) -> Option<Socket>;

    /// Detaches the programs; the maps stay readable. Doing it again does nothing.
    ///
    /// # Errors
    /// When a program cannot be detached.
    fn detach(&mut self) -> anyhow::Result<()>;
}

impl Kernel for Probes {
    fn ring(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn drain(&mut self, at_most: usize, each: &mut dyn FnMut(&[u8])) -> bool {
        Self::drain(self, at_most, each)
    }

    fn surprises(&mut self) -> Vec<String> {
        self.surprises()
    }

    fn unfinished(&self, each: &mut dyn FnMut(u64, &Socket)) -> anyhow::Result<()> {
        Ok(self.unfinished(each)?)
    }

    fn unfinished_one(&self, key: u64) -> Option<Socket> {
        self.unfinished_one(key)
    }

    fn failures(&mut self) -> anyhow::Result<Vec<(FailureKey, FailureCount)>> {
        Ok(Probes::failures(self)?)
    }

    fn counters(&mut self) -> anyhow::Result<[u64; COUNTERS as usize]> {
        Ok(Probes::counters(self)?)
    }

    fn misses(&self) -> Misses {
        self.misses()
    }

    fn detach(&mut self) -> anyhow::Result<()> {
        Ok(Probes::detach(self)?)
    }
}
