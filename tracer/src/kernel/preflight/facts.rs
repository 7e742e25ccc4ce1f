/*! What the checks are made from: everything read from the machine, in one place. */

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use procfs::process::Process;

use crate::kernel::btf::{self, Btf, BtfError};
use crate::kernel::kallsyms::{self, Symbol};
use crate::kernel::{layout, tracefs};

/// Capabilities, as bits of a set (`include/uapi/linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Read what file permissions hide, such as tracefs.
    DacReadSearch = 2,
    /// Look at other users' processes.
    SysPtrace = 19,
    /// Enter namespaces, mount; includes `Bpf` and `Perfmon`.
    SysAdmin = 21,
    /// Raise limits.
    SysResource = 24,
    /// See kernel addresses.
    Syslog = 34,
    /// Attach tracing programs.
    Perfmon = 38,
    /// Load BPF programs.
    Bpf = 39,
}

impl Capability {
    /// The name without `CAP_`, as container tools want it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "DAC_READ_SEARCH",
            Self::SysPtrace => "SYS_PTRACE",
            Self::SysAdmin => "SYS_ADMIN",
            Self::SysResource => "SYS_RESOURCE",
            Self::Syslog => "SYSLOG",
            Self::Perfmon => "PERFMON",
            Self::Bpf => "BPF",
        }
    }

    fn is_in(self, set: u64) -> bool {
        set >> (self as u32) & 1 == 1
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CAP_{}", self.name())
    }
}

/// The kernel's lockdown mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// securityfs is not mounted or not readable.
    Unknown,
    /// Off.
    None,
    /// User space may not change the kernel.
    Integrity,
    /// Nor read its memory.
    Confidentiality,
}

/// Which control group hierarchies are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// Only the unified one.
    V2,
    /// Version 1 controllers, with or without a unified hierarchy beside them.
    V1,
    /// None is mounted here.
    None,
}

/// Why the type information is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoBtf {
    /// There is no such file.
    Absent,
    /// It cannot be read or understood; the sentence says why.
    Unusable(String),
}

/// What the type information says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    /// Fields of the layout the kernel does not have.
    pub missing: Vec<&'static str>,
    /// Functions and tracepoints of [`FUNCTIONS`] and [`TRACEPOINTS`] the kernel does not have.
    pub absent: Vec<&'static str>,
    /// Functions of [`FUNCTIONS`] that take another number of arguments than expected.
    pub changed: Vec<&'static str>,
}

/// Functions the trampolines attach to, with the arguments they take.
pub const FUNCTIONS: &[(&str, usize)] = &[
    ("inet_hash_connect", 2),
    ("inet6_hash_connect", 2),
    ("tcp_v4_connect", 3),
    ("tcp_v6_connect", 3),
    ("inet_twsk_alloc", 3),
    ("inet_twsk_kill", 1),
    ("tcp_twsk_destructor", 1),
    ("inet_csk_get_port", 2),
];

/// Tracepoints attached to by their type.
pub const TRACEPOINTS: &[&str] = &[
    "inet_sock_set_state",
    "inet_sk_error_report",
    "tcp_destroy_sock",
    "sched_process_fork",
    "sched_process_free",
    "timer_expire_entry",
];

/// Facts about the machine; a field is `None` where nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// The kernel's type information.
    pub types: Result<Types, NoBtf>,
    /// Whether this is root's process: what only root may read, it may.
    pub is_root: bool,
    /// Effective capabilities, a bit set.
    pub effective: u64,
    /// Capabilities this process could ever have, a bit set.
    pub bounding: u64,
    /// Whether this is the initial user namespace: only there capabilities allow tracing.
    pub first_user_namespace: Option<bool>,
    /// Whether this is the initial pid namespace.
    pub first_pid_namespace: Option<bool>,
    /// Whether a seccomp filter is in force.
    pub seccomp: bool,
    /// The kernel's lockdown mode.
    pub lockdown: Lockdown,
    /// Soft `RLIMIT_MEMLOCK`, bytes; [`u64::MAX`] is unlimited.
    pub memlock: u64,
    /// Control groups.
    pub cgroups: Cgroups,
    /// `net.core.bpf_jit_enable`.
    pub jit: Option<i64>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<i64>,
    /// Address of the `TIME_WAIT` timer's handler.
    pub tw_timer_handler: Symbol,
    /// Where tracefs is mounted.
    pub tracefs: Option<PathBuf>,
}

