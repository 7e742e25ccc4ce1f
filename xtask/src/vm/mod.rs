/*!
`cargo xtask vm`: boots Debian's kernels in qemu and runs the end-to-end tests,
or a command, inside.
*/
mod guest;
mod initramfs;
mod kernel;
mod programs;

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    apt::{self, Package},
    exec::{capture, spelled},
    paths,
    test::Skips,
};
use guest::Machine;
use initramfs::Payload;

/// What makes and boots a guest.
const PACKAGES: &[Package] = &[
    Package {
        name: "qemu-system-x86",
        proof: "qemu-system-x86_64",
    },
    Package {
        name: "busybox-static",
        proof: "busybox",
    },
    Package {
        name: "cpio",
        proof: "cpio",
    },
    Package {
        name: "xz-utils",
        proof: "xz",
    },
];

/// The test target that runs in the guest.
const TESTS: &str = "e2e";

/// What to boot and what to run in it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Versions of Debian's kernels: 5.10, 6.1, 6.12 or newer
    #[arg(default_value = "6.12", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Builds tracer and its tests optimised
    #[arg(long)]
    release: bool,
    /// Seconds that a guest may take from power-on to power-off
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Memory of a guest in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Processors of a guest
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Accelerator of qemu; plain emulation works everywhere
    #[arg(long, default_value = "tcg")]
    accel: String,
    /// Further arguments of the kernel, such as lockdown=confidentiality
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Arguments of the tests, separated by spaces
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    bin_args: String,
    /// Fails when a test was skipped in a guest, for whatever reason
    #[arg(long)]
    no_skips: bool,
    /// Looks for a newer package of a kernel that was already fetched
    #[arg(long)]
    refresh: bool,
    /// Runs this in the guest instead of the tests; `tracer` is in its PATH
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
///
/// When a guest cannot be made or booted, is stuck, or what ran in it failed.
pub(crate) fn run(options: Options) -> Result<()> {
    let Options {
        kernels,
        release,
        timeout,
        memory,
        cpus,
        accel,
        append,
        bin_args,
        no_skips,
        refresh,
        command,
    } = options;
    if std::env::consts::ARCH != "x86_64" {
        bail!("cargo xtask vm boots x86-64 kernels and what was built for them; run it on x86-64");
    }
    apt::ensure(PACKAGES, "booting a kernel in qemu")?;
    let payload = payload(release, command, &bin_args)?;
    let machine = Machine {
        memory,
        cpus,
        accel,
        append,
        deadline: Duration::from_secs(timeout),
    };
    let mut failed = Vec::new();
    for version in &kernels {
        let kernel = kernel::resolve(version, refresh)?;
        let image = initramfs::build(&kernel, &payload)?;
        println!("vm: {} runs {}", kernel.release, payload.spelled());
        let mut skips = Skips::default();
        let status = machine.run(&kernel.image, &image, |line| skips.read(line))?;
        skips.list();
        println!("vm: {}: exit status {status}", kernel.release);
        if status != 0 {
            failed.push(format!("{} (exit status {status})", kernel.release));
        } else if no_skips && skips.count() > 0 {
            failed.push(format!("{} ({} skipped)", kernel.release, skips.count()));
        }
    }
    if !failed.is_empty() {
        bail!("{} failed on {}", payload.spelled(), failed.join(", "));
    }
    Ok(())
}

/// Builds what the guest runs.
fn payload(release: bool, command: Vec<String>, bin_args: &str) -> Result<Payload> {
    let profile = release.then_some("--release");
    if !command.is_empty() {
        let built = build(&["build", "--package", "tracer", "--bins"], profile)?;
        return Ok(Payload {
            tracer: executable(&built, "bin", "tracer")?,
            tests: None,
            command,
        });
    }
    let arguments = ["test", "--no-run", "--package", "tracer", "--test", TESTS];
    let built = build(&arguments, profile)?;
    let tests = executable(&built, "test", TESTS)?;
    // The skips are in the tests' output.
    let mut command = vec![
        tests.to_string_lossy().into_owned(),
        "--nocapture".to_owned(),
    ];
    command.extend(bin_args.split_whitespace().map(str::to_owned));
    Ok(Payload {
        tracer: executable(&built, "bin", "tracer")?,
        tests: Some(tests),
        command,
    })
}

fn build(arguments: &[&str], profile: Option<&str>) -> Result<String> {
    let mut command = Command::new(paths::cargo());
    command
        .args(arguments)
        .args(profile)
        .args(["--locked", "--message-format=json-render-diagnostics"])
        .current_dir(paths::root());
    eprintln!("+ {}", spelled(&command));
    capture(&mut command)
}

/// A message of cargo's about something it built.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

/// The executable called `name` among cargo's messages.
fn executable(messages: &str, kind: &str, name: &str) -> Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|built| built.target.name == name && built.target.kind.iter().any(|k| k == kind))
        .find_map(|built| built.executable)
        .with_context(|| format!("cargo built no {kind} called {name}"))
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn the_executable_is_told_from_the_library_of_the_same_name() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"tracer"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"tracer"},"executable":"/t/tracer"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = executable(messages, "bin", "tracer").unwrap();
        assert_eq!(found, std::path::Path::new("/t/tracer"));
        let error = executable(messages, "test", "e2e").unwrap_err();
        assert_eq!(error.to_string(), "cargo built no test called e2e");
    }
}
