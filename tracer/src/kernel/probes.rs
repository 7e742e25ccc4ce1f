/*!
The attached programs: drain the ring, read counts and losses, detach.

Nothing is pinned: when the process ends in any way the kernel takes the
programs out.
*/

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf};
use tracer_ebpf::{COUNTERS, Counter, Event, FailureCount, FailureKey, Socket, names};

use super::entries::Entries;
use super::hooks::{
    BIRTH_TRAMPOLINE, CONNECT_AGAIN, CONNECT_SYSCALL, CONNECT_TRAMPOLINE, Group, Hook, RESCUE,
    STATE, WITNESS,
};
use super::object;
use super::refusal::AttachError;
use super::surprise;

/// Programs in the kernel, and the maps they fill.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    pub(super) attached: Vec<&'static Hook>,
    pub(super) events: RingBuf<MapData>,
    pub(super) failures: Entries<FailureKey, FailureCount>,
    pub(super) counters: PerCpuArray<MapData, u64>,
    pub(super) sockets: HashMap<MapData, u64, Socket>,
    pub(super) every_socket: Entries<u64, Socket>,
    pub(super) surprises: surprise::Surprises,
    pub(super) backend: BTreeMap<String, String>,
    pub(super) misses: Option<Misses>,
    /// Whether tasks are preempted within programs.
    pub(super) preemptible: bool,
    pub(super) opens: bool,
}

/// Runs the kernel skipped because a program would have interrupted itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misses {
    /// State changes that were skipped; what they ended is rescued.
    pub rescued: u64,
    /// Runs whose fact nothing else gives.
    pub lost: u64,
}

impl Probes {
    /// What each fact is learnt with: `trampoline`, `tracepoint`, `inferred` or `none`.
    pub fn backend(&self) -> &BTreeMap<String, String> {
        &self.backend
    }

    /// Whether opens and closes are sent: asked for, or needed on this kernel to know whose the
    /// connections are that it lists.
    pub fn sends_opens(&self) -> bool {
        self.opens
    }

    /// Hands the records the ring holds to `each`, at most so many, and says whether it holds no more.
    pub fn drain(&mut self, at_most: usize, each: &mut dyn FnMut(&[u8])) -> bool {
        let mut left = at_most;
        while left > 0
            && let Some(record) = self.events.next()
        {
            each(&record);
            left -= 1;
        }
        self.surprises.flush();
        left > 0
    }

    /// What the kernel side had to say beyond events, since the last call: rare, and worth a warning.
    pub fn surprises(&mut self) -> Vec<String> {
        self.surprises.take()
    }

    /// Absolute counts of every failure so far.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn failures(&self) -> Result<Vec<(FailureKey, FailureCount)>, AttachError> {
        let mut failures = Vec::new();
        let each = |key: &FailureKey, count: &FailureCount| {
            // An entry whose first failure is still being written has no count yet.
            if count.count > 0 {
                failures.push((*key, *count));
            }
        };
        self.failures
            .each(each)
            .map_err(|source| map_error(names::FAILURES, source))?;
        Ok(failures)
    }

    /// Sums over all processors, indexed by [`Counter`].
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<[u64; COUNTERS as usize], AttachError> {
        let mut sums = [0; COUNTERS as usize];
        for (index, sum) in (0..).zip(&mut sums) {
            let values = self
                .counters
                .get(&index, 0)
                .map_err(|source| map_error(names::COUNTERS, source))?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }

    /// Hands each connection whose end no program has seen yet to `each`, with its key.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn unfinished(&self, each: &mut dyn FnMut(u64, &Socket)) -> Result<(), AttachError> {
        self.every_socket
            .each(|&key, socket| each(key, socket))
            .map_err(|source| map_error(names::SOCKETS, source))
    }

    /// One of [`unfinished`](Self::unfinished), if it still is.
    pub fn unfinished_one(&self, key: u64) -> Option<Socket> {
        self.sockets.get(&key, 0).ok()
    }

    /// Runs the kernel skipped; zeros before Linux 5.12, which does not count them.
    pub fn misses(&self) -> Misses {
        self.misses.unwrap_or_else(|| {
            let misses =
                |program: &str| object::recursion_misses(&self.ebpf, program).unwrap_or_default();
            let attached = |group: &Group| {
                let mut hooks = self.attached.iter();
                hooks.any(|hook| group.hooks.contains(hook))
            };
            let witnessed = attached(&WITNESS);
            let rescues = attached(&RESCUE) && (witnessed || !self.preemptible);
            let mut all = Misses::default();
            for hook in &self.attached {
                let of = |group: &Group| group.hooks.contains(hook);
                if of(&STATE) && rescues {
                    all.rescued += misses(hook.program);
                } else if tells_connect(hook) && witnessed {
                    // A failure that was missed leaves an entry, which counts as unseen.
                } else if !has_second_chance(hook) {
                    all.lost += misses(hook.program);
                }
            }
            all
        })
    }

    /// Takes every program out of the kernel; the maps stay readable. Doing it again does nothing.
    ///
    /// # Errors
    /// When the kernel keeps one.
    pub fn detach(&mut self) -> Result<(), AttachError> {
        self.misses = Some(self.misses());
        let mut hooks = std::mem::take(&mut self.attached);
        // The other way round: a close seen when births no longer are would look like a reset.
        hooks.sort_by_key(|hook| (!WITNESS.hooks.contains(hook), !STATE.hooks.contains(hook)));
        for hook in hooks {
            object::unload(&mut self.ebpf, hook).map_err(|source| AttachError::Program {
                hook: hook.target(),
                reason: Box::new(source),
            })?;
        }
        Ok(())
    }
}

/// The ring's descriptor: readable when the kernel side forced a wake-up.
impl AsFd for Probes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// True for a program whose skipped runs do no harm: the other copy runs, or what it did not find
/// stays to be found.
fn has_second_chance(hook: &Hook) -> bool {
    BIRTH_TRAMPOLINE.hooks.contains(hook) || RESCUE.hooks.contains(hook)
}

/// True for a program that tells how a connect() ended.
fn tells_connect(hook: &Hook) -> bool {
    [CONNECT_TRAMPOLINE, CONNECT_AGAIN, CONNECT_SYSCALL]
        .iter()
        .any(|group| group.hooks.contains(hook))
}

pub(super) fn map_error(name: &'static str, source: MapError) -> AttachError {
    AttachError::Map {
        name,
        source: Box::new(source),
    }
}

const _: () = assert!(size_of::<Event>() == 160 && Counter::PidsFull as u32 == COUNTERS - 1);
