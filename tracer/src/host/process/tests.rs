/*! Real processes where one can be had, a made-up /proc where one cannot. */

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Processes, readable};
use crate::model::{Process, Runtime, Task, TaskName};

fn task(tgid: u32, start_ns: u64, cgroup_id: u64) -> Task {
    Task {
        tgid,
        start_ns,
        cgroup_id,
        ..Task::default()
    }
}

fn start_ns(pid: u32) -> u64 {
    let stat = procfs::process::Process::new(i32::try_from(pid).unwrap())
        .unwrap()
        .stat()
        .unwrap();
    stat.starttime * (1_000_000_000 / procfs::ticks_per_second())
}

fn own_exe() -> String {
    let exe = std::env::current_exe().unwrap();
    exe.to_str().unwrap().to_owned()
}

/// A process that lives until its stdin closes.
fn sleeper(program: &std::path::Path) -> Child {
    Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for the exec of a child: until then its exe is ours.
fn wait_for_exe(pid: u32, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let link = format!("/proc/{pid}/exe");
    while !std::fs::read_link(&link).is_ok_and(|exe| exe.to_string_lossy().starts_with(expected)) {
        assert!(Instant::now() < deadline, "{link} is not {expected}");
        std::thread::yield_now();
    }
}

#[test]
fn knows_itself_at_tick_granularity() {
    let pid = std::process::id();
    let mut processes = Processes::new();
    let exact = start_ns(pid);
    let identity = processes.resolve(&task(pid, exact, 0));
    assert_eq!(identity.exe, Some(own_exe().into()));
    assert!(identity.cgroup.as_deref().unwrap().starts_with('/'));

    let later_in_the_tick = processes.resolve(&task(pid, exact + 9_999_999, 0));
    assert_eq!(later_in_the_tick.exe, Some(own_exe().into()));
}

#[test]
fn another_start_time_is_another_process() {
    let pid = std::process::id();
    let mut processes = Processes::new();
    let reused = processes.resolve(&task(pid, start_ns(pid) + 10_000_000, 0));
    assert_eq!(
        *reused,
        Process::of(&task(pid, start_ns(pid) + 10_000_000, 0))
    );
}

#[test]
fn a_dead_process_keeps_what_was_read() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("cat");
    std::fs::copy("/bin/cat", &program).unwrap();
    let mut child = sleeper(&program);
    wait_for_exe(child.id(), program.to_str().unwrap());
    let start = start_ns(child.id());
    let mut processes = Processes::new();
    std::fs::remove_file(&program).unwrap();
    let alive = processes.resolve(&task(child.id(), start, 0));
    assert_eq!(
        alive.exe.as_deref(),
        program.to_str(),
        "with the kernel's (deleted)"
    );

    drop(child.stdin.take());
    child.wait().unwrap();
    let dead = processes.resolve(&task(child.id(), start, 0));
    assert!(Arc::ptr_eq(&alive, &dead));

    let unseen = Processes::new().resolve(&task(child.id(), start, 1));
    assert_eq!(unseen.exe, None);
    assert_eq!(unseen.cgroup.as_deref(), Some("/"));
}

/// A cgroup that goes when the test ends, however it ends.
struct Scope(PathBuf);

