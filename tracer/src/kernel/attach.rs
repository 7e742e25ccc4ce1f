/*!
From what is to be traced to attached programs, with the best backend the
kernel allows.
*/

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use aya::maps::{Array, HashMap, MapData, MapError};
use aya::{Ebpf, Pod};
use ipnet::IpNet;
use tracer_ebpf::{Config, Destination, MAX_DESTINATIONS, births, connect_exit, names};

use super::entries::Entries;
use super::hooks::{
    BIRTH_TABLE, BIRTH_TRAMPOLINE, CONNECT_SYSCALL, CONNECT_TRAMPOLINE, FOLLOW, Group, Hook,
    INFERRED, Kind, NONE, STATE,
};
use super::object::{self, Sizes};
use super::probes::{Probes, map_error};
use super::refusal::{AttachError, chain};
use super::trial::{Choice, Kernel};
use super::{surprise, tracefs};
use crate::model::Selection;

/// Failure samples the kernel side sends per second and processor at most.
const SAMPLES_PER_SECOND: u64 = 50;

/// Threads inside connect() or bind() at a time.
const ATTEMPTS: u32 = 16_384;

/// Processes followed at a time.
const PIDS: u32 = 65_536;

/// Distinct failures (owner, pool, errno, cause) counted in the kernel.
const FAILURES: u32 = 16_384;

/// Ring filled to one part in this many wakes user space.
const WAKE_PART: u32 = 4;

/// What to trace and how much memory to take for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose events to send, as far as the kernel side can tell: by process id, network namespace
    /// and destination, of which at most [`MAX_DESTINATIONS`].
    pub selection: Selection,
    /// Whether opens and closes are sent too.
    pub all: bool,
    /// Whether ends of TIME_WAITs are sent.
    pub ends: bool,
    /// Bytes of the ring buffer: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Connections followed at a time; about 170 bytes of kernel memory each.
    pub max_sockets: u32,
    /// Which backend may be used.
    pub backend: Choice,
    /// Whether system calls keep their speed, though their tracepoints would tell more.
    pub leave_syscalls: bool,
    /// For tests: act as if the kernel skipped the program for every state change of a softirq.
    pub skip_softirq: bool,
    /// For benchmarks: programs that return at once.
    pub floor: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            all: false,
            ends: true,
            ring_bytes: 8 << 20,
            max_sockets: 65_536,
            backend: Choice::Auto,
            leave_syscalls: false,
            skip_softirq: false,
            floor: false,
        }
    }
}

impl Probes {
    /// Loads and attaches the best the kernel allows, and says what that is.
    ///
    /// # Errors
    /// What refused; nothing stays attached then.
    pub fn attach(options: &Options) -> Result<(Self, Kernel), AttachError> {
        let mut kernel = Kernel::read()?;
        kernel.leaves_syscalls = options.leave_syscalls;
        kernel.hope(options.backend);
        let mut attached = Self::attach_to(&kernel, options);
        if let Err(error) = &attached
            && options.backend == Choice::Auto
            && error.refuses_trampolines()
        {
            kernel.hope(Choice::Tracepoint);
            attached = Self::attach_to(&kernel, options);
        }
        if let Err(error) = &attached {
            log::debug!("not all attaches, so each hook is tried: {}", chain(error));
            kernel.try_each(options.backend)?;
            attached = Self::attach_to(&kernel, options);
        }
        Ok((attached?, kernel))
    }

