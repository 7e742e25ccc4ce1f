/*!
Which hooks this kernel lets us have: every program is loaded and attached once,
with maps of the least size, and taken out again. Versions are never asked:
kernels are patched, configured and locked down.

To try them all takes longer than all that follows, and most kernels have every
hook of one backend: who is to trace hopes for those first ([`Kernel::hope`]),
and tries them ([`Kernel::try_each`]) when that was in vain.
*/

use std::path::Path;

use aya::Btf;
use tracer_ebpf::{Config, Layout, births};

use super::btf::{self, VMLINUX};
use super::hooks::{
    BIND_SYSCALL, BIND_TRAMPOLINE, BIRTH_TABLE, BIRTH_TRAMPOLINE, CONNECT_AGAIN, CONNECT_SYSCALL,
    CONNECT_TRAMPOLINE, END_DESTRUCTOR, END_TIMER, END_TRAMPOLINE, GROUPS, Group, Hook, Kind,
    RESCUE, TRACEPOINT, TRAMPOLINE, WITNESS,
};
use super::layout::{self, Offsets, REQUIRED};
use super::object::{self, Sizes};
use super::preflight::HookTrial;
use super::refusal::{AttachError, words};
use super::{features, kallsyms, tracefs};

/// Why no system call's tracepoint is used.
pub(crate) const LEFT_ALONE: &str = "--no-syscalls leaves system calls alone";

/// What begins the refusal of a system call's tracepoint that could not even be looked up.
pub(crate) const NO_TRACEFS: &str = "tracefs cannot be reached";

/// The timers of TIME_WAITs cannot be told from others.
pub(crate) const NO_ADDRESS: &str = "/proc/kallsyms does not show the address of tw_timer_handler";

/// A TIME_WAIT, in the table of connections or around its timer, cannot be read.
pub(crate) const NO_PROBE_READ: &str = "lockdown=confidentiality refuses bpf_probe_read_kernel";

/// The connection of a TIME_WAIT cannot be found.
pub(crate) const NO_COOKIES: &str = "this kernel has no socket cookies in tracing programs";

/// Which backend may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best this kernel has, hook by hook.
    #[default]
    Auto,
    /// Trampolines for all that they give, or an error that names the one the kernel refused.
    Trampoline,
    /// Tracepoints only, as on a kernel that refuses trampolines.
    Tracepoint,
}

/// What a hook's trial said.
#[derive(Debug)]
pub struct Trial {
    /// The group the hook belongs to.
    pub group: &'static Group,
    /// The hook.
    pub hook: &'static Hook,
    /// `Err` with the kernel's own words where it was refused.
    pub result: Result<(), String>,
}

/// What the kernel is and allows; all that is needed to load for real.
#[derive(Debug)]
pub struct Kernel {
    pub(crate) btf: Btf,
    types: btf::Btf,
    /// Fields of the layout that it lacks.
    missing: Vec<&'static str>,
    pub(crate) layout: Layout,
    /// Feature fields only; what to do is still to be set.
    pub(crate) config: Config,
    /// Whether tasks are preempted within programs of tracepoints.
    pub(crate) preemptible: bool,
    /// Whether hooks that make every system call of the host slower are done without.
    pub(super) leaves_syscalls: bool,
    /// Every hook's trial, in the order of [`GROUPS`].
    pub trials: Vec<Trial>,
}

impl Kernel {
    /// What is known before anything is tried.
    ///
    /// # Errors
    /// When the kernel's types are not to be had, or lack what no connection can be told without.
    pub fn read() -> Result<Self, AttachError> {
        object::raise_memory_limit();
        let types = btf::Btf::read(Path::new(VMLINUX)).map_err(AttachError::Layout)?;
        let Offsets { layout, missing } = layout::from_btf(&types);
        if let Some(field) = missing.iter().find(|&field| REQUIRED.contains(field)) {
            return Err(AttachError::Member(field));
        }
        let btf = Btf::from_sys_fs().map_err(AttachError::Btf)?;
        Ok(Self {
            btf,
            config: features::hoped(&types, &layout),
            types,
            missing,
            layout,
            preemptible: features::is_preemptible(),
            leaves_syscalls: false,
            trials: Vec::new(),
        })
    }

    /// Takes every hook for good that nothing speaks against, and for each fact the best way alone.
    /// Attaching shows whether that is so.
    pub fn hope(&mut self, choice: Choice) {
        self.trials.clear();
        for group in GROUPS {
            let is_given = |better: &Group| better.fact == group.fact;
            for hook in self.candidates(group, is_given) {
                let refused = self.refused_by_us(group, hook, choice);
                let result = refused.map_or_else(|| known(&self.types, hook), Err);
                self.trials.push(Trial {
                    group,
                    hook,
                    result,
                });
            }
        }
    }

