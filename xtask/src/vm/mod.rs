/*!
`cargo xtask vm`: boots Debian's kernels in qemu and runs the end-to-end tests,
once with each backend, or a command, inside.
*/
mod arch;
mod cross;
mod guest;
mod initramfs;
mod kernel;
mod matrix;
mod page;
mod programs;

use std::{
    collections::BTreeMap,
    fmt, fs,
    num::NonZeroUsize,
    path::PathBuf,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    apt::{self, Package},
    exec::{capture, spelled},
    paths,
};
use arch::Arch;
use cross::Cross;
use guest::{Boot, Machine};
use initramfs::Payload;
use kernel::Kernel;
use matrix::{Guest, Said};

/// What is in a guest of this machine's architecture besides tracer and its tests.
const BUSYBOX: Package = Package {
    name: "busybox-static",
    proof: "busybox",
};

/// The test target that runs in the guest.
const TESTS: &str = "e2e";

/// The bench that runs in the guest if asked for.
const BENCH: &str = "live";

/// The variable that chooses the backend of every tracer a guest runs.
const BACKEND: &str = "TRACER_BACKEND";

/// The variable that leaves out areas which try each backend by themselves: where a kernel boots
/// once for each, once is enough.
const ONCE: &str = "E2E_SKIP=agree::,hostile::";

/// What to boot and what to run in it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Debian's kernels: 5.10, 6.1, 6.12, any newer version there is, or the names
    /// `newest` (of the backports) and `unstable`
    #[arg(default_value = "6.12", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Architecture of the guests; this machine's, if not given. For another one tracer and its
    /// tests are built on this machine, with what Debian has for that
    #[arg(long)]
    arch: Option<Arch>,
    /// Backends to run the tests with, one boot each; `auto` leaves the choice to tracer.
    /// Both for the tests, `auto` for a command, if not given
    #[arg(long, value_delimiter = ',', value_name = "BACKEND")]
    backends: Vec<Backend>,
    /// Guests that run at a time; as many as there are processors, if not given
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Builds tracer and its tests for debugging; emulated, they take twice as long
    #[arg(long)]
    debug: bool,
    /// Seconds that a guest may take from power-on to power-off
    #[arg(long, default_value_t = 2400)]
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
    /// Runs the bench of `cargo xtask bench live` instead of the tests. Emulated, a nanosecond is
    /// an instruction
    #[arg(long, conflicts_with_all = ["command", "page", "no_skips"])]
    bench: bool,
    /// Fails when a test was skipped in a guest for anything but its kernel
    #[arg(long)]
    no_skips: bool,
    /// Looks for a newer package of a kernel that was already fetched
    #[arg(long)]
    refresh: bool,
    /// Writes docs/kernels.md anew from what the tests said; only when all passed
    #[arg(long, conflicts_with_all = ["arch", "bin_args", "command"])]
    page: bool,
    /// Runs this in the guest instead of the tests; `tracer` is in its PATH
    #[arg(last = true)]
    command: Vec<String>,
}

/// Which backend the tracers of a guest use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    /// The best there is, hook by hook.
    Auto,
    /// Trampolines, or it fails.
    Trampoline,
    /// Tracepoints only.
    Tracepoint,
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Trampoline => "trampoline",
            Self::Tracepoint => "tracepoint",
        })
    }
}

/// Runs the verb.
///
/// # Errors
///
/// When a guest cannot be made or booted, is stuck, or what ran in it failed.
pub(crate) fn run(options: Options) -> Result<()> {
    let own = Arch::own();
    let arch = options.arch.or(own).context(
        "cargo xtask vm boots kernels of x86-64 and aarch64, this machine is neither: give --arch aarch64",
    )?;
    let mut packages = arch.packages();
    let cross = if own == Some(arch) {
        packages.push(BUSYBOX);
        None
    } else {
        Some(Cross::prepare(arch, options.refresh)?)
    };
    apt::ensure(&packages, "booting a kernel in qemu")?;
    let tests = options.command.is_empty() && !options.bench;
    let payload = payload(&options, cross)?;
    let mut kernels: Vec<(Kernel, PathBuf)> = Vec::new();
    for version in &options.kernels {
        let kernel = kernel::resolve(version, arch, options.refresh)?;
        if kernels
            .iter()
            .all(|(other, _)| other.release != kernel.release)
        {
            let image = initramfs::build(&kernel, &payload)?;
            kernels.push((kernel, image));
        }
    }
    let backends = match (&options.backends[..], tests) {
        ([], true) => &[Backend::Trampoline, Backend::Tracepoint][..],
        ([], false) => &[Backend::Auto],
        (backends, _) => backends,
    };
    let runs: Vec<_> = kernels
        .iter()
        .flat_map(|kernel| backends.iter().map(move |&backend| (kernel, backend)))
        // Asked for by name, the backend is tried all the same.
        .filter(|((kernel, _), backend)| {
            let all = !options.backends.is_empty();
            all || *backend != Backend::Trampoline || !kernel.lacks_trampolines()
        })
        .collect();
    let mut guests = all(&options, arch, &payload, &runs)?;
    guests.sort_by_key(Guest::numbers);
    if tests {
        println!("\n{}", matrix::tables(&guests));
    }
    let faults: Vec<_> = guests
        .iter()
        .filter_map(|guest| {
            let fault = guest.fault(options.no_skips)?;
            Some(format!("{} {}: {fault}", guest.release, guest.backend))
        })
        .collect();
    if !faults.is_empty() {
        bail!(
            "{} failed in {} of {} guests:\n  {}",
            payload.spelled(),
            faults.len(),
            guests.len(),
            faults.join("\n  ")
        );
    }
    if options.page {
        page::write(&guests)?;
    }
    Ok(())
}

