/*!
The connect() or bind() the current thread is in: its arguments, socket and
address, for the tracepoints at its end, which have the result only.

Where `bpf_task_pt_regs` exists (Linux 5.15) and the registers keep the
arguments (x86-64), they are read when a call failed: a call that succeeds
costs nothing. Elsewhere a tracepoint at the begin of the call keeps them.
*/

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_user,
        generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs},
    },
    programs::TracePointContext,
};
use tracer_ebpf::{AF_INET, AF_INET6, Call, Counter};

use crate::{
    maps::{CALLS, config, count, offset},
    sock::{Load, Pointer, Probed, Typed, follow, is_tcp, mapped},
};

/// `connect` in the table of x86-64, the only one whose registers are read.
const CONNECT: u64 = 42;

/// Reads the tracepoint's record, which is the context itself.
///
/// # Safety
/// `offset` must lie in the record and be aligned.
#[inline(always)]
pub(crate) unsafe fn field<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    use aya_ebpf::EbpfContext;
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(ctx.as_ptr().byte_add(offset).cast::<T>()) }
}

/// Begin of a system call with `(fd, sockaddr *, length)`.
#[inline(always)]
pub(crate) fn enter(ctx: &TracePointContext) {
    // SAFETY: the record of a syscall's entry: number at 8, arguments from 16, eight bytes each
    // (kernel/trace/trace.h, struct syscall_trace_enter).
    let call = unsafe {
        Call {
            address: field::<u64>(ctx, 24),
            fd: field::<u64>(ctx, 16) as u32,
            reserved: 0,
        }
    };
    if CALLS
        .insert(&bpf_get_current_pid_tgid(), &call, u64::from(BPF_ANY))
        .is_err()
    {
        count(Counter::AttemptsFull);
    }
}

/// End of a system call.
#[inline(always)]
pub(crate) fn leave() {
    if config!(task_regs) == 0 {
        let _ = CALLS.remove(&bpf_get_current_pid_tgid());
    }
}

/// Registers of the current task as it entered the kernel.
#[inline(always)]
fn registers() -> Pointer {
    // SAFETY: the first helper returns the current task, typed, and so does the second its registers.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as Pointer }
}

/// Whether the current thread is in a connect() whose end is traced.
#[inline(always)]
pub(crate) fn is_connect(thread: u64) -> bool {
    if config!(task_regs) == 0 {
        return CALLS.get_ptr(&thread).is_some();
    }
    // SAFETY: the registers are typed.
    unsafe { Typed::load::<u64>(registers(), offset!(regs_number)) == CONNECT }
}

/// What the call of the current thread was given.
#[inline(always)]
pub(crate) fn arguments(thread: u64) -> Option<Call> {
    if config!(task_regs) == 0 {
        // SAFETY: the entry belongs to the current thread.
        return CALLS.get_ptr(&thread).map(|call| unsafe { *call });
    }
    let registers = registers();
    // SAFETY: the registers are typed.
    unsafe {
        Some(Call {
            address: Typed::load::<u64>(registers, offset!(regs_second)),
            fd: Typed::load::<u64>(registers, offset!(regs_first)) as u32,
            reserved: 0,
        })
    }
}

/// The TCP socket behind a file descriptor of the current task.
#[inline(always)]
pub(crate) fn socket_of(fd: u32) -> Option<Pointer> {
    if config!(probe_read) == 0 {
        count(Counter::SocketUnreadable);
        return None;
    }
    // SAFETY: the helper returns the current task's address; probed loads take any.
    unsafe {
        let task = bpf_get_current_task() as Pointer;
        let files = follow::<Probed>(task, offset!(task_files));
        let table = follow::<Probed>(files, offset!(files_fdt));
        let array = follow::<Probed>(table, offset!(fdt_fd));
        let file = Probed::load::<u64>(array.wrapping_byte_add(fd as usize * 8), 0) as Pointer;
        let socket = follow::<Probed>(file, offset!(file_private_data));
        let sk = follow::<Probed>(socket, offset!(socket_sk));
        if sk.is_null() {
            count(Counter::SocketUnreadable);
            return None;
        }
        is_tcp::<Probed>(sk).then_some(sk)
    }
}

/// Address and port (host order) of the sockaddr a system call was given.
#[inline(always)]
pub(crate) fn address_of(call: &Call) -> Option<([u8; 16], u16)> {
    let base = call.address as *const u8;
    // SAFETY: the helper checks the addresses; offsets of struct sockaddr_in and sockaddr_in6.
    unsafe {
        let family = bpf_probe_read_user::<u16>(base.cast()).ok()?;
        let port = bpf_probe_read_user::<u16>(base.wrapping_add(2).cast()).ok()?;
        let address = match family {
            AF_INET => mapped(bpf_probe_read_user::<u32>(base.wrapping_add(4).cast()).ok()?),
            AF_INET6 => bpf_probe_read_user::<[u8; 16]>(base.wrapping_add(8).cast()).ok()?,
            _ => return None,
        };
        Some((address, u16::from_be(port)))
    }
}