impl Facts {
    /// Reads the machine; what cannot be read becomes a fact of its own.
    pub fn read() -> Self {
        Self {
            types: read_types(Path::new(btf::VMLINUX)),
            tw_timer_handler: kallsyms::lookup(kallsyms::TW_TIMER_HANDLER)
                .unwrap_or(Symbol::Absent),
            ..Self::of_this_process()
        }
    }

    /// What is quickly read: all but the kernel's types and symbols, which are taken to be there.
    pub fn of_this_process() -> Self {
        let process = Process::myself();
        let status = process.as_ref().ok().and_then(|own| own.status().ok());
        let status = status.as_ref();
        let mounts = process
            .as_ref()
            .ok()
            .and_then(|own| own.mountinfo().ok())
            .map(|mounts| mounts.0)
            .unwrap_or_default();
        let mounted = |kind: &str| mounts.iter().find(|mount| mount.fs_type == kind);
        Self {
            release: nix::sys::utsname::uname()
                .map(|names| names.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            types: Ok(Types::default()),
            is_root: nix::unistd::geteuid().is_root(),
            effective: status.map_or(0, |status| status.capeff),
            bounding: status.and_then(|status| status.capbnd).unwrap_or(0),
            first_user_namespace: is_first("user", 0xEFFF_FFFD),
            first_pid_namespace: is_first("pid", 0xEFFF_FFFC),
            seccomp: status.and_then(|status| status.seccomp) == Some(2),
            lockdown: lockdown(),
            memlock: getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft),
            cgroups: match (mounted("cgroup"), mounted("cgroup2")) {
                (Some(_), _) => Cgroups::V1,
                (None, Some(_)) => Cgroups::V2,
                (None, None) => Cgroups::None,
            },
            jit: number("/proc/sys/net/core/bpf_jit_enable"),
            perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
            kptr_restrict: number("/proc/sys/kernel/kptr_restrict"),
            tw_timer_handler: Symbol::Absent,
            tracefs: mounted("tracefs").map(|mount| mount.mount_point.clone()),
        }
    }

    /// Whether the process has the capability now; `CAP_SYS_ADMIN` stands for
    /// the two that were split off it.
    pub fn has(&self, capability: Capability) -> bool {
        let split_off = matches!(capability, Capability::Bpf | Capability::Perfmon);
        capability.is_in(self.effective)
            || (split_off && Capability::SysAdmin.is_in(self.effective))
    }

    /// Whether root would have the capability here.
    pub fn could_have(&self, capability: Capability) -> bool {
        capability.is_in(self.bounding)
    }

    /// Major and minor version of the kernel, when the release begins with them.
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self
            .release
            .split(|character: char| !character.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// Whether the kernel's version is known and below `floor`.
    pub fn is_older_than(&self, floor: (u32, u32)) -> bool {
        self.version().is_some_and(|version| version < floor)
    }
}

/// Looks up what the programs need in the BTF at `path`.
pub(super) fn read_types(path: &Path) -> Result<Types, NoBtf> {
    let btf = Btf::read(path).map_err(|error| match error {
        BtfError::Absent(_) => NoBtf::Absent,
        other => NoBtf::Unusable(other.to_string()),
    })?;
    let mut types = Types {
        missing: layout::from_btf(&btf).missing,
        ..Types::default()
    };
    for (name, arguments) in FUNCTIONS {
        match btf.function_arity(name) {
            None => types.absent.push(name),
            Some(found) if found != *arguments => types.changed.push(name),
            Some(_) => {}
        }
    }
    let tracepoints = TRACEPOINTS.iter().filter(|name| !btf.has_tracepoint(name));
    types.absent.extend(tracepoints);
    Ok(types)
}

/// The word in brackets of a line like `none [integrity] confidentiality`.
pub(super) fn parse_lockdown(text: &str) -> Lockdown {
    let chosen = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(word, _)| word);
    match chosen {
        Some("none") => Lockdown::None,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

/// The mode, through a securityfs that only we see where none is mounted.
fn lockdown() -> Lockdown {
    const SECURITYFS: &str = "/sys/kernel/security";
    let read = || fs::read_to_string(format!("{SECURITYFS}/lockdown"));
    read()
        .or_else(|_| tracefs::privately("securityfs", SECURITYFS, read)?)
        .map_or(Lockdown::Unknown, |text| parse_lockdown(&text))
}

/// Whether our namespace of this kind is the initial one, whose inode is fixed.
fn is_first(kind: &str, inode: u32) -> Option<bool> {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
    Some(link.as_os_str() == format!("{kind}:[{inode}]").as_str())
}

fn number(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
