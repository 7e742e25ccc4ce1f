/*! The ledger itself: finds the row of each fact and keeps the number of rows bounded. */

use std::sync::Arc;

use foldhash::HashMap;

use super::account::Account;
use super::failures::Failures;
use super::fold::Fold;
use super::forecast::Warning;
use super::row::Row;
use super::space::Space;
use crate::model::{
    Cause, Direction, Elsewhere, Event, Evicted, Failure, Kind, Namespace, OwnerId, Ownership,
    Pool, PoolId, Process,
};

/// Which events come, apart from births of TIME_WAITs and failures, which always do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed {
    /// `Opened` and `Closed` events (the kernel side's `all`). Without them what is open is known
    /// from dumps only.
    pub opens: bool,
    /// `TimeWaitEnd` events. Without them a TIME_WAIT leaves after 60 s.
    pub ends: bool,
}

/// How much is kept apart. What is beyond goes into one row a namespace (or one owner a pool, or
/// one failure a pool), is counted there, and is told by [`Ledger::evicted`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pools, at about 4 kB each.
    pub pools: usize,
    /// Owners in one pool.
    pub owners: usize,
    /// Owners in all pools together, at about 1 kB each.
    pub holders: usize,
    /// Kinds of failures (owner, errno, cause) in all pools together, at about 250 bytes each.
    pub failures: usize,
    /// Which events come.
    pub feed: Feed,
}

impl Limits {
    /// Limits for a large node: at most some 32 MB of pools, 64 MB of holders and 2 MB of failures.
    /// Changes kept for the next dump add up to 6.3 MB a namespace that changes 65,536 times between
    /// two dumps.
    pub fn new(feed: Feed) -> Self {
        Self {
            pools: 8_192,
            owners: 64,
            holders: 65_536,
            failures: 8_192,
            feed,
        }
    }
}

/// What dumps corrected, in ports, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// The kernel listed them, no event had told: births (or openings) that were not seen.
    pub missed: u64,
    /// The kernel listed them no more, no event had told: ends that were not seen.
    pub left: u64,
}

/// The books on source ports.
///
/// Feed it in this order: all events up to a dump's end, then that dump. Memory follows the
/// [`Limits`], never the number of connections.
#[derive(Debug)]
pub struct Ledger {
    pub(super) limits: Limits,
    pub(super) spaces: HashMap<u32, Space>,
    pub(super) rows: HashMap<PoolId, Box<Row>>,
    pub(super) holders: usize,
    pub(super) evicted: Evicted,
    pub(super) drift: Drift,
    pub(super) failures: Failures,
    began_ns: Option<u64>,
    pub(super) now_ns: u64,
    pub(super) ticked: u64,
}

