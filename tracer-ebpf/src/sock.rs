/*!
Reads of kernel memory: the only place where a kernel pointer is followed.

Two ways: a *typed* load goes through a pointer whose type the verifier knows
(a tracepoint or trampoline argument, or what was loaded through one) and needs
no helper, so it also works under confidentiality lockdown; a *probed* load
takes any address through `bpf_probe_read_kernel`.
*/

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use tracer_ebpf::{AF_INET, AF_INET6, Tuple};

use crate::maps::{config, offset};

/// A kernel pointer.
pub(crate) type Pointer = *const c_void;

/// `IPPROTO_TCP`.
const TCP: u16 = 6;

/// A way to read kernel memory.
pub(crate) trait Load {
    /// Reads a `T` at `base + offset`; zeros where that cannot be read.
    ///
    /// # Safety
    /// `base` must be a pointer of the kind this way can follow.
    unsafe fn load<T: Copy + Default>(base: Pointer, offset: u32) -> T;
}

/// Loads through pointers whose type the verifier knows.
pub(crate) struct Typed;

impl Load for Typed {
    #[inline(always)]
    unsafe fn load<T: Copy + Default>(base: Pointer, offset: u32) -> T {
        // SAFETY: the caller's promise; the verifier checks type and bounds, the kernel handles faults.
        unsafe { core::ptr::read_volatile(base.byte_add(offset as usize).cast::<T>()) }
    }
}

/// Loads from any kernel address.
pub(crate) struct Probed;

impl Load for Probed {
    #[inline(always)]
    unsafe fn load<T: Copy + Default>(base: Pointer, offset: u32) -> T {
        if config!(probe_read) == 0 {
            // Under confidentiality lockdown the helper does not exist.
            return T::default();
        }
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(base.wrapping_byte_add(offset as usize).cast::<T>()) }
            .unwrap_or_default()
    }
}

/// Follows a pointer member.
///
/// # Safety
/// As [`Load::load`].
#[inline(always)]
pub(crate) unsafe fn follow<L: Load>(base: Pointer, offset: u32) -> Pointer {
    // SAFETY: the caller's promise.
    unsafe { L::load::<Address>(base, offset).0 }
}

/// A pointer with a default, so that [`Load`] can read it without turning it into a number,
/// which would take its type from the verifier.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Address(Pointer);

impl Default for Address {
    #[inline(always)]
    fn default() -> Self {
        Self(core::ptr::null())
    }
}

/// Inode of the network namespace of a `struct sock_common`.
///
/// # Safety
/// As [`Load::load`].
#[inline(always)]
pub(crate) unsafe fn netns<L: Load>(sk: Pointer) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let net = follow::<L>(sk, offset!(skc_net));
        L::load::<u32>(net, offset!(net_inum))
    }
}

/// `::ffff:a.b.c.d` of an IPv4 address in network order.
#[inline(always)]
pub(crate) fn mapped(address: u32) -> [u8; 16] {
    let high = u64::from(address) << 32 | 0xffff_0000;
    // SAFETY: two words are sixteen bytes.
    unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>([0, high.to_le()]) }
}

/// Reads an IPv6 address.
///
/// # Safety
/// As [`Load::load`].
#[inline(always)]
unsafe fn v6<L: Load>(base: Pointer, offset: u32) -> [u8; 16] {
    // SAFETY: the caller's promise; two words are sixteen bytes.
    unsafe {
        let words = [
            L::load::<u64>(base, offset),
            L::load::<u64>(base, offset + 8),
        ];
        core::mem::transmute::<[u64; 2], [u8; 16]>(words)
    }
}

/// Addresses of a `struct sock_common` (a `sock` or an `inet_timewait_sock`), with this source port.
///
/// # Safety
/// As [`Load::load`].
#[inline(always)]
pub(crate) unsafe fn tuple<L: Load>(sk: Pointer, sport: u16) -> Tuple {
    // SAFETY: the caller's promise.
    unsafe {
        let family = L::load::<u16>(sk, offset!(skc_family));
        let (src, dst) = if family == AF_INET6 {
            (
                v6::<L>(sk, offset!(skc_v6_rcv_saddr)),
                v6::<L>(sk, offset!(skc_v6_daddr)),
            )
        } else {
            (
                mapped(L::load::<u32>(sk, offset!(skc_rcv_saddr))),
                mapped(L::load::<u32>(sk, offset!(skc_daddr))),
            )
        };
        Tuple {
            netns: netns::<L>(sk),
            ifindex: L::load::<u32>(sk, offset!(skc_bound_dev_if)),
            family,
            sport,
            dport: u16::from_be(L::load::<u16>(sk, offset!(skc_dport))),
            reserved: 0,
            src,
            dst,
        }
    }
}

/// True for a TCP socket of IPv4 or IPv6: MPTCP, SCTP and others use the same hooks.
///
/// # Safety
/// `sk` must be a `struct sock` that `L` can follow.
#[inline(always)]
pub(crate) unsafe fn is_tcp<L: Load>(sk: Pointer) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let family = L::load::<u16>(sk, offset!(skc_family));
        L::load::<u16>(sk, offset!(sk_protocol)) == TCP && (family == AF_INET || family == AF_INET6)
    }
}

/// What [`SOCKETS`](crate::maps::SOCKETS) is keyed by: the cookie, which the TIME_WAIT socket
/// inherits, or the address of the sock where tracing programs cannot make cookies (before 5.12).
/// 0 for a socket that was never given a cookie: nobody traces it.
///
/// # Safety
/// `sk` must be a typed `struct sock`.
#[inline(always)]
pub(crate) unsafe fn key(sk: Pointer) -> u64 {
    if config!(socket_cookie) == 0 {
        return sk as u64;
    }
    // SAFETY: the caller's promise.
    unsafe { Typed::load::<u64>(sk, offset!(skc_cookie)) }
}
