/*!
Whose TIME_WAIT ended: the kernel side no longer knows, so the births are
remembered until their end comes.
*/

use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;

use crate::event::{Direction, Event, Owner, Ownership, Tuple};

/// Most births remembered, at about 40 bytes each: 21 MB with the table's
/// spare room. An end whose birth
/// found no room has no owner.
const MOST: usize = 262_144;

/// Owners kept before those without a birth are forgotten, at about 130 bytes each.
const OWNERS: usize = 1_024;

/// What a TIME_WAIT and its end have in common. Before Linux 5.11 each namespace counts its own
/// cookies.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Cookie(u32, u64),
    Ports(Box<(u32, IpAddr, u16, IpAddr, u16)>),
}

impl Key {
    fn of(event: &Event) -> Self {
        let Tuple {
            netns,
            src,
            sport,
            dst,
            dport,
            ..
        } = event.tuple;
        match event.cookie {
            Some(cookie) => Self::Cookie(netns, cookie),
            None => Self::Ports(Box::new((netns, src, sport, dst, dport))),
        }
    }
}

#[derive(Debug)]
struct Birth {
    owner: Arc<Owner>,
    ownership: Ownership,
    direction: Option<Direction>,
}

/// The TIME_WAITs that were born and have not ended.
#[derive(Debug, Default)]
pub(super) struct Births {
    births: HashMap<Key, Birth>,
    owners: Owners,
}

impl Births {
    /// Keeps the owner of a birth.
    pub(super) fn remember(&mut self, event: &Event) {
        let key = Key::of(event);
        if self.births.len() >= MOST && !self.births.contains_key(&key) {
            return;
        }
        let birth = Birth {
            owner: self.owners.share(&event.owner),
            ownership: event.ownership,
            direction: event.direction,
        };
        self.births.insert(key, birth);
    }

    /// Gives an end the owner of its birth, and forgets the birth.
    pub(super) fn complete(&mut self, end: &mut Event) {
        if end.ownership != Ownership::Unknown {
            return;
        }
        if let Some(birth) = self.births.remove(&Key::of(end)) {
            end.owner = *birth.owner;
            end.ownership = birth.ownership;
            end.direction = birth.direction;
        }
    }
}

/// Owners shared by their births: a thread makes many.
#[derive(Debug)]
struct Owners {
    /// By process, its start, and thread, as each was last.
    shared: HashMap<(u32, u64, u32), Arc<Owner>>,
    /// How many there may be until those without a birth are forgotten.
    most: usize,
}

impl Owners {
    fn share(&mut self, owner: &Owner) -> Arc<Owner> {
        let key = (owner.tgid, owner.start_ns, owner.tid);
        if let Some(shared) = self.shared.get(&key)
            // A thread may have another name by now, or be another of the same number.
            && **shared == *owner
        {
            return Arc::clone(shared);
        }
        if self.shared.len() >= self.most {
            self.shared.retain(|_, owner| Arc::strong_count(owner) > 1);
            self.most = OWNERS.max(2 * self.shared.len());
        }
        let new = Arc::new(*owner);
        self.shared.insert(key, Arc::clone(&new));
        new
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            shared: HashMap::default(),
            most: OWNERS,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{OWNERS, Owners};
    use crate::event::sample::time_wait;

    #[test]
    fn owners_are_shared_until_nobody_needs_them() {
        let mut owners = Owners::default();
        let mut owner = time_wait().owner;
        let first = owners.share(&owner);
        assert!(Arc::ptr_eq(&first, &owners.share(&owner)));
        owner.uid += 1;
        let renamed = owners.share(&owner);
        assert_eq!((first.uid, renamed.uid), (owner.uid - 1, owner.uid));
        for tid in 0..10 * OWNERS as u32 {
            owner.tid = 1_000_000 + tid;
            owners.share(&owner);
        }
        assert!(owners.shared.len() <= OWNERS);
        assert!(
            owners
                .shared
                .values()
                .any(|kept| Arc::ptr_eq(kept, &renamed))
        );
    }
}
