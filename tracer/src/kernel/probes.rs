/*!
Trial loads: the smallest program (`return 0`) for each hook, given to bpf(2)
with the hook's type, and let go again.
*/

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use aya_obj::btf::{Btf, BtfError, BtfKind};
use nix::libc;

use super::preflight::HookTrial;

const PROG_LOAD: libc::c_long = 5;
const TRACING: u32 = 26;
const RAW_TRACEPOINT: u32 = 23;
const ENTRY: u32 = 24;
const EXIT: u32 = 25;

/// Hook, name of its type, attach type, what it gives.
const HOOKS: &[(&str, &str, u32, &str)] = &[
    (
        "tp_btf/inet_sock_set_state",
        "btf_trace_inet_sock_set_state",
        RAW_TRACEPOINT,
        "every connection's states",
    ),
    (
        "fexit/inet_hash_connect",
        "inet_hash_connect",
        EXIT,
        "the errno of a connect() that fails at once",
    ),
    (
        "fexit/inet_twsk_alloc",
        "inet_twsk_alloc",
        EXIT,
        "TIME_WAIT births",
    ),
    (
        "tp_btf/timer_start",
        "btf_trace_timer_start",
        RAW_TRACEPOINT,
        "TIME_WAIT births",
    ),
    (
        "fentry/inet_twsk_kill",
        "inet_twsk_kill",
        ENTRY,
        "TIME_WAIT ends",
    ),
    (
        "fexit/inet_csk_get_port",
        "inet_csk_get_port",
        EXIT,
        "bind() failures",
    ),
];

/// Each hook, tried.
///
/// # Errors
/// When the kernel's type information cannot be read.
pub fn trial() -> Result<Vec<HookTrial>, BtfError> {
    let btf = Btf::from_sys_fs()?;
    Ok(HOOKS
        .iter()
        .map(|(hook, name, attach, gives)| {
            let tracepoint = *attach == RAW_TRACEPOINT;
            let kind = if tracepoint {
                BtfKind::Typedef
            } else {
                BtfKind::Func
            };
            let result = btf
                .id_by_type_name_kind(name, kind)
                .map_err(|error| error.to_string())
                .and_then(|id| load(*attach, id).map_err(|error| error.to_string()))
                .map(drop);
            HookTrial {
                hook,
                backend: if tracepoint {
                    "tracepoint"
                } else {
                    "trampoline"
                },
                gives,
                result,
            }
        })
        .collect())
}

fn load(attach: u32, id: u32) -> io::Result<OwnedFd> {
    // mov r0, 0; exit
    let program = [0xb7_u64.to_le(), 0x95_u64.to_le()];
    let mut attributes = [0_u64; 16];
    {
        let mut put = |at: usize, value: &[u8]| {
            // SAFETY: an array of integers may be seen as its bytes.
            let bytes: &mut [u8; 128] = unsafe { &mut *(&raw mut attributes).cast() };
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put(0, &TRACING.to_ne_bytes());
        put(4, &2_u32.to_ne_bytes());
        put(8, &(program.as_ptr() as u64).to_ne_bytes());
        put(16, &(c"GPL".as_ptr() as u64).to_ne_bytes());
        put(68, &attach.to_ne_bytes());
        put(108, &id.to_ne_bytes());
    }
    // SAFETY: the attributes and what they point to outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, 128) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just handed us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
