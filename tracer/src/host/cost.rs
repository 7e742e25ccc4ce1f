/*!
What a look at the machine costs: time of the processor, to which a busy
machine, where the look has to wait for its turn, adds nothing.
*/

use std::cell::Cell;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

thread_local! {
    /// What threads spent that this one waited for, to look into other namespaces.
    static ELSEWHERE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Processor time of this thread so far, and of the threads it ran in other namespaces.
#[must_use]
pub fn spent() -> Duration {
    // The clock exists since Linux 2.6.12; where it does not, a look seems to cost nothing.
    let own = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    own.map_or(Duration::ZERO, Duration::from) + ELSEWHERE.get()
}

/// Adds what another thread spent for this one.
pub(super) fn add(spent: Duration) {
    ELSEWHERE.set(ELSEWHERE.get() + spent);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::spent;
    use crate::host::netns::Netns;

    /// Computes until it has cost so much, and returns how much it did.
    fn work(cost: Duration) -> Duration {
        let before = spent();
        while spent() - before < cost {}
        spent() - before
    }

    #[test]
    fn work_costs_and_waiting_does_not() {
        let before = spent();
        work(Duration::from_millis(20));
        let worked = spent() - before;
        assert!(worked >= Duration::from_millis(20), "{worked:?}");
        let before = spent();
        std::thread::sleep(Duration::from_millis(200));
        let slept = spent() - before;
        assert!(slept < Duration::from_millis(100), "{slept:?}");
    }

    #[test]
    fn work_in_another_namespace_is_ones_own() {
        let Ok(netns) = Netns::anonymous() else {
            eprintln!("skipping work_in_another_namespace_is_ones_own: not root");
            return;
        };
        let before = spent();
        let inside = netns.run_in(|| work(Duration::from_millis(20))).unwrap();
        let worked = spent() - before;
        assert!(worked >= inside, "{worked:?}, inside {inside:?}");
    }
}
