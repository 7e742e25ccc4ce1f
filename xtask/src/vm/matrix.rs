/*!
What the guests said, as tables: which scenarios passed on which kernel with
which backend, which hooks ran there, and what each fact is learnt with.

The scenarios state hooks and facts on lines of their own (`matrix: …`, printed
by tests/hooks.rs); the counts are the harness's.
*/
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use super::{Backend, kernel};
use crate::test::Skips;

/// What every line for us starts with.
const MARK: &str = "matrix: ";

/// What one guest's console said.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Numbers of the harness: passed, failed, skipped.
    counts: Option<[u64; 3]>,
    /// Scenarios that failed.
    failed: BTreeSet<String>,
    /// By place and backend of a hook: what became of it.
    hooks: BTreeMap<(String, String), String>,
    /// By fact: what it is learnt with.
    facts: BTreeMap<String, String>,
    /// Scenarios that could not run.
    pub(super) skips: Skips,
}

impl Said {
    /// Takes in a line of the console.
    pub(super) fn read(&mut self, line: &str) {
        self.skips.read(line);
        if let Some(counts) = counts(line) {
            self.counts = Some(counts);
        }
        self.failed.extend(failure(line));
        // The harness may have left `test <name> ... ` open in front of it.
        let Some((_, said)) = line.split_once(MARK) else {
            return;
        };
        let mut words = said.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("hook"), Some(place), Some(backend)) => {
                // The fact it gives is the next word; what became of it is all the rest.
                words.next();
                let outcome: Vec<_> = words.collect();
                let key = (place.to_owned(), backend.to_owned());
                let known = self.hooks.entry(key).or_default();
                // One that runs for a fact runs, whatever keeps it from giving another too.
                if !known.starts_with("fired=") {
                    *known = outcome.join(" ");
                }
            }
            (Some("fact"), Some(fact), Some(by)) => {
                self.facts.insert(fact.to_owned(), by.to_owned());
            }
            _ => {}
        }
    }
}

/// One boot and how it ended.
#[derive(Debug)]
pub(super) struct Guest {
    /// `uname -r`.
    pub(super) release: String,
    /// The backend that was asked for.
    pub(super) backend: Backend,
    /// What its console said.
    pub(super) said: Said,
    /// Status of the command, or why there is none.
    pub(super) status: Result<i32, String>,
    /// From power-on to power-off.
    pub(super) took: Duration,
}

impl Guest {
    /// Why this boot proves nothing, or that something is broken.
    pub(super) fn fault(&self, no_skips: bool) -> Option<String> {
        let skipped = self.said.skips.by_machine();
        match &self.status {
            Err(error) => Some(error.clone()),
            Ok(0) if no_skips && skipped > 0 => {
                Some(format!("{skipped} skipped that this kernel can run"))
            }
            Ok(0) => None,
            Ok(code) => {
                let failed: Vec<_> = self.said.failed.iter().map(String::as_str).collect();
                Some(if failed.is_empty() {
                    format!("exit status {code}")
                } else {
                    format!("exit status {code}: {}", failed.join(", "))
                })
            }
        }
    }

    /// The kernel's version as numbers, to go from the oldest to the newest.
    pub(super) fn numbers(&self) -> Vec<u32> {
        let parts = self.version().split('.');
        parts.map_while(|part| part.parse().ok()).collect()
    }

    /// The kernel's version without the parts of the distribution.
    fn version(&self) -> &str {
        kernel::version(&self.release)
    }
}

/// The tables, in Markdown.
pub(super) fn tables(guests: &[Guest]) -> String {
    let mut page = String::from(
        "| kernel | backend | passed | failed | skipped | seconds |\n|---|---|--:|--:|--:|--:|\n",
    );
    for guest in guests {
        let [passed, failed, skipped] = guest.said.counts.unwrap_or_default();
        push(
            &mut page,
            format_args!(
                "| {} | {} | {passed} | {failed} | {skipped} | {} |\n",
                guest.release,
                guest.backend,
                guest.took.as_secs()
            ),
        );
    }
    let skips: BTreeMap<&str, BTreeSet<String>> =
        guests.iter().fold(BTreeMap::new(), |mut skips, guest| {
            for (test, reason) in guest.said.skips.iter() {
                let whom = format!("{} {}: {reason}", guest.version(), guest.backend);
                skips.entry(test).or_default().insert(whom);
            }
            skips
        });
    if !skips.is_empty() {
        page.push_str("\nSkipped:\n\n");
        for (test, reasons) in skips {
            for reason in reasons {
                push(&mut page, format_args!("* `{test}`, {reason}\n"));
            }
        }
    }
    grid(&mut page, "fact", guests, |said| {
        let facts = said.facts.iter();
        facts.map(|(fact, by)| (fact.clone(), by.clone())).collect()
    });
    grid(&mut page, "hook", guests, |said| {
        let hooks = said.hooks.iter();
        hooks
            .map(|((place, backend), outcome)| (format!("`{place}` ({backend})"), cell(outcome)))
            .collect()
    });
    page
}

