/*!
What each program in the kernel costs: runs, time, and runs that were skipped,
of every program of the machine, tracer's or another's. For `cargo xtask bench`.

The kernel counts runs only while somebody asks it to, and counting takes about
as long as an empty program: costs are compared with those of empty programs,
and throughput is measured without.
*/

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;
use std::{fs, io};

use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

/// What a program cost since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Its name, cut by the kernel to 15 bytes.
    pub name: String,
    /// How often it ran, while that was counted.
    pub runs: u64,
    /// How long these runs took.
    pub time: Duration,
    /// How often it did not run because it was running already; `None` before Linux 5.12.
    pub misses: Option<u64>,
}

/// Lets the kernel count runs and their time until the descriptor is closed (Linux 5.8).
///
/// # Errors
/// When the kernel refuses: it takes `CAP_SYS_ADMIN`.
pub fn count() -> io::Result<OwnedFd> {
    enable_stats(Stats::RunTime).map_err(|error| error.io_error)
}

/// Every program in the kernel, by id. One that goes meanwhile is left out.
///
/// # Errors
/// When programs cannot be listed: it takes `CAP_SYS_ADMIN`.
pub fn costs() -> io::Result<BTreeMap<u32, Cost>> {
    let mut costs = BTreeMap::new();
    for program in loaded_programs() {
        let Ok(program) = program else { continue };
        let Ok(fd) = program.fd() else { continue };
        let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        let name = String::from_utf8_lossy(program.name()).into_owned();
        costs.insert(program.id(), parse(name, &fs::read_to_string(path)?));
    }
    Ok(costs)
}

/// Reads what `bpf_prog_show_fdinfo` (kernel/bpf/syscall.c) writes.
fn parse(name: String, fdinfo: &str) -> Cost {
    Cost {
        name,
        runs: field(fdinfo, "run_cnt:").unwrap_or(0),
        time: Duration::from_nanos(field(fdinfo, "run_time_ns:").unwrap_or(0)),
        misses: misses(fdinfo),
    }
}

/// Runs of a program that were skipped, out of its fdinfo.
pub(super) fn misses(fdinfo: &str) -> Option<u64> {
    field(fdinfo, "recursion_misses:")
}

fn field(fdinfo: &str, name: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    fdinfo.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Cost, parse};

    #[test]
    fn fdinfo_is_read_of_kernels_that_count_misses_and_of_others() {
        let old = "pos:\t0\nprog_type:\t26\nprog_id:\t7\nrun_time_ns:\t1500\nrun_cnt:\t12\n";
        let cost = |misses| Cost {
            name: "state".to_owned(),
            runs: 12,
            time: Duration::from_nanos(1500),
            misses,
        };
        assert_eq!(parse("state".to_owned(), old), cost(None));
        let new = format!("{old}recursion_misses:\t3\nverified_insns:\t900\n");
        assert_eq!(parse("state".to_owned(), &new), cost(Some(3)));
    }
}
