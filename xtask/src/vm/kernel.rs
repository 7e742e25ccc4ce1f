/*!
Debian's cloud kernels: found in the archive this machine's apt already uses,
fetched once, unpacked without installing.
*/
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::arch::Arch;
use crate::{
    apt,
    exec::{capture, exec},
    paths,
};

/// The keys that sign Debian's archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which release of Debian carries which kernel; [`NEWER`] carries the rest.
const SUITES: &[(&str, &str)] = &[
    ("5.10", "bullseye"),
    ("6.1", "bookworm"),
    ("6.12", "trixie"),
];
const NEWER: &str = "trixie-backports";

/// Names for the newest kernel of a release, whatever its version.
const NAMES: &[(&str, &str)] = &[("newest", NEWER), ("unstable", "sid")];

/// What the configuration of a kernel with trampolines for its own functions says.
const TRAMPOLINES: &str = "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y";

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// What `uname -r` will say.
    pub(super) release: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    /// The directory its modules lie in, at any depth.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The release without the parts of the distribution: `6.12.107`.
    pub(super) fn version(&self) -> &str {
        version(&self.release)
    }

    /// Whether its configuration says that it has no trampolines for its own functions, as on
    /// arm64 before 6.12.
    pub(super) fn lacks_trampolines(&self) -> bool {
        let name = self.image.file_name().unwrap_or_default();
        let config = name.to_string_lossy().replace("vmlinuz", "config");
        fs::read_to_string(self.image.with_file_name(config))
            .is_ok_and(|text| !text.lines().any(|line| line == TRAMPOLINES))
    }
}

/// The numbers a release begins with.
pub(super) fn version(release: &str) -> &str {
    let end = |c: char| !c.is_ascii_digit() && c != '.';
    release.split(end).next().unwrap_or(release)
}

