/*! The checked-in eBPF object: open it with settings, load and attach single programs. */

use std::{fs::File, io, os::unix::fs::MetadataExt as _};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader,
    programs::{CgroupAttachMode, Program, ProgramError},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use tracer_ebpf::{Config, Layout, names};

use super::cost;
use super::hooks::{Hook, Kind};

/// The object that `cargo xtask ebpf` built and checked in.
#[cfg(not(feature = "object-from-env"))]
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tracer-ebpf/object/tracer.bpf.o"
));

/// A fresh object, for `cargo xtask ebpf --check` with other tools than the recorded ones.
#[cfg(feature = "object-from-env")]
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRACER_BPF_OBJECT"));

/// Where the second version of cgroups is mounted, alone or beside the first.
const CGROUP_ROOTS: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Inode of the cgroup namespace that the kernel starts with (`PROC_CGROUP_INIT_INO`).
const FIRST_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;

/// Sizes of the maps, in entries but for the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the ring buffer: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Connections followed at a time.
    pub sockets: u32,
    /// Failed connect() calls at a time whose errno is awaited.
    pub attempts: u32,
    /// Threads inside connect() or bind() at a time, where their arguments must be kept.
    pub calls: u32,
    /// Distinct failures: owner, pool, errno, cause.
    pub failures: u32,
    /// Process ids to trace.
    pub pids: u32,
    /// Namespaces to trace.
    pub namespaces: u32,
}

impl Sizes {
    /// The least the kernel takes, for trials.
    pub const TRIAL: Self = Self {
        ring_bytes: 1 << 16,
        sockets: 1,
        attempts: 1,
        calls: 1,
        failures: 1,
        pids: 1,
        namespaces: 1,
    };
}

/// Opens the object: creates its maps and sets its globals. Nothing is loaded or attached yet.
///
/// # Errors
/// What the kernel refused, mostly the creation of a map.
pub fn open(btf: &Btf, layout: &Layout, config: &Config, sizes: &Sizes) -> Result<Ebpf, EbpfError> {
    EbpfLoader::new()
        .btf(Some(btf))
        .override_global(names::LAYOUT, layout, true)
        .override_global(names::CONFIG, config, true)
        .map_max_entries(names::EVENTS, sizes.ring_bytes)
        .map_max_entries(names::SOCKETS, sizes.sockets)
        .map_max_entries(names::ATTEMPTS, sizes.attempts)
        .map_max_entries(names::CALLS, sizes.calls)
        .map_max_entries(names::FAILURES, sizes.failures)
        .map_max_entries(names::PIDS, sizes.pids)
        .map_max_entries(names::NAMESPACES, sizes.namespaces)
        .load(OBJECT)
}

/// Loads one program: the verifier's turn.
///
/// # Errors
/// What the verifier or the kernel refused.
pub fn load(ebpf: &mut Ebpf, btf: &Btf, hook: &Hook) -> Result<(), ProgramError> {
    match (program(ebpf, hook)?, hook.kind) {
        (Program::BtfTracePoint(program), Kind::TpBtf) => program.load(hook.target(), btf),
        (Program::FEntry(program), Kind::Fentry) => program.load(hook.target(), btf),
        (Program::FExit(program), Kind::Fexit) => program.load(hook.target(), btf),
        (Program::TracePoint(program), Kind::Syscall) => program.load(),
        (Program::CgroupSockAddr(program), Kind::CgroupConnect) => program.load(),
        (Program::CgroupSock(program), Kind::CgroupRelease) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Attaches one loaded program. It detaches when the `Ebpf` is dropped, or the process dies.
///
/// # Errors
/// What the kernel refused.
pub fn attach(ebpf: &mut Ebpf, hook: &Hook) -> Result<(), ProgramError> {
    match program(ebpf, hook)? {
        Program::BtfTracePoint(program) => program.attach().map(drop),
        Program::FEntry(program) => program.attach().map(drop),
        Program::FExit(program) => program.attach().map(drop),
        Program::TracePoint(program) => program.attach("syscalls", hook.target()).map(drop),
        // Links stand beside those of others in any mode.
        Program::CgroupSockAddr(program) => program
            .attach(root_cgroup()?, CgroupAttachMode::Single)
            .map(drop),
        Program::CgroupSock(program) => program
            .attach(root_cgroup()?, CgroupAttachMode::Single)
            .map(drop),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Takes one program out of the kernel.
///
/// # Errors
/// What the kernel refused.
pub fn unload(ebpf: &mut Ebpf, hook: &Hook) -> Result<(), ProgramError> {
    match program(ebpf, hook)? {
        Program::BtfTracePoint(program) => program.unload(),
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::TracePoint(program) => program.unload(),
        Program::CgroupSockAddr(program) => program.unload(),
        Program::CgroupSock(program) => program.unload(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The root of the cgroup hierarchy that programs attach to.
fn root_cgroup() -> Result<File, ProgramError> {
    let refused = |io_error| ProgramError::IOError(io_error);
    let found = CGROUP_ROOTS.iter().find(|path| {
        statfs(**path).is_ok_and(|about| about.filesystem_type() == CGROUP2_SUPER_MAGIC)
    });
    let path = found.ok_or_else(|| {
        refused(io::Error::new(
            io::ErrorKind::NotFound,
            "the second version of cgroups is not mounted",
        ))
    })?;
    // Within a container the mount shows the container's own cgroup as the root.
    let namespace = std::fs::metadata("/proc/self/ns/cgroup").map_err(refused)?;
    if namespace.ino() != FIRST_CGROUP_NAMESPACE {
        return Err(refused(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "this is not the host's cgroup namespace",
        )));
    }
    File::open(path).map_err(refused)
}

fn program<'a>(ebpf: &'a mut Ebpf, hook: &Hook) -> Result<&'a mut Program, ProgramError> {
    // A name that the object lacks is a table that went stale.
    ebpf.program_mut(hook.program)
        .ok_or(ProgramError::UnexpectedProgramType)
}

/// How often the kernel skipped a loaded program because it would have interrupted itself;
/// `None` before Linux 5.12, which does not say. Read from the descriptor's fdinfo
/// (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c): aya's program info lacks the field.
pub fn recursion_misses(ebpf: &Ebpf, program: &str) -> Option<u64> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let fd = ebpf.program(program)?.fd().ok()?;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    cost::misses(&std::fs::read_to_string(path).ok()?)
}

/// Before Linux 5.11 maps are charged to `RLIMIT_MEMLOCK`. Up to its hard limit anybody may raise
/// it; beyond, the loader does where it may.
pub(super) fn raise_memory_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)
    {
        log::debug!("RLIMIT_MEMLOCK stays at {soft} bytes: {error}");
    }
}
