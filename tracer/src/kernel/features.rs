/*! What this kernel lends to tracing programs: read from its types, or tried by loading programs. */

use aya::Btf;
use tracer_ebpf::{ABSENT, Config, Layout, connect_exit};

use super::btf;
use super::hooks::{END_TIMER, STATE};
use super::object::{self, Sizes};
use super::refusal::AttachError;

/// Helpers that the kernel has by its types. That programs may call them shows when they are loaded.
pub(super) fn hoped(types: &btf::Btf, layout: &Layout) -> Config {
    let has = |helper| u32::from(types.has_function(helper));
    Config {
        socket_cookie: has("bpf_get_socket_ptr_cookie"),
        task_btf: has("bpf_get_current_task_btf"),
        task_regs: has("bpf_task_pt_regs") & u32::from(has_registers(layout)),
        probe_read: 1,
        ..Config::default()
    }
}

/// Whether the arguments of a system call can be read from its registers. The number of the call is
/// compared: that of another architecture would be another.
fn has_registers(layout: &Layout) -> bool {
    let registers = [layout.regs_number, layout.regs_first, layout.regs_second];
    cfg!(target_arch = "x86_64") && registers.iter().all(|&offset| offset != ABSENT)
}

/// Helpers that not every kernel lends to tracing programs, found by loading programs that call them.
pub(super) fn found(btf: &Btf, layout: &Layout) -> Result<Config, AttachError> {
    let mut refused = None;
    // The last: before 5.11 the task is read by a probe, which confidentiality lockdown refuses.
    let sets = [
        (1, 1, 1, 1),
        (1, 1, 0, 1),
        (0, 1, 0, 1),
        (0, 0, 0, 1),
        (0, 0, 0, 0),
    ];
    for (socket_cookie, task_btf, task_regs, probe_read) in sets {
        if task_regs == 1 && !has_registers(layout) {
            continue;
        }
        let config = Config {
            socket_cookie,
            task_btf,
            task_regs,
            probe_read,
            all: 1,
            connect_exit: connect_exit::SYSCALL,
            ..Config::default()
        };
        let mut ebpf =
            object::open(btf, layout, &config, &Sizes::TRIAL).map_err(AttachError::Open)?;
        match object::load(&mut ebpf, btf, &STATE.hooks[0]) {
            Ok(()) => {
                let timer = object::load(&mut ebpf, btf, &END_TIMER.hooks[0]);
                let probe_read = probe_read & u32::from(timer.is_ok());
                return Ok(Config {
                    probe_read,
                    all: 0,
                    connect_exit: connect_exit::INFERRED,
                    ..config
                });
            }
            Err(error) => {
                log::debug!(
                    "cookie {socket_cookie}, task {task_btf}, registers {task_regs}: {error}"
                );
                refused.get_or_insert(error);
            }
        }
    }
    Err(
        refused.map_or(AttachError::NoHook, |source| AttachError::Program {
            hook: "inet_sock_set_state",
            reason: Box::new(source),
        }),
    )
}

/// Whether tasks are preempted within programs of tracepoints: since Linux 7.0, which no longer
/// turns preemption off around tracepoints. No trial can tell. Programs say how often they were
/// skipped, so where this is wrong it is seen.
pub(super) fn is_preemptible() -> bool {
    nix::sys::utsname::uname().is_ok_and(|name| {
        let release = name.release().to_string_lossy();
        let major = release.split('.').next();
        major
            .and_then(|major| major.parse::<u32>().ok())
            .is_some_and(|major| major >= 7)
    })
}
