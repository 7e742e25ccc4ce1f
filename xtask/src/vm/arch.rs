/*!
The architectures a guest can have: what Debian, qemu, the kernel and Rust call
them, and the packages that make and boot one.
*/
use std::env;

use crate::apt::Package;

/// An architecture that a guest can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Arch {
    /// amd64 in Debian.
    #[value(name = "x86_64")]
    X86_64,
    /// arm64 in Debian.
    #[value(name = "aarch64")]
    Aarch64,
}

/// What every guest is packed with.
const PACKERS: [Package; 2] = [
    Package {
        name: "cpio",
        proof: "cpio",
    },
    Package {
        name: "xz-utils",
        proof: "xz",
    },
];

/// A clock that counts emulated instructions, a nanosecond each: a loaded machine makes no deadline
/// pass, no timer fire and no client fall behind its pace, and idle time costs none.
const COUNTED: &[&str] = &["-icount", "shift=0,sleep=off"];

impl Arch {
    /// This machine's, if guests can have it.
    pub(super) fn own() -> Option<Self> {
        [Self::X86_64, Self::Aarch64]
            .into_iter()
            .find(|arch| arch.name() == env::consts::ARCH)
    }

    /// The name that Rust and qemu share.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Debian's name.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The target that guests' programs are compiled for.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// What packs and boots a guest, apart from what fills it.
    pub(super) fn packages(self) -> Vec<Package> {
        let qemu = match self {
            Self::X86_64 => Package {
                name: "qemu-system-x86",
                proof: "qemu-system-x86_64",
            },
            Self::Aarch64 => Package {
                name: "qemu-system-arm",
                proof: "qemu-system-aarch64",
            },
        };
        [&[qemu], &PACKERS[..]].concat()
    }

    /// The program of qemu.
    pub(super) fn qemu(self) -> String {
        format!("qemu-system-{}", self.name())
    }

    /// The arguments of qemu that say what board and processor it is.
    pub(super) fn machine(self, accel: &str) -> Vec<String> {
        let (board, cpu, more): (_, _, &[&str]) = match (self, accel) {
            // Without cmpxchg16b: emulated by qemu 7.2 it now and then leaves garbage in the flags
            // and the stack pointer, and the kernel's allocator dies of a double fault.
            (Self::X86_64, "tcg") => ("q35", "max,-cx16", COUNTED),
            (Self::X86_64, _) => ("q35", "max", &[]),
            // Signed pointers by the architecture's own cipher would be most of the work.
            (Self::Aarch64, "tcg") => ("virt,gic-version=3", "max,pauth-impdef=on", COUNTED),
            (Self::Aarch64, _) => ("virt,gic-version=3", "max", &[]),
        };
        let board = format!("{board},accel={accel}");
        ["-machine", &board, "-cpu", cpu]
            .iter()
            .chain(more)
            .map(|&word| word.to_owned())
            .collect()
    }

    /// The kernel's name of the first serial port.
    pub(super) fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }
}
