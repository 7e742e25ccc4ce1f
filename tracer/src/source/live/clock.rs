/*! The clock that the kernel side's times are of, and the way from it to the calendar. */

use nix::time::{ClockId, clock_gettime};

/// The present, ns of `CLOCK_MONOTONIC`.
pub(super) fn now_ns() -> u64 {
    u64::try_from(read(ClockId::CLOCK_MONOTONIC)).unwrap_or(0)
}

/// Realtime minus monotonic, ns: of a few tries the one that was interrupted least.
pub(super) fn offset_ns() -> i64 {
    (0..5)
        .map(|_| {
            let before = read(ClockId::CLOCK_MONOTONIC);
            let real = read(ClockId::CLOCK_REALTIME);
            let after = read(ClockId::CLOCK_MONOTONIC);
            (after - before, real - (before + (after - before) / 2))
        })
        .min()
        .map_or(0, |(_, offset)| offset)
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock).expect("both clocks exist on every Linux");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}