impl Drop for Scope {
    fn drop(&mut self) {
        // Refused while a process is inside; the test that failed has said why.
        std::fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn the_container_is_known_alive_and_dead() {
    let name = "the_container_is_known_alive_and_dead";
    let mounts = procfs::process::Process::myself()
        .unwrap()
        .mountinfo()
        .unwrap();
    let Some(mount) = mounts
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup2" && mount.root == "/")
    else {
        eprintln!("skipping {name}: no cgroup2 is mounted");
        return;
    };
    let id = format!("{:064x}", std::process::id());
    let unit = format!("docker-{id}.scope");
    let directory = mount.mount_point.join(&unit);
    if let Err(error) = std::fs::create_dir(&directory) {
        eprintln!("skipping {name}: no cgroup can be made here: {error}");
        return;
    }
    let scope = Scope(directory);
    let mut child = sleeper("/bin/cat".as_ref());
    let pid = child.id();
    std::fs::write(scope.0.join("cgroup.procs"), pid.to_string()).unwrap();
    let start = start_ns(pid);
    let cgroup_id = std::fs::metadata(&scope.0).unwrap().ino();

    let alive = Processes::new().resolve(&task(pid, start, cgroup_id));
    drop(child.stdin.take());
    child.wait().unwrap();
    let dead = Processes::new().resolve(&task(pid, start, cgroup_id));

    for identity in [&alive, &dead] {
        assert_eq!(identity.cgroup, Some(format!("/{unit}").into()));
        assert_eq!(identity.container.as_deref(), Some(id.as_str()));
        assert_eq!(identity.runtime, Some(Runtime::Docker));
    }
    assert!(alive.exe.is_some());
    assert_eq!(dead.exe, None);
}

#[test]
fn a_missing_or_foreign_proc_answers_nothing() {
    let empty = tempfile::tempdir().unwrap();
    std::fs::create_dir(empty.path().join("7")).unwrap();
    let garbled = empty.path().join("8");
    std::fs::create_dir(&garbled).unwrap();
    std::fs::write(garbled.join("stat"), b"8 (\xff\xfe").unwrap();
    let mut processes = Processes::new();
    processes.proc = empty.path().to_owned();
    for tgid in [0, 7, 8, 9, u32::MAX] {
        assert_eq!(
            *processes.resolve(&task(tgid, 5, 0)),
            Process::of(&task(tgid, 5, 0)),
            "{tgid}"
        );
    }
}

#[test]
fn keeps_no_more_than_its_bound_and_drops_the_oldest() {
    let mut processes = Processes::new();
    (processes.known.most, processes.named.most) = (3, 3);
    processes.proc = "/nonexistent".into();
    let first = processes.resolve(&task(1, 1, 0));
    for tgid in 2..=3 {
        processes.resolve(&task(tgid, 1, 0));
    }
    assert!(
        Arc::ptr_eq(&first, &processes.resolve(&task(1, 1, 0))),
        "negative answers are kept"
    );
    processes.resolve(&task(4, 1, 0));
    assert_eq!(processes.known.entries.len(), 3);
    assert_eq!(processes.known.order.len(), 3);
    assert!(
        !Arc::ptr_eq(&first, &processes.resolve(&task(1, 1, 0))),
        "the oldest was kept"
    );
}

#[test]
fn a_process_is_read_once_whatever_its_threads_are_called() {
    let pid = std::process::id();
    let mut processes = Processes::new();
    let named = |thread: u8| Task {
        thread: TaskName::new([thread; 16]),
        ..task(pid, start_ns(pid), 0)
    };
    let first = processes.resolve(&named(b'a'));
    let second = processes.resolve(&named(b'b'));
    assert_eq!(
        (&first.exe, first.thread),
        (&second.exe, named(b'a').thread)
    );
    assert_ne!(first.thread, second.thread);
    assert!(Arc::ptr_eq(&first, &processes.resolve(&named(b'a'))));
    assert!(Arc::ptr_eq(&second, &processes.resolve(&named(b'b'))));
    assert_eq!(processes.known.entries.len(), 1);
}

#[test]
fn asks_again_once_the_cgroups_may_be_walked_again() {
    let mut processes = Processes::new();
    processes.proc = "/nonexistent".into();
    let now = Instant::now();
    let unknown = u64::MAX;
    // The first question walks; where no cgroup2 is mounted every answer is final.
    processes.resolve_at(&task(1, 1, unknown), || now);
    let second = processes.resolve_at(&task(2, 1, unknown), || now);
    let soon = processes.resolve_at(&task(2, 1, unknown), || now + Duration::from_millis(1));
    assert!(Arc::ptr_eq(&second, &soon));
    let later = processes.resolve_at(&task(2, 1, unknown), || now + Duration::from_secs(2));
    let settled = processes.resolve_at(&task(2, 1, unknown), || now + Duration::from_secs(9));
    assert!(Arc::ptr_eq(&later, &settled));
    assert_eq!(processes.known.order.len(), 2);
}

#[test]
fn kernel_threads_have_no_exe() {
    let kernel_thread = procfs::process::all_processes()
        .unwrap()
        .flatten()
        .find(|process| process.stat().is_ok_and(|stat| stat.ppid == 2));
    let Some(process) = kernel_thread else {
        eprintln!("skipping kernel_threads_have_no_exe: none is visible in this pid namespace");
        return;
    };
    let pid = u32::try_from(process.pid).unwrap();
    let identity = Processes::new().resolve(&task(pid, start_ns(pid), 0));
    assert_eq!(identity.exe, None);
    assert_eq!(identity.container, None);
    assert!(identity.cgroup.is_some());
}

#[test]
fn bytes_that_are_not_text_stay_apart() {
    assert_eq!(readable("/usr/bin/café".as_bytes()), "/usr/bin/café");
    assert_eq!(readable(b"/tmp/\xff\xfe!"), "/tmp/\\xff\\xfe!");
    assert_ne!(readable(b"/tmp/\xff"), readable(b"/tmp/\xfe"));
}
