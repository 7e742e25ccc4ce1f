/*! What holds for every row of looks: made-up ones, any counters, any time. */

use proptest::prelude::{ProptestConfig, Strategy, any};
use proptest::{collection, proptest};

use super::{Cause, History, MOST, MS, Pool, SECOND, START, Sample, failed, pool};
use crate::model::{Ends, States};

/// One look at one pool, in small numbers.
#[derive(Clone, Debug)]
struct Look {
    after_ms: u64,
    dport: u16,
    level: u64,
    state: usize,
    counts: [u64; 6],
    cause: usize,
    high: (u64, u32),
    anew: bool,
}

const CAUSES: [Cause; 3] = [Cause::PortsExhausted, Cause::Refused, Cause::Other];

fn look(longest_ms: u64, ports: u16) -> impl Strategy<Value = Look> {
    let when = (0..longest_ms, 1..=ports, 0..20_u8);
    let what = (
        0..1_100_u64,
        0..9_usize,
        any::<[u8; 6]>(),
        0..CAUSES.len(),
        (0..1_100_u64, 0..500_u32),
    );
    (when, what).prop_map(
        |((after_ms, dport, anew), (level, state, counts, cause, high))| Look {
            after_ms,
            dport,
            level,
            state,
            counts: counts.map(u64::from),
            cause,
            high,
            anew: anew == 0,
        },
    )
}

/// What was counted, and the highest of what was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    counts: [u64; 6],
    failed: [u64; 8],
    peaks: [u64; 2],
}

impl Sum {
    fn add(mut self, other: &Self) -> Self {
        for (sum, more) in self.counts.iter_mut().zip(other.counts) {
            *sum += more;
        }
        for (sum, more) in self.failed.iter_mut().zip(other.failed) {
            *sum += more;
        }
        for (peak, more) in self.peaks.iter_mut().zip(other.peaks) {
            *peak = more.max(*peak);
        }
        self
    }

    fn of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Self {
        samples.fold(Self::default(), |sum, sample| {
            let closed = sample.closed;
            assert_eq!(sample.search_ns, u64::from(sample.searches) * 1_000);
            sum.add(&Self {
                counts: [
                    sample.opened.into(),
                    closed.local.into(),
                    closed.peer.into(),
                    closed.reset.into(),
                    sample.searches.into(),
                    sample.failures().map(|(_, count)| u64::from(count)).sum(),
                ],
                failed: sample.failed.map(u64::from),
                peaks: [sample.peak.into(), sample.open_peak.into()],
            })
        })
    }
}

/// The pool counts on, or from nothing when it is made anew. Returns what it then did.
fn go_on(pool: &mut Pool, look: &Look, now_ns: u64) -> Sum {
    let [opened, local, peer, reset, search, fails] = look.counts;
    if look.anew {
        pool.opened = 0;
        pool.ends = Ends::default();
        pool.searched = (0, 0);
        pool.failures.clear();
    }
    pool.states = States::default();
    *pool.states.get_mut(States::ALL[look.state]).unwrap() = look.level;
    pool.opened += opened;
    pool.ends.local += local;
    pool.ends.peer += peer;
    pool.ends.reset += reset;
    pool.searched.0 += search * 1_000;
    pool.searched.1 += search;
    let cause = CAUSES[look.cause];
    if fails > 0 {
        pool.failures.push(failed(cause, fails, now_ns, now_ns));
    }
    pool.high = look.high;
    let mut sum = Sum {
        counts: look.counts,
        failed: [0; 8],
        peaks: [look.level.max(look.high.0), look.high.1.into()],
    };
    sum.failed[cause as usize] = fails;
    sum
}

/// Whether each of `coarse` is what those of `fine` within its span add up to.
fn adds_up(fine: &[Sample], coarse: &[Sample], span_s: u64) {
    let mut within = 0;
    for sample in coarse {
        assert_eq!(sample.at_s % span_s, 0);
        let span = sample.at_s..sample.at_s + span_s;
        let part: Vec<_> = fine.iter().filter(|one| span.contains(&one.at_s)).collect();
        within += part.len();
        let newest = part.last().unwrap();
        assert_eq!(sample.states, newest.states);
        assert_eq!(Sum::of([sample].into_iter()), Sum::of(part.into_iter()));
    }
    assert_eq!(within, fine.len());
}