    /// Loads and attaches what was hoped for, or a trial found to work.
    fn attach_to(kernel: &Kernel, options: &Options) -> Result<Self, AttachError> {
        if options.backend == Choice::Trampoline
            && let Some(trial) = kernel.lacks_trampoline()
        {
            return Err(AttachError::Trampoline {
                hook: trial.hook.place,
                reason: trial.result.clone().err().unwrap_or_default(),
            });
        }
        if options.selection.destinations.len() > MAX_DESTINATIONS {
            return Err(AttachError::Destinations(
                options.selection.destinations.len(),
            ));
        }
        if let Some((hook, words)) = kernel.refused(&STATE) {
            return Err(AttachError::Refused {
                hook: hook.target(),
                words: words.to_owned(),
            });
        }
        if options.selection.follow && !kernel.allows(&FOLLOW) {
            return Err(AttachError::Follow);
        }
        let groups = [
            kernel.witness(),
            Some(&STATE),
            kernel.rescue(),
            kernel.connect(),
            kernel.bind(),
            kernel.births(),
            kernel.ends().filter(|_| options.ends),
            Some(&FOLLOW).filter(|_| options.selection.follow),
            kernel.connect_again(),
        ];
        let config = configure(kernel, options);
        let sizes = Sizes {
            ring_bytes: options.ring_bytes,
            sockets: options.max_sockets,
            attempts: ATTEMPTS,
            calls: if config.task_regs == 0 { ATTEMPTS } else { 1 },
            failures: FAILURES,
            pids: if options.selection.follow {
                PIDS
            } else {
                length(options.selection.pids.len().max(1))
            },
            namespaces: length(options.selection.namespaces.len().max(1)),
        };
        let mut ebpf = object::open(&kernel.btf, &kernel.layout, &config, &sizes)
            .map_err(AttachError::Open)?;
        // State changes last but for the witness: what they hand on to must be there when the first
        // one comes, and an entry that the witness makes is for them to take away. Within
        // a group in order: programs run in the order they were attached.
        let mut hooks: Vec<&'static Hook> = Vec::new();
        for group in groups.into_iter().rev().flatten() {
            for hook in kernel.hooks(group) {
                // Two facts may be learnt by one.
                if !hooks.contains(&hook) {
                    hooks.push(hook);
                }
            }
        }
        for hook in &hooks {
            let program = |source| AttachError::Program {
                hook: hook.target(),
                reason: Box::new(source),
            };
            object::load(&mut ebpf, &kernel.btf, hook).map_err(program)?;
        }
        // Loaded programs hold the maps; before, taking one out and dropping it would close it.
        let surprises = surprise::Surprises::new(&mut ebpf);
        fill(&mut ebpf, options)?;
        for hook in &hooks {
            let program = |source| AttachError::Program {
                hook: hook.target(),
                reason: Box::new(source),
            };
            if hook.kind == Kind::Syscall {
                tracefs::with(|| object::attach(&mut ebpf, hook))
                    .map_err(AttachError::Tracefs)?
                    .map_err(program)?;
            } else {
                object::attach(&mut ebpf, hook).map_err(program)?;
            }
        }
        Ok(Self {
            events: take(&mut ebpf, names::EVENTS)?,
            failures: entries(&ebpf, names::FAILURES)?,
            counters: take(&mut ebpf, names::COUNTERS)?,
            every_socket: entries(&ebpf, names::SOCKETS)?,
            sockets: take(&mut ebpf, names::SOCKETS)?,
            surprises,
            backend: backend(&groups),
            attached: hooks,
            ebpf,
            misses: None,
            preemptible: kernel.preemptible,
            opens: config.all != 0,
        })
    }
}

fn configure(kernel: &Kernel, options: &Options) -> Config {
    let is = |group: Option<&Group>, wanted: &Group| group == Some(wanted);
    let (connect, birth) = (kernel.connect(), kernel.births());
    Config {
        wake_bytes: u64::from(options.ring_bytes / WAKE_PART),
        sample_gap_ns: 1_000_000_000 / SAMPLES_PER_SECOND,
        connect_exit: if is(connect, &CONNECT_TRAMPOLINE) {
            connect_exit::TRAMPOLINE
        } else if is(connect, &CONNECT_SYSCALL) {
            connect_exit::SYSCALL
        } else {
            connect_exit::INFERRED
        },
        births: if is(birth, &BIRTH_TRAMPOLINE) {
            births::TRAMPOLINE
        } else if is(birth, &BIRTH_TABLE) {
            births::TABLE
        } else {
            births::INFERRED
        },
        witness: u32::from(kernel.witness().is_some()),
        // Without cookies a connection in a list of sockets is not known for one of ours: only its
        // events tell whose it is.
        all: u32::from(options.all || kernel.config.socket_cookie == 0),
        ends: u32::from(options.ends),
        skip_softirq: u32::from(options.skip_softirq),
        floor: u32::from(options.floor),
        pids: length(options.selection.pids.len()),
        namespaces: length(options.selection.namespaces.len()),
        destinations: length(options.selection.destinations.len()),
        ..kernel.config
    }
}

fn length(list: usize) -> u32 {
    u32::try_from(list).unwrap_or(u32::MAX)
}

