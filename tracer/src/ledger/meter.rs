/*! Fixed rings the ledger measures with: counts by time, levels by time, durations by size. */

use crate::model::Rates;

/// A second in nanoseconds.
pub(super) const SECOND: u64 = 1_000_000_000;
/// A tenth of one.
pub(super) const TENTH: u64 = SECOND / 10;

/// Counts in the newest `N` buckets of `STEP` ns each.
#[derive(Clone, Debug)]
pub(super) struct Ring<const N: usize, const STEP: u64> {
    counts: [u32; N],
    newest: u64,
}

impl<const N: usize, const STEP: u64> Default for Ring<N, STEP> {
    fn default() -> Self {
        Self {
            counts: [0; N],
            newest: 0,
        }
    }
}

impl<const N: usize, const STEP: u64> Ring<N, STEP> {
    /// Adds `count` at `at_ns` and returns what that bucket holds; what is older than the ring is
    /// left out.
    pub(super) fn add(&mut self, at_ns: u64, count: u32) -> u32 {
        let bucket = at_ns / STEP;
        if bucket > self.newest {
            let first = (self.newest + 1).max((bucket + 1).saturating_sub(N as u64));
            for stale in first..=bucket {
                self.counts[Self::slot(stale)] = 0;
            }
            self.newest = bucket;
        } else if self.newest - bucket >= N as u64 {
            return 0;
        }
        let slot = &mut self.counts[Self::slot(bucket)];
        *slot = slot.saturating_add(count);
        *slot
    }

    fn slot(bucket: u64) -> usize {
        (bucket % N as u64) as usize
    }

    /// The count of bucket number `bucket`; 0 for one the ring does not reach.
    pub(super) fn get(&self, bucket: u64) -> u32 {
        if bucket > self.newest || self.newest - bucket >= N as u64 {
            return 0;
        }
        self.counts[Self::slot(bucket)]
    }

    /// Takes up to `count` out of the oldest buckets from number `first` on.
    pub(super) fn take_oldest(&mut self, first: u64, mut count: u32) {
        for bucket in first.max((self.newest + 1).saturating_sub(N as u64))..=self.newest {
            let slot = &mut self.counts[Self::slot(bucket)];
            let taken = count.min(*slot);
            *slot -= taken;
            count -= taken;
        }
    }

    /// The count of the `last` newest buckets as of `now_ns`, and the seconds they span: the
    /// newest of them is not over yet.
    pub(super) fn window(&self, now_ns: u64, last: u64) -> (u64, f64) {
        let now = now_ns / STEP;
        let sum = ((now + 1).saturating_sub(last)..=now)
            .map(|bucket| u64::from(self.get(bucket)))
            .sum();
        let span = (last - 1) * STEP + now_ns % STEP;
        (sum, span as f64 / 1e9)
    }
}

/// Something that happens, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    tenths: Ring<10, TENTH>,
    seconds: Ring<61, SECOND>,
    peak: u32,
    /// The most within a tenth of a second since that was last asked for.
    high: u32,
    total: u64,
}

impl Meter {
    /// It happened `count` times at `at_ns`.
    pub(super) fn add(&mut self, at_ns: u64, count: u32) {
        let tenth = self.tenths.add(at_ns, count);
        self.peak = self.peak.max(tenth);
        self.high = self.high.max(tenth);
        self.total += u64::from(count);
        self.seconds.add(at_ns, count);
    }

    /// It happened `count` times between two looks, nobody saw when: spread evenly, so that no
    /// look makes a peak.
    pub(super) fn spread(&mut self, from_ns: u64, to_ns: u64, count: u32) {
        let span = to_ns.saturating_sub(from_ns);
        let steps = (span / TENTH).clamp(1, 600);
        let upto = |step: u64| (u64::from(count) * step / steps) as u32;
        for step in 0..steps {
            let share = upto(step + 1) - upto(step);
            if share > 0 {
                self.add(from_ns + span * (step + 1) / steps, share);
            }
        }
    }

    /// How often per second, to a reader that began to count at `since_ns`.
    pub(super) fn rates(&self, now_ns: u64, since_ns: u64) -> Rates {
        let there_was = now_ns.saturating_sub(since_ns) as f64 / 1e9;
        let rate = |(count, span): (u64, f64)| count as f64 / span.min(there_was).max(0.1);
        Rates {
            second: rate(self.tenths.window(now_ns, 10)),
            ten: rate(self.seconds.window(now_ns, 11)),
            minute: rate(self.seconds.window(now_ns, 61)),
            peak: f64::from(self.peak) * 10.0,
        }
    }

