/*!
The daemons of the end-to-end scenarios, such as PostgreSQL, in the guest: the
files of their Debian packages with the libraries they ask for, and the
accounts they run as.

Only a run that has such a scenario pays for them: together they are larger
than all else in the guest.
*/
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::initramfs::{PEERS, Payload, copy, libraries};
use crate::{
    apt,
    exec::{capture, spelled},
    test::SCENARIO_PACKAGES,
};

/// How the names of the scenarios begin that start daemons.
const SCENARIOS: &str = "stories::";

/// The accounts that the packages make for their daemons.
const ACCOUNTS: &[&str] = &["postgres", "nats"];

/// Parts of the names of files that no daemon reads. What compiles queries
/// alone would bring all of LLVM; PostgreSQL does without.
const LEFT_OUT: &[&str] = &[
    "/doc/",
    "/man/",
    "/locale/",
    "/lintian/",
    "/systemd/",
    "/init.d/",
    "/pgxs/",
    "/bitcode/",
    "/llvmjit",
];

/// Copies the daemons below `tree`, and adds their accounts to the ones it
/// has, when a scenario of `payload` starts them. What this machine lacks of
/// their packages is installed first.
///
/// # Errors
///
/// When the tests cannot be listed, a package cannot be installed or a file
/// not copied.
pub(super) fn pack(payload: &Payload, tree: &Path) -> Result<()> {
    // Another architecture's tests cannot be asked here, nor its packages be installed.
    if !payload.lists_scenarios
        || payload.cross.is_some()
        || !has_daemons(&scenarios(&payload.command)?)
    {
        return Ok(());
    }
    apt::ensure(SCENARIO_PACKAGES, "running the scenarios in a guest")?;
    let mut programs = Vec::new();
    for file in files()? {
        let target = inside(tree, &file);
        if file.is_dir() {
            // Comes with its files. /lib, a link on this machine, is a folder in the guest.
        } else if file.is_symlink() {
            let to = fs::read_link(&file).with_context(|| format!("reading {}", file.display()))?;
            fs::create_dir_all(target.parent().unwrap_or(tree))
                .and_then(|()| symlink(to, &target))
                .with_context(|| format!("linking {} in the guest", file.display()))?;
        } else if file.is_file() {
            copy(&file, &target)?;
            if is_elf(&file)? {
                programs.push(file);
            }
        }
    }
    for library in libraries_of(&programs)? {
        let target = inside(tree, &library);
        if !target.exists() {
            copy(&library, &target)?;
        }
    }
    for list in ["etc/passwd", "etc/group"] {
        let known = fs::read_to_string(Path::new("/").join(list))
            .with_context(|| format!("reading /{list}"))?;
        fs::OpenOptions::new()
            .append(true)
            .open(tree.join(list))
            .and_then(|mut file| file.write_all(accounts(&known).as_bytes()))
            .with_context(|| format!("adding accounts to the guest's {list}"))?;
    }
    Ok(())
}

/// What the tests say they would run, one scenario a line.
fn scenarios(tests: &[String]) -> Result<String> {
    let [program, arguments @ ..] = tests else {
        bail!("looked for the scenarios of a guest that runs nothing");
    };
    capture(Command::new(program).args(arguments).arg("--list"))
}

fn has_daemons(scenarios: &str) -> bool {
    scenarios.lines().any(|line| line.starts_with(SCENARIOS))
}

/// The files of the packages whose programs are not taken along one by one.
fn files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let packages = SCENARIO_PACKAGES.iter();
    for package in packages.filter(|package| !PEERS.contains(&package.proof)) {
        let name = package.name;
        let depends =
            capture(Command::new("dpkg-query").args(["--show", "--showformat=${Depends}", name]))?;
        for name in versions(name, &depends).into_iter().chain([name]) {
            let listed = capture(Command::new("dpkg").args(["--listfiles", name]))?;
            files.extend(
                listed
                    .lines()
                    .filter(|file| is_needed(file))
                    .map(PathBuf::from),
            );
        }
    }
    Ok(files)
}

/// The packages that `package`, without programs of its own, stands for: as
/// `postgresql-15` for `postgresql`.
fn versions<'a>(package: &str, depends: &'a str) -> Vec<&'a str> {
    let names = depends
        .split([',', '|'])
        .filter_map(|one| one.split_whitespace().next());
    let is_version = |name: &&str| {
        let version = name
            .strip_prefix(package)
            .and_then(|rest| rest.strip_prefix('-'));
        version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
    };
    names.filter(is_version).collect()
}

fn is_needed(file: &str) -> bool {
    !LEFT_OUT.iter().any(|part| file.contains(part))
}

fn inside(tree: &Path, file: &Path) -> PathBuf {
    tree.join(file.strip_prefix("/").unwrap_or(file))
}

fn is_elf(file: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(file)
        .and_then(|file| file.take(4).read_to_end(&mut start))
        .with_context(|| format!("reading {}", file.display()))?;
    Ok(start == *b"\x7fELF")
}

/// The libraries of all of `programs`.
fn libraries_of(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut command = Command::new("ldd");
    // Its status says no more than that one of them is static.
    let listed = command.args(programs).output().context("starting ldd")?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    if let Some(line) = listed.lines().find(|line| line.ends_with("=> not found")) {
        bail!("{} found no {}", spelled(&command), line.trim());
    }
    Ok(libraries(&listed).into_iter().collect())
}

/// The lines of `known`, a passwd or group file, that are about [`ACCOUNTS`].
fn accounts(known: &str) -> String {
    let named = |line: &&str| {
        let name = line.split(':').next();
        name.is_some_and(|name| ACCOUNTS.contains(&name))
    };
    known
        .lines()
        .filter(named)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{accounts, has_daemons, is_needed, versions};

    #[test]
    fn only_some_scenarios_start_daemons() {
        assert!(has_daemons("cli::help: test\nstories::more: test\n"));
        assert!(!has_daemons("cli::tells_stories::twice: test\n"));
        assert!(!has_daemons("\n0 tests, 0 benchmarks\n"));
    }

    #[test]
    fn a_package_stands_for_its_versions() {
        assert_eq!(versions("postgresql", "postgresql-15"), ["postgresql-15"]);
        let depends = "init-system-helpers (>= 1.54~), postgresql-common, \
                       postgresql-17 (>= 17.1) | postgresql-18, nats-server-2";
        assert_eq!(
            versions("postgresql", depends),
            ["postgresql-17", "postgresql-18"]
        );
    }

    #[test]
    fn what_daemons_never_read_is_left_out() {
        assert!(is_needed("/usr/lib/postgresql/15/bin/postgres"));
        assert!(is_needed("/usr/share/postgresql/15/timezonesets/Default"));
        assert!(!is_needed("/usr/share/postgresql/15/man/man1/initdb.1.gz"));
        assert!(!is_needed("/usr/lib/postgresql/15/lib/llvmjit.so"));
        assert!(!is_needed(
            "/usr/lib/postgresql/15/lib/bitcode/postgres.index.bc"
        ));
    }

    #[test]
    fn accounts_are_told_by_their_whole_names() {
        let known = "root:x:0:0::/root:/bin/sh\npostgres:x:101:104::/:/bin/sh\nnatsume:x:9:9:::\n";
        assert_eq!(accounts(known), "postgres:x:101:104::/:/bin/sh\n");
    }
}
