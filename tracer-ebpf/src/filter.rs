/*! What was asked for: nothing else is put into a map or sent. */

use tracer_ebpf::{MAX_DESTINATIONS, Tuple};

use crate::maps::{DESTINATIONS, NAMESPACES, PIDS, config};

/// True when the process is asked for.
#[inline(always)]
pub(crate) fn process(tgid: u32) -> bool {
    // SAFETY: the value is not used, only whether it is there.
    config!(pids) == 0 || unsafe { PIDS.get(tgid) }.is_some()
}

/// Whether namespaces or destinations are asked for at all: else addresses need not be read.
#[inline(always)]
pub(crate) fn places() -> bool {
    config!(namespaces) != 0 || config!(destinations) != 0
}

/// True when the namespace is asked for.
#[inline(always)]
pub(crate) fn namespace(inode: u32) -> bool {
    // SAFETY: the value is not used, only whether it is there.
    config!(namespaces) == 0 || unsafe { NAMESPACES.get(inode) }.is_some()
}

/// True when the namespace and the destination are asked for.
#[inline(always)]
pub(crate) fn place(tuple: &Tuple) -> bool {
    namespace(tuple.netns) && (config!(destinations) == 0 || destination(tuple))
}

/// True when one of the destination filters matches.
#[inline(never)]
fn destination(tuple: &Tuple) -> bool {
    // SAFETY: sixteen bytes are two words.
    let address = unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(tuple.dst) };
    for index in 0..MAX_DESTINATIONS as u32 {
        if index >= config!(destinations) {
            return false;
        }
        let Some(wanted) = DESTINATIONS.get(index) else {
            return false;
        };
        if address[0] & wanted.mask[0] == wanted.address[0]
            && address[1] & wanted.mask[1] == wanted.address[1]
            && (wanted.port == 0 || wanted.port == u32::from(tuple.dport))
        {
            return true;
        }
    }
    false
}
