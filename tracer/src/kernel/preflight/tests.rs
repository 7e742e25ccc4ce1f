/*! Each sentence from injected facts: this file the machine, `hooks` the hooks. */

use std::path::Path;

use super::facts::{parse_lockdown, read_types};
use super::*;
use crate::kernel::kallsyms::Symbol;
use crate::model::{Check, Report};

mod gaps;
mod hooks;

const EPERM: &str = "the BPF_PROG_LOAD syscall failed: Operation not permitted (os error 1)";

/// A machine on which everything is as wanted.
fn good() -> Facts {
    Facts {
        release: "6.12.1-test".to_owned(),
        types: Ok(Types::default()),
        is_root: true,
        effective: u64::MAX,
        bounding: u64::MAX,
        first_user_namespace: Some(true),
        first_pid_namespace: Some(true),
        seccomp: false,
        lockdown: Lockdown::None,
        memlock: 8 << 20,
        cgroups: Cgroups::V2,
        jit: Some(1),
        perf_event_paranoid: Some(2),
        kptr_restrict: Some(0),
        tw_timer_handler: Symbol::At(0xffff_ffff_8000_0000),
        tracefs: Some("/sys/kernel/tracing".into()),
    }
}

fn but(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = good();
    change(&mut facts);
    facts
}

fn without(capability: Capability) -> u64 {
    !(1 << capability as u32)
}

fn trial(hook: &'static str, gives: &'static str, result: Result<(), &str>) -> HookTrial {
    HookTrial {
        hook,
        backend: if hook.starts_with('f') {
            "trampoline"
        } else {
            "tracepoint"
        },
        fact: gives,
        gives,
        result: result.map_err(str::to_owned),
    }
}

/// The state tracepoint, and a trampoline and a tracepoint that give the same.
fn trials(trampoline: Result<(), &str>) -> Vec<HookTrial> {
    vec![
        trial("tp_btf/inet_sock_set_state", "connections", Ok(())),
        trial("fexit/inet_twsk_alloc", "births", trampoline),
        trial("tp_btf/tcp_destroy_sock", "births", Ok(())),
    ]
}

fn judged(facts: &Facts) -> Report {
    report(facts, Ok(&trials(Ok(()))))
}

fn found<'a>(report: &'a Report, name: &str) -> &'a Check {
    report
        .checks
        .iter()
        .find(|check| check.name == name)
        .unwrap_or_else(|| panic!("no check {name} in {report:#?}"))
}

#[test]
fn a_good_machine_has_nothing_to_complain_of() {
    let report = judged(&good());
    for check in &report.checks {
        assert_eq!((check.status, &check.fix), (Status::Ok, &None), "{check:?}");
    }
    assert_eq!(
        report.verdict(),
        "tracing works here with the trampoline backend: everything is seen, nothing inferred"
    );
    assert!(refuse(&good()).is_none());
}

/// (what is wrong, name of the check, its status where tracing works, words of `found`, `means` and `fix`)
type Case = (fn(&mut Facts), &'static str, Status, [&'static str; 3]);

