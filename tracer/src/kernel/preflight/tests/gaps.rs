/*! What is beyond reach whatever hooks there are, and refusals that say why themselves. */

use super::super::gaps::{Gap, told};
use super::*;
use crate::kernel::refusal::AttachError;
use crate::kernel::trial::{NO_ADDRESS, NO_COOKIES, NO_PROBE_READ, NO_TRACEFS};

#[test]
fn what_is_only_our_own_is_told_by_doctor_and_the_summary() {
    let names = |facts: &Facts| {
        let reach: Vec<String> = reach(facts)
            .iter()
            .map(|(fact, how)| format!("{fact} {how}"))
            .collect();
        reach.join(", ")
    };
    assert_eq!(names(&good()), "");
    let no_ptrace = but(|f| f.effective = without(Capability::SysPtrace));
    assert_eq!(names(&no_ptrace), "namespaces own, processes own");
    let no_admin = but(|f| f.effective = without(Capability::SysAdmin));
    assert_eq!(names(&no_admin), "namespaces own");
    let elsewhere = but(|f| f.first_pid_namespace = Some(false));
    assert_eq!(names(&elsewhere), "processes none");
    assert_eq!(
        judged(&no_ptrace).verdict(),
        "tracing works here with the trampoline backend; inferred or not known: programs (exe) of \
         other users' processes, pools of other network namespaces"
    );
    assert_eq!(
        judged(&elsewhere).inferred,
        ["programs (exe) and containers"]
    );
}

#[test]
fn gaps_of_one_reason_are_one_sentence() {
    let gap = |what: &str, reason: &str, fix: Option<&str>| Gap {
        what: what.to_owned(),
        reason: reason.to_owned(),
        fix: fix.map(str::to_owned),
    };
    let gaps = [
        gap("births are inferred", "no address", Some("sudo")),
        gap("bind() is not seen", "no tracefs", None),
        gap("ends are not seen", "no address", Some("sudo")),
    ];
    assert_eq!(
        told(&gaps),
        [
            "births are inferred, ends are not seen: no address; sudo",
            "bind() is not seen: no tracefs"
        ]
    );
}

/// (what is wrong, the refusal, words of the sentence)
type KnownCase = (fn(&mut Facts), &'static str, [&'static str; 2]);

#[test]
fn a_refusal_of_ours_has_a_way_out() {
    let cases: &[KnownCase] = &[
        (
            |f| {
                f.tracefs = None;
                f.effective = without(Capability::SysAdmin);
            },
            NO_TRACEFS,
            ["not mounted", "mount -t tracefs"],
        ),
        (
            |f| {
                f.is_root = false;
                f.effective = without(Capability::DacReadSearch) & without(Capability::SysAdmin);
                f.bounding = f.effective;
            },
            NO_TRACEFS,
            ["root only", "add: [DAC_READ_SEARCH]"],
        ),
        (
            |f| {
                f.tw_timer_handler = Symbol::Hidden;
                f.kptr_restrict = Some(2);
            },
            NO_ADDRESS,
            ["tw_timer_handler", "kptr_restrict=1"],
        ),
        (
            |_| (),
            NO_PROBE_READ,
            ["bpf_probe_read_kernel", "lockdown=integrity"],
        ),
        (|_| (), NO_COOKIES, ["cookies", "Linux 5.12"]),
    ];
    for (change, error, words) in cases {
        let refused = trial("tp_btf/tcp_destroy_sock", "births", Err(error));
        let sentence = explain(&but(change), &refused).to_string();
        for word in words {
            assert!(sentence.contains(word), "{word}: {sentence}");
        }
    }
}

#[test]
fn a_failed_attach_names_what_is_missing() {
    let error = || AttachError::NoHook;
    let facts = but(|f| f.effective = 0);
    let sentence = cannot_trace(&facts, &error()).to_string();
    assert!(sentence.contains("CAP_BPF and CAP_PERFMON"), "{sentence}");
    let sentence = cannot_trace(&good(), &error()).to_string();
    assert!(sentence.contains("`tracer doctor`"), "{sentence}");
}
