/*! A pool that is waited for, in a sentence. */

use std::fmt;
use std::time::Duration;

use super::text::columns::{endpoint, grouped};
use crate::model::PoolId;

/// A pool above the level it is to drain to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Which.
    pub pool: PoolId,
    /// Ports in use.
    pub used: u64,
    /// Ports there are, where known.
    pub capacity: Option<u64>,
    /// Those in TIME_WAIT.
    pub time_wait: u64,
    /// When it will have drained at the latest if nothing is opened; `None` when open connections
    /// have to be closed first.
    pub due: Option<Duration>,
}

impl fmt::Display for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", grouped(self.used))?;
        if let Some(capacity) = self.capacity {
            write!(f, " of {}", grouped(capacity))?;
        }
        let to = endpoint(self.pool.dst, self.pool.dport);
        write!(
            f,
            " ports to {to} held, {} in TIME_WAIT; ",
            grouped(self.time_wait)
        )?;
        match self.due {
            Some(due) => {
                let seconds = due.as_millis().div_ceil(1000);
                write!(f, "clean in at most {seconds} s")
            }
            None => write!(f, "open connections must be closed first"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Draining;
    use crate::model::PoolId;

    #[test]
    fn says_what_is_held_and_until_when() {
        let mut draining = Draining {
            pool: PoolId {
                netns: 1,
                src: "10.0.0.1".parse().unwrap(),
                dst: "10.0.0.5".parse().unwrap(),
                dport: 6432,
            },
            used: 17_402,
            capacity: Some(28_232),
            time_wait: 17_398,
            due: Some(Duration::from_millis(42_001)),
        };
        assert_eq!(
            draining.to_string(),
            "17,402 of 28,232 ports to 10.0.0.5:6432 held, 17,398 in TIME_WAIT; clean in at most 43 s"
        );
        draining.capacity = None;
        draining.due = None;
        assert_eq!(
            draining.to_string(),
            "17,402 ports to 10.0.0.5:6432 held, 17,398 in TIME_WAIT; \
             open connections must be closed first"
        );
    }
}