    /// Tries every hook, after the helpers that programs may call.
    ///
    /// # Errors
    /// When state changes cannot be traced here: without them there is nothing to report.
    pub fn try_each(&mut self, choice: Choice) -> Result<(), AttachError> {
        self.config = features::found(&self.btf, &self.layout)?;
        self.trials.clear();
        let open = |config: &Config| {
            let opened = object::open(&self.btf, &self.layout, config, &Sizes::TRIAL);
            opened.map_err(AttachError::Open)
        };
        let mut ebpf = open(&self.config)?;
        // Its program does more where it has to look for births.
        let mut looks = open(&Config {
            births: births::TABLE,
            ..self.config
        })?;
        for group in GROUPS {
            let ebpf = if *group == BIRTH_TABLE {
                &mut looks
            } else {
                &mut ebpf
            };
            // A trial costs the kernel some tens of ms: a spare way is tried where it is needed.
            let is_given =
                |better: &Group| (better.fact, better.backend) == (group.fact, group.backend);
            for hook in self.candidates(group, is_given) {
                let refused = self.refused_by_us(group, hook, choice);
                let result = refused.map_or_else(|| one(ebpf, &self.btf, hook), Err);
                self.trials.push(Trial {
                    group,
                    hook,
                    result,
                });
            }
        }
        Ok(())
    }

    /// The hooks of a group; none where a group before it works for which `is_given` is true.
    fn candidates(
        &mut self,
        group: &'static Group,
        is_given: impl Fn(&Group) -> bool,
    ) -> Vec<&'static Hook> {
        let mut better = GROUPS.iter().take_while(|better| *better != group);
        let has_better = better.any(|better| is_given(better) && self.allows(better));
        let needless = !self.preemptible && (*group == WITNESS || *group == CONNECT_AGAIN);
        if has_better || needless {
            return Vec::new();
        }
        if *group == END_TIMER && self.config.tw_timer_handler == 0 {
            // Only now: there are two hundred thousand symbols to look through.
            self.config.tw_timer_handler =
                kallsyms::lookup(kallsyms::TW_TIMER_HANDLER).map_or(0, kallsyms::Symbol::address);
        }
        let hooks = group.hooks.iter();
        hooks.filter(|hook| is_needed(hook, &self.config)).collect()
    }

    /// Why a hook is not even tried.
    fn refused_by_us(&self, group: &Group, hook: &Hook, choice: Choice) -> Option<String> {
        let config = &self.config;
        if self.leaves_syscalls && hook.kind == Kind::Syscall {
            return Some(LEFT_ALONE.to_owned());
        }
        if choice == Choice::Tracepoint && group.backend == TRAMPOLINE {
            return Some("not tried: tracepoints are to do without".to_owned());
        }
        if choice == Choice::Trampoline && is_given_by_trampolines(group) {
            return Some("not tried: the trampoline backend was asked for".to_owned());
        }
        if *group == END_TIMER && config.tw_timer_handler == 0 {
            return Some(NO_ADDRESS.to_owned());
        }
        if (*group == END_TIMER || *group == BIRTH_TABLE) && config.probe_read == 0 {
            return Some(NO_PROBE_READ.to_owned());
        }
        if *group == BIRTH_TABLE && config.socket_cookie == 0 {
            return Some(NO_COOKIES.to_owned());
        }
        let needs: &[&str] = match group.fact {
            "time_wait" if group.backend == TRACEPOINT => &[
                "net_hashinfo",
                "hashinfo_ehash",
                "hashinfo_mask",
                "bucket_chain",
                layout::BUCKET,
                "skc_hash",
                "skc_nulls",
                "skc_flags",
            ],
            "time_wait_end" => &["tw_substate", "tw_sport", "tw_timer"],
            "rescue" => &["skc_state", "skc_flags", "bytes_acked"],
            "follow" => &["task_pid", "task_tgid"],
            _ if hook.kind == Kind::Syscall => &["task_files", "files_fdt", "fdt_fd"],
            _ => &[],
        };
        needs
            .iter()
            .find(|need| self.missing.contains(need))
            .map(|need| format!("the kernel's BTF lacks {need}"))
    }

    /// Whether every hook of a group that must attach does.
    pub fn allows(&self, group: &Group) -> bool {
        works(&self.trials, group)
    }

    /// The group that sees what a preempted task hides from tracepoints.
    pub fn witness(&self) -> Option<&'static Group> {
        Some(&WITNESS).filter(|group| self.allows(group))
    }

    /// The group that sees the results of connect() that a preempted task hides.
    pub fn connect_again(&self) -> Option<&'static Group> {
        let trampolines = self.connect() == Some(&CONNECT_TRAMPOLINE);
        Some(&CONNECT_AGAIN)
            .filter(|group| trampolines && self.witness().is_some() && self.allows(group))
    }

    /// The first hook of a group that must attach and does not, with the kernel's words.
    pub(crate) fn refused(&self, group: &Group) -> Option<(&'static Hook, &str)> {
        self.trials
            .iter()
            .filter(|trial| trial.group == group && !trial.hook.optional)
            .find_map(|trial| Some((trial.hook, trial.result.as_ref().err()?.as_str())))
    }

    /// The hooks of a group that attach.
    pub fn hooks(&self, group: &Group) -> impl Iterator<Item = &'static Hook> {
        self.trials
            .iter()
            .filter(move |trial| trial.group == group && trial.result.is_ok())
            .map(|trial| trial.hook)
    }

    /// A trampoline that was refused, and with it all the groups of trampolines that give its fact.
    pub fn lacks_trampoline(&self) -> Option<&Trial> {
        let given = |fact| {
            let mut groups = GROUPS.iter();
            groups.any(|group| {
                group.fact == fact && group.backend == TRAMPOLINE && self.allows(group)
            })
        };
        self.trials.iter().find(|trial| {
            trial.group.backend == TRAMPOLINE
                && trial.result.is_err()
                && !trial.hook.optional
                && !given(trial.group.fact)
        })
    }

    /// The first of these groups that this kernel allows.
    fn first<const N: usize>(&self, groups: [&'static Group; N]) -> Option<&'static Group> {
        groups.into_iter().find(|group| self.allows(group))
    }

    /// The group that finds what the kernel skipped the state changes of.
    pub fn rescue(&self) -> Option<&'static Group> {
        Some(&RESCUE).filter(|group| self.allows(group))
    }

    /// The group that tells the errno of connect().
    pub fn connect(&self) -> Option<&'static Group> {
        self.first([&CONNECT_TRAMPOLINE, &CONNECT_SYSCALL])
    }

    /// The group that tells the errno of bind().
    pub fn bind(&self) -> Option<&'static Group> {
        self.first([&BIND_TRAMPOLINE, &BIND_SYSCALL])
    }

    /// The group that sees births of TIME_WAITs.
    pub fn births(&self) -> Option<&'static Group> {
        self.first([&BIRTH_TRAMPOLINE, &BIRTH_TABLE])
    }

    /// The group that sees ends of TIME_WAITs.
    pub fn ends(&self) -> Option<&'static Group> {
        self.first([&END_TRAMPOLINE, &END_DESTRUCTOR, &END_TIMER])
    }
}

