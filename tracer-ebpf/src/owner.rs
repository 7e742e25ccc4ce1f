/*! Who is running: the owner of what happens in the caller's own context. */

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    generated::{bpf_get_current_cgroup_id, bpf_get_current_task, bpf_get_current_task_btf},
};
use tracer_ebpf::{COMM_LEN, Owner};

use crate::{
    maps::{config, offset},
    sock::{Load, Pointer, Probed, Typed, follow},
};

/// The current task as an owner. Only right where `current` is the process that acts.
#[inline(always)]
pub(crate) fn current() -> Owner {
    // SAFETY: the helper has no preconditions.
    let cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    let mut owner = Owner {
        start_ns: 0,
        cgroup_id,
        tgid: 0,
        tid: 0,
        uid: bpf_get_current_uid_gid() as u32,
        reserved: 0,
        comm: [0; COMM_LEN],
        thread: [0; COMM_LEN],
    };
    if config!(task_btf) != 0 {
        // SAFETY: the helper returns the current task, typed.
        unsafe {
            let task = bpf_get_current_task_btf() as *const c_void;
            owner.tgid = Typed::load::<u32>(task, offset!(task_tgid));
            owner.tid = Typed::load::<u32>(task, offset!(task_pid));
            owner.thread = name::<Typed>(task);
            leader::<Typed>(&mut owner, task);
        }
        return owner;
    }
    let pid_tgid = bpf_get_current_pid_tgid();
    owner.tgid = (pid_tgid >> 32) as u32;
    owner.tid = pid_tgid as u32;
    owner.thread = bpf_get_current_comm().unwrap_or_default();
    if config!(probe_read) != 0 {
        // SAFETY: the helper returns the current task's address; probed loads take any.
        unsafe {
            let task = bpf_get_current_task() as *const c_void;
            leader::<Probed>(&mut owner, task);
        }
    }
    owner
}

/// Fills what is the process's, not the thread's.
///
/// # Safety
/// `task` must be a `task_struct` that `L` can follow.
#[inline(always)]
unsafe fn leader<L: Load>(owner: &mut Owner, task: Pointer) {
    // SAFETY: the caller's promise.
    unsafe {
        let leader = follow::<L>(task, offset!(task_group_leader));
        owner.start_ns = L::load::<u64>(leader, offset!(task_start_boottime));
        owner.comm = name::<L>(leader);
    }
}

/// Name of a task.
///
/// # Safety
/// As [`leader`].
#[inline(always)]
unsafe fn name<L: Load>(task: Pointer) -> [u8; COMM_LEN] {
    // SAFETY: the caller's promise; two words are sixteen bytes.
    unsafe {
        let words = [
            L::load::<u64>(task, offset!(task_comm)),
            L::load::<u64>(task, offset!(task_comm) + 8),
        ];
        core::mem::transmute::<[u64; 2], [u8; COMM_LEN]>(words)
    }
}
