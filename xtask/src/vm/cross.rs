/*!
Guests of another architecture than this machine's: a compiler and a linker for
it, and Debian's packages of it for the guest, unpacked aside. The machine
itself stays of one architecture.
*/
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{arch::Arch, kernel};
use crate::{
    apt::{self, Package},
    exec::{capture, exec},
    paths,
};

/// The linker, and the libraries it links with.
const LINKER: &[Package] = &[
    Package {
        name: "gcc-aarch64-linux-gnu",
        proof: "aarch64-linux-gnu-gcc",
    },
    Package {
        name: "libc6-dev-arm64-cross",
        proof: "/usr/aarch64-linux-gnu/lib/crt1.o",
    },
];

/// Debian's compiler, for where cargo's own has no library for the target.
const COMPILER: Package = Package {
    name: "rustc-web",
    proof: "/usr/bin/rustc",
};

/// Its library, of the other architecture.
const LIBRARY: &str = "libstd-rust-web-dev";

/// What a guest has besides tracer and its tests.
const GUEST: &[&str] = &[
    "bpftool",
    "busybox-static",
    "iproute2",
    "libc6",
    "libgcc-s1",
];

/// What builds for another architecture and fills its guests.
#[derive(Debug)]
pub(super) struct Cross {
    arch: Arch,
    /// Debian's packages, unpacked.
    root: PathBuf,
    /// Whether the compiler is Debian's.
    debian: bool,
}

impl Cross {
    /// Finds, or fetches, what it takes.
    ///
    /// # Errors
    ///
    /// When there is no way to build for `arch` on this machine, or a package
    /// cannot be installed, fetched or unpacked.
    pub(super) fn prepare(arch: Arch, refresh: bool) -> Result<Self> {
        if arch != Arch::Aarch64 {
            bail!(
                "on this machine cargo xtask vm boots {} and aarch64 kernels, not {}",
                std::env::consts::ARCH,
                arch.name()
            );
        }
        apt::ensure(LINKER, "building for aarch64")?;
        let mut packages: Vec<_> = GUEST.iter().map(|&name| name.to_owned()).collect();
        let debian = !own_compiler_has(arch)?;
        if debian {
            apt::ensure(&[COMPILER], "building for aarch64")?;
            // The compiler takes no library but that of its very build.
            let version = capture(Command::new("dpkg-query").args([
                "--show",
                "--showformat=${Version}",
                COMPILER.name,
            ]))?;
            packages.push(format!("{LIBRARY}={}", version.trim()));
        }
        let root = unpacked(arch, &packages, refresh)?;
        Ok(Self { arch, root, debian })
    }

    /// Makes a command of cargo's build for the other architecture.
    pub(super) fn configure(&self, cargo: &mut Command) {
        let target = self.arch.target();
        let variable = |name: &str| {
            let target = target.replace('-', "_").to_uppercase();
            format!("CARGO_TARGET_{target}_{name}")
        };
        cargo
            .args(["--target", target])
            .env(variable("LINKER"), self.tool("gcc"));
        if self.debian {
            let mut sysroot = OsString::from("--sysroot=");
            sysroot.push(self.root.join("usr"));
            cargo
                .env("RUSTC", COMPILER.proof)
                // Flags for every target would take its place, and reach build scripts.
                .env_remove("RUSTFLAGS")
                .env(variable("RUSTFLAGS"), sysroot);
        }
    }

    /// A program of binutils or gcc for the other architecture.
    pub(super) fn tool(&self, name: &str) -> String {
        format!("{}-linux-gnu-{name}", self.arch.name())
    }

    /// A program of the guest's packages.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        ["bin", "sbin", "usr/bin", "usr/sbin"]
            .iter()
            .map(|dir| self.root.join(dir).join(name))
            .find(|file| file.is_file())
    }

    /// The libraries that `program` is linked with, directly or not, by name.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or the guest's packages lack a library.
    pub(super) fn libraries(&self, program: &Path) -> Result<BTreeMap<String, PathBuf>> {
        let mut found = BTreeMap::new();
        let mut files = vec![program.to_owned()];
        while let Some(file) = files.pop() {
            let headers = capture(Command::new(self.tool("objdump")).arg("-p").arg(&file))?;
            for name in needed(&headers) {
                if found.contains_key(name) {
                    continue;
                }
                let library = self.library(name).with_context(|| {
                    format!(
                        "{} needs {name}, and {} has none: try --refresh",
                        file.display(),
                        self.root.display()
                    )
                })?;
                files.push(library.clone());
                found.insert(name.to_owned(), library);
            }
        }
        Ok(found)
    }

    fn library(&self, name: &str) -> Option<PathBuf> {
        let multiarch = format!("{}-linux-gnu", self.arch.name());
        ["lib", "usr/lib"]
            .iter()
            .map(|dir| self.root.join(dir))
            .flat_map(|dir| [dir.join(&multiarch), dir])
            .map(|dir| dir.join(name))
            .find(|file| file.exists())
    }
}

