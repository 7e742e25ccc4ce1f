/*!
Whose TIME_WAIT ended: the kernel side no longer knows, so the births are
remembered until their end comes.
*/

use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{Direction, Event, Ownership, Process, Tuple};

/// Most births remembered of either kind, at 17 bytes each with a cookie: 9 MB with the table's
/// spare room. An end whose birth found no room has no owner.
const MOST: usize = 262_144;

/// Owners kept before those without a birth are forgotten, at about 400 bytes each
/// with their process.
const OWNERS: usize = 1_024;

/// What a TIME_WAIT and its end have in common where there are no cookies.
type Ports = (u32, IpAddr, u16, IpAddr, u16);

/// What an end is to be told of its birth.
#[derive(Clone, Debug)]
struct Birth {
    process: Arc<Process>,
    tid: u32,
    ownership: Ownership,
    direction: Option<Direction>,
}

impl Birth {
    fn is_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.process, &other.process)
            && self.tid == other.tid
            && (self.ownership, self.direction) == (other.ownership, other.direction)
    }
}

/// The TIME_WAITs that were born and have not ended.
#[derive(Debug, Default)]
pub(super) struct Births {
    by_cookie: std::collections::HashMap<u64, Arc<Birth>, BuildHasherDefault<InOrder>>,
    by_ports: HashMap<Ports, Arc<Birth>>,
    shared: Shared,
}

impl Births {
    /// Keeps the owner of a birth.
    pub(super) fn remember(&mut self, event: &Event) {
        let birth = Birth {
            process: Arc::clone(&event.process),
            tid: event.tid,
            ownership: event.ownership,
            direction: event.direction,
        };
        match event.cookie {
            Some(cookie) => {
                if self.by_cookie.len() < MOST || self.by_cookie.contains_key(&cookie) {
                    self.by_cookie.insert(cookie, self.shared.of(birth));
                }
            }
            None => {
                let ports = ports(event);
                if self.by_ports.len() < MOST || self.by_ports.contains_key(&ports) {
                    self.by_ports.insert(ports, self.shared.of(birth));
                }
            }
        }
    }

    /// Gives an end the owner of its birth, and forgets the birth.
    pub(super) fn complete(&mut self, end: &mut Event) {
        if end.ownership != Ownership::Unknown {
            return;
        }
        let birth = match end.cookie {
            Some(cookie) => self.by_cookie.remove(&cookie),
            None => self.by_ports.remove(&ports(end)),
        };
        if let Some(birth) = birth {
            end.process = Arc::clone(&birth.process);
            end.tid = birth.tid;
            end.ownership = birth.ownership;
            end.direction = birth.direction;
        }
    }
}

fn ports(event: &Event) -> Ports {
    let Tuple {
        netns,
        src,
        sport,
        dst,
        dport,
        ..
    } = event.tuple;
    (netns, src, sport, dst, dport)
}

/// Keeps neighbours together: cookies are given out in order, and TIME_WAITs born one after the
/// other end so. A table that scatters them all costs a cache miss each.
#[derive(Debug, Default)]
struct InOrder(u64);

/// Cookies that lie side by side, in bits. Beyond, they are scattered as by any other hash.
const SIDE_BY_SIDE: u32 = 6;