impl Ledger {
    /// Empty books.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            spaces: HashMap::default(),
            rows: HashMap::default(),
            holders: 0,
            evicted: Evicted::default(),
            drift: Drift::default(),
            failures: Failures::default(),
            began_ns: None,
            now_ns: 0,
            ticked: 0,
        }
    }

    pub(super) fn clock(&mut self, at_ns: u64) {
        self.began_ns.get_or_insert(at_ns);
        self.now_ns = self.now_ns.max(at_ns);
    }

    /// Folds one event. A failure counts as one, unless it is a sample of those that
    /// [`failure`](Self::failure) brings.
    pub fn event(&mut self, event: &Event) {
        self.clock(event.ts_ns);
        match event.kind {
            Kind::ConnectFailed | Kind::BindFailed if event.sample => {}
            Kind::ConnectFailed | Kind::BindFailed => {
                self.failure(&Failure::single(event.clone()));
            }
            Kind::TimeWaitEnd => self.ended(event),
            Kind::Opened | Kind::Closed | Kind::TimeWait => {
                // An accepted connection holds no port of a pool.
                if event.direction == Some(Direction::Out) {
                    self.lived(event);
                }
            }
        }
    }

    /// Folds failures of one owner, pool, errno and cause: their count is exact.
    pub fn failure(&mut self, failure: &Failure) {
        self.clock(failure.last_ns);
        let first = &failure.first;
        let most = self.limits.failures;
        if first.kind == Kind::BindFailed {
            self.evicted.failures += self.failures.bind(failure, most);
            return;
        }
        let mut id = PoolId::of(&first.tuple);
        if matches!(first.cause, Some(Cause::PortsExhausted | Cause::TupleInUse)) {
            id = self.likely(id);
        }
        let row = Self::row(
            &mut self.rows,
            &mut self.spaces,
            id,
            self.limits,
            &mut self.evicted,
        );
        self.evicted.failures += self.failures.connect(row, failure, most);
    }

    /// The pool in which a port was looked for in vain, where the source is not known (the begin of
    /// the call was not seen): the fullest one there.
    fn likely(&self, id: PoolId) -> PoolId {
        let Some(space) = self
            .spaces
            .get(&id.netns)
            .filter(|_| id.src.is_unspecified())
        else {
            return id;
        };
        let there = |pool: &&PoolId| {
            (pool.dst, pool.dport) == (id.dst, id.dport) && !pool.src.is_unspecified()
        };
        let pools = space.pools.iter().filter(there);
        let used = |pool: &&PoolId| self.rows.get(pool).map_or(0, |row| row.used);
        pools.max_by_key(used).copied().unwrap_or(id)
    }

    /// The row of a pool: new where there is room, else that of all others in its namespace.
    pub(super) fn row<'a>(
        rows: &'a mut HashMap<PoolId, Box<Row>>,
        spaces: &mut HashMap<u32, Space>,
        id: PoolId,
        limits: Limits,
        evicted: &mut Evicted,
    ) -> &'a mut Row {
        let id = if rows.len() >= limits.pools && !rows.contains_key(&id) {
            evicted.pools += 1;
            PoolId::beyond(id.netns)
        } else {
            id
        };
        rows.entry(id).or_insert_with(|| {
            spaces.entry(id.netns).or_default().pools.push(id);
            Box::new(Row::new(id))
        })
    }

    /// The account of an owner: new where there is room, else that of all others in the row.
    pub(super) fn account<'a>(
        row: &'a mut Row,
        process: &Arc<Process>,
        limits: Limits,
        holders: &mut usize,
        evicted: &mut Evicted,
    ) -> (OwnerId, &'a mut Account) {
        let mut id = OwnerId::of(process);
        let mut beyond = None;
        if row.find(id).is_none() {
            if row.accounts.len() >= limits.owners || *holders >= limits.holders {
                evicted.owners += 1;
                id = OwnerId::BEYOND;
                beyond = Some(Process::others());
            }
            *holders += usize::from(row.find(id).is_none());
        }
        (id, row.open_account(id, beyond.as_ref().unwrap_or(process)))
    }

    /// A connection was opened, closed, or left a TIME_WAIT.
    fn lived(&mut self, event: &Event) {
        let tuple = &event.tuple;
        if let Some(space) = self.spaces.get(&tuple.netns)
            && !space.draws(tuple.src, tuple.sport)
        {
            return;
        }
        let row = Self::row(
            &mut self.rows,
            &mut self.spaces,
            PoolId::of(tuple),
            self.limits,
            &mut self.evicted,
        );
        row.touched_ns = row.touched_ns.max(event.ts_ns);
        let nobody;
        let process = if event.ownership == Ownership::Unknown {
            nobody = Process::nobody();
            &nobody
        } else {
            &event.process
        };
        let (id, _) = Self::account(
            row,
            process,
            self.limits,
            &mut self.holders,
            &mut self.evicted,
        );
        let space = self.spaces.entry(tuple.netns).or_default();
        Fold {
            row,
            space,
            event,
            owner: id,
            feed: self.limits.feed,
            drift: &mut self.drift,
        }
        .fold();
    }

    /// A TIME_WAIT gave its port back.
    fn ended(&mut self, event: &Event) {
        if event.ownership != Ownership::Unknown {
            if event.direction == Some(Direction::Out) {
                self.lived(event);
            }
            return;
        }
        let id = PoolId::of(&event.tuple);
        // Without a row it was accepted, or its pool is one of those beyond the limit: the next
        // dump tells.
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        row.adopted = row.adopted.saturating_sub(1);
        Fold {
            row,
            space: self.spaces.entry(id.netns).or_default(),
            event,
            owner: OwnerId::UNKNOWN,
            feed: self.limits.feed,
            drift: &mut self.drift,
        }
        .fold();
    }

    /// Every pool as it stands at `now_ns`, the fullest first. That with an unspecified destination
    /// and port 0 stands for all beyond the limit in its namespace.
    pub fn pools(&self, now_ns: u64) -> Vec<Pool> {
        let since_ns = self.began_ns.unwrap_or(now_ns);
        let mut pools: Vec<Pool> = self
            .rows
            .values()
            .map(|row| {
                let space = self.spaces.get(&row.id.netns);
                let capacity = space.and_then(|space| space.capacity(&row.id));
                row.pool(now_ns, since_ns, capacity)
            })
            .collect();
        pools.sort_by(|a, b| {
            let failed = |pool: &Pool| pool.failures.iter().map(|one| one.count).sum::<u64>();
            b.utilization()
                .total_cmp(&a.utilization())
                .then_with(|| b.used().cmp(&a.used()))
                .then_with(|| failed(b).cmp(&failed(a)))
                .then_with(|| a.id.cmp(&b.id))
        });
        pools
    }

    /// Has [`Pool::high`] begin anew: to be called once the pools were looked at.
    pub fn lower(&mut self) {
        for row in self.rows.values_mut() {
            row.lower();
        }
    }

    /// The early signs in a pool; none in one that is not known.
    pub fn warnings(&self, pool: &PoolId, now_ns: u64) -> Vec<Warning> {
        self.rows
            .get(pool)
            .map_or_else(Vec::new, |row| row.warnings(now_ns))
    }

    /// The namespace with this inode, as last dumped.
    pub fn namespace(&self, inode: u32) -> Option<&Namespace> {
        self.spaces.get(&inode)?.namespace.as_ref()
    }

    /// Failures of bind(), which have no pool; most first.
    pub fn elsewhere(&self) -> Vec<Elsewhere> {
        self.failures.elsewhere()
    }

    /// What dumps had to correct so far.
    pub fn drift(&self) -> Drift {
        self.drift
    }

    /// What found no room so far.
    pub fn evicted(&self) -> Evicted {
        self.evicted
    }

    /// Source ports held in all pools together.
    pub fn used_total(&self) -> u64 {
        self.rows.values().map(|row| row.used).sum()
    }
}
