/*!
Running other programs: the only place where a child's status is judged.
*/
use std::{
    io::{BufRead as _, BufReader, Read, Write},
    process::{Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};

/// Runs `command` to its end with our own standard streams.
///
/// # Errors
///
/// When it cannot be started, or ends with anything but success.
pub(crate) fn exec(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| cannot_start(command))?;
    judge(command, status)
}

/// Runs `command` to its end and returns what it wrote to stdout; its stderr
/// stays ours.
///
/// # Errors
///
/// As [`exec`], and when the output is not UTF-8.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| cannot_start(command))?;
    judge(command, output.status)?;
    String::from_utf8(output.stdout)
        .with_context(|| format!("read what {} wrote, but it is not UTF-8", spelled(command)))
}

/// Runs `command` to its end, passes its output on as it comes and calls
/// `line` with each line of both streams, without its line break.
///
/// # Errors
///
/// As [`exec`].
pub(crate) fn watch(command: &mut Command, line: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
    announce(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(command))?;
    let out = child.stdout.take().expect("stdout was asked to be a pipe");
    let err = child.stderr.take().expect("stderr was asked to be a pipe");
    let line = std::sync::Mutex::new(line);
    let each = |text: &str| {
        let mut line = line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        line(text);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy_lines(out, std::io::stdout(), &each));
        scope.spawn(|| copy_lines(err, std::io::stderr(), &each));
    });
    let status = child
        .wait()
        .with_context(|| format!("waited for {}", spelled(command)))?;
    judge(command, status)
}

/// Copies `from` to `to` line by line. A closed `to` does not stop the
/// reading: the child must not block on a full pipe.
fn copy_lines(from: impl Read, mut to: impl Write, each: &(dyn Fn(&str) + Sync)) {
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    while from.read_until(b'\n', &mut bytes).is_ok_and(|len| len > 0) {
        let _closed = to.write_all(&bytes).and_then(|()| to.flush());
        each(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
}

/// The command as a person would type it, without its environment.
pub(crate) fn spelled(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| quoted(&arg.to_string_lossy())));
    words.join(" ")
}

/// `word` as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn announce(command: &Command) {
    eprintln!("+ {}", spelled(command));
}

fn cannot_start(command: &Command) -> String {
    format!("tried to start {}", spelled(command))
}

fn judge(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{} failed: {status}", spelled(command));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{capture, exec, quoted, spelled, watch};

    #[test]
    fn a_failing_child_is_named_with_its_status() {
        let error = exec(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("sh -c 'exit 7'"), "{text}");
        assert!(text.contains("exit status: 7"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = capture(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert!(format!("{error:#}").contains("tried to start /nonexistent/program"));
    }

    #[test]
    fn watching_sees_the_lines_of_both_streams() {
        let mut lines = Vec::new();
        watch(
            Command::new("sh").args(["-c", "echo out; echo err >&2; printf last"]),
            &mut |line| lines.push(line.to_owned()),
        )
        .unwrap();
        lines.sort();
        assert_eq!(lines, ["err", "last", "out"]);
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("--flag=a/b"), "--flag=a/b");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(spelled(Command::new("a").arg("b c")), "a 'b c'");
    }
}
