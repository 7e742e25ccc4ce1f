/*! Who causes it, and who only got the error. */

use std::cmp::Reverse;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use crate::model::{Ends, Failed, Holder, Rates, States, TaskName};

/// Most culprits, and most victims, a verdict names.
const MOST: usize = 16;

/// A program that holds less than one part in this many is not a cause.
const LEAST_PART: u64 = 20;

/// What processes of one program share.
type Program<'a> = (TaskName, Option<&'a str>, Option<&'a str>);

fn program(holder: &Holder) -> Program<'_> {
    let who = &holder.process;
    (
        holder.process.comm,
        who.exe.as_deref(),
        who.container.as_deref().or(who.pod.as_deref()),
    )
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    held: u64,
    rate: f64,
}

/// The holders that cause what `held` counts the ports of: most ports first, then the highest rate.
///
/// Processes of one program count as one: 40 workers with 700 ports each come before the one process
/// with 800. Owners that are not known come last, since nothing can be done about them.
pub(super) fn rank<'a>(
    holders: impl IntoIterator<Item = &'a Holder>,
    held: impl Fn(&Holder) -> u64,
) -> Vec<Holder> {
    let holders: Vec<(&Holder, u64)> = holders
        .into_iter()
        .map(|holder| (holder, held(holder)))
        .collect();
    let parts = parts(&holders);
    let whole: u64 = parts.values().map(|part| part.held).sum();
    let mut causes: Vec<(&Holder, u64, Part)> = holders
        .into_iter()
        .map(|(holder, held)| (holder, held, parts[&program(holder)]))
        .filter(|(_, _, part)| part.held * LEAST_PART >= whole)
        .filter(|(_, held, part)| *held > 0 || part.rate > 0.0 || whole == 0)
        .collect();
    causes.sort_by(|(a, a_held, a_part), (b, b_held, b_part)| {
        let unknown = |holder: &Holder| holder.process.tgid == 0;
        unknown(a)
            .cmp(&unknown(b))
            .then(b_part.held.cmp(&a_part.held))
            .then(b_part.rate.total_cmp(&a_part.rate))
            .then(a.process.comm.bytes().cmp(b.process.comm.bytes()))
            .then(b_held.cmp(a_held))
            .then(b.open_rate.ten.total_cmp(&a.open_rate.ten))
            .then(a.process.tgid.cmp(&b.process.tgid))
    });
    causes
        .into_iter()
        .take(MOST)
        .map(|(holder, ..)| holder.clone())
        .collect()
}

fn parts<'a>(holders: &[(&'a Holder, u64)]) -> HashMap<Program<'a>, Part> {
    let mut parts: HashMap<Program<'a>, Part> = HashMap::with_capacity(holders.len());
    for (holder, held) in holders {
        let part = parts.entry(program(holder)).or_default();
        part.held += held;
        part.rate += holder.open_rate.ten;
    }
    parts
}

/// Processes of `first`'s program among `holders`, and the ports they hold together.
pub(super) fn siblings<'a>(
    first: &Holder,
    holders: impl IntoIterator<Item = &'a Holder>,
    held: impl Fn(&Holder) -> u64,
) -> (u64, u64) {
    let wanted = program(first);
    holders
        .into_iter()
        .filter(|holder| program(holder) == wanted)
        .fold((0, 0), |(processes, ports), holder| {
            (processes + 1, ports + held(holder))
        })
}

/// Those who got the error: the most failures first.
pub(super) fn victims<'a>(failures: impl IntoIterator<Item = &'a Failed>) -> Vec<Failed> {
    let mut victims: Vec<Failed> = failures.into_iter().cloned().collect();
    victims.sort_by_key(|failed| (Reverse(failed.count), failed.process.tgid));
    victims.truncate(MOST);
    victims
}

/// A process that failed, as a holder of nothing.
pub(super) fn empty_handed(failed: &Failed) -> Holder {
    Holder {
        process: Arc::clone(&failed.process),
        states: States::default(),
        opened: 0,
        open_rate: Rates::default(),
        ends: Ends::default(),
        net_rate: 0.0,
        bound: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::rank;
    use crate::diagnosis::tests::build::{holder, unknown};
    use crate::model::TcpState::{Established, TimeWait};

    fn names(holders: &[crate::model::Holder]) -> Vec<(String, u32)> {
        let ranked = rank(holders, |holder| holder.states.total());
        let name = |holder: &crate::model::Holder| {
            let comm = holder.process.comm.bytes().escape_ascii().to_string();
            (comm, holder.process.tgid)
        };
        ranked.iter().map(name).collect()
    }

    #[test]
    fn a_program_of_many_processes_counts_as_one() {
        let mut holders: Vec<_> = (1..=4)
            .map(|pid| holder("php-fpm", pid, &[(TimeWait, 700)]))
            .collect();
        holders.push(holder("worker", 9, &[(TimeWait, 800)]));
        let names = names(&holders);
        assert_eq!(names[0], ("php-fpm".to_owned(), 1));
        assert_eq!(names[4], ("worker".to_owned(), 9));
    }

    #[test]
    fn who_holds_next_to_nothing_is_no_culprit_and_nobody_comes_last() {
        let holders = [
            unknown(&[(TimeWait, 900)]),
            holder("app", 2, &[(TimeWait, 500)]),
            holder("cron", 3, &[(Established, 3)]),
        ];
        assert_eq!(names(&holders), [("app".to_owned(), 2), (String::new(), 0)]);
    }

    #[test]
    fn a_clear_field_still_names_somebody() {
        assert_eq!(names(&[holder("app", 2, &[])]), [("app".to_owned(), 2)]);
    }
}
