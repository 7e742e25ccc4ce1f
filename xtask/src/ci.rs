/*!
`cargo xtask ci`: every check a change has to pass, in one command.
*/
use std::{process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    exec::{capture, exec},
    paths, readme, rooms,
};

/// The oldest kernel and the newest, each with both backends.
const KERNELS: &[&str] = &["5.10", "newest"];

/// What the tests leave out there: areas whose code asks nothing of a kernel that the others do not
/// ask too, and those that a slow machine decides. Emulated they would take longer than all else.
const LEFT_OUT: &str = "--skip cli:: --skip demo:: --skip run:: --skip pools:: --skip snapshot:: \
                        --skip storm:: --skip stories:: --skip hostile:: --skip agree::";

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leaves out the runs on other kernels in qemu
    #[arg(long)]
    no_vm: bool,
}

/// One check: passes, or says what is wrong.
type Check = fn() -> Result<()>;

/// Runs the verb.
///
/// # Errors
///
/// At the first check that fails.
pub(crate) fn run(options: Options) -> Result<()> {
    let Options { no_vm } = options;
    let checks: &[(&str, Check)] = &[
        ("the toolchain's components", components),
        ("formatting", || cargo(&["fmt", "--all", "--", "--check"])),
        ("the rooms' edges", rooms::check),
        ("lints, kernel side included", || {
            let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--"];
            cargo(&[&clippy[..], &["-D", "warnings"]].concat())
        }),
        ("the eBPF object", || cargo(&["xtask", "ebpf", "--check"])),
        ("tests", || {
            cargo(&["xtask", "test", "--setup", "--no-skips"])
        }),
        ("commands in README.md", readme::check),
        ("README.md's first command", readme::first),
        ("a second build compiles nothing", no_op_build),
        ("the oldest kernel and the newest", || {
            let vm = ["xtask", "vm", "--no-skips", "--bin-args", LEFT_OUT];
            cargo(&[&vm[..], KERNELS].concat())
        }),
    ];
    let checks = &checks[..checks.len() - usize::from(no_vm)];
    let start = Instant::now();
    for (number, (name, check)) in checks.iter().enumerate() {
        let number = number + 1;
        println!(
            "ci [{number}/{}] {name} ({} s so far)",
            checks.len(),
            start.elapsed().as_secs()
        );
        check().with_context(|| format!("check {number}, {name}, failed"))?;
    }
    println!(
        "ci: all {} checks passed in {} s",
        checks.len(),
        start.elapsed().as_secs()
    );
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    exec(
        Command::new(paths::cargo())
            .args(arguments)
            .current_dir(paths::root()),
    )
}

/// A minimal rustup profile has neither rustfmt nor clippy.
fn components() -> Result<()> {
    let has = |verb| {
        let output = Command::new(paths::cargo())
            .args([verb, "--version"])
            .output();
        output.is_ok_and(|output| output.status.success())
    };
    if has("fmt") && has("clippy") {
        return Ok(());
    }
    if paths::program("rustup").is_none() {
        bail!(
            "cargo fmt or cargo clippy is missing, and there is no rustup to add it: install both"
        );
    }
    exec(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))
}

/// A message of cargo's about one compiled unit; other messages have no
/// `fresh`.
#[derive(Deserialize)]
struct Unit {
    package_id: String,
    fresh: bool,
}

/// Builds twice: the second time nothing may be compiled.
fn no_op_build() -> Result<()> {
    let build = || {
        let mut command = Command::new(paths::cargo());
        command.args(["build", "--locked", "--message-format=json"]);
        capture(command.current_dir(paths::root()))
    };
    build()?;
    let again = compiled(&build()?);
    if !again.is_empty() {
        bail!(
            "an unchanged tree was compiled again: {}; look for a build script's rerun-if or a changing variable",
            again.join(", ")
        );
    }
    Ok(())
}

/// The packages that were compiled anew, out of cargo's messages.
fn compiled(messages: &str) -> Vec<String> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Unit>(line).ok())
        .filter(|unit| !unit.fresh)
        .map(|unit| unit.package_id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::compiled;

    #[test]
    fn only_stale_units_count_as_compiled() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","package_id":"a","fresh":true}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"b","fresh":false}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(compiled(messages), ["b"]);
    }
}
