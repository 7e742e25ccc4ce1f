/*! The programs of the stories' authors, played by this executable when its first argument says so. */

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::process::Command;

use anyhow::Context as _;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use tracer::sandbox::workload::{Report, perform};
use tracer::sandbox::{Process, Side};

use super::queries::{Pooled, Queries};
use super::web::{Visits, Web};
use crate::world::{World, own_program};

/// First argument of such a process.
const VERB: &str = "story-act";

/// What a process plays.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Act {
    /// A service that opens a database connection per query.
    Queries(Queries),
    /// The same service with a pool of connections.
    Pooled(Pooled),
    /// A web server that hands jobs to a broker.
    Web(Web),
    /// Its visitors.
    Visits(Visits),
}

impl Act {
    /// Starts it as a process called `name` that waits for its go.
    pub(crate) fn start(&self, world: &World, side: Side, name: &str) -> Process {
        let mut command = Command::new(own_program());
        let act = serde_json::to_string(self).unwrap();
        command.args([VERB, name, &act]);
        world.pair.start(side, name, command).unwrap()
    }
}

/// Plays when the arguments (program name first) say so, else returns false.
pub(crate) fn from_args(mut args: impl Iterator<Item = OsString>) -> anyhow::Result<bool> {
    if args.nth(1).is_none_or(|verb| verb != VERB) {
        return Ok(false);
    }
    let mut next = || {
        args.next()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let name = next();
    match serde_json::from_str(&next()).context("the argument is not an act")? {
        Act::Queries(act) => perform(&name, || act.play())?,
        Act::Pooled(act) => perform(&name, || act.play())?,
        Act::Web(act) => perform(&name, || act.play())?,
        Act::Visits(act) => perform(&name, || act.play())?,
    }
    Ok(true)
}

/// Counts a failure by the errno at its root, or by its words where there is none.
pub(crate) fn fail(report: &mut Report, error: &(dyn Error + 'static)) {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    let errno = causes.find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    let name = match errno {
        Some(number) => format!("{:?}", Errno::from_raw(number)),
        None => error.to_string(),
    };
    *report.failed.entry(name).or_default() += 1;
}
