/*! What `tracer doctor` says of this kernel's hooks. */

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::table::Release;
use crate::trace::program;
use crate::world::Skip;

/// What each hook's trial gave, by place and by the fact it is for.
#[derive(Clone)]
pub(crate) struct Doctor {
    kernel: String,
    trials: BTreeMap<(String, String), Result<(), String>>,
}

impl Doctor {
    /// What it says; a kernel on which nothing can be traced skips.
    pub(crate) fn ask() -> Result<Self, Skip> {
        // Trying every hook takes seconds, and the kernel stays the same.
        static ANSWER: OnceLock<Result<Doctor, String>> = OnceLock::new();
        ANSWER.get_or_init(Self::consult).clone().map_err(Skip)
    }

    fn consult() -> Result<Self, String> {
        let output = Command::new(program())
            .args(["doctor", "-o", "json"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let summary = lines.last().expect("no line at all");
        let word = |line: &Value, field: &str| line[field].as_str().expect(field).to_owned();
        if summary["can_trace"] != true {
            return Err(word(summary, "verdict"));
        }
        let trials = lines
            .iter()
            .filter(|line| line["type"] == "check")
            .filter(|line| line["fact"].is_string())
            .map(|line| {
                let trial = match line["status"] == "ok" {
                    true => Ok(()),
                    // What follows from it, behind the semicolon, is of no interest.
                    false => Err(word(line, "means").split(';').next().unwrap().to_owned()),
                };
                ((word(line, "name"), word(line, "fact")), trial)
            });
        Ok(Self {
            trials: trials.collect(),
            kernel: word(summary, "kernel"),
        })
    }

    /// The kernel's release, whole.
    pub(crate) fn kernel(&self) -> &str {
        &self.kernel
    }

    /// The kernel's release: its first two numbers.
    pub(crate) fn release(&self) -> Release {
        let mut numbers = self.kernel.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next().unwrap_or_default().parse().unwrap();
        (number(), number())
    }

    /// How the trial of a hook went; `None` when it was not tried, as nothing needs it here.
    pub(crate) fn trial(&self, place: &str, fact: &str) -> Option<Result<(), &str>> {
        let trial = self.trials.get(&(place.to_owned(), fact.to_owned()))?;
        Some(trial.as_ref().map(|&()| ()).map_err(String::as_str))
    }

    /// Whether the kernel refuses every trampoline, as one that knows none does. One refused
    /// alone is a fault of ours.
    pub(crate) fn refuses_trampolines(&self) -> bool {
        let is_trampoline =
            |place: &str| place.starts_with("fexit/") || place.starts_with("fentry/");
        let mut trampolines = self
            .trials
            .iter()
            .filter(|((place, _), _)| is_trampoline(place));
        trampolines.all(|(_, trial)| trial.is_err())
    }
}
