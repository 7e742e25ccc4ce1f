/*! `/proc/PID/stat` and `/proc/PID/status`, of which a process itself writes a part: its name. */

use tracer_ebpf::COMM_LEN;

use crate::model::TaskName;

/// `PF_KTHREAD` of `linux/sched.h`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its name, as it is.
    pub(super) comm: TaskName,
    /// Whether it is a thread of the kernel, which has no files.
    pub(super) kernel: bool,
    /// Its start since boot in ticks of 10 ms: `USER_HZ` is 100 wherever this program runs.
    pub(super) start_ticks: u64,
}

impl Stat {
    /// Reads the line. The name is in parentheses and may hold any byte, parentheses, blanks and
    /// newlines too, so what counts is the *last* closing parenthesis.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|&byte| byte == b'(')?;
        let close = line.iter().rposition(|&byte| byte == b')')?;
        let name = line.get(open + 1..close)?;
        let rest = str::from_utf8(line.get(close + 1..)?).ok()?;
        // After the name come the third field (state) and those after it: flags is the 9th, the
        // start time the 22nd.
        let mut fields = rest.split_ascii_whitespace();
        let flags: u32 = fields.nth(9 - 3)?.parse().ok()?;
        let start_ticks = fields.nth(22 - 10)?.parse().ok()?;
        Some(Self {
            comm: task_name(name),
            kernel: flags & PF_KTHREAD != 0,
            start_ticks,
        })
    }
}

/// The real user id in `/proc/PID/status`. There the kernel escapes newlines in the name, so that
/// no process can write a line of its own.
pub(super) fn real_uid(status: &[u8]) -> Option<u32> {
    let line = status
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Uid:"))?;
    let first = str::from_utf8(line).ok()?;
    first.split_ascii_whitespace().next()?.parse().ok()
}

fn task_name(name: &[u8]) -> TaskName {
    // Names of kernel threads are longer here than the kernel's own field for them.
    let mut bytes = [0; COMM_LEN];
    let length = name.len().min(COMM_LEN - 1);
    bytes[..length].copy_from_slice(&name[..length]);
    TaskName::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Stat, real_uid};

    const REST: &[u8] = b" S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 123456 1000 10\n";

    fn with_name(name: &[u8]) -> Vec<u8> {
        [b"42 (", name, b")", REST].concat()
    }

    #[test]
    fn a_name_cannot_pass_for_fields() {
        for name in [
            &b"nginx"[..],
            b"",
            b"a b c",
            b"a) R 1 2",
            b"((",
            b"))",
            b") S 9 9 (",
            b"x\ny",
            b"\xff\xfe",
            b"(sd-pam)",
        ] {
            let stat = Stat::parse(&with_name(name)).unwrap();
            assert_eq!(stat.comm.bytes(), name);
            assert_eq!(stat.start_ticks, 123_456);
            assert!(!stat.kernel);
        }
        let long = Stat::parse(&with_name(b"kworker/u4:2-events_unbound")).unwrap();
        assert_eq!(long.comm.bytes(), b"kworker/u4:2-ev");
    }

    #[test]
    fn a_thread_of_the_kernel_is_one() {
        let stat = Stat::parse(
            b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 4 0 0 20 0 1 0 7 0 0 18446744073709551615",
        );
        assert!(stat.unwrap().kernel);
    }

    #[test]
    fn torn_lines_are_none() {
        let whole = with_name(b"a) b");
        let start = whole.len() - b" 123456 1000 10\n".len();
        for length in 0..=start {
            assert_eq!(Stat::parse(&whole[..length]), None, "{length}");
        }
        assert_eq!(Stat::parse(b")("), None);
        assert_eq!(Stat::parse(b"1 (x) \xff\xff"), None);
    }

    #[test]
    fn the_uid_is_the_real_one() {
        let status = b"Name:\tevil\\nUid:\t0\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t5\n";
        assert_eq!(real_uid(status), Some(1000));
        assert_eq!(real_uid(b"Name:\tx\n"), None);
        assert_eq!(real_uid(b"Uid:\t\n"), None);
        assert_eq!(real_uid(b"Uid:\t-1\n"), None);
    }

    #[test]
    fn reads_its_own() {
        let stat = Stat::parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        let procfs = procfs::process::Process::myself().unwrap().stat().unwrap();
        assert_eq!(stat.start_ticks, procfs.starttime);
        assert_eq!(procfs::ticks_per_second(), 100);
        let uid = real_uid(&std::fs::read("/proc/self/status").unwrap());
        assert_eq!(uid, Some(nix::unistd::getuid().as_raw()));
    }
}
