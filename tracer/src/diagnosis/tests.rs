/*! Verdicts on tables of cases: incidents people wrote about, the demos, and what must stay quiet. */

pub(super) mod build;
mod chosen;
mod demos;
mod early;
mod incidents;
mod not_ports;
mod quiet;
mod sentences;

use crate::diagnosis::{Kind, Verdict, diagnose};
use crate::model::{Elsewhere, Namespace, Pool};

/// The verdicts on `pools` in one namespace.
fn verdicts(pools: &[Pool], elsewhere: &[Elsewhere], namespace: &Namespace) -> Vec<Verdict> {
    diagnose(pools, elsewhere, |inode| {
        (inode == namespace.inode).then_some(namespace)
    })
}

/// Kind, first culprit and first remedy of the first verdict.
fn first(verdicts: &[Verdict]) -> (Kind, String, &'static str) {
    let first = verdicts.first().expect("a verdict");
    (
        first.kind,
        first.culprits.first().map_or_else(String::new, |holder| {
            holder.process.comm.bytes().escape_ascii().to_string()
        }),
        first.remedies.first().map_or("", |remedy| remedy.name),
    )
}