#[test]
fn each_fact_has_its_sentence() {
    use Status::{Degraded, Ok as Good};
    let cases: &[Case] = &[
        (
            |f| f.release = "5.7.19".into(),
            "kernel",
            Degraded,
            ["5.7.19", "ring buffer", "5.10"],
        ),
        (
            |f| f.release = "5.8.1".into(),
            "kernel",
            Degraded,
            ["5.8.1", "tried on 5.10", "5.10"],
        ),
        (
            |f| f.release = "7.3.4+deb13".into(),
            "kernel",
            Good,
            ["7.3.4+deb13", "new enough", ""],
        ),
        (
            |f| f.release = String::new(),
            "kernel",
            Good,
            ["not known", "", ""],
        ),
        (
            |f| {
                f.types = Ok(Types {
                    missing: vec!["linger2"],
                    ..Types::default()
                });
            },
            "BTF",
            Degraded,
            ["linger2", "unknown", "newer tracer"],
        ),
        (
            |f| f.effective = without(Capability::SysAdmin),
            "CAP_SYS_ADMIN",
            Degraded,
            ["not held", "enter network namespaces", "sudo"],
        ),
        (
            |f| f.effective = without(Capability::SysPtrace),
            "CAP_SYS_PTRACE",
            Degraded,
            ["not held", "exe", "sudo"],
        ),
        (
            |f| {
                f.effective = without(Capability::Syslog);
                f.bounding = f.effective;
            },
            "CAP_SYSLOG",
            Degraded,
            ["not held", "TIME_WAIT timers", "add: [SYSLOG]"],
        ),
        (
            |f| f.lockdown = Lockdown::Integrity,
            "lockdown",
            Good,
            ["integrity", "allowed", ""],
        ),
        (
            |f| f.lockdown = Lockdown::Unknown,
            "lockdown",
            Good,
            ["not known", "trial loads", ""],
        ),
        (
            |f| f.lockdown = Lockdown::Confidentiality,
            "lockdown",
            Degraded,
            ["confidentiality", "perf tracepoints", "lockdown=integrity"],
        ),
        (
            |f| f.jit = Some(0),
            "JIT",
            Degraded,
            ["off", "slower", "bpf_jit_enable=1"],
        ),
        (|f| f.jit = None, "JIT", Good, ["not shown", "root", ""]),
        (
            |f| f.tracefs = None,
            "tracefs",
            Good,
            ["not mounted", "only it sees", ""],
        ),
        (
            |f| {
                f.tracefs = None;
                f.effective = without(Capability::SysAdmin);
            },
            "tracefs",
            Degraded,
            ["not mounted", "errno of connect()", "mount -t tracefs"],
        ),
        (
            |f| {
                f.is_root = false;
                f.effective = without(Capability::SysAdmin) & without(Capability::DacReadSearch);
            },
            "tracefs",
            Degraded,
            ["/sys/kernel/tracing", "only root", "sudo"],
        ),
        (
            |f| {
                f.perf_event_paranoid = Some(4);
                f.effective = without(Capability::SysAdmin);
            },
            "perf_event_paranoid",
            Degraded,
            ["4", "CAP_SYS_ADMIN", "sudo"],
        ),
        (
            |f| f.perf_event_paranoid = Some(4),
            "perf_event_paranoid",
            Good,
            ["4", "", ""],
        ),
        (
            |f| f.perf_event_paranoid = None,
            "perf_event_paranoid",
            Degraded,
            ["no /proc", "no perf events", "CONFIG_PERF_EVENTS"],
        ),
        (
            |f| f.tw_timer_handler = Symbol::Hidden,
            "tw_timer_handler",
            Good,
            ["it takes CAP_SYSLOG", "trampolines load", ""],
        ),
        (
            |f| f.first_pid_namespace = Some(false),
            "pid namespace",
            Degraded,
            ["container", "host's pids", "hostPID: true"],
        ),
        (
            |f| f.first_pid_namespace = None,
            "pid namespace",
            Degraded,
            ["not known", "/proc", "mount"],
        ),
        (
            |f| f.cgroups = Cgroups::V1,
            "cgroups",
            Degraded,
            ["v1", "container", "unified"],
        ),
        (
            |f| f.cgroups = Cgroups::None,
            "cgroups",
            Degraded,
            ["none", "unknown", "cgroup2"],
        ),
        (
            |f| {
                f.release = "5.10.0".into();
                f.memlock = 65536;
                f.effective = without(Capability::SysResource);
            },
            "RLIMIT_MEMLOCK",
            Degraded,
            ["64 KiB", "CAP_SYS_RESOURCE", "ulimit -l unlimited"],
        ),
        (
            |f| {
                f.release = "5.10.0".into();
                f.memlock = 65536;
            },
            "RLIMIT_MEMLOCK",
            Good,
            ["64 KiB", "raises it", ""],
        ),
        (
            |f| {
                f.release = "5.10.0".into();
                f.memlock = u64::MAX;
            },
            "RLIMIT_MEMLOCK",
            Good,
            ["unlimited", "fit in", ""],
        ),
    ];
    for (change, name, status, [in_found, in_means, in_fix]) in cases {
        let report = judged(&but(change));
        let check = found(&report, name);
        assert_eq!(check.status, *status, "{check:?}");
        assert!(check.found.contains(in_found), "{in_found}: {check:?}");
        assert!(check.means.contains(in_means), "{in_means}: {check:?}");
        let fix = check.fix.as_deref().unwrap_or_default();
        assert!(fix.contains(in_fix), "{in_fix}: {check:?}");
        assert_eq!(fix.is_empty(), in_fix.is_empty(), "{check:?}");
        assert!(report.can_trace, "{name}");
    }
}

