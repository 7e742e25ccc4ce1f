/*! How long connect() looked for a source port: at first, and now. */

use super::meter::SECOND;

/// How many searches make up the beginning.
const FIRST: u64 = 1_000;

/// Sum, ns, and count.
type Mean = (u64, u64);

/// Port-search times of one pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Searches {
    first: Mean,
    /// The second `now` is the sum of.
    second: u64,
    now: Mean,
    before: Mean,
    all: Mean,
}

impl Searches {
    /// `count` searches took `sum_ns` together.
    pub(super) fn add(&mut self, at_ns: u64, sum_ns: u64, count: u64) {
        let second = at_ns / SECOND;
        if second > self.second {
            self.before = if second == self.second + 1 {
                self.now
            } else {
                (0, 0)
            };
            self.now = (0, 0);
            self.second = second;
        }
        let first = (self.first.1 < FIRST).then_some(&mut self.first);
        let all = [Some(&mut self.now), Some(&mut self.all), first];
        for (sum, number) in all.into_iter().flatten() {
            *sum = sum.saturating_add(sum_ns);
            *number += count;
        }
    }

    /// Time spent in all, ns, and in how many searches.
    pub(super) fn all(&self) -> (u64, u64) {
        self.all
    }

    /// Mean of the first thousand, and of the last second (of the second before where that is
    /// young), ns.
    pub(super) fn first_and_now(&self, now_ns: u64) -> Option<(u64, u64)> {
        let first = mean(self.first)?;
        let behind = (now_ns / SECOND).saturating_sub(self.second);
        let recent = match behind {
            0 => (self.now.0 + self.before.0, self.now.1 + self.before.1),
            1 => self.now,
            _ => (0, 0),
        };
        // Where nothing searched, nothing got slower.
        Some((first, mean(recent).unwrap_or(first)))
    }
}

fn mean((sum, count): Mean) -> Option<u64> {
    sum.checked_div(count)
}

#[cfg(test)]
mod tests {
    use super::{FIRST, SECOND, Searches};

    #[test]
    fn the_beginning_stays_and_the_present_moves() {
        let mut searches = Searches::default();
        assert_eq!(searches.first_and_now(0), None);
        let start = 100 * SECOND;
        for tick in 0..FIRST {
            searches.add(start + tick, 500, 1);
        }
        searches.add(start + 5 * SECOND, 90_000, 3);
        assert_eq!(
            searches.first_and_now(start + 5 * SECOND),
            Some((500, 30_000))
        );
        assert_eq!(searches.first_and_now(start + 9 * SECOND), Some((500, 500)));
    }
}
