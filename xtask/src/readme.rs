/*!
Checks that the commands README.md tells people to type exist, with their
options: each is parsed by the program it names, which then only prints help.
*/
use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    exec::{capture, exec},
    paths,
};

/// Checks every command.
///
/// # Errors
///
/// When README.md has none, or a program refuses one.
pub(crate) fn check() -> Result<()> {
    for words in &all()? {
        capture(
            Command::new(paths::cargo())
                .args(as_help(words))
                .current_dir(paths::root()),
        )
        .with_context(|| format!("README.md says to type {:?}", words.join(" ")))?;
        println!("README.md: {}", words.join(" "));
    }
    Ok(())
}

/// Runs the first `cargo run` as it stands: what a reader types first must do what it says.
///
/// # Errors
///
/// When README.md has none, or it fails.
pub(crate) fn first() -> Result<()> {
    let commands = all()?;
    let words = commands
        .iter()
        .find(|words| words[..2] == ["cargo", "run"])
        .context("README.md names no `cargo run` to start with")?;
    exec(
        Command::new(paths::cargo())
            .args(&words[1..])
            .current_dir(paths::root()),
    )
}

fn all() -> Result<Vec<Vec<String>>> {
    let text = fs::read_to_string(paths::root().join("README.md")).context("reading README.md")?;
    let commands = commands(&text);
    if commands.is_empty() {
        bail!("looked for commands (cargo xtask, cargo run, tracer) in README.md and found none");
    }
    Ok(commands)
}

/// The words of each command of ours in the text's code blocks, fenced or indented; what stands
/// behind two spaces is a remark.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut code = false;
    for line in text.lines() {
        let indented = line.starts_with("    ");
        let line = line.trim();
        if line.starts_with("```") {
            code = !code;
            continue;
        }
        if !code && !indented {
            continue;
        }
        let line = line.split("  ").next().unwrap_or(line);
        let line = line.strip_prefix("$ ").unwrap_or(line);
        let line = line.strip_prefix("# ").unwrap_or(line);
        let line = line.strip_prefix("sudo ").unwrap_or(line);
        let words: Vec<String> = line
            .split_whitespace()
            .take_while(|word| !word.starts_with(['|', '>', '&', '#', ';', '<']))
            // A quoted word without blanks, as a shell would hand it over.
            .map(|word| word.trim_matches('\'').to_owned())
            .collect();
        let ours = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["cargo", "xtask", _, ..] => true,
            ["cargo", "run", ref rest @ ..] => rest.contains(&"--"),
            [
                "tracer" | "./target/release/tracer" | "target/release/tracer",
                verb,
                ..,
            ] => {
                // A line of tracer's output may begin with its name too.
                verb.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            }
            _ => false,
        };
        if ours && !found.contains(&words) {
            found.push(words);
        }
    }
    found
}

/// The command as arguments of cargo, with `--help` behind its options: clap
/// refuses an unknown one before it prints help. What follows a `--` of the
/// program's own belongs to another program.
fn as_help(words: &[String]) -> Vec<String> {
    let run = ["run", "--quiet", "--package", "tracer", "--"];
    let (mut cargo, program) = match words[1].as_str() {
        "xtask" if words[0] == "cargo" => (vec!["xtask".to_owned()], &words[2..]),
        "run" if words[0] == "cargo" => {
            let at = words.iter().position(|word| word == "--");
            let at = at.expect("commands() keeps a cargo run only with its --");
            // As written but for the profile: cargo must find the program without being told more.
            let cargo = words[1..=at].iter().filter(|word| *word != "--release");
            (cargo.cloned().collect(), &words[at + 1..])
        }
        _ => (run.map(str::to_owned).to_vec(), &words[1..]),
    };
    cargo.extend(program.iter().take_while(|word| *word != "--").cloned());
    cargo.push("--help".to_owned());
    cargo
}

#[cfg(test)]
mod tests {
    use super::{as_help, commands};

    #[test]
    fn commands_are_found_in_code_blocks_only() {
        let text = "cargo xtask no\n```console\n$ sudo cargo run --release -- demo churn | less\n\
                    tracer  pid 12 failed\n# cargo xtask test --setup   # all of it\n\
                    tracer run --record 'f' -- curl -s host\nls\n```\ntracer top\n\n    tracer doctor    what is missing\n";
        let found: Vec<_> = commands(text).iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            found,
            [
                "cargo run --release -- demo churn",
                "cargo xtask test --setup",
                "tracer run --record f -- curl -s host",
                "tracer doctor",
            ]
        );
    }

    #[test]
    fn a_command_is_asked_for_help() {
        let help = |text: &str| {
            let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
            as_help(&words).join(" ")
        };
        assert_eq!(
            help("cargo xtask test --setup"),
            "xtask test --setup --help"
        );
        assert_eq!(
            help("cargo run --release -- demo churn"),
            "run -- demo churn --help"
        );
        let run = "run --quiet --package tracer --";
        assert_eq!(
            help("tracer run --record f -- curl -s"),
            format!("{run} run --record f --help")
        );
    }
}