    /// How often in all.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The most within any 100 ms since [`lower`](Self::lower).
    pub(super) fn high(&self) -> u32 {
        self.high
    }

    /// Forgets that most.
    pub(super) fn lower(&mut self) {
        self.high = 0;
    }

    /// Whether nothing happened within the last minute.
    pub(super) fn is_silent(&self, now_ns: u64) -> bool {
        self.seconds.window(now_ns, 61).0 == 0
    }
}

/// A slope with its standard error, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Slope {
    pub(super) per_s: f64,
    pub(super) error: f64,
    pub(super) span_s: f64,
}

/// The newest `N` samples of a level.
#[derive(Clone, Debug)]
pub(super) struct Trend<const N: usize> {
    /// Milliseconds (which wrap after 49 days; only differences count) and the level.
    samples: [(u32, u32); N],
    count: usize,
    next: usize,
}

impl<const N: usize> Default for Trend<N> {
    fn default() -> Self {
        Self {
            samples: [(0, 0); N],
            count: 0,
            next: 0,
        }
    }
}

impl<const N: usize> Trend<N> {
    /// Notes the level at `at_ns`, unless the newest sample is younger than `gap_ns`.
    pub(super) fn push(&mut self, at_ns: u64, level: u64, gap_ns: u64) {
        let ms = (at_ns / 1_000_000) as u32;
        if let Some(&(newest, _)) = self.newest_first().next() {
            // Slightly early is in time: looks are not a clock's.
            let since = ms.wrapping_sub(newest) as i32;
            if i64::from(since) < (gap_ns / 1_000_000) as i64 * 9 / 10 {
                return;
            }
        }
        self.samples[self.next] = (ms, u32::try_from(level).unwrap_or(u32::MAX));
        self.next = (self.next + 1) % N;
        self.count = (self.count + 1).min(N);
    }

    /// Forgets what was before.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn newest_first(&self) -> impl Iterator<Item = &(u32, u32)> {
        (1..=self.count).map(|back| &self.samples[(self.next + N - back) % N])
    }

    /// Least squares over the samples of the last `window_ns`.
    pub(super) fn slope(&self, now_ns: u64, window_ns: u64) -> Option<Slope> {
        let now = (now_ns / 1_000_000) as u32;
        let window = (window_ns / 1_000_000) as i64;
        let points = || {
            self.newest_first()
                .map(|&(ms, level)| (now.wrapping_sub(ms) as i32, level))
                .take_while(|&(age, _)| i64::from(age) <= window)
                .map(|(age, level)| (-f64::from(age) / 1e3, f64::from(level)))
        };
        let n = points().count() as f64;
        if n < 3.0 {
            return None;
        }
        let mean = |sum: f64| sum / n;
        let (mx, my) = (
            mean(points().map(|(x, _)| x).sum()),
            mean(points().map(|(_, y)| y).sum()),
        );
        let sxx: f64 = points().map(|(x, _)| (x - mx).powi(2)).sum();
        let sxy: f64 = points().map(|(x, y)| (x - mx) * (y - my)).sum();
        if sxx <= 0.0 {
            return None;
        }
        let per_s = sxy / sxx;
        let residual: f64 = points()
            .map(|(x, y)| (y - my - per_s * (x - mx)).powi(2))
            .sum();
        let first = points().map(|(x, _)| x).fold(0.0, f64::min);
        let last = points().map(|(x, _)| x).fold(f64::MIN, f64::max);
        Some(Slope {
            per_s,
            error: (residual / (n - 2.0) / sxx).sqrt(),
            span_s: last - first,
        })
    }
}

/// Durations by size, each class a quarter wider than the one before: quantiles are right to 12 %.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    counts: [u32; Self::CLASSES],
    total: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            counts: [0; Self::CLASSES],
            total: 0,
        }
    }
}

impl Sizes {
    /// Four classes a power of two, from 2^10 ns (1 µs) to 2^44 ns (5 hours).
    const CLASSES: usize = 4 * 34;
    const FIRST_POWER: u32 = 10;