/// Boots every guest, several at a time, and returns how each ended, in order.
fn all(
    options: &Options,
    arch: Arch,
    payload: &Payload,
    runs: &[(&(Kernel, PathBuf), Backend)],
) -> Result<Vec<Guest>> {
    let machine = Machine {
        arch,
        memory: options.memory,
        cpus: options.cpus,
        accel: options.accel.clone(),
        append: options.append.clone(),
        deadline: Duration::from_secs(options.timeout),
    };
    let consoles = paths::target().join("vm/consoles");
    fs::create_dir_all(&consoles).with_context(|| format!("making {}", consoles.display()))?;
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let jobs = options.jobs.unwrap_or(cores).get().min(runs.len());
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(&((kernel, image), backend)) = runs.get(index)
                {
                    let name = format!("{} {backend}", kernel.version());
                    println!("vm: {name} runs {}", payload.spelled());
                    let prefix = match runs.len() {
                        1 => String::new(),
                        _ => format!("{name} | "),
                    };
                    let environment = environment(runs, kernel, backend);
                    let boot = Boot {
                        kernel: &kernel.image,
                        initramfs: image,
                        environment: &environment,
                        console: &consoles.join(format!("{}-{backend}.log", kernel.release)),
                        prefix: &prefix,
                    };
                    let mut said = Said::default();
                    let start = Instant::now();
                    let status = machine.run(&boot, |line| said.read(line));
                    let status = status.map_err(|error| format!("{error:#}"));
                    let took = start.elapsed();
                    match &status {
                        Ok(code) => println!("vm: {name}: exit status {code}"),
                        Err(error) => println!("vm: {name}: {error}"),
                    }
                    let guest = Guest {
                        release: kernel.release.clone(),
                        backend,
                        said,
                        status,
                        took,
                    };
                    ended
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(index, guest);
                }
            });
        }
    });
    let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(ended.into_values().collect())
}

/// Variables for a guest: its backend, and to leave out what another one runs anyway.
fn environment(
    runs: &[(&(Kernel, PathBuf), Backend)],
    kernel: &Kernel,
    backend: Backend,
) -> Vec<String> {
    if backend == Backend::Auto {
        return Vec::new();
    }
    let mut environment = vec![format!("{BACKEND}={backend}")];
    let again = runs
        .iter()
        .any(|((other, _), by)| *by == Backend::Trampoline && other.release == kernel.release);
    if again && backend == Backend::Tracepoint {
        environment.push(ONCE.to_owned());
    }
    environment
}

/// Builds what the guest runs.
fn payload(options: &Options, cross: Option<Cross>) -> Result<Payload> {
    let profile = (!options.debug).then_some("--release");
    if !options.command.is_empty() {
        let arguments = ["build", "--package", "tracer", "--bins"];
        let built = build(&arguments, profile, cross.as_ref())?;
        return Ok(Payload {
            tracer: executable(&built, "bin", "tracer")?,
            tests: None,
            lists_scenarios: false,
            command: options.command.clone(),
            cross,
        });
    }
    let (kind, name) = if options.bench {
        ("bench", BENCH)
    } else {
        ("test", TESTS)
    };
    let target = format!("--{kind}");
    let arguments = ["test", "--no-run", "--package", "tracer", &target, name];
    let built = build(&arguments, profile, cross.as_ref())?;
    let tests = executable(&built, kind, name)?;
    let mut command = vec![tests.to_string_lossy().into_owned()];
    // The skips are in the tests' output.
    let flag = if options.bench {
        "--bench"
    } else {
        "--nocapture"
    };
    command.push(flag.to_owned());
    command.extend(options.bin_args.split_whitespace().map(str::to_owned));
    Ok(Payload {
        tracer: executable(&built, "bin", "tracer")?,
        tests: Some(tests),
        lists_scenarios: !options.bench,
        command,
        cross,
    })
}

fn build(arguments: &[&str], profile: Option<&str>, cross: Option<&Cross>) -> Result<String> {
    let mut command = Command::new(paths::cargo());
    command
        .args(arguments)
        .args(profile)
        .args(["--locked", "--message-format=json-render-diagnostics"])
        .current_dir(paths::root());
    if let Some(cross) = cross {
        cross.configure(&mut command);
    }
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