/// Whether cargo's compiler has a standard library for `arch`: one that rustup
/// was asked for with `rustup target add`.
fn own_compiler_has(arch: Arch) -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let dir = capture(Command::new(rustc).current_dir(paths::root()).args([
        "--print",
        "target-libdir",
        "--target",
        arch.target(),
    ]))?;
    let Ok(files) = fs::read_dir(dir.trim()) else {
        return Ok(false);
    };
    Ok(files
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

/// Fetches `packages` of `arch` and all they depend on, once, and unpacks them.
fn unpacked(arch: Arch, packages: &[String], refresh: bool) -> Result<PathBuf> {
    let dir = kernel::cache().join(format!("world-{}", arch.debian()));
    let root = dir.join("root");
    // Written last: it says which packages are all there.
    let stamp = dir.join("packages");
    let wanted = packages.join("\n");
    if !refresh && fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(root);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("emptying {}", dir.display()))?;
    }
    fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
    let status = dir.join("status");
    fs::write(&status, "").with_context(|| format!("making {}", status.display()))?;
    // The sources are the machine's: what links and compiles came from there.
    let mut options = kernel::options(&dir, arch)?;
    // With nothing installed, what the packages depend on is fetched too.
    options.push(format!("-oDir::State::status={}", status.display()));
    exec(
        Command::new("apt-get")
            .args(&options)
            .args(["update", "--quiet"]),
    )?;
    exec(
        Command::new("apt-get")
            .args(&options)
            .args(["install", "--yes", "--quiet"])
            .args(["--download-only", "--no-install-recommends"])
            .args(packages),
    )?;
    let archives = dir.join("cache/archives");
    let debs =
        fs::read_dir(&archives).with_context(|| format!("listing {}", archives.display()))?;
    for deb in debs.flatten().map(|entry| entry.path()) {
        if deb.extension().is_some_and(|extension| extension == "deb") {
            exec(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(&deb)
                    .arg(&root),
            )?;
            fs::remove_file(&deb).with_context(|| format!("removing {}", deb.display()))?;
        }
    }
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(root)
}

/// The libraries named in what `objdump -p` prints.
fn needed(headers: &str) -> impl Iterator<Item = &str> {
    headers
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("NEEDED ")?.trim()))
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, process::Command};

    use super::{Arch, Cross, needed};

    #[test]
    fn libraries_are_read_from_the_headers() {
        let headers = "Dynamic Section:\n\
                       \x20 NEEDED               libgcc_s.so.1\n\
                       \x20 NEEDED               libc.so.6\n\
                       \x20 NEEDED_VERSION       x\n\
                       \x20 INIT                 0x00000000000281f8\n";
        let found: Vec<_> = needed(headers).collect();
        assert_eq!(found, ["libgcc_s.so.1", "libc.so.6"]);
    }

    #[test]
    fn only_the_target_is_given_the_other_sysroot() {
        let cross = |debian| Cross {
            arch: Arch::Aarch64,
            root: PathBuf::from("/w/root"),
            debian,
        };
        let variables = |debian| {
            let mut cargo = Command::new("cargo");
            cross(debian).configure(&mut cargo);
            let set = cargo.get_envs().filter_map(|(name, value)| {
                let words = [name.to_str()?, value?.to_str()?];
                Some(words.join("="))
            });
            set.collect::<Vec<_>>()
        };
        let linker = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc";
        assert_eq!(variables(false), [linker]);
        assert_eq!(
            variables(true),
            [
                linker,
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=--sysroot=/w/root/usr",
                "RUSTC=/usr/bin/rustc"
            ]
        );
    }
}