/// Kernels are kept outside the tree, in the user's cache directory, and in the
/// target directory where there is none.
pub(super) fn cache() -> PathBuf {
    let absolute = |variable| {
        env::var_os(variable)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map_or_else(|| paths::target().join("vm"), |dir| dir.join("tracer-vm"))
}

/// The folder of the cache called `name` that is for `arch`.
fn of(name: &str, arch: Arch) -> String {
    match arch {
        Arch::X86_64 => name.to_owned(),
        other => format!("{name}-{}", other.debian()),
    }
}

/// The newest of Debian's kernels of `version`, such as 6.12 or `newest`,
/// fetched when it is not in the cache or when `refresh` asks for it.
///
/// # Errors
///
/// When Debian has none, or it cannot be fetched or unpacked.
pub(super) fn resolve(version: &str, arch: Arch, refresh: bool) -> Result<Kernel> {
    let numbers = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_version = version.split('.').all(numbers) && version.contains('.');
    if !is_version && NAMES.iter().all(|(name, _)| *name != version) {
        bail!("{version:?} is no kernel: give a version such as 6.12, or newest, or unstable");
    }
    let dir = cache().join(of("kernels", arch)).join(version);
    // Written last, so an interrupted fetch is not taken for a kernel.
    let stamp = dir.join("release");
    if let (false, Ok(release)) = (refresh, fs::read_to_string(&stamp)) {
        return unpacked(&dir, release.trim());
    }
    let archive = Archive::open(version, arch)?;
    let release = archive.newest(version)?;
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("emptying {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    archive.unpack(&format!("linux-image-{release}"), &dir)?;
    if unpacked(&dir, &release).is_err() {
        // Since 7.2 the image package only depends on the two that hold it.
        archive.unpack(&format!("linux-binary-{release}"), &dir)?;
        archive.unpack(&format!("linux-modules-{release}"), &dir)?;
    }
    let kernel = unpacked(&dir, &release)?;
    fs::write(&stamp, &release).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(kernel)
}

fn unpacked(dir: &Path, release: &str) -> Result<Kernel> {
    let images = [
        dir.join(format!("boot/vmlinuz-{release}")),
        dir.join(format!("usr/lib/modules/{release}/vmlinuz")),
    ];
    let modules = [
        dir.join(format!("usr/lib/modules/{release}")),
        dir.join(format!("lib/modules/{release}")),
    ];
    let image = images.into_iter().find(|file| file.exists());
    let modules = modules.into_iter().find(|file| file.exists());
    match (image, modules) {
        (Some(image), Some(modules)) => Ok(Kernel {
            release: release.to_owned(),
            image,
            modules,
        }),
        _ => bail!(
            "unpacked the packages of {release} in {} and found no kernel: try --refresh",
            dir.display()
        ),
    }
}

/// Options that make apt read and keep everything of `arch` below `state`, and
/// nothing of the machine's but its sources.
pub(super) fn options(state: &Path, arch: Arch) -> Result<Vec<String>> {
    for dir in ["lists/partial", "cache/archives/partial"] {
        let dir = state.join(dir);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    }
    Ok(vec![
        format!("-oAPT::Architecture={}", arch.debian()),
        format!("-oAPT::Architectures::={}", arch.debian()),
        format!("-oDir::State::Lists={}", state.join("lists").display()),
        format!("-oDir::Cache={}", state.join("cache").display()),
        // The cache may be where apt's own user cannot go.
        format!("-oAPT::Sandbox::User={}", user()?),
        "-oAcquire::Languages=none".to_owned(),
        "-oAcquire::Retries=3".to_owned(),
        "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
    ])
}

/// One release of Debian's archive, with lists of its own: the machine's apt
/// state stays untouched.
struct Archive {
    options: Vec<String>,
    suite: &'static str,
    arch: Arch,
}

impl Archive {
    fn open(version: &str, arch: Arch) -> Result<Self> {
        let suite = SUITES
            .iter()
            .chain(NAMES)
            .find(|(kernel, _)| *kernel == version)
            .map_or(NEWER, |(_, suite)| suite);
        let state = cache().join(of("apt", arch)).join(suite);
        let mut options = options(&state, arch)?;
        let sources = state.join("sources.list");
        let line = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
        fs::write(&sources, line).with_context(|| format!("writing {}", sources.display()))?;
        options.extend([
            format!("-oDir::Etc::SourceList={}", sources.display()),
            "-oDir::Etc::SourceParts=-".to_owned(),
            // A release past its end of life is signed, but no longer renewed.
            "-oAcquire::Check-Valid-Until=false".to_owned(),
        ]);
        let archive = Self {
            options,
            suite,
            arch,
        };
        exec(archive.apt("apt-get").args(["update", "--quiet"]))?;
        Ok(archive)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }

    /// The release of the newest cloud kernel of `version`.
    fn newest(&self, version: &str) -> Result<String> {
        let numbers = match NAMES.iter().any(|(name, _)| *name == version) {
            true => "[0-9]+".to_owned(),
            false => version.replace('.', r"\."),
        };
        let pattern = format!("^linux-image-{numbers}[.-].*cloud-{}$", self.arch.debian());
        let listed = capture(
            self.apt("apt-cache")
                .args(["search", "--names-only", &pattern]),
        )?;
        newest(&listed).with_context(|| {
            format!(
                "looked for {pattern} in Debian's {} and found none",
                self.suite
            )
        })
    }

    fn unpack(&self, package: &str, dir: &Path) -> Result<()> {
        exec(
            self.apt("apt-get")
                .args(["download", package])
                .current_dir(dir),
        )?;
        let debs = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
        for deb in debs.flatten().map(|entry| entry.path()) {
            if deb.extension().is_some_and(|extension| extension == "deb") {
                exec(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(dir))?;
                fs::remove_file(&deb).with_context(|| format!("removing {}", deb.display()))?;
            }
        }
        Ok(())
    }
}

/// The mirror of Debian's main archive that this machine's apt is set up with.
fn mirror() -> Result<String> {
    let ask = || {
        let format = "$(CREATED_BY)|$(LABEL)|$(REPO_URI)";
        let targets = capture(Command::new("apt-get").args(["indextargets", "--format", format]))?;
        let mirror = targets
            .lines()
            .find_map(|line| line.strip_prefix("Packages|Debian|"))
            .map(str::to_owned);
        Ok::<_, anyhow::Error>(mirror)
    };
    if let Some(mirror) = ask()? {
        return Ok(mirror);
    }
    // The label is known only once the lists were read.
    if nix::unistd::geteuid().is_root() {
        apt::update()?;
    }
    ask()?.context(
        "looked for Debian's archive among apt's sources and found none: \
         kernels come from there, so run this on Debian, after apt-get update",
    )
}

fn user() -> Result<String> {
    let user =
        nix::unistd::User::from_uid(nix::unistd::geteuid()).context("looking up our user")?;
    Ok(user.map_or_else(|| "root".to_owned(), |user| user.name))
}

/// The newest release among the lines `linux-image-RELEASE - description`.
fn newest(listed: &str) -> Option<String> {
    listed
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.strip_prefix("linux-image-"))
        .max_by_key(|release| {
            release
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|number| number.parse::<u64>().ok())
                .collect::<Vec<_>>()
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Arch, Kernel, newest, resolve};

    #[test]
    fn releases_are_compared_as_numbers() {
        let listed = "linux-image-6.12.94+deb13-cloud-amd64 - Linux 6.12 (signed)\n\
                      linux-image-6.12.107+deb13-cloud-amd64 - Linux 6.12 (signed)\n\
                      linux-image-6.12.9+deb13-cloud-amd64 - Linux 6.12 (signed)\n";
        assert_eq!(newest(listed).unwrap(), "6.12.107+deb13-cloud-amd64");
        assert_eq!(newest(""), None);
    }

    #[test]
    fn only_a_configuration_that_says_so_denies_trampolines() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = Kernel {
            release: "6.1".to_owned(),
            image: dir.path().join("vmlinuz-6.1"),
            modules: dir.path().to_owned(),
        };
        assert!(!kernel.lacks_trampolines());
        let config = dir.path().join("config-6.1");
        fs::write(&config, "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y\n").unwrap();
        assert!(!kernel.lacks_trampolines());
        fs::write(&config, "CONFIG_HAVE_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y\n").unwrap();
        assert!(kernel.lacks_trampolines());
    }

    #[test]
    fn a_malformed_version_is_refused_before_anything_is_fetched() {
        for version in ["6", "../..", "6.12-rc1", "", "."] {
            let error = resolve(version, Arch::X86_64, false)
                .unwrap_err()
                .to_string();
            assert!(error.contains("is no kernel"), "{error}");
        }
    }
}
