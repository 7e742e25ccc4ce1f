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
    // One process makes many in a row: they share its name.
    newest: Option<Arc<Owner>>,
}

impl Births {
    /// Keeps the owner of a birth.
    pub(super) fn remember(&mut self, event: &Event) {
        let key = Key::of(event);
        if self.births.len() >= MOST && !self.births.contains_key(&key) {
            return;
        }
        let owner = match &self.newest {
            Some(newest) if **newest == event.owner => Arc::clone(newest),
            _ => Arc::clone(self.newest.insert(Arc::new(event.owner))),
        };
        let birth = Birth {
            owner,
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
