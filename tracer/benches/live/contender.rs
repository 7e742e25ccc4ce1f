/*! Who watches the load: nobody, empty programs, tracer, its peers. */

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracer::kernel::cost::costs;

use crate::machine::Usage;

/// How long one may take to attach, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Programs that stayed the same for so long are attached.
const SETTLED: Duration = Duration::from_millis(700);

/// A way to watch.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// Its name in the tables.
    pub(crate) name: String,
    /// The command that watches; none for nobody. `{netns}` stands for the namespace to watch.
    command: Option<(PathBuf, Vec<String>)>,
}

/// One that cannot watch here.
pub(crate) struct Absent {
    /// Its name in the tables.
    pub(crate) name: String,
    /// What it lacks, or said.
    pub(crate) why: String,
}

/// The loads' yardstick.
pub(crate) const UNTRACED: &str = "untraced";

/// Empty programs on the hooks of the contender of the same name without it.
pub(crate) const FLOOR: &str = "empty programs";

/// What bpftrace is to do: count who changed which state, as people do by hand.
const ONE_LINER: &str =
    "tracepoint:sock:inet_sock_set_state { @[pid, comm, args.newstate] = count(); }";

/// The folders that root's programs are in, `PATH` or not.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/bin"];

impl Contender {
    /// All that can be tried here, and those that are absent, with the reason.
    pub(crate) fn all(
        tracer: &Path,
        only: &[String],
        beside: &[String],
    ) -> anyhow::Result<(Vec<Self>, Vec<Absent>)> {
        let one = |name: &str, program: PathBuf, arguments: &[&str]| {
            let arguments = arguments.iter().map(|&argument| argument.to_owned());
            Self {
                name: name.to_owned(),
                command: Some((program, arguments.collect())),
            }
        };
        let own = |name, arguments: &[&str]| one(name, tracer.to_owned(), arguments);
        let mut all = vec![
            Self {
                name: UNTRACED.to_owned(),
                command: None,
            },
            own(FLOOR, &["watch", "-o", "json", "--floor"]),
            own(
                "empty programs --no-syscalls",
                &["watch", "-o", "json", "--floor", "--no-syscalls"],
            ),
            own("tracer watch", &["watch"]),
            own("tracer watch -o json", &["watch", "-o", "json"]),
            own(
                "tracer watch -o json --all",
                &["watch", "-o", "json", "--all"],
            ),
            own(
                "tracer watch -o json --no-syscalls",
                &["watch", "-o", "json", "--no-syscalls"],
            ),
        ];
        let mut absent = Vec::new();
        for (name, program, arguments) in [
            ("tcplife", "tcplife", &[][..]),
            ("tcpstates", "tcpstates", &[]),
            ("tcptracer", "tcptracer", &[]),
            ("tcplife.bt", "tcplife.bt", &[]),
            ("bpftrace, one line", "bpftrace", &["-e", ONE_LINER]),
        ] {
            let mut files = FOLDERS.iter().map(|folder| Path::new(folder).join(program));
            match files.find(|file| file.is_file()) {
                Some(file) => all.push(one(name, file, arguments)),
                None => absent.push(Absent {
                    name: name.to_owned(),
                    why: "not installed".to_owned(),
                }),
            }
        }
        let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part));
        all.retain(|one| one.name == UNTRACED || wanted(&one.name));
        absent.retain(|one| wanted(&one.name));
        all.extend(
            beside
                .iter()
                .map(|line| one(line, "/bin/sh".into(), &["-c", line])),
        );
        // One that cannot start here is no contender.
        let mut able = Vec::new();
        for one in all {
            match one.start(None) {
                Ok(watching) => {
                    watching.stop()?;
                    able.push(one);
                }
                Err(error) if one.name != UNTRACED && !one.is_own() => {
                    absent.push(Absent {
                        name: one.name,
                        why: format!("{error:#}"),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        for Absent { name, why } in &absent {
            println!("skipping {name}: {why}");
        }
        Ok((able, absent))
    }

    /// Whether it is tracer.
    pub(crate) fn is_own(&self) -> bool {
        self.name.starts_with("tracer") || self.name.starts_with(FLOOR)
    }

    /// Starts it, its output to nowhere, and waits until it is attached; tracer watches this
    /// namespace only, where one is given.
    pub(crate) fn start(&self, netns: Option<u32>) -> anyhow::Result<Watching> {
        let Some((program, arguments)) = &self.command else {
            return Ok(Watching::nobody());
        };
        let before: BTreeSet<u32> = costs()?.into_keys().collect();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create("/dev/null")?)
            .stderr(Stdio::piped());
        if let Some(netns) = netns.filter(|_| self.is_own()) {
            command.args(["--netns", &netns.to_string()]);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        let mut watching = Watching {
            child: Some(child),
            programs: BTreeSet::new(),
        };
        watching.settle(&before)?;
        Ok(watching)
    }
}

/// Starts `tracer watch -o json` with these further options, waits until it watches, and returns it
/// with its lines.
///
/// # Errors
/// When it cannot start.
pub(crate) fn telling(
    tracer: &Path,
    options: &[&str],
) -> anyhow::Result<(Child, BufReader<ChildStdout>)> {
    let mut child = Command::new(tracer)
        .args(["watch", "-o", "json"])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start tracer")?;
    let mut said = BufReader::new(child.stderr.take().context("it has no standard error")?);
    let mut line = String::new();
    while !line.starts_with("tracer: watching") {
        line.clear();
        ensure!(said.read_line(&mut line)? > 0, "tracer ended early");
    }
    // Warnings that come later must find a reader.
    std::thread::spawn(move || said.lines().map_while(Result::ok).for_each(drop));
    let lines = BufReader::new(child.stdout.take().context("it has no standard output")?);
    Ok((child, lines))
}

/// One that is attached.
pub(crate) struct Watching {
    child: Option<Child>,
    /// Ids of its programs.
    pub(crate) programs: BTreeSet<u32>,
}

impl Watching {
    fn nobody() -> Self {
        Self {
            child: None,
            programs: BTreeSet::new(),
        }
    }

    /// Waits until its programs are there and do not change any more.
    fn settle(&mut self, before: &BTreeSet<u32>) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut since = Instant::now();
        while self.programs.is_empty() || since.elapsed() < SETTLED {
            std::thread::sleep(Duration::from_millis(50));
            let child = self.child.as_mut().expect("it was started");
            if child.try_wait()?.is_some() {
                let mut said = String::new();
                if let Some(stderr) = &mut child.stderr {
                    std::io::Read::read_to_string(stderr, &mut said)?;
                }
                let mut lines = said.lines().filter(|line| !line.trim().is_empty());
                let tells = |line: &&str| ["rror", "ailed"].iter().any(|word| line.contains(word));
                let line = lines.clone().find(tells).or_else(|| lines.next_back());
                bail!("{}", line.unwrap_or("it ended and said nothing"));
            }
            if Instant::now() > deadline {
                bail!("it attached nothing within {PATIENCE:?}");
            }
            let now: BTreeSet<u32> = costs()?
                .into_keys()
                .filter(|id| !before.contains(id))
                .collect();
            if now != self.programs {
                self.programs = now;
                since = Instant::now();
            }
        }
        Ok(())
    }

    /// What its process used so far; nothing for nobody.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        match &self.child {
            Some(child) => Usage::of(child.id()),
            None => Ok(Usage::default()),
        }
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("it did not end within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only when it is dead and reaped already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
