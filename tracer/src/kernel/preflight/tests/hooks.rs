/*! Refused hooks: the reason, what stands in, what is lost. */

use super::*;
use crate::model::Status;

/// (what is wrong, hook, its error, words of the sentence)
type RefusalCase = (fn(&mut Facts), &'static str, &'static str, &'static str);

#[test]
fn no_refusal_is_passed_on_bare() {
    let trampoline = "fexit/inet_twsk_alloc";
    let syscall = "syscalls/sys_exit_connect";
    let old = |f: &mut Facts| {
        f.release = "5.10.0".into();
        f.memlock = 65536;
        f.effective = without(Capability::SysResource);
    };
    let cases: &[RefusalCase] = &[
        (
            |_| (),
            trampoline,
            EPERM,
            "refuses fentry/fexit programs although all capabilities",
        ),
        (|_| (), "tp_btf/tcp_destroy_sock", EPERM, "security module"),
        (
            |f| f.effective = 0,
            trampoline,
            EPERM,
            "it takes CAP_BPF and CAP_PERFMON",
        ),
        (
            |f| f.first_user_namespace = Some(false),
            trampoline,
            EPERM,
            "user namespace",
        ),
        (|f| f.seccomp = true, trampoline, EPERM, "seccomp"),
        (old, trampoline, EPERM, "RLIMIT_MEMLOCK is too small"),
        (
            |f| f.lockdown = Lockdown::Confidentiality,
            syscall,
            EPERM,
            "lockdown=confidentiality",
        ),
        (
            |f| f.effective = without(Capability::SysAdmin),
            syscall,
            EPERM,
            "CAP_SYS_ADMIN",
        ),
        (
            |_| (),
            syscall,
            "Permission denied (os error 13)",
            "root only",
        ),
        (
            |_| (),
            trampoline,
            "load: R1 invalid mem access (os error 13)",
            "R1 invalid mem access",
        ),
        (
            |_| (),
            syscall,
            "No such file or directory (os error 2)",
            "not in tracefs",
        ),
        (
            |_| (),
            trampoline,
            "No such process (os error 3)",
            "does not know inet_twsk_alloc",
        ),
        (
            |_| (),
            trampoline,
            "Unknown error 524 (os error 524)",
            "no trampolines",
        ),
        (
            |_| (),
            trampoline,
            "Invalid argument (os error 22)",
            "kind of program",
        ),
        (
            |_| (),
            trampoline,
            "Argument list too long (os error 7)",
            "too big",
        ),
        (|_| (), trampoline, "EPERM", "refuses fentry/fexit"),
        (|_| (), trampoline, "the moon is full", "the moon is full"),
        (
            |f| {
                f.types = Ok(Types {
                    absent: vec!["inet_twsk_alloc"],
                    ..Types::default()
                });
            },
            trampoline,
            "the BTF type was not found",
            "not in this kernel's BTF",
        ),
        (
            |f| {
                f.types = Ok(Types {
                    changed: vec!["inet_twsk_alloc"],
                    ..Types::default()
                });
            },
            trampoline,
            EPERM,
            "other arguments",
        ),
    ];
    for (change, hook, error, words) in cases {
        let facts = but(change);
        let refused = trial(hook, "something", Err(error));
        let sentence = explain(&facts, &refused).to_string();
        assert!(sentence.contains(words), "{words}: {sentence}");
        assert!(sentence.contains(hook), "{sentence}");
        assert!(!sentence.contains("Operation not permitted"), "{sentence}");
    }
}

#[test]
fn a_long_error_is_cut_at_a_character() {
    let error = "é".repeat(500);
    let sentence = explain(&good(), &trial("fexit/x", "y", Err(&error))).to_string();
    assert!(
        sentence.contains(&format!("{}…", "é".repeat(160))),
        "{sentence}"
    );
}

#[test]
fn a_refused_trampoline_leaves_the_tracepoint_backend() {
    let report = report(&good(), Ok(&trials(Err(EPERM))));
    assert_eq!(
        (report.can_trace, report.backend),
        (true, Some("tracepoint"))
    );
    let check = found(&report, "fexit/inet_twsk_alloc");
    assert_eq!(check.status, Status::Degraded);
    assert!(
        check
            .means
            .contains("the tracepoint backend is used (tp_btf/tcp_destroy_sock)"),
        "{check:?}"
    );
    assert!(report.inferred.is_empty(), "{report:?}");
}

#[test]
fn what_no_hook_gives_is_in_the_verdict() {
    let mut all = trials(Err(EPERM));
    all[2].result = Err(EPERM.to_owned());
    let judged = report(&good(), Ok(&all));
    assert_eq!(judged.inferred, ["births"]);
    assert_eq!(
        judged.verdict(),
        "tracing works here with the tracepoint backend; inferred or not known: births"
    );
    all[1].result = Ok(());
    all.push(trial(
        "fexit/inet_csk_get_port",
        "bind() failures",
        Err(EPERM),
    ));
    let judged = report(&good(), Ok(&all));
    assert_eq!(judged.backend, Some("mixed"));
    assert_eq!(judged.inferred, ["bind() failures"]);
}

#[test]
fn a_hidden_handler_matters_only_without_trampolines() {
    let cases = [
        (Some(0), u64::MAX, "sudo"),
        (Some(1), without(Capability::Syslog), "add: [SYSLOG]"),
        (Some(2), u64::MAX, "kptr_restrict=1"),
        (None, u64::MAX, "sudo"),
    ];
    for (level, bounding, fix) in cases {
        let facts = but(|f| {
            f.tw_timer_handler = Symbol::Hidden;
            f.kptr_restrict = level;
            f.effective = without(Capability::Syslog);
            f.bounding = bounding;
        });
        let report = report(&facts, Ok(&trials(Err(EPERM))));
        let check = found(&report, "tw_timer_handler");
        assert_eq!(check.status, Status::Degraded);
        assert!(check.fix.as_deref().unwrap().contains(fix), "{check:?}");
    }
}

#[test]
fn without_the_state_tracepoint_there_is_a_missing_check() {
    let mut refused = trials(Ok(()));
    refused[0].result = Err(EPERM.to_owned());
    let cases: [(Result<&[HookTrial], &str>, &str); 4] = [
        (Ok(&refused), "tp_btf/inet_sock_set_state"),
        (Ok(&refused[1..]), REQUIRED_HOOK),
        (Ok(&[]), REQUIRED_HOOK),
        (Err(EPERM), "hooks"),
    ];
    for (trials, name) in cases {
        let report = report(&good(), trials);
        assert_eq!(found(&report, name).status, Status::Missing);
        assert_eq!((report.can_trace, report.backend), (false, None));
    }
}