/// Fills the filter maps.
fn fill(ebpf: &mut Ebpf, options: &Options) -> Result<(), AttachError> {
    let mut pids: HashMap<MapData, u32, u8> = take(ebpf, names::PIDS)?;
    for pid in &options.selection.pids {
        pids.insert(pid, 1, 0)
            .map_err(|source| map_error(names::PIDS, source))?;
    }
    let mut namespaces: HashMap<MapData, u32, u8> = take(ebpf, names::NAMESPACES)?;
    for inode in &options.selection.namespaces {
        namespaces
            .insert(inode, 1, 0)
            .map_err(|source| map_error(names::NAMESPACES, source))?;
    }
    let mut destinations: Array<MapData, Destination> = take(ebpf, names::DESTINATIONS)?;
    for (index, &(network, port)) in (0..).zip(&options.selection.destinations) {
        destinations
            .set(index, wire(network, port), 0)
            .map_err(|source| map_error(names::DESTINATIONS, source))?;
    }
    Ok(())
}

/// The form the kernel side compares: address and mask in IPv6 form.
fn wire(network: IpNet, port: Option<u16>) -> Destination {
    let (address, mask) = match network {
        IpNet::V4(v4) => {
            let mask = u128::MAX << (32 - u32::from(v4.prefix_len()));
            (v4.network().to_ipv6_mapped(), mask)
        }
        IpNet::V6(v6) => (v6.network(), u128::from(v6.netmask())),
    };
    Destination {
        address: words(address),
        mask: words(Ipv6Addr::from(mask)),
        port: port.map_or(0, u32::from),
        reserved: 0,
    }
}

/// The bytes of an address as two native-endian words.
fn words(address: Ipv6Addr) -> [u64; 2] {
    let bytes = address.octets();
    let word = |from: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[from..from + 8]);
        u64::from_ne_bytes(word)
    };
    [word(0), word(8)]
}

/// Takes a map out of the object, typed.
fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, AttachError>
where
    T: TryFrom<aya::maps::Map, Error = MapError>,
{
    ebpf.take_map(name)
        .ok_or(MapError::InvalidName {
            name: name.to_owned(),
        })
        .and_then(T::try_from)
        .map_err(|source| map_error(name, source))
}

/// The entries of a map that stays in the object, or is taken out of it later.
fn entries<K, V>(ebpf: &Ebpf, name: &'static str) -> Result<Entries<K, V>, AttachError>
where
    K: Pod + Default,
    V: Pod + Default,
{
    ebpf.map(name)
        .ok_or(MapError::InvalidName {
            name: name.to_owned(),
        })
        .and_then(Entries::of)
        .map_err(|source| map_error(name, source))
}

fn backend(groups: &[Option<&Group>]) -> BTreeMap<String, String> {
    let mut backend: BTreeMap<String, String> = groups
        .iter()
        .flatten()
        .map(|group| (group.fact.to_owned(), group.backend.to_owned()))
        .collect();
    for (fact, without) in [
        ("rescue", NONE),
        ("connect", INFERRED),
        ("bind", NONE),
        ("time_wait", INFERRED),
        ("time_wait_end", NONE),
    ] {
        backend
            .entry(fact.to_owned())
            .or_insert_with(|| without.to_owned());
    }
    backend
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;

    /// Compares as the kernel side does: address & mask == network.
    fn matches(filter: &str, address: &str) -> bool {
        let one = |text: &str| text.parse::<IpAddr>().map(IpNet::from);
        let network = filter.parse().or_else(|_| one(filter)).unwrap();
        let wire = super::wire(network, None);
        let words = super::wire(one(address).unwrap(), None).address;
        (0..2).all(|word| words[word] & wire.mask[word] == wire.address[word])
    }

    #[test]
    fn the_wire_form_matches_what_was_meant() {
        assert!(matches("10.0.0.0/8", "10.255.0.1"));
        assert!(!matches("10.0.0.0/8", "11.0.0.1"));
        assert!(!matches("10.0.0.0/8", "fd00::1"));
        assert!(matches("10.0.0.2", "10.0.0.2"));
        assert!(!matches("10.0.0.2", "10.0.0.3"));
        assert!(matches("0.0.0.0/0", "192.0.2.1"));
        assert!(!matches("0.0.0.0/0", "2001:db8::1"));
        assert!(matches("fd00::/8", "fdff::1"));
        assert!(!matches("fd00::/8", "fe80::1"));
        assert!(matches("::/0", "fe80::1"));
    }
}
