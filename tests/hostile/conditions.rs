/*!
Makes one process's world hostile: what is taken from it between fork() and exec().

Nothing of the machine changes: limits and capabilities are the process's own, mounts those of a
mount namespace of its own.
*/

use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};

/// Who runs what nobody else should own.
pub(crate) const NOBODY: u32 = 65_534;

/// A capability, by its number (`include/uapi/linux/capability.h`), and its name.
pub(crate) type Capability = (u8, &'static str);

pub(crate) const DAC_OVERRIDE: Capability = (1, "CAP_DAC_OVERRIDE");
pub(crate) const DAC_READ_SEARCH: Capability = (2, "CAP_DAC_READ_SEARCH");
pub(crate) const SETPCAP: Capability = (8, "CAP_SETPCAP");
pub(crate) const NET_ADMIN: Capability = (12, "CAP_NET_ADMIN");
pub(crate) const NET_RAW: Capability = (13, "CAP_NET_RAW");
pub(crate) const SYS_PTRACE: Capability = (19, "CAP_SYS_PTRACE");
pub(crate) const SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");
pub(crate) const SYS_RESOURCE: Capability = (24, "CAP_SYS_RESOURCE");
pub(crate) const SYSLOG: Capability = (34, "CAP_SYSLOG");
pub(crate) const PERFMON: Capability = (38, "CAP_PERFMON");
pub(crate) const BPF: Capability = (39, "CAP_BPF");

/// Those somebody may think tracer has a use for when it is root's.
pub(crate) const OF_NO_USE: [Capability; 8] = [
    DAC_OVERRIDE,
    DAC_READ_SEARCH,
    SETPCAP,
    NET_ADMIN,
    NET_RAW,
    SYS_RESOURCE,
    PERFMON,
    BPF,
];

/// The newest capability of any kernel this runs on lies below.
const CAPABILITIES: u8 = 64;

/// Locked memory that all maps fit in, bytes.
pub(crate) const ENOUGH: u64 = 1 << 30;

/// Whether maps are charged to `RLIMIT_MEMLOCK`.
pub(crate) fn is_charged() -> bool {
    let names = nix::sys::utsname::uname().unwrap();
    let release = names.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
    let mut next = || numbers.next().unwrap().unwrap();
    (next(), next()) < (5, 11)
}

/// What a process has to live with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    /// Capabilities it has; `None` for all that we have.
    held: Option<u64>,
    /// Whether it is an ordinary user's.
    is_nobody: bool,
    /// Directories that are empty for it.
    hidden: Vec<CString>,
    /// Whether its /proc hides other users' processes.
    hidepid: bool,
    /// `RLIMIT_MEMLOCK`, soft and hard, bytes; `None` for one that is no condition.
    memlock: Option<(u64, u64)>,
    /// Options for its tracer.
    options: Vec<&'static str>,
}

impl Conditions {
    /// As good as they are here.
    pub(crate) fn best() -> Self {
        Self::default()
    }

    /// root with these capabilities only.
    pub(crate) fn only(capabilities: &[Capability]) -> Self {
        Self {
            held: Some(set_of(capabilities)),
            ..Self::default()
        }
    }

    /// root with all other capabilities.
    pub(crate) fn without(capabilities: &[Capability]) -> Self {
        Self {
            held: Some(!set_of(capabilities)),
            ..Self::default()
        }
    }

    /// An ordinary user with these capabilities only, as a service manager gives them.
    pub(crate) fn nobody(capabilities: &[Capability]) -> Self {
        Self {
            is_nobody: true,
            ..Self::only(capabilities)
        }
    }

    /// With an empty directory in the place of this one.
    pub(crate) fn hide(mut self, directory: &str) -> Self {
        self.hidden.push(CString::new(directory).unwrap());
        self
    }

    /// With a /proc that shows a user no other user's process.
    pub(crate) fn hide_processes(mut self) -> Self {
        self.hidepid = true;
        self
    }

    /// With these limits, soft and hard, on locked memory.
    pub(crate) fn memlock(mut self, soft: u64, hard: u64) -> Self {
        self.memlock = Some((soft, hard));
        self
    }

    /// With further options for a tracer that traces.
    pub(crate) fn options(mut self, options: &[&'static str]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// The options of [`Self::options`].
    pub(crate) fn tracer_options(&self) -> &[&'static str] {
        &self.options
    }

    /// Has `command` run under these conditions.
    pub(crate) fn impose(&self, command: &mut Command) {
        let mut conditions = self.clone();
        if is_charged() {
            conditions.memlock.get_or_insert((ENOUGH, ENOUGH));
        }
        command.current_dir("/");
        // SAFETY: between fork and exec only system calls run, and nothing is allocated or freed.
        unsafe {
            command.pre_exec(move || conditions.take());
        }
    }

    fn take(&self) -> io::Result<()> {
        if self.hidepid || !self.hidden.is_empty() {
            self.mounts()?;
        }
        if let Some((soft, hard)) = self.memlock {
            setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
        }
        if let Some(held) = self.held {
            bound(held)?;
        }
        if self.is_nobody {
            become_nobody(self.held.unwrap_or_default())?;
        }
        Ok(())
    }

    fn mounts(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        for hidden in &self.hidden {
            let (kind, flags) = (Some(c"tmpfs"), MsFlags::empty());
            mount(Some(c"none"), hidden.as_c_str(), kind, flags, None::<&str>)?;
        }
        if self.hidepid {
            let (kind, flags) = (Some(c"proc"), MsFlags::empty());
            mount(Some(c"proc"), c"/proc", kind, flags, Some(c"hidepid=2"))?;
        }
        Ok(())
    }
}

fn set_of(capabilities: &[Capability]) -> u64 {
    capabilities
        .iter()
        .fold(0, |set, (number, _)| set | 1 << number)
}

/// Takes all other capabilities away for good; exec() takes them out of use.
fn bound(held: u64) -> io::Result<()> {
    for number in (0..CAPABILITIES).filter(|number| held >> number & 1 == 0) {
        let number = libc::c_ulong::from(number);
        // SAFETY: this takes numbers only.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        match Errno::result(dropped) {
            // EINVAL: the kernel knows no such capability.
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `struct __user_cap_header_struct` of version 3, which takes two sets of 32 bits.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Becomes an ordinary user who has these capabilities, and after exec() too.
fn become_nobody(held: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    // SAFETY: these take numbers only.
    unsafe {
        Errno::result(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        Errno::result(libc::setgroups(0, std::ptr::null()))?;
        Errno::result(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        Errno::result(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
    }
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |bits: u64| Sets {
        effective: bits as u32,
        permitted: bits as u32,
        inheritable: bits as u32,
    };
    let sets = [half(held & u64::from(u32::MAX)), half(held >> 32)];
    // SAFETY: header and sets are laid out as this version wants them.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })?;
    for number in (0..CAPABILITIES).filter(|number| held >> number & 1 == 1) {
        let (raise, number) = (libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(number));
        // SAFETY: this takes numbers only.
        let raised = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, 0, 0) };
        Errno::result(raised)?;
    }
    Ok(())
}