impl Hasher for InOrder {
    fn finish(&self) -> u64 {
        // The table finds the place by the low bits, and tells neighbours apart by the highest seven.
        const HIGHEST: u64 = !(u64::MAX >> 7);
        const LOWEST: u64 = (1 << SIDE_BY_SIDE) - 1;
        let scatter = |number: u64| {
            let product = u128::from(number) * 0x9e37_79b9_7f4a_7c15;
            (product >> 64) as u64 ^ product as u64
        };
        let place = scatter(self.0 >> SIDE_BY_SIDE) & !LOWEST | self.0 & LOWEST;
        place & !HIGHEST | scatter(self.0) & HIGHEST
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u64(&mut self, cookie: u64) {
        self.0 = cookie;
    }
}

/// What births share that are alike: a thread makes many.
#[derive(Debug)]
struct Shared {
    /// By process, its start, and thread, as each was last.
    last: HashMap<(u32, u64, u32), Arc<Birth>>,
    /// How many there may be until those without a birth are forgotten.
    most: usize,
}

impl Shared {
    fn of(&mut self, birth: Birth) -> Arc<Birth> {
        let key = (birth.process.tgid, birth.process.start_ns, birth.tid);
        if let Some(last) = self.last.get(&key)
            // A thread may have another name by now, or be another of the same number.
            && last.is_like(&birth)
        {
            return Arc::clone(last);
        }
        if self.last.len() >= self.most {
            self.last.retain(|_, birth| Arc::strong_count(birth) > 1);
            self.most = OWNERS.max(2 * self.last.len());
        }
        let new = Arc::new(birth);
        self.last.insert(key, Arc::clone(&new));
        new
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            last: HashMap::default(),
            most: OWNERS,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hasher as _;
    use std::sync::Arc;

    use super::{Birth, Births, InOrder, OWNERS, Shared};
    use crate::model::sample::time_wait;
    use crate::model::{Event, Ownership, Process};

    #[test]
    fn births_are_shared_until_nobody_needs_them() {
        let mut shared = Shared::default();
        let event = time_wait();
        let birth = |process: &Arc<Process>, tid| Birth {
            process: Arc::clone(process),
            tid,
            ownership: event.ownership,
            direction: event.direction,
        };
        let first = shared.of(birth(&event.process, event.tid));
        let again = shared.of(birth(&event.process, event.tid));
        assert!(Arc::ptr_eq(&first, &again));
        let other = Arc::new(Process {
            uid: event.process.uid + 1,
            ..Process::clone(&event.process)
        });
        let renamed = shared.of(birth(&other, event.tid));
        assert_eq!(
            (first.process.uid, renamed.process.uid),
            (other.uid - 1, other.uid)
        );
        for tid in 0..10 * OWNERS as u32 {
            shared.of(birth(&other, 1_000_000 + tid));
        }
        assert!(shared.last.len() <= OWNERS);
        assert!(shared.last.values().any(|kept| Arc::ptr_eq(kept, &renamed)));
    }

    #[test]
    fn neighbours_lie_side_by_side_and_others_anywhere() {
        let hash = |cookie: u64| {
            let mut hasher = InOrder::default();
            hasher.write_u64(cookie);
            hasher.finish()
        };
        let place = |cookie| hash(cookie) & 0xffff;
        assert_eq!(place(0x4c1), place(0x4c0) + 1);
        let far: HashSet<u64> = (0..1_000).map(|n| place(n << 17)).collect();
        assert!(far.len() > 600, "{} of 1,024 places", far.len());
        let tags: HashSet<u64> = (0..64).map(|n| hash(n) >> 57).collect();
        assert!(tags.len() > 32, "{} tags", tags.len());
    }

    #[test]
    fn each_end_gets_the_owner_of_its_birth() {
        const COUNT: u64 = 10_000;
        // Cookies as processors hand them out, far apart, and none at all: none of one kind is one
        // of another.
        let cookies = |n: u64| [Some(n), Some(1 << 40 | n), Some(n << 17), None];
        let process = |n: u64, which: usize| {
            Arc::new(Process {
                uid: n as u32 * 4 + which as u32,
                ..Process::clone(&time_wait().process)
            })
        };
        let event = |n: u64, cookie| {
            let mut event = time_wait();
            event.cookie = cookie;
            event.tuple.sport = n as u16;
            event
        };
        let mut births = Births::default();
        for n in 1..COUNT {
            for (which, cookie) in cookies(n).into_iter().enumerate() {
                births.remember(&Event {
                    process: process(n, which),
                    ..event(n, cookie)
                });
            }
        }
        for n in (1..COUNT).rev() {
            for (which, cookie) in cookies(n).into_iter().enumerate() {
                let mut end = Event {
                    ownership: Ownership::Unknown,
                    ..event(n, cookie)
                };
                births.complete(&mut end);
                assert_eq!(end.process, process(n, which), "{n} {cookie:?}");
            }
        }
        assert!(births.by_cookie.is_empty() && births.by_ports.is_empty());
    }
}
