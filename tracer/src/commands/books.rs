/*! The books of a live verb: a ledger, and the machine's own lists of sockets to check it against. */

use anyhow::Context as _;

use crate::host::cost;
use crate::host::dump::{Lookout, What, snapshot};
use crate::host::process::Identities;
use crate::ledger::{Feed, Ledger, Limits};
use crate::stream::books::Books;
use crate::stream::survey::{Ask, Reading, Survey};

/// Opens the books on these namespaces, or on all, for the events that `feed` names; `partial` when
/// the kernel side leaves some of them out.
///
/// # Errors
/// When no thread can be started to read the lists of sockets.
pub fn open(feed: Feed, namespaces: &[u32], partial: bool) -> anyhow::Result<Books> {
    let mut people = Identities::new();
    let mut lookout = Lookout::default();
    let survey = Survey::start(move |what: &Ask| {
        let before = cost::spent();
        let only = Some(what.namespaces.as_slice()).filter(|only| !only.is_empty());
        let seen = if what.owners {
            snapshot(only, &mut people)
        } else {
            lookout.sockets(only, what.whole)
        };
        for missed in seen.missed.iter() {
            log::debug!("{missed}");
        }
        let late = seen.missed.iter().find(|miss| miss.what == What::Late);
        Reading {
            late: late.map(|miss| (miss.count, miss.to_string())),
            dumps: seen.dumps,
            cost: cost::spent() - before,
        }
    })
    .context("cannot start the thread that lists sockets")?;
    Ok(Books::new(
        Ledger::new(Limits::new(feed)),
        survey,
        namespaces.to_vec(),
        partial,
    ))
}
