/*!
Where the checked-in object came from: the record beside it, and the digest of
its sources, by which a plain `cargo test` notices a stale object.
*/
use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::paths;

/// The checked-in object, from the workspace's root.
pub(super) const OBJECT: &str = "tracer-ebpf/object/tracer.bpf.o";

/// The record beside it.
pub(super) const FILE: &str = "tracer-ebpf/object/provenance.json";

/// What built an object, out of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Provenance {
    /// SHA-256 of the object, hexadecimal.
    pub(super) object_sha256: String,
    /// [`sources_digest`] of what it was built from.
    pub(super) sources_sha256: String,
    /// First line of `rustc --version --verbose`.
    pub(super) rustc: String,
    /// LLVM of the compiler; the linker uses the same library.
    pub(super) llvm: String,
    /// What `bpf-linker --version` says.
    pub(super) linker: String,
    /// The command, without what depends on the machine.
    pub(super) command: String,
    /// The compiler's flags, without what depends on the machine.
    pub(super) flags: Vec<String>,
}

impl Provenance {
    /// The record in the tree; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(super) fn read() -> Result<Option<Self>> {
        let file = paths::root().join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{FILE} is malformed: run: cargo xtask ebpf"))
    }

    /// Writes the record into the tree.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("spelling the provenance as JSON")?;
        fs::write(paths::root().join(FILE), text + "\n").with_context(|| format!("writing {FILE}"))
    }

    /// One sentence for each tool that differs between `self`, the record, and
    /// `fresh`.
    pub(super) fn other_tools(&self, fresh: &Self) -> Vec<String> {
        [
            ("compiler", &self.rustc, &fresh.rustc),
            ("LLVM", &self.llvm, &fresh.llvm),
            ("linker", &self.linker, &fresh.linker),
        ]
        .into_iter()
        .filter(|(_, recorded, here)| recorded != here)
        .map(|(tool, recorded, here)| format!("{tool}: {recorded} is recorded, {here} is here"))
        .collect()
    }
}

/// Checks that the record, the object and the sources in the tree belong
/// together, and returns the record.
///
/// # Errors
///
/// When they do not: the sentence names the command to run.
pub(super) fn verify() -> Result<Provenance> {
    let Some(recorded) = Provenance::read()? else {
        bail!("{FILE} does not exist: run: cargo xtask ebpf");
    };
    let object = fs::read(paths::root().join(OBJECT))
        .with_context(|| format!("reading {OBJECT}: run: cargo xtask ebpf"))?;
    if recorded.object_sha256 != sha256(&object) {
        bail!("{OBJECT} is not the object {FILE} describes: run: cargo xtask ebpf");
    }
    if recorded.sources_sha256 != sources_digest(paths::root())? {
        bail!("{OBJECT} is stale, its sources have changed since: run: cargo xtask ebpf");
    }
    Ok(recorded)
}

/// SHA-256 of `bytes`, hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

/// One digest over everything in the tree that decides the object's bytes: the
/// kernel side's files, the versions of the crates that only it compiles, and
/// the way it is built. Macro helpers such as `syn` are left out: updating one
/// should not make an object stale whose bytes stay the same, and
/// `cargo xtask ebpf --check` compares those anyway.
///
/// # Errors
///
/// When a file cannot be read or `Cargo.lock` is malformed.
pub(super) fn sources_digest(root: &Path) -> Result<String> {
    let package = root.join("tracer-ebpf");
    let mut files = vec![package.join("Cargo.toml")];
    collect(&package.join("src"), &mut files)?;
    files.sort();
    let mut digest = Sha256::new();
    let mut add = |name: &str, bytes: &[u8]| {
        // With the length in front, no two different trees give the same bytes.
        digest.update(format!("{name}\0{}\0", bytes.len()));
        digest.update(bytes);
    };
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy();
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        add(&name, &bytes);
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("reading Cargo.lock")?;
    for (name, version) in kernel_crates(&lock)? {
        add(&name, version.as_bytes());
    }
    add("command", super::build::COMMAND.join(" ").as_bytes());
    add("flags", super::build::FLAGS.join(" ").as_bytes());
    Ok(hexadecimal(digest))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", dir.display()))?;
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Names and versions of the aya crates that the eBPF object is made of.
fn kernel_crates(lock: &str) -> Result<Vec<(String, String)>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let Lock { package } = toml::from_str(lock).context("parsing Cargo.lock")?;
    let prefixes = ["aya-ebpf", "aya-log-ebpf", "aya-log-common"];
    let mut crates: Vec<_> = package
        .into_iter()
        .filter(|package| {
            prefixes
                .iter()
                .any(|prefix| package.name.starts_with(prefix))
        })
        .map(|Package { name, version }| (name, version))
        .collect();
    crates.sort();
    if crates.is_empty() {
        bail!("looked for the aya-ebpf crates in Cargo.lock and found none");
    }
    Ok(crates)
}

fn hexadecimal(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{kernel_crates, sha256, sources_digest, verify};

    #[test]
    fn the_checked_in_object_is_up_to_date() {
        if let Err(error) = verify() {
            panic!("{error:#}");
        }
    }

    #[test]
    fn a_digest_is_spelled_in_hexadecimal() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn only_the_crates_of_the_kernel_side_count() {
        let lock = r#"
            version = 4
            [[package]]
            name = "syn"
            version = "2.0.0"
            [[package]]
            name = "aya-log-ebpf"
            version = "0.2.0"
            [[package]]
            name = "aya"
            version = "0.14.0"
            [[package]]
            name = "aya-ebpf"
            version = "0.2.1"
        "#;
        let crates = kernel_crates(lock).unwrap();
        let crates: Vec<_> = crates
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(crates, [("aya-ebpf", "0.2.1"), ("aya-log-ebpf", "0.2.0")]);
        assert!(kernel_crates("package = []").is_err());
    }

    #[test]
    fn any_change_of_a_source_changes_the_digest() {
        let tree = tempfile::tempdir().unwrap();
        let package = tree.path().join("tracer-ebpf");
        fs::create_dir_all(package.join("src/deep")).unwrap();
        fs::write(package.join("Cargo.toml"), "[package]").unwrap();
        fs::write(package.join("src/main.rs"), "fn main() {}").unwrap();
        fs::write(package.join("src/deep/state.rs"), "one").unwrap();
        let lock = |version: &str| {
            let text = format!("[[package]]\nname = \"aya-ebpf\"\nversion = \"{version}\"\n");
            fs::write(tree.path().join("Cargo.lock"), text).unwrap();
        };
        lock("1");
        let mut digests = vec![sources_digest(tree.path()).unwrap()];
        assert_eq!(sources_digest(tree.path()).unwrap(), digests[0]);
        lock("2");
        digests.push(sources_digest(tree.path()).unwrap());
        fs::write(package.join("src/deep/state.rs"), "two").unwrap();
        digests.push(sources_digest(tree.path()).unwrap());
        fs::rename(package.join("src/deep"), package.join("src/other")).unwrap();
        digests.push(sources_digest(tree.path()).unwrap());
        fs::write(package.join("Cargo.toml"), "[package] ").unwrap();
        digests.push(sources_digest(tree.path()).unwrap());
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 5);
    }
}
