/*!
`cargo xtask test`: runs every test, then says which of them could not run on
this machine and why.
*/
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{IsTerminal as _, stderr},
    iter,
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    apt::{self, Package},
    exec::watch,
    paths,
};

/// What the end-to-end scenarios compare tracer with, and the real programs they trace.
pub(crate) const SCENARIO_PACKAGES: &[Package] = &[
    Package {
        name: "iproute2",
        proof: "ss",
    },
    Package {
        name: "bpftool",
        proof: "bpftool",
    },
    Package {
        name: "postgresql",
        // Its programs lie in a folder of the version's.
        proof: "/var/lib/dpkg/info/postgresql.list",
    },
    Package {
        name: "pgbouncer",
        proof: "pgbouncer",
    },
    Package {
        name: "nats-server",
        proof: "nats-server",
    },
];

/// Words in the reason of a skip that this machine's kernel, not its set-up,
/// is answerable for. Such a test runs on other kernels: `cargo xtask vm`.
const KERNEL_REASONS: &[&str] = &[
    "trampoline",
    "needs Linux",
    "this kernel",
    "needs a virtual machine",
];

/// How to run the tests.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Installs with apt what the end-to-end scenarios need; as root, on Debian.
    /// Without it they use what is there and say what they skip
    #[arg(long)]
    setup: bool,
    /// Fails when a test was skipped for any reason but a kernel that cannot run it
    #[arg(long)]
    no_skips: bool,
    /// Given to `cargo test`; after a further `--`, to the tests
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
///
/// When the set-up, a test, or the demand to skip none fails.
pub(crate) fn run(options: Options) -> Result<()> {
    let Options {
        setup,
        no_skips,
        arguments,
    } = options;
    if setup {
        apt::ensure(SCENARIO_PACKAGES, "the end-to-end tests' set-up")?;
    }
    Suite {
        arguments: &arguments,
        variables: &[],
        no_skips,
    }
    .run()
}

/// One run of the tests.
pub(crate) struct Suite<'a> {
    /// For `cargo test`; those after a `--`, for the tests.
    pub(crate) arguments: &'a [String],
    /// Environment of `cargo test`.
    pub(crate) variables: &'a [(&'a str, &'a OsStr)],
    /// Whether a skip that is not the kernel's fault is a failure.
    pub(crate) no_skips: bool,
}

impl Suite<'_> {
    /// Runs it and lists what was skipped.
    ///
    /// # Errors
    ///
    /// When a test fails, or was skipped against [`Suite::no_skips`].
    pub(crate) fn run(&self) -> Result<()> {
        let mut command = Command::new(paths::cargo());
        command
            .args(cargo_test(self.arguments))
            .current_dir(paths::root())
            .envs(self.variables.iter().copied());
        if stderr().is_terminal() {
            // The output passes through us, so cargo sees no terminal.
            command.env("CARGO_TERM_COLOR", "always");
        }
        let mut skips = Skips::default();
        let done = watch(&mut command, &mut |line| skips.read(line));
        skips.list();
        done?;
        let machine = skips.by_machine();
        if self.no_skips && machine > 0 {
            bail!(
                "{machine} of the tests were skipped that should run on this machine: see the list above, \
                 run as root, and with --setup"
            );
        }
        Ok(())
    }
}

/// The tests that said they could not run, gathered from their output.
#[derive(Debug, Default)]
pub(crate) struct Skips(BTreeSet<Skip>);

impl Skips {
    /// Looks for a skip in one line of output.
    pub(crate) fn read(&mut self, line: &str) {
        self.0.extend(skipped(line));
    }

    /// Each test and its reason.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|skip| (skip.test.as_str(), skip.reason.as_str()))
    }

    /// How many of them a better set-up would have run.
    pub(crate) fn by_machine(&self) -> usize {
        self.0.iter().filter(|skip| !skip.by_kernel()).count()
    }

    /// Prints them, by what is answerable for them.
    pub(crate) fn list(&self) {
        for (title, by_kernel) in [
            ("Skipped, this kernel cannot run them:", true),
            ("Skipped, this machine is not set up for them:", false),
        ] {
            let mut skips = self.0.iter().filter(|skip| skip.by_kernel() == by_kernel);
            if let Some(first) = skips.next() {
                println!("{title}");
                for Skip { test, reason } in iter::once(first).chain(skips) {
                    println!("  {test}: {reason}");
                }
            }
        }
    }
}

/// The arguments of cargo: `test`, the whole workspace unless packages are
/// named, and the tests' output shown, since the skips are in it.
fn cargo_test(arguments: &[String]) -> Vec<String> {
    let split = arguments.iter().position(|argument| argument == "--");
    let (cargo, tests) = match split {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let packages = cargo
        .iter()
        .any(|argument| argument == "-p" || argument.starts_with("--package"));
    let mut all = vec!["test".to_owned()];
    if !packages {
        all.push("--workspace".to_owned());
    }
    all.extend_from_slice(cargo);
    all.extend(["--".to_owned(), "--nocapture".to_owned()]);
    all.extend_from_slice(tests);
    all
}

/// A test that said it could not run.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Skip {
    test: String,
    reason: String,
}

impl Skip {
    fn by_kernel(&self) -> bool {
        KERNEL_REASONS
            .iter()
            .any(|words| self.reason.contains(words))
    }
}

/// Reads `skipping <test>: <reason>`, also behind the `test <name> ... ` that
/// the harness leaves open on the same line when it runs one test at a time.
fn skipped(line: &str) -> Option<Skip> {
    let said = match line.split_once(" ... ") {
        Some((before, after)) if before.starts_with("test ") => after,
        _ => line,
    };
    let (test, reason) = said.strip_prefix("skipping ")?.split_once(": ")?;
    let one_word = !test.is_empty() && !test.contains(char::is_whitespace);
    one_word.then(|| Skip {
        test: test.to_owned(),
        reason: reason.trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Skip, cargo_test, skipped};

    fn skip(test: &str, reason: &str) -> Option<Skip> {
        Some(Skip {
            test: test.to_owned(),
            reason: reason.to_owned(),
        })
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn skips_are_found_in_the_output() {
        assert_eq!(
            skipped("skipping ports_exhausted: not root"),
            skip("ports_exhausted", "not root")
        );
        assert_eq!(
            skipped("test connect::refused ... skipping connect::refused: no ss: install iproute2"),
            skip("connect::refused", "no ss: install iproute2")
        );
        assert_eq!(skipped("skipping the rest of it: nothing left"), None);
        assert_eq!(skipped("test skipping_is_listed ... ok"), None);
    }

    #[test]
    fn only_the_kernel_excuses_a_skip() {
        let by_kernel = |reason| skip("a", reason).unwrap().by_kernel();
        assert!(by_kernel("the kernel refuses trampoline programs (EPERM)"));
        assert!(by_kernel("needs Linux 5.12"));
        assert!(!by_kernel("not root"));
    }

    #[test]
    fn arguments_go_to_cargo_and_to_the_tests() {
        assert_eq!(
            cargo_test(&words("--release -- --exact name")),
            words("test --workspace --release -- --nocapture --exact name")
        );
        assert_eq!(
            cargo_test(&words("-p tracer")),
            words("test -p tracer -- --nocapture")
        );
    }
}