    /// One duration more.
    pub(super) fn add(&mut self, ns: u64) {
        let power = ns.max(1 << Self::FIRST_POWER).ilog2();
        let quarter = (ns >> (power.max(2) - 2)) & 3;
        let class = 4 * (power - Self::FIRST_POWER) as usize + quarter as usize;
        let slot = &mut self.counts[class.min(Self::CLASSES - 1)];
        *slot = slot.saturating_add(1);
        self.total += 1;
    }

    /// Median and 99th percentile, ns.
    pub(super) fn median_and_p99(&self) -> Option<(u64, u64)> {
        (self.total > 0).then(|| (self.quantile(50), self.quantile(99)))
    }

    fn quantile(&self, percent: u64) -> u64 {
        let wanted = (self.total * percent).div_ceil(100);
        let mut so_far = 0;
        let class = self.counts.iter().position(|&count| {
            so_far += u64::from(count);
            so_far >= wanted
        });
        let class = class.unwrap_or(Self::CLASSES - 1) as u64;
        let quarter = 1 << (u64::from(Self::FIRST_POWER) + class / 4 - 2);
        // The middle of the class.
        quarter * (4 + class % 4) + quarter / 2
    }
}

#[cfg(test)]
mod tests {
    use super::{Meter, Ring, SECOND, Sizes, TENTH, Trend};

    #[test]
    fn a_ring_forgets_what_it_passes_and_takes_what_comes_late() {
        let mut ring = Ring::<4, TENTH>::default();
        ring.add(10 * TENTH, 5);
        ring.add(12 * TENTH, 1);
        ring.add(11 * TENTH, 2);
        assert_eq!(ring.window(12 * TENTH, 4).0, 8);
        ring.add(14 * TENTH, 1);
        assert_eq!(ring.get(10), 0);
        assert_eq!(ring.window(14 * TENTH, 4).0, 4);
        assert_eq!(ring.add(10 * TENTH, 9), 0, "older than the ring");
        ring.add(1_000 * TENTH, 1);
        assert_eq!(ring.window(1_000 * TENTH, 4).0, 1);
    }

    #[test]
    fn rates_count_the_time_there_was() {
        let mut meter = Meter::default();
        let start = 1_000 * SECOND;
        for tick in 0..500 {
            meter.add(start + tick * TENTH / 10, 1);
        }
        let rates = meter.rates(start + 5 * SECOND, start);
        assert!((rates.second - 100.0).abs() < 12.0, "{rates:?}");
        assert!((rates.ten - 100.0).abs() < 1.0, "{rates:?}");
        assert!((rates.minute - 100.0).abs() < 1.0, "{rates:?}");
        assert!((rates.peak - 100.0).abs() < 1.0, "{rates:?}");
        let later = meter.rates(start + 65 * SECOND, start);
        assert_eq!((later.second, later.ten), (0.0, 0.0));
        assert!((later.peak - 100.0).abs() < 1.0);
    }

    #[test]
    fn growth_between_two_looks_makes_no_peak() {
        let mut meter = Meter::default();
        let start = 1_000 * SECOND;
        meter.spread(start, start + SECOND, 50);
        let rates = meter.rates(start + SECOND, start);
        assert!((rates.second - 50.0).abs() < 8.0, "{rates:?}");
        assert!(rates.peak <= 60.0, "{rates:?}");
    }

    #[test]
    fn a_slope_is_that_of_the_window_and_knows_how_sure_it_is() {
        let mut trend = Trend::<61>::default();
        for second in 0..100_u64 {
            let level = second.saturating_sub(90) * 50;
            trend.push(second * SECOND, level, SECOND);
        }
        let now = 99 * SECOND;
        let last = trend.slope(now, 9 * SECOND).unwrap();
        assert!((last.per_s - 50.0).abs() < 0.01, "{last:?}");
        assert!(last.error < 0.01, "{last:?}");
        let all = trend.slope(now, 60 * SECOND).unwrap();
        assert!(all.per_s < 20.0 && all.error > 0.5, "{all:?}");
        assert!(trend.slope(now, SECOND / 2).is_none());
    }

    #[test]
    fn quantiles_are_right_to_an_eighth() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.median_and_p99(), None);
        for ms in 1..=1_000_u64 {
            sizes.add(ms * 1_000_000);
        }
        sizes.add(0);
        sizes.add(u64::MAX);
        let (median, p99) = sizes.median_and_p99().unwrap();
        assert!((437..=563).contains(&(median / 1_000_000)), "{median}");
        assert!((866..=1_114).contains(&(p99 / 1_000_000)), "{p99}");
    }
}
