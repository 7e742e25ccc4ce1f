/*!
The eBPF programs: one file a probe family.

Reads go through `sock.rs`, ways out through `output.rs`; types are in the
library. Off the BPF target this compiles to an empty program, so that lints
and `cargo test` see the kernel code too.
*/
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    not(target_arch = "bpf"),
    expect(dead_code, reason = "programs are only called by the kernel")
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value a key or value of a map is copied, and the stack has 512 bytes"
)]

mod bind;
mod connect;
mod filter;
mod follow;
mod maps;
mod output;
mod owner;
mod rescue;
mod sock;
mod state;
mod syscall;
mod timewait;
mod witness;

/// Lets the programs call helpers that the kernel reserves for GPL-compatible code.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// Never reached: the programs do not panic, and the verifier would refuse one that could.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