fn rises(samples: &[Sample]) -> bool {
    samples.windows(2).all(|two| two[0].at_s < two[1].at_s)
}

/// Looks at several pools at once, in no order, some missing; time may go backwards and far.
fn anything() -> impl Strategy<Value = Vec<(u64, Vec<Pool>)>> {
    let far = 3 * 86_400_000_u64;
    let time = (0..3_000_u64, 0..30_u8, 0..far).prop_map(move |(near, is_far, ms)| {
        START + MS * if is_far == 0 { ms } else { 1_000 * near }
    });
    let pools = collection::vec(look(1, 90), 0..90).prop_map(|looks| {
        let mut pools: Vec<Pool> = Vec::new();
        for look in looks {
            let mut one = pool(look.dport);
            // Totals of any size: they go up and down.
            go_on(&mut one, &look, START + look.level * SECOND);
            pools.retain(|other| other.id != one.id);
            pools.push(one);
        }
        pools
    });
    collection::vec((time, pools), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A failure prints the looks it shrank to: that is the next test to write.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_three_resolutions_tell_the_same_and_all(
        looks in collection::vec(look(4_000, 1), 1..150),
    ) {
        let mut history = History::default();
        let mut one = pool(1);
        let mut now_ns = START;
        // Something that makes it matter, and is not to be counted.
        one.high = (100, 0);
        history.record(now_ns, std::slice::from_ref(&one));
        let mut all = Sum { peaks: [100, 0], ..Sum::default() };
        for look in &looks {
            now_ns += look.after_ms * MS;
            if look.anew {
                history.record(now_ns, &[]);
            }
            all = all.add(&go_on(&mut one, look, now_ns));
            history.record(now_ns, std::slice::from_ref(&one));
        }
        let kept = history.of(&one.id).unwrap();
        let seconds: Vec<_> = kept.seconds().copied().collect();
        let tens: Vec<_> = kept.tens().copied().collect();
        let minutes: Vec<_> = kept.minutes().copied().collect();
        assert!(rises(&seconds) && rises(&tens) && rises(&minutes));
        let level = minutes.last().unwrap().states;
        assert_eq!(level.total(), looks.last().unwrap().level);
        assert_eq!(Sum::of(seconds.iter()), all);
        adds_up(&seconds, &tens, 10);
        adds_up(&seconds, &minutes, 60);
        adds_up(&tens, &minutes, 60);
    }

    #[test]
    fn whatever_comes_the_bounds_hold_and_order_is_nothing(looks in anything()) {
        let mut history = History::default();
        let mut other = History::default();
        let mut newest_ns = 0;
        for (now_ns, pools) in &looks {
            history.record(*now_ns, pools);
            let backwards: Vec<_> = pools.iter().rev().cloned().collect();
            other.record(*now_ns, &backwards);
            assert_eq!(history, other);
            newest_ns = newest_ns.max(*now_ns);
            let now_s = newest_ns / SECOND;
            assert!(history.pools().count() <= MOST);
            for (_, kept) in history.pools() {
                let rows = [
                    (kept.seconds().copied().collect::<Vec<_>>(), 1, 600),
                    (kept.tens().copied().collect(), 10, 720),
                    (kept.minutes().copied().collect(), 60, 1_440),
                ];
                assert!(!rows[2].0.is_empty());
                for (samples, span_s, most) in rows {
                    assert!(samples.len() <= most && rises(&samples));
                    let age = span_s * most as u64;
                    let is_kept = |one: &Sample| one.at_s.is_multiple_of(span_s) && one.at_s + age > now_s;
                    assert!(samples.iter().all(is_kept));
                    assert!(samples.iter().all(|one| one.at_s <= now_s));
                    assert!(samples.iter().all(|one| u64::from(one.peak) >= one.states.total()));
                }
            }
        }
    }
}
