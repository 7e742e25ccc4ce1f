/*! Between a source and the views: who to show, what adds up, and the loop that carries it to standard output. */

pub mod books;
pub mod filter;
pub mod fold;
pub mod output;
pub mod place;
pub mod pump;
pub mod survey;
pub mod tally;

use std::sync::Arc;

use crate::event::Owner;
use crate::host::process::{Identities, Identity};

/// Says who a process is, beyond what its events carry.
pub trait Identify {
    /// The identity of an event's owner; asked for every event, so it must be quick the second time.
    fn identify(&mut self, owner: &Owner) -> Arc<Identity>;
}

impl Identify for Identities {
    fn identify(&mut self, owner: &Owner) -> Arc<Identity> {
        Identities::identify(self, owner.tgid, owner.start_ns, owner.cgroup_id)
    }
}
