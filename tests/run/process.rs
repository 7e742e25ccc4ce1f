/*! `tracer run` around its command: signals, terminals, users. */

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{CANNOT, Finished, finish, script};
use crate::Scenario;
use crate::world::Skip;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("killed_by_a_signal", killed_by_a_signal),
    ("signals_are_passed_on", signals_are_passed_on),
    ("ctrl_c_comes_once", ctrl_c_comes_once),
    ("sudo_gives_the_callers_user", sudo_gives_the_callers_user),
];

fn killed_by_a_signal() -> Result<(), Skip> {
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV] {
        let text = format!("kill -{} $$", signal as i32);
        let run = finish(&mut script(&[], &text, "", "")?)?;
        run.assert(128 + signal as i32, &["lost              nothing"]);
    }
    Ok(())
}

/// A script that says which signals it gets and ends when its standard input does.
const LISTENER: &str = "for s in HUP INT QUIT TERM USR1 USR2 WINCH; do trap \"echo SIG$s\" $s; done
exec 3<&0
cat <&3 >/dev/null & reader=$!
echo ready
while kill -0 $reader 2>/dev/null; do wait $reader; done
exit 9";

/// Reads the next line a command says; `None` once it has ended.
fn next(lines: &mut BufReader<ChildStdout>) -> Option<String> {
    let mut line = String::new();
    (lines.read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
}

/// Starts one that says `ready`.
fn start(command: &mut Command) -> Result<(Child, BufReader<ChildStdout>), Skip> {
    let mut tracer = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tracer.stdout.take().unwrap());
    match next(&mut lines) {
        Some(line) => assert_eq!(line, "ready"),
        None => {
            let finished = Finished::new(&tracer.wait_with_output().unwrap())?;
            panic!("{:?}: {}", finished.code, finished.stderr);
        }
    }
    Ok((tracer, lines))
}

fn signals_are_passed_on() -> Result<(), Skip> {
    let mut command = script(&[], LISTENER, "", "")?;
    let (mut tracer, mut lines) = start(command.stdin(Stdio::piped()))?;
    let pid = Pid::from_raw(tracer.id().cast_signed());
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
    ] {
        kill(pid, signal).unwrap();
        assert_eq!(next(&mut lines).as_deref(), Some(signal.as_str()));
    }
    drop(tracer.stdin.take());
    assert_eq!(next(&mut lines), None);
    Finished::new(&tracer.wait_with_output().unwrap())?.assert(9, &["summary of"]);
    Ok(())
}

fn ctrl_c_comes_once() -> Result<(), Skip> {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = script(&[], LISTENER, "", "")?;
    command.stdin(terminal.slave);
    // SAFETY: only system calls run between fork and exec.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            let done = nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0);
            nix::errno::Errno::result(done)?;
            Ok(())
        });
    }
    let (tracer, mut lines) = start(&mut command)?;
    // Only the started processes have the terminal now.
    drop(command);
    let master = terminal.master;
    for _ in 0..3 {
        nix::unistd::write(&master, b"\x03").unwrap();
        assert_eq!(next(&mut lines).as_deref(), Some("SIGINT"));
        // Had the tracer passed it on too, that would have come before this.
        kill(Pid::from_raw(tracer.id().cast_signed()), Signal::SIGUSR1).unwrap();
        assert_eq!(next(&mut lines).as_deref(), Some("SIGUSR1"));
    }
    // The end of input as a terminal has it.
    nix::unistd::write(&master, b"\x04").unwrap();
    assert_eq!(next(&mut lines), None);
    Finished::new(&tracer.wait_with_output().unwrap())?.assert(9, &["summary of"]);
    drop(master);
    Ok(())
}

fn sudo_gives_the_callers_user() -> Result<(), Skip> {
    const NOBODY: &str = "65534";
    const WHO: &str = "while read -r key value; do
case $key in Uid:|Gid:|Groups:|CapEff:|NoNewPrivs:) echo $key $value;; esac
done < /proc/$$/status";
    if !nix::unistd::geteuid().is_root() {
        return Err(Skip("only root has a user to give up".to_owned()));
    }
    let folder = tempfile::tempdir().unwrap();
    let who = |arguments: &[&str]| {
        let mut command = script(arguments, WHO, "", "")?;
        command.env("SUDO_UID", NOBODY).env("SUDO_GID", NOBODY);
        let run = finish(command.current_dir("/"))?;
        run.assert(0, &[]);
        Ok(run.stdout)
    };
    let path = folder.path().join("summary");
    let nobody = who(&["--output-file", path.to_str().unwrap()])?;
    for line in [
        "Uid: 65534 65534 65534 65534",
        "Gid: 65534 65534 65534 65534",
        "Groups: 65534",
        "CapEff: 0000000000000000",
        "NoNewPrivs: 0",
    ] {
        assert!(nobody.lines().any(|said| said == line), "{line}: {nobody}");
    }
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).unwrap());
    assert_eq!(
        owner.to_string(),
        NOBODY,
        "the file is for its user to read"
    );
    let root = who(&["--as-root"])?;
    assert!(root.contains("Uid: 0 0 0 0"), "{root}");
    assert!(!root.contains("CapEff: 0000000000000000"), "{root}");

    let mut odd = script(&[], WHO, "", "")?;
    odd.env("SUDO_UID", "alice").env("SUDO_GID", NOBODY);
    let odd = finish(&mut odd)?;
    odd.assert(CANNOT, &["SUDO_UID", "--as-root"]);
    assert_eq!(odd.stdout, "");
    Ok(())
}
