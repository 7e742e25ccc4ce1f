/*!
Finds, or installs, what builds an eBPF object: a compiler that has a `core`
for bpfel, and bpf-linker with the LLVM library that belongs to the compiler.
*/
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::provenance::Provenance;
use crate::{
    apt::{self, Package},
    exec::{capture, exec},
    paths,
};

/// The bpf-linker the object is linked with.
const LINKER: &str = "0.10.4";

/// Major version of the LLVM that bpf-linker speaks.
const LLVM_MAJOR: &str = "22";

/// Debian's compiler and its prebuilt `core` for eBPF.
const DEBIAN: &[Package] = &[
    Package {
        name: "rustc-web",
        proof: "/usr/bin/rustc",
    },
    Package {
        name: "libstd-rust-web-dev-bpf",
        proof: "/usr/lib/rustlib/bpfel-unknown-none",
    },
];

/// A compiler that can build for bpfel.
#[derive(Debug)]
pub(super) struct Compiler {
    /// The compiler.
    pub(super) rustc: PathBuf,
    /// The cargo to drive it.
    pub(super) cargo: OsString,
    /// Whether `core` is compiled from source first, or comes prebuilt.
    pub(super) build_std: bool,
    /// First line of its version.
    pub(super) version: String,
    /// Version of its LLVM.
    pub(super) llvm: String,
    /// The library that holds that LLVM.
    pub(super) llvm_library: PathBuf,
    /// Sources of `core` on this machine, which end up as lines in the BTF.
    pub(super) core_sources: Option<PathBuf>,
}

/// Finds a compiler: a nightly of rustup that has its sources, or Debian's,
/// installed here when it is missing. Which of them comes first decides the
/// record, so that a rebuild gives the same bytes wherever it can.
///
/// # Errors
///
/// When there is none: the sentence says what to install.
pub(super) fn compiler(recorded: Option<&Provenance>) -> Result<Compiler> {
    let nightly = nightly()?;
    let wanted = |compiler: &Compiler| recorded.is_none_or(|old| old.rustc == compiler.version);
    match nightly {
        Some(nightly) if wanted(&nightly) => Ok(nightly),
        nightly => match (debian(), nightly) {
            (Ok(debian), _) => Ok(debian),
            (Err(_), Some(nightly)) => Ok(nightly),
            (Err(error), None) => Err(error.context(
                "looked for a compiler that builds for eBPF: neither a rustup nightly with rust-src is here \
                 (rustup toolchain install nightly --component rust-src) nor Debian's",
            )),
        },
    }
}

/// The nightly of rustup, when it is installed, has its sources and an LLVM
/// that bpf-linker speaks.
fn nightly() -> Result<Option<Compiler>> {
    if paths::program("rustup").is_none() {
        return Ok(None);
    }
    let found = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .output()
        .context("asking rustup for its nightly toolchain")?;
    if !found.status.success() {
        return Ok(None);
    }
    let sysroot = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let sources = sysroot.join("lib/rustlib/src/rust/library");
    if !sources.exists() {
        return Ok(None);
    }
    let compiler = describe(
        sysroot.join("bin/rustc"),
        sysroot.join("bin/cargo").into(),
        true,
    )?;
    // Its sources are always there, so they differ between no two machines.
    Ok(compiler.llvm.starts_with(LLVM_MAJOR).then_some(compiler))
}

fn debian() -> Result<Compiler> {
    apt::ensure(DEBIAN, "building the eBPF object")?;
    let compiler = describe("/usr/bin/rustc".into(), paths::cargo(), false)?;
    if !compiler.llvm.starts_with(LLVM_MAJOR) {
        bail!(
            "Debian's compiler, {}, carries LLVM {}, and bpf-linker {LINKER} speaks LLVM {LLVM_MAJOR}: \
             upgrade rustc-web and libstd-rust-web-dev-bpf",
            compiler.version,
            compiler.llvm
        );
    }
    Ok(compiler)
}

