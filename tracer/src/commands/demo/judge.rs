/*! What a demo's trace found, beside what is known without it. */

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{anyhow, bail};

use super::drive::Known;
use crate::cli::Scenario;
use crate::model::Place;
use crate::state::State;
use crate::view::findings::{Findings, Holdings};

/// Puts the trace of process `client` beside what is known without it.
pub(super) fn findings(
    scenario: Scenario,
    client: u32,
    state: &State,
    known: &Known,
) -> anyhow::Result<Findings> {
    let rows = state.totals.rows();
    let culprit = rows
        .iter()
        .find(|row| !row.failures.is_empty())
        .ok_or_else(|| anyhow!("the client failed, and the trace shows no failure"))?;
    let (src, destination) = match culprit.place {
        Place::Pool {
            src, dst, dport, ..
        } => (src, Some(SocketAddr::new(dst, dport))),
        Place::Bind { address, .. } => (address, None),
        Place::Listener { .. } => bail!("the trace shows a failure of an accepted connection"),
    };
    let holdings = match destination {
        Some(to) => known.holdings.get(&to).cloned().unwrap_or_default(),
        None => known
            .holdings
            .values()
            .fold(Holdings::new(), |mut all, states| {
                for (&state, count) in states {
                    *all.entry(state).or_default() += count;
                }
                all
            }),
    };
    // A connect() says nothing of its destination to bind(): what each holds is what all lack.
    let pools = known.holdings.iter();
    let fullest = pools
        .map(|(&to, states)| (states.values().sum(), to))
        .max()
        .filter(|_| destination.is_none());
    let time_waits = rows.iter().filter(|row| row.process.tgid == client);
    Ok(Findings {
        culprit: Arc::clone(&culprit.process),
        src,
        destination,
        fullest,
        failures: culprit.failures.clone(),
        time_waits: time_waits.map(|row| row.totals.time_wait).sum(),
        lost: state.losses.lost.total(),
        capacity: known.capacity as usize,
        holdings,
        client,
        counted: known.report.failures(),
        verdict: state.verdicts.first().cloned(),
        right: scenario.verdict(),
    })
}
