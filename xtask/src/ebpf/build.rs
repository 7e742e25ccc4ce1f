/*!
Builds the eBPF object so that its bytes depend on the sources and the tools,
and on nothing else of the machine: not its paths, not its processor.
*/
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    provenance::{self, Provenance},
    strip, toolchain,
};
use crate::{exec::exec, paths};

/// What cargo is told.
pub(super) const COMMAND: &[&str] = &[
    "build",
    "--locked",
    "--package=tracer-ebpf",
    "--bins",
    "--release",
    "--target=bpfel-unknown-none",
];

/// What the compiler is told, but for the paths to leave out.
///
/// The target architecture only chooses aya-ebpf's `pt_regs` and its bindings.
/// BTF tracepoints and trampolines take their arguments without `pt_regs`, so
/// one object serves every processor; naming the same one everywhere keeps its
/// bytes the same too.
pub(super) const FLAGS: &[&str] = &[
    "-Clinker=bpf-linker",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "--cfg=bpf_target_arch=\"x86_64\"",
];

/// An object just built.
pub(super) struct Build {
    /// Its bytes, without DWARF.
    pub(super) object: Vec<u8>,
    /// What built it.
    pub(super) provenance: Provenance,
    /// Where it lies in the target directory.
    pub(super) file: PathBuf,
    /// Sources of `core` on this machine, which end up as lines in the BTF.
    pub(super) core_sources: Option<PathBuf>,
}

/// Builds the object.
///
/// # Errors
///
/// When a tool is missing and cannot be installed, or the build fails.
pub(super) fn build(recorded: Option<&Provenance>) -> Result<Build> {
    let compiler = toolchain::compiler(recorded)?;
    let (linker_dir, linker) = toolchain::linker()?;
    let target_dir = paths::target().join("ebpf");
    // The directory of the registry's sources has a name of the machine's own;
    // it has to be there before its name can be left out.
    exec(
        Command::new(paths::cargo())
            .args(["fetch", "--locked"])
            .current_dir(paths::root()),
    )?;
    let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    flags.extend(remaps(paths::root(), &paths::cargo_home()?)?);

    let mut path = vec![linker_dir];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut cargo = Command::new(&compiler.cargo);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PROFILE_") || text.starts_with("CARGO_BUILD_") {
            cargo.env_remove(&name);
        }
    }
    cargo
        .args(COMMAND)
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(paths::root())
        .env("RUSTC", &compiler.rustc)
        .env("PATH", env::join_paths(path).context("joining PATH")?)
        .env(
            "LD_LIBRARY_PATH",
            toolchain::llvm_dir(&compiler.llvm_library)?,
        )
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN");
    if compiler.build_std {
        cargo.arg("-Zbuild-std=core");
    } else {
        // Lets these two crates, of a compiler that is not a nightly, use the
        // unstable features they need: BPF's assembler and aya-ebpf's own.
        cargo.env("RUSTC_BOOTSTRAP", "aya_ebpf,tracer_ebpf");
    }
    exec(&mut cargo)?;

    let linked = target_dir.join("bpfel-unknown-none/release/tracer-ebpf");
    let bytes = fs::read(&linked).with_context(|| format!("reading {}", linked.display()))?;
    let object = strip::strip(&bytes)?;
    // With a directory below them: a short root, such as /src, is a part of
    // other paths.
    for secret in [
        paths::root().join("tracer-ebpf/"),
        target_dir.join("bpfel-unknown-none/"),
        paths::cargo_home()?.join("registry/"),
    ] {
        if contains(&object, secret.as_os_str().as_encoded_bytes()) {
            bail!(
                "the object holds the path {} of this machine, so it would differ on another: \
                 a --remap-path-prefix is missing in xtask/src/ebpf/build.rs",
                secret.display()
            );
        }
    }
    let file = target_dir.join("tracer.bpf.o");
    fs::write(&file, &object).with_context(|| format!("writing {}", file.display()))?;
    let provenance = Provenance {
        object_sha256: provenance::sha256(&object),
        sources_sha256: provenance::sources_digest(paths::root())?,
        rustc: compiler.version,
        llvm: compiler.llvm,
        linker,
        command: format!("cargo {}", COMMAND.join(" ")),
        flags: FLAGS.iter().map(|flag| (*flag).to_owned()).collect(),
    };
    Ok(Build {
        object,
        provenance,
        file,
        core_sources: compiler.core_sources,
    })
}

/// Flags that take the machine's paths out: the workspace's files become
/// relative (so the linker still finds them and puts their lines into the BTF,
/// for the verifier to quote), the registry's get a fixed root.
fn remaps(root: &Path, cargo_home: &Path) -> Result<Vec<String>> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    // The compiler takes the last that fits.
    let mut flags = vec![remap(cargo_home, "/cargo"), remap(root, "")];
    let registries = cargo_home.join("registry/src");
    let mut dirs = Vec::new();
    for entry in fs::read_dir(&registries)
        .with_context(|| format!("listing the registries in {}", registries.display()))?
    {
        dirs.push(entry.context("listing the registries")?.path());
    }
    dirs.sort();
    flags.extend(dirs.iter().map(|dir| remap(dir, "/cargo")));
    Ok(flags)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{contains, remaps};

    #[test]
    fn each_registry_is_remapped_after_cargos_directory() {
        let home = tempfile::tempdir().unwrap();
        for name in ["b-2", "a-1"] {
            fs::create_dir_all(home.path().join("registry/src").join(name)).unwrap();
        }
        let root = tempfile::tempdir().unwrap();
        let flags = remaps(root.path(), home.path()).unwrap();
        let home = home.path().display();
        let root = root.path().display();
        assert_eq!(
            flags,
            [
                format!("--remap-path-prefix={home}=/cargo"),
                format!("--remap-path-prefix={root}="),
                format!("--remap-path-prefix={home}/registry/src/a-1=/cargo"),
                format!("--remap-path-prefix={home}/registry/src/b-2=/cargo"),
            ]
        );
    }

    #[test]
    fn a_part_is_found_wherever_it_is() {
        assert!(contains(b"xx/root/yy", b"/root"));
        assert!(!contains(b"xx/roo", b"/root"));
    }
}
