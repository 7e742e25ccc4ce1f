/*! The offsets the kernel programs need, looked up in the running kernel's BTF. */

use std::path::Path;

use tracer_ebpf::Layout;

use super::btf::{Btf, BtfError};

/// Fields of [`Layout`] without which no connection can be told from another:
/// a kernel that lacks one cannot be traced. Without any other, less is known.
pub const REQUIRED: &[&str] = &[
    "skc_daddr",
    "skc_rcv_saddr",
    "skc_dport",
    "skc_num",
    "skc_family",
    "skc_net",
    "net_inum",
    "sk_protocol",
    "sk_shutdown",
    "inet_sport",
];

/// A type the programs know the size of, among [`Offsets::missing`] where it is another.
pub const BUCKET: &str = "inet_ehash_bucket";

/// Its size: one pointer.
const BUCKET_BYTES: u32 = 8;

/// Fields of [`Layout`] that only kernels for x86-64 have; the programs read them nowhere else.
const X86_64: &[&str] = &["regs_number", "regs_first", "regs_second"];

/// What a kernel's BTF says about the members the programs read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Byte offsets; [`tracer_ebpf::ABSENT`] where the kernel has no such member.
    pub layout: Layout,
    /// Names of the fields that stayed absent and should be there, in the order of [`Layout::FIELDS`];
    /// then [`BUCKET`] where that is not what the programs take it for.
    pub missing: Vec<&'static str>,
}

/// Reads the BTF at `path` (the running kernel's is [`super::btf::VMLINUX`]) and looks every field up.
///
/// # Errors
/// When the BTF is not there, not readable or damaged. A missing member is no error.
pub fn read(path: &Path) -> Result<Offsets, BtfError> {
    Ok(from_btf(&Btf::read(path)?))
}

/// Looks every field of [`Layout`] up.
pub fn from_btf(btf: &Btf) -> Offsets {
    let mut layout = Layout::ABSENT;
    let mut missing = Vec::new();
    for (field, path) in Layout::FIELDS {
        match path.split('|').find_map(|path| btf.member(path)) {
            Some(member) => {
                layout.set(field, member.byte);
            }
            None if is_expected(field, std::env::consts::ARCH) => missing.push(*field),
            None => {}
        }
    }
    if btf.size(BUCKET) != Some(BUCKET_BYTES) {
        missing.push(BUCKET);
    }
    Offsets { layout, missing }
}

/// Whether kernels for `arch` have a field of [`Layout`].
fn is_expected(field: &str, arch: &str) -> bool {
    arch == "x86_64" || !X86_64.contains(&field)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::btf::VMLINUX;
    use super::*;

    #[test]
    fn required_fields_are_fields() {
        for name in REQUIRED {
            assert!(
                Layout::FIELDS.iter().any(|(field, _)| field == name),
                "{name} is no field of Layout"
            );
        }
    }

    #[test]
    fn registers_are_missed_on_x86_64_only() {
        for name in X86_64 {
            assert!(
                Layout::FIELDS.iter().any(|(field, _)| field == name),
                "{name} is no field of Layout"
            );
            assert!(is_expected(name, "x86_64"));
            assert!(!is_expected(name, "aarch64"));
        }
        assert!(is_expected("skc_daddr", "aarch64"));
    }

    #[test]
    fn running_kernel_has_every_required_field() {
        let start = Instant::now();
        let offsets = match read(Path::new(VMLINUX)) {
            Ok(offsets) => offsets,
            Err(error) => {
                println!("skipping running_kernel_has_every_required_field: {error}");
                return;
            }
        };
        let took = start.elapsed();
        for name in REQUIRED {
            assert!(!offsets.missing.contains(name), "{name} was not found");
        }
        let layout = offsets.layout;
        // Both lie in anonymous structs of an anonymous union, next to each other.
        assert_eq!(layout.skc_rcv_saddr, layout.skc_daddr + 4);
        assert_eq!(layout.skc_num, layout.skc_dport + 2);
        // `net.ns` is a struct that lies well inside `net`.
        assert!(layout.net_inum > 0);
        assert!(took < Duration::from_secs(2), "took {took:?}");
    }
}
