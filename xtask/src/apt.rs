/*!
Debian packages: what is missing is installed where that is possible, and
named where it is not.
*/
use std::{path::Path, process::Command, sync::OnceLock};

use anyhow::{Result, bail};

use crate::{exec::exec, paths};

/// A package and the file or program that shows it is installed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// Name in the archive.
    pub(crate) name: &'static str,
    /// An absolute path, or a program to find in `PATH`.
    pub(crate) proof: &'static str,
}

impl Package {
    fn is_installed(&self) -> bool {
        if self.proof.starts_with('/') {
            Path::new(self.proof).exists()
        } else {
            paths::program(self.proof).is_some()
        }
    }
}

/// The packages of `wanted` that are not there.
pub(crate) fn missing(wanted: &[Package]) -> Vec<&'static str> {
    wanted
        .iter()
        .filter(|package| !package.is_installed())
        .map(|package| package.name)
        .collect()
}

/// Installs the packages of `wanted` that are not there.
///
/// # Errors
///
/// When some are missing and this is not Debian, or not root: the sentence
/// says what to install. When apt fails.
pub(crate) fn ensure(wanted: &[Package], purpose: &str) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if paths::program("apt-get").is_none() {
        bail!(
            "{purpose} needs the Debian packages {names}, and this machine has no apt-get: \
             install what they hold by its own means"
        );
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "{purpose} needs the Debian packages {names}, and only root may install them: \
             run apt-get install {names}"
        );
    }
    update()?;
    exec(
        Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Reads the archive's package lists, once a run.
///
/// # Errors
///
/// When apt fails.
pub(crate) fn update() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_none() {
        exec(Command::new("apt-get").args(["update", "--quiet"]))?;
        DONE.get_or_init(|| ());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Package, missing};

    #[test]
    fn only_what_is_not_there_is_missing() {
        let there = Package {
            name: "dash",
            proof: "sh",
        };
        let file = Package {
            name: "base-files",
            proof: "/etc",
        };
        let absent = Package {
            name: "ghost",
            proof: "/nonexistent/ghost",
        };
        assert_eq!(missing(&[there, absent, file]), ["ghost"]);
    }
}