/// (what is wrong, name of the check, words of the sentence)
type FatalCase = (fn(&mut Facts), &'static str, &'static [&'static str]);

#[test]
fn what_rules_tracing_out_is_one_sentence_with_a_way_out() {
    let cases: &[FatalCase] = &[
        (
            |f| f.types = Err(NoBtf::Absent),
            "BTF",
            &["no /sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"],
        ),
        (
            |f| f.types = Err(NoBtf::Unusable("it is damaged at byte 7".into())),
            "BTF",
            &["damaged at byte 7", "newer tracer"],
        ),
        (
            |f| {
                f.types = Ok(Types {
                    missing: vec!["skc_daddr"],
                    ..Types::default()
                });
            },
            "BTF",
            &["no skc_daddr", "newer tracer"],
        ),
        (
            |f| f.effective = 0,
            "CAP_BPF",
            &["CAP_BPF and CAP_PERFMON", "sudo tracer"],
        ),
        (
            |f| {
                f.effective = without(Capability::SysAdmin) & without(Capability::Perfmon);
                f.bounding = f.effective;
            },
            "CAP_PERFMON",
            &[
                "takes CAP_PERFMON,",
                "add: [PERFMON]",
                "--cap-add PERFMON",
                "CAP_PERFMON (systemd)",
            ],
        ),
        (
            |f| f.first_user_namespace = Some(false),
            "user namespace",
            &["not the host's", "even all of them", "rootless"],
        ),
    ];
    for (change, name, words) in cases {
        let facts = but(change);
        let sentence = refuse(&facts).unwrap().to_string();
        for word in *words {
            assert!(sentence.contains(word), "{word}: {sentence}");
        }
        assert!(!sentence.contains('\n'), "{sentence}");
        let report = report(&facts, Ok(&trials(Ok(()))));
        assert_eq!(found(&report, name).status, Status::Missing, "{name}");
        assert!(!report.can_trace);
        assert!(report.verdict().contains(name), "{}", report.verdict());
    }
}

#[test]
fn sys_admin_stands_for_bpf_and_perfmon() {
    let facts = but(|f| f.effective = 1 << Capability::SysAdmin as u32);
    assert!(facts.has(Capability::Bpf) && facts.has(Capability::Perfmon));
    assert!(!facts.has(Capability::Syslog));
    assert!(refuse(&facts).is_none());
}

#[test]
fn lockdown_and_releases_are_parsed() {
    assert_eq!(
        parse_lockdown("[none] integrity confidentiality\n"),
        Lockdown::None
    );
    assert_eq!(
        parse_lockdown("none [integrity] confidentiality\n"),
        Lockdown::Integrity
    );
    assert_eq!(
        parse_lockdown("none integrity [confidentiality]\n"),
        Lockdown::Confidentiality
    );
    assert_eq!(parse_lockdown(""), Lockdown::Unknown);
    for (release, version) in [
        ("5.10.0-46-cloud-amd64", Some((5, 10))),
        ("7.3.4+deb13-cloud-amd64", Some((7, 3))),
        ("6.6", Some((6, 6))),
        ("6", None),
        ("generic", None),
    ] {
        assert_eq!(but(|f| f.release = release.into()).version(), version);
    }
}

#[test]
fn the_running_machine_is_read() {
    let facts = Facts::read();
    assert!(!facts.release.is_empty());
    assert_eq!(
        read_types(Path::new("/sys/kernel/btf/none")),
        Err(NoBtf::Absent)
    );
    match &facts.types {
        Ok(types) => assert!(!types.absent.contains(&REQUIRED_HOOK), "{types:?}"),
        Err(why) => println!("skipping the BTF part of the_running_machine_is_read: {why:?}"),
    }
}
