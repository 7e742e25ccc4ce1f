/*! The two ways out: the ring buffer for facts, the failures map for exact counts. */

use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::bpf_ktime_get_ns,
};
use tracer_ebpf::{Counter, Event, FailureCount, FailureKey, flags};

use crate::maps::{CLOCKS, EVENTS, FAILURES, NO_FAILURES, config, count};

/// Shortest time between two wake-ups of one processor that no failure causes.
const WAKE_GAP_NS: u64 = 20_000_000;

/// `CLOCK_MONOTONIC`, ns.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Sends one fact. User space polls while events come, so it is rarely woken: a wake-up costs
/// six times what the event costs.
#[inline(always)]
pub(crate) fn send(event: Event) {
    let Some(mut slot) = EVENTS.reserve::<Event>(0) else {
        count(Counter::RingFull);
        return;
    };
    let at = event.ts_ns;
    // In one piece: filled in where it lies, an event takes thrice the instructions.
    slot.write(event);
    slot.submit(u64::from(if wakes(at) {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }));
}

/// True for the first event after a pause, whose process may be gone before the next poll,
/// and when the ring is past its mark; but not when user space was woken just now.
#[inline(always)]
fn wakes(at: u64) -> bool {
    let unread = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    if unread > FIRST && unread < config!(wake_bytes) {
        return false;
    }
    let Some(clocks) = CLOCKS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a per-CPU slot; torn by an interrupt it costs one wake-up more or less.
    unsafe {
        if at.wrapping_sub((*clocks).woken_ns) < WAKE_GAP_NS {
            return false;
        }
        (*clocks).woken_ns = at;
    }
    true
}

/// What the ring holds when an event is the only unread one: itself, with its header.
const FIRST: u64 = size_of::<Event>() as u64 + 8;

/// Counts a failure exactly, and sends a bounded number of samples that wake user space.
#[inline(never)]
pub(crate) fn failed(event: &Event) {
    let key = FailureKey {
        start_ns: event.owner.start_ns,
        tgid: event.owner.tgid,
        netns: event.tuple.netns,
        src: event.tuple.src,
        dst: event.tuple.dst,
        dport: event.tuple.dport,
        errno: event.errno,
        kind: event.kind,
        cause: event.cause,
        sport: if event.kind == tracer_ebpf::kind::BIND_FAILED {
            event.tuple.sport
        } else {
            0
        },
    };
    let entry = match FAILURES.get_ptr_mut(&key) {
        Some(entry) => entry,
        None => {
            let new = FAILURES
                .insert(&key, &NO_FAILURES, u64::from(BPF_NOEXIST))
                .is_ok();
            let Some(entry) = FAILURES.get_ptr_mut(&key) else {
                count(Counter::FailuresFull);
                sample(event, flags::COUNTED_HERE);
                return;
            };
            if new {
                // SAFETY: the entry is ours until its count is above zero.
                unsafe { (*entry).first = *event };
            }
            entry
        }
    };
    // SAFETY: map values are 8-byte aligned; other processors add to them only like this.
    unsafe {
        add(&raw mut (*entry).search_sum_ns, event.search_ns);
        (*entry).last_ns = event.ts_ns;
        add(&raw mut (*entry).count, 1);
    }
    if due(event.ts_ns) {
        sample(event, flags::SAMPLE);
    } else {
        count(Counter::SamplesSkipped);
    }
}

/// Adds atomically.
///
/// # Safety
/// `slot` must point into a map value and be aligned.
#[inline(always)]
unsafe fn add(slot: *mut u64, value: u64) {
    // Rust has no read-modify-write atomics for this target; the instruction is in every kernel.
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({slot} + 0) += {value}",
            slot = in(reg) slot,
            value = in(reg) value,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    unsafe {
        *slot += value;
    }
}

/// True when this processor may send a failure sample again.
#[inline(always)]
fn due(at: u64) -> bool {
    let Some(clocks) = CLOCKS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a per-CPU slot; torn by an interrupt it costs one sample more or less.
    unsafe {
        if at.wrapping_sub((*clocks).sampled_ns) < config!(sample_gap_ns) {
            return false;
        }
        (*clocks).sampled_ns = at;
    }
    true
}

/// Sends a failure and wakes user space.
#[inline(always)]
fn sample(event: &Event, flag: u32) {
    let Some(mut slot) = EVENTS.reserve::<Event>(0) else {
        // A sample repeats what the map counts; an event that is its own count is a loss.
        count(if flag == flags::COUNTED_HERE {
            Counter::RingFull
        } else {
            Counter::SamplesSkipped
        });
        return;
    };
    let slot_ptr = slot.as_mut_ptr();
    // SAFETY: the slot is ours and large enough.
    unsafe {
        slot_ptr.write(*event);
        (*slot_ptr).flags |= flag;
    }
    slot.submit(u64::from(BPF_RB_FORCE_WAKEUP));
}

const _: () = assert!(align_of::<FailureCount>() == 8);
