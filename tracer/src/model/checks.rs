/*! What `tracer doctor` found: one check a line, and what follows from all. */

use serde::Serialize;

/// How well one thing is provided for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As wanted.
    Ok,
    /// Tracing works, but knows less or costs more.
    Degraded,
    /// Tracing does not work without it.
    Missing,
}

/// One line of `tracer doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Of a hook: the fact it is to give, as a stream's `backend` names it. Two facts may need the
    /// same hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fact: Option<&'static str>,
    /// How well it is provided for.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What follows from that.
    pub means: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Check {
    /// A check without a fix.
    pub fn new(
        name: &str,
        status: Status,
        found: impl Into<String>,
        means: impl Into<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            fact: None,
            status,
            found: found.into(),
            means: means.into(),
            fix: None,
        }
    }

    /// `name: found; means: fix`.
    pub fn sentence(&self) -> String {
        let fix = self.fix.as_ref().map(|fix| format!(": {fix}"));
        format!(
            "{}: {}; {}{}",
            self.name,
            self.found,
            self.means,
            fix.unwrap_or_default()
        )
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Everything `tracer doctor` has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Kernel release.
    pub kernel: String,
    /// One entry a line, the machine first, then the hooks.
    pub checks: Vec<Check>,
    /// Whether tracing works here: exactly when no check is [`Status::Missing`].
    pub can_trace: bool,
    /// `"trampoline"`, `"tracepoint"`, or `"mixed"` where only some trampolines load.
    pub backend: Option<&'static str>,
    /// What no loadable hook gives: inferred from other events, or not known.
    pub inferred: Vec<&'static str>,
}

impl Report {
    /// The conclusion, one sentence without its full stop.
    pub fn verdict(&self) -> String {
        let Some(backend) = self.backend else {
            let missing: Vec<&str> = self
                .checks
                .iter()
                .filter(|check| check.status == Status::Missing)
                .map(|check| check.name.as_str())
                .collect();
            return format!("tracing does not work here: missing {}", missing.join(", "));
        };
        if backend == "tracepoint" && self.inferred.is_empty() {
            return "tracing works here with the tracepoint backend: failures and births of TIME_WAIT \
                    are exact; connect() by io_uring is inferred, bind() by io_uring and a TIME_WAIT \
                    that ends before its time are not seen"
                .to_owned();
        }
        let backend = match backend {
            "mixed" => "both backends, each where its hooks load".to_owned(),
            one => format!("the {one} backend"),
        };
        if self.inferred.is_empty() {
            return format!(
                "tracing works here with {backend}: everything is seen, nothing inferred"
            );
        }
        format!(
            "tracing works here with {backend}; inferred or not known: {}",
            self.inferred.join(", ")
        )
    }
}