fn describe(rustc: PathBuf, cargo: OsString, build_std: bool) -> Result<Compiler> {
    let text = capture(Command::new(&rustc).args(["--version", "--verbose"]))?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
    };
    let version = text.lines().next().unwrap_or_default().to_owned();
    let llvm = field("LLVM version:")
        .with_context(|| format!("{} does not state its LLVM version", rustc.display()))?;
    let release = field("release:").unwrap_or_default();
    let host = field("host:").unwrap_or_default();
    let sysroot = capture(Command::new(&rustc).args(["--print", "sysroot"]))?;
    let llvm_library = llvm_library(Path::new(sysroot.trim()), &host, &llvm)?;
    let core_sources = PathBuf::from(format!("/usr/src/rustc-{release}"));
    Ok(Compiler {
        rustc,
        cargo,
        build_std,
        version,
        llvm,
        llvm_library,
        core_sources: (!build_std && core_sources.exists()).then_some(core_sources),
    })
}

/// The shared library with the compiler's own LLVM.
fn llvm_library(sysroot: &Path, host: &str, llvm: &str) -> Result<PathBuf> {
    let major = llvm.split('.').next().unwrap_or(llvm);
    let names = [format!("libLLVM.so.{major}."), format!("libLLVM-{major}")];
    let multiarch = host.replace("-unknown-", "-");
    let dirs = [sysroot.join("lib"), sysroot.join("lib").join(multiarch)];
    let mut found: Vec<_> = dirs
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .filter(|entry| {
            let file = entry.file_name();
            names
                .iter()
                .any(|name| file.to_string_lossy().starts_with(name))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.into_iter().next().with_context(|| {
        format!(
            "looked for the shared library of LLVM {llvm} in {} and {}, and found none: bpf-linker needs it",
            dirs[0].display(),
            dirs[1].display()
        )
    })
}

/// Finds bpf-linker, or builds it into the target directory, and returns the
/// directory it is in and what it says its version is.
///
/// # Errors
///
/// When it can be neither found nor built.
pub(super) fn linker() -> Result<(PathBuf, String)> {
    let wanted = format!("bpf-linker {LINKER}");
    let own = paths::target().join("ebpf/tools");
    let candidates = [
        paths::program("bpf-linker"),
        Some(paths::cargo_home()?.join("bin/bpf-linker")),
        Some(own.join("bin/bpf-linker")),
    ];
    for linker in candidates.into_iter().flatten() {
        let Ok(output) = Command::new(&linker).arg("--version").output() else {
            continue;
        };
        if String::from_utf8_lossy(&output.stdout).trim() == wanted {
            let dir = linker.parent().expect("a program lies in a directory");
            return Ok((dir.to_owned(), wanted));
        }
    }
    // Into the target directory: another version the user has stays theirs.
    exec(
        Command::new(paths::cargo())
            .args([
                "install",
                "--locked",
                &format!("bpf-linker@{LINKER}"),
                "--root",
            ])
            .arg(&own)
            .arg("--target-dir")
            .arg(paths::target().join("ebpf/tools-build"))
            .env_remove("RUSTFLAGS"),
    )?;
    Ok((own.join("bin"), wanted))
}

/// Makes a directory that holds only `library`, for bpf-linker to open: in
/// the library's own directory it takes the first LLVM of any version.
///
/// # Errors
///
/// When the directory cannot be made.
pub(super) fn llvm_dir(library: &Path) -> Result<PathBuf> {
    let dir = paths::target().join("ebpf/llvm");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("emptying {}", dir.display()))?;
    }
    let name = library.file_name().expect("a library has a file name");
    fs::create_dir_all(&dir)
        .and_then(|()| std::os::unix::fs::symlink(library, dir.join(name)))
        .with_context(|| format!("linking {} into {}", library.display(), dir.display()))?;
    Ok(dir)
}