/// The trials for `doctor`: each hook once, its copies together.
///
/// # Errors
/// As [`Kernel::read`] and [`Kernel::try_each`].
pub fn report(choice: Choice) -> Result<Vec<HookTrial>, AttachError> {
    let mut hooks: Vec<HookTrial> = Vec::new();
    let mut kernel = Kernel::read()?;
    kernel.try_each(choice)?;
    for trial in kernel.trials {
        let is_copy =
            |hook: &&mut HookTrial| (hook.hook, hook.fact) == (trial.hook.place, trial.group.fact);
        match hooks.iter_mut().find(is_copy) {
            Some(hook) => {
                if hook.result.is_ok() {
                    hook.result = trial.result;
                }
            }
            None => hooks.push(HookTrial {
                hook: trial.hook.place,
                backend: trial.group.backend,
                fact: trial.group.fact,
                gives: trial.group.gives,
                result: trial.result,
            }),
        }
    }
    Ok(hooks)
}

/// Whether a group was tried and every hook of it that must attach does.
fn works(trials: &[Trial], group: &Group) -> bool {
    let mut tried = trials
        .iter()
        .filter(|trial| trial.group == group)
        .peekable();
    tried.peek().is_some() && tried.all(|trial| trial.hook.optional || trial.result.is_ok())
}

/// Whether a hook gives anything here: the begin of a system call does not where its end has the
/// arguments.
fn is_needed(hook: &Hook, config: &Config) -> bool {
    config.task_regs == 0 || !hook.target().starts_with("sys_enter_")
}

/// Nothing, but for a hook that may be missing whether this kernel has its place.
fn known(types: &btf::Btf, hook: &Hook) -> Result<(), String> {
    let target = hook.target();
    let is_known = match hook.kind {
        Kind::TpBtf => types.has_tracepoint(target),
        Kind::Fentry | Kind::Fexit => types.has_function(target),
        Kind::Syscall | Kind::CgroupConnect | Kind::CgroupRelease => true,
    };
    if hook.optional && !is_known {
        return Err(format!("the kernel's BTF lacks {target}"));
    }
    Ok(())
}

/// Whether this is the tracepoints' way to a fact that trampolines give too.
fn is_given_by_trampolines(group: &Group) -> bool {
    group.backend != TRAMPOLINE
        && GROUPS
            .iter()
            .any(|other| other.fact == group.fact && other.backend == TRAMPOLINE)
}

/// Loads, attaches and takes out one program.
fn one(ebpf: &mut aya::Ebpf, btf: &Btf, hook: &Hook) -> Result<(), String> {
    object::load(ebpf, btf, hook).map_err(|error| words(&error))?;
    let attached = if hook.kind == Kind::Syscall {
        tracefs::with(|| object::attach(ebpf, hook).map_err(|error| words(&error)))
            .map_err(|error| format!("{NO_TRACEFS}: {error}"))
            .flatten()
    } else {
        object::attach(ebpf, hook).map_err(|error| words(&error))
    };
    object::unload(ebpf, hook).map_err(|error| words(&error))?;
    attached
}
