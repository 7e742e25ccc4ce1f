/*! Folding: events of one process, place and fact into one burst a second. */

use foldhash::HashMap;

use crate::model::{
    Cause, Closer, Direction, EndReason, Error, Event, Failure, Kind, Ownership, Place, TcpState,
};

/// Length of a window.
const WINDOW_NS: u64 = 1_000_000_000;

/// Most bursts kept in a window, at about 400 bytes each: 3 MB. With more the window ends early.
const MOST_BURSTS: usize = 8192;

/// What makes two events the same fact for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fact {
    /// The type.
    pub(super) kind: Kind,
    /// Errno of a failure.
    pub(super) errno: Option<Error>,
    /// Cause of a failure.
    pub(super) cause: Option<Cause>,
    /// Substate a TIME_WAIT ended in.
    pub(super) state: Option<TcpState>,
    /// Who ended a closed connection.
    pub(super) closer: Option<Closer>,
    /// Why a TIME_WAIT ended.
    pub(super) end_reason: Option<EndReason>,
    /// Which side opened it.
    pub(super) direction: Option<Direction>,
    /// Whether it was concluded, not seen.
    pub(super) inferred: bool,
    /// How sure the owner is.
    pub(super) ownership: Ownership,
}

impl Fact {
    /// The fact an event states.
    pub(super) fn of(event: &Event) -> Self {
        Self {
            kind: event.kind,
            errno: event.errno.filter(|_| event.kind.is_failure()),
            cause: event.cause,
            state: event.state.filter(|_| event.kind == Kind::TimeWaitEnd),
            closer: event.closer.filter(|_| event.kind == Kind::Closed),
            end_reason: event.end_reason,
            direction: event.direction,
            inferred: event.inferred,
            ownership: event.ownership,
        }
    }
}

/// Events that are one line.
#[derive(Clone, Debug)]
pub(super) struct Burst {
    /// What they have in common.
    pub(super) fact: Fact,
    /// Where it happened.
    pub(super) place: Place,
    /// The first of them. For failures the first ever of their kind.
    pub(super) first: Event,
    /// How many.
    pub(super) count: u64,
    /// When: the first event, or the first report of failures.
    pub(super) since_ns: u64,
    /// Time from connect() on, summed over the events that know it, ns.
    pub(super) duration_sum_ns: u64,
    /// How many know it.
    pub(super) durations: u64,
    /// TIME_WAITs born as FIN_WAIT2 mini-sockets: the peer had not closed yet.
    pub(super) fin_wait2: u64,
    /// Port-search time of failures, summed, ns.
    pub(super) search_sum_ns: u64,
    /// Whether `first` is one of the events, and all of them: its thread and ports are theirs.
    pub(super) alone: bool,
}

impl Burst {
    /// One event.
    pub(super) fn event(event: &Event) -> Self {
        Self {
            fact: Fact::of(event),
            place: Place::of(event),
            first: event.clone(),
            count: 1,
            since_ns: event.ts_ns,
            duration_sum_ns: event.duration_ns.unwrap_or(0),
            durations: u64::from(event.duration_ns.is_some()),
            fin_wait2: u64::from(
                event.kind == Kind::TimeWait && event.state == Some(TcpState::FinWait2),
            ),
            search_sum_ns: event.search_ns.unwrap_or(0),
            alone: true,
        }
    }

    /// Failures reported together.
    pub(super) fn failure(failure: &Failure) -> Self {
        let alone = failure.fresh && failure.count == 1;
        Self {
            count: failure.count,
            // The first of a key is older than the failures reported now.
            since_ns: if failure.fresh {
                failure.first.ts_ns
            } else {
                failure.last_ns
            },
            search_sum_ns: failure.search_sum_ns,
            alone,
            ..Self::event(&failure.first)
        }
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.since_ns = self.since_ns.min(other.since_ns);
        self.duration_sum_ns += other.duration_sum_ns;
        self.durations += other.durations;
        self.fin_wait2 += other.fin_wait2;
        self.search_sum_ns += other.search_sum_ns;
        self.alone = false;
    }

    /// Mean time from connect() on, ns.
    pub(super) fn mean_duration_ns(&self) -> Option<u64> {
        self.duration_sum_ns.checked_div(self.durations)
    }
}

/// The window under way.
#[derive(Debug, Default)]
pub(super) struct Fold {
    bursts: HashMap<(u32, u64, Place, Fact), Burst>,
    since_ns: Option<u64>,
}

impl Fold {
    /// Adds to the window, which begins with its first burst.
    pub(super) fn add(&mut self, burst: &Burst, now_ns: u64) {
        self.since_ns.get_or_insert(now_ns);
        let process = &burst.first.process;
        self.bursts
            .entry((process.tgid, process.start_ns, burst.place, burst.fact))
            .and_modify(|window| window.add(burst))
            .or_insert_with(|| burst.clone());
    }

    /// When the window is over, ns, if one is under way.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.since_ns.map(|since| since + WINDOW_NS)
    }

    /// The window's bursts in the order of time, when it is over or holds all it may.
    pub(super) fn due(&mut self, now_ns: u64) -> Vec<Burst> {
        let over = self
            .since_ns
            .is_some_and(|since| now_ns.saturating_sub(since) >= WINDOW_NS);
        if over || self.bursts.len() >= MOST_BURSTS {
            self.rest()
        } else {
            Vec::new()
        }
    }

    /// The window's bursts in the order of time, over or not.
    pub(super) fn rest(&mut self) -> Vec<Burst> {
        self.since_ns = None;
        let mut bursts: Vec<Burst> = self.bursts.drain().map(|(_, burst)| burst).collect();
        bursts.sort_by_key(|burst| {
            let tgid = burst.first.process.tgid;
            (burst.since_ns, tgid, burst.place, burst.fact)
        });
        bursts
    }
}
