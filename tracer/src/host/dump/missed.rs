/*! What a look at the machine did not get to see: one denial never spoils the rest, nor hides. */

use std::fmt;

use super::super::process::readable;

/// Most kinds of denial told apart; a further one joins the last.
const MOST: usize = 32;

/// What could not be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// In which network namespace a process lives.
    Process,
    /// The open files of a process, and so which sockets it owns.
    Files,
    /// A network namespace that is known.
    Namespace,
    /// A network namespace with few sockets, for which there was no time.
    Late,
    /// A list of the machine: processes or mounts.
    List,
}

/// Things of one kind that were not seen for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// What.
    pub what: What,
    /// What refused, in its own words.
    pub why: String,
    /// How many.
    pub count: u64,
    /// The first of them. As another process chose it: escape it on output.
    pub example: String,
    /// Whether it was root that was refused.
    root: bool,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            why,
            count,
            example,
            root,
        } = self;
        let such_as = match (count, what) {
            (1, _) | (_, What::List) => format!(" ({example})"),
            _ => format!(", such as {example},"),
        };
        let plural = if *count == 1 { "" } else { "es" };
        let denied = if *root {
            let takes = match what {
                What::Namespace => "CAP_SYS_ADMIN",
                _ => "CAP_SYS_PTRACE",
            };
            format!(
                "root alone is not enough for it here: it takes {takes}, which a container or a \
                 service must be given, or a security module refuses it"
            )
        } else {
            "run as root (sudo) to see all".to_owned()
        };
        match what {
            What::Process => write!(
                f,
                "the network namespace of {count} process{plural}{such_as} could not be told: {why}; \
                 what is only there is missing; {denied}"
            ),
            What::Files => write!(
                f,
                "the open files of {count} process{plural}{such_as} could not be listed: {why}; \
                 sockets they hold are shown without an owner; {denied}"
            ),
            What::Namespace => write!(
                f,
                "{count} network namespace{}{such_as} could not be looked at: {why}; its pools are \
                 missing; {denied}",
                if *count == 1 { "" } else { "s" }
            ),
            What::Late => write!(
                f,
                "{count} network namespace{}{such_as} did not get their turn: {why}; name those that \
                 matter (--netns) to look at them alone",
                if *count == 1 { "" } else { "s" }
            ),
            What::List => write!(
                f,
                "a list{such_as} could not be read: {why}; is /proc mounted?"
            ),
        }
    }
}

/// All that was missed, told apart by what and why; bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missed(Vec<Miss>);

impl Missed {
    /// Counts one that was not seen.
    pub(super) fn note(
        &mut self,
        what: What,
        why: &dyn fmt::Display,
        example: impl FnOnce() -> String,
    ) {
        let why = why.to_string();
        let known = self
            .0
            .iter()
            .position(|miss| miss.what == what && miss.why == why);
        let full = self.0.len() >= MOST;
        match known.or_else(|| full.then_some(MOST - 1)) {
            Some(at) => self.0[at].count += 1,
            None => self.0.push(Miss {
                what,
                why,
                count: 1,
                example: example(),
                root: nix::unistd::geteuid().is_root(),
            }),
        }
    }

    /// Whether everything was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each, in the order they were met.
    pub fn iter(&self) -> impl Iterator<Item = &Miss> {
        self.0.iter()
    }
}

/// `pid N comm`, for people.
pub(super) fn person(tgid: u32, comm: &[u8]) -> String {
    if comm.is_empty() {
        return format!("pid {tgid}");
    }
    format!("pid {tgid} {}", readable(comm))
}

#[cfg(test)]
mod tests {
    use super::{MOST, Missed, What};

    #[test]
    fn alike_denials_are_one_with_a_count() {
        let mut missed = Missed::default();
        assert!(missed.is_empty());
        for pid in 1..=3 {
            missed.note(What::Files, &"Permission denied", || format!("pid {pid}"));
        }
        missed.note(What::Process, &"Permission denied", || "pid 9".to_owned());
        let words: Vec<_> = missed.iter().map(ToString::to_string).collect();
        let [files, process] = words.as_slice() else {
            panic!("{words:?}");
        };
        assert!(files.contains("3 processes, such as pid 1,"), "{files}");
        assert!(process.contains("1 process (pid 9)"), "{process}");
    }

    #[test]
    fn the_list_is_bounded_and_counts_on() {
        let mut missed = Missed::default();
        for reason in 0..1000 {
            missed.note(What::Namespace, &reason, String::new);
        }
        assert_eq!(missed.iter().count(), MOST);
        assert_eq!(missed.iter().map(|miss| miss.count).sum::<u64>(), 1000);
    }
}