/// A table with one row a thing and one column a guest.
fn grid(
    page: &mut String,
    what: &str,
    guests: &[Guest],
    rows: impl Fn(&Said) -> BTreeMap<String, String>,
) {
    let columns: Vec<_> = guests.iter().map(|guest| rows(&guest.said)).collect();
    let names: BTreeSet<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
    if names.is_empty() {
        return;
    }
    push(page, format_args!("\n| {what} |"));
    for guest in guests {
        push(
            page,
            format_args!(" {} {} |", guest.version(), guest.backend),
        );
    }
    page.push_str("\n|---|");
    page.push_str(&"---|".repeat(guests.len()));
    page.push('\n');
    for name in names {
        push(page, format_args!("| {name} |"));
        for column in &columns {
            let outcome = column.get(name).map_or("", String::as_str);
            push(page, format_args!(" {outcome} |"));
        }
        page.push('\n');
    }
}

/// What became of a hook, short enough for a table. How often it ran differs from run to run.
fn cell(outcome: &str) -> String {
    if outcome == "fired=0" {
        return "attached, never ran".to_owned();
    }
    if outcome.starts_with("fired=") {
        return "runs".to_owned();
    }
    outcome
        .replace("refused=", "refused: ")
        .replace("not_needed", "not needed")
        .replace('|', "/")
}

/// A string takes everything.
fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("writing to a string does not fail");
}

/// `test result: ok. 96 passed; 0 failed; 3 ignored; …`.
fn counts(line: &str) -> Option<[u64; 3]> {
    let (_, said) = line.split_once("test result: ")?;
    let (_, numbers) = said.split_once(". ")?;
    let mut parts = numbers.split("; ");
    let mut next = |word: &str| {
        let (number, what) = parts.next()?.split_once(' ')?;
        (what == word).then(|| number.parse().ok())?
    };
    Some([next("passed")?, next("failed")?, next("ignored")?])
}

/// `test area::name ... FAILED`.
fn failure(line: &str) -> Option<String> {
    let (test, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    outcome
        .trim_end()
        .ends_with("FAILED")
        .then(|| test.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Guest, Said, counts, failure, tables};
    use crate::vm::Backend;

    fn guest(backend: Backend, lines: &[&str], status: Result<i32, String>) -> Guest {
        let mut said = Said::default();
        for line in lines {
            said.read(line);
        }
        Guest {
            release: "6.12.107+deb13-cloud-amd64".to_owned(),
            backend,
            said,
            status,
            took: Duration::from_secs(61),
        }
    }

    #[test]
    fn the_harness_is_understood() {
        assert_eq!(
            counts(
                "test result: FAILED. 90 passed; 2 failed; 7 ignored; 0 measured; 1 filtered out; finished in 9.21s"
            ),
            Some([90, 2, 7])
        );
        assert_eq!(counts("test result: none"), None);
        assert_eq!(
            failure("test timewait::ipv6           ... FAILED").unwrap(),
            "timewait::ipv6"
        );
        assert_eq!(failure("test timewait::ipv6 ... ok"), None);
    }

    #[test]
    fn tables_have_a_column_for_each_guest() {
        let lines = [
            "matrix: hook fexit/tcp_v4_connect trampoline connect fired=20",
            "test hooks::all ... matrix: hook tp_btf/tcp_destroy_sock tracepoint time_wait refused=the kernel's own words",
            "matrix: fact connect trampoline",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.21s",
        ];
        let page = tables(&[
            guest(Backend::Trampoline, &lines, Ok(0)),
            guest(Backend::Tracepoint, &lines[..1], Ok(0)),
        ]);
        for row in [
            "| 6.12.107+deb13-cloud-amd64 | trampoline | 2 | 0 | 0 | 61 |",
            "| fact | 6.12.107 trampoline | 6.12.107 tracepoint |",
            "| connect | trampoline |  |",
            "| `fexit/tcp_v4_connect` (trampoline) | runs | runs |",
            "| `tp_btf/tcp_destroy_sock` (tracepoint) | refused: the kernel's own words |  |",
        ] {
            assert!(page.contains(row), "{row} in\n{page}");
        }
    }

    #[test]
    fn a_hook_that_never_ran_is_not_said_to_run() {
        let lines = ["matrix: hook fexit/inet_bind trampoline bind fired=0"];
        let page = tables(&[guest(Backend::Trampoline, &lines, Ok(0))]);
        assert!(page.contains("attached, never ran"), "{page}");
    }

    #[test]
    fn kernels_go_from_the_oldest_to_the_newest() {
        let mut guests =
            ["6.12.1+deb13-amd64", "6.1.0-50-amd64", "5.10.0-32-amd64"].map(|release| Guest {
                release: release.to_owned(),
                ..guest(Backend::Auto, &[], Ok(0))
            });
        guests.sort_by_key(Guest::numbers);
        let order = guests.each_ref().map(|guest| guest.version());
        assert_eq!(order, ["5.10.0", "6.1.0", "6.12.1"]);
    }

    #[test]
    fn a_fault_names_what_failed() {
        let lines = [
            "test bind::ipv6 ... FAILED",
            "skipping a::b: no ss: install iproute2",
            "skipping a::c: needs Linux 5.14",
        ];
        let fault = |status, no_skips| guest(Backend::Auto, &lines, status).fault(no_skips);
        assert_eq!(
            fault(Ok(101), false).unwrap(),
            "exit status 101: bind::ipv6"
        );
        assert_eq!(fault(Ok(0), false), None);
        assert_eq!(
            fault(Ok(0), true).unwrap(),
            "1 skipped that this kernel can run"
        );
        assert_eq!(fault(Err("stuck".to_owned()), false).unwrap(), "stuck");
    }
}
