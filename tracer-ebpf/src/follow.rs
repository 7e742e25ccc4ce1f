/*!
Children of traced processes: traced too, from their first instruction on.

Hooks: `tp_btf/sched_process_fork(struct task_struct *parent, struct task_struct
*child)` and `tp_btf/sched_process_free(struct task_struct *)`. Why these: the
first runs before the child does, so that not one connect() is missed, and the
second when the process is gone with its last descriptor, where
`sched_process_exit` comes before the descriptors are closed. Attached only
where following is asked for.

# Minimum kernel version
5.8, with BTF.
*/

use aya_ebpf::{bindings::BPF_ANY, macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::Counter;

use crate::{
    maps::{PIDS, count, is_floor, offset},
    sock::{Load, Pointer, Typed},
};

/// A task was made: a process, or a thread of one.
#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn follow_fork(ctx: BtfTracePointContext) -> i32 {
    if is_floor() {
        return 0;
    }
    // SAFETY: both arguments are typed.
    let (parent, child) = unsafe { (process(ctx.arg(0)), process(ctx.arg(1))) };
    if parent != child
        && PIDS.get_ptr(&parent).is_some()
        && PIDS.insert(&child, &1, u64::from(BPF_ANY)).is_err()
    {
        count(Counter::PidsFull);
    }
    0
}

/// A task is gone.
#[btf_tracepoint(function = "sched_process_free")]
pub(crate) fn follow_free(ctx: BtfTracePointContext) -> i32 {
    if is_floor() {
        return 0;
    }
    let task: Pointer = ctx.arg(0);
    // SAFETY: the argument is typed.
    let (id, process) = unsafe { (Typed::load::<u32>(task, offset!(task_pid)), process(task)) };
    // The first thread's task stays until all others are gone.
    if id == process {
        let _ = PIDS.remove(&process);
    }
    0
}

/// Process id of a task.
///
/// # Safety
/// `task` must be a typed `struct task_struct`.
#[inline(always)]
unsafe fn process(task: Pointer) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { Typed::load::<u32>(task, offset!(task_tgid)) }
}
