/*! Failures that are not about ports. */

use super::build::{EXHAUSTED, bind, burnt, failed, failing, holder, namespace};
use super::{first, verdicts};
use crate::diagnosis::Kind;
use crate::model::Cause;
use crate::model::TcpState::{Established, SynSent};

#[test]
fn case_21_a_nat_or_conntrack_is_not_the_ports() {
    let pool = failing(
        443,
        &[holder("app", 1, &[(SynSent, 300), (Established, 20)])],
        &[failed("app", 1, (110, Cause::TimedOut), 90)],
    );
    let mut namespace = namespace("host");
    namespace.conntrack = Some((262_000, 262_144));
    let verdicts = verdicts(&[pool], &[], &namespace);
    assert_eq!(first(&verdicts), (Kind::NotPorts, String::new(), ""));
    let evidence = verdicts[0].evidence.join(" ");
    assert!(evidence.contains("262,000 of 262,144"), "{evidence}");
    assert!(evidence.contains("SYN_SENT"), "{evidence}");
}

#[test]
fn an_address_that_is_not_there_is_not_the_ports() {
    let mut pool = failing(
        8_080,
        &[],
        &[failed("app", 1, (99, Cause::AddressNotLocal), 3)],
    );
    pool.id.src = "::".parse().unwrap();
    pool.id.dst = "::1".parse().unwrap();
    let foreign = bind([192, 0, 2, 9], ("app", 1), (99, Cause::AddressNotLocal), 2);
    let verdicts = verdicts(&[pool], &[foreign], &namespace("host"));
    assert_eq!(verdicts.len(), 2);
    assert!(verdicts.iter().all(|one| one.kind == Kind::NotPorts));
    let docker = verdicts.iter().find(|one| one.pool.dport == 8_080).unwrap();
    assert!(docker.evidence[0].contains("127.0.0.1"));
}

#[test]
fn other_failures_stand_behind_those_about_ports() {
    let mut pool = burnt("app", 6_432);
    pool.failures
        .push(failed("app", 1, (111, Cause::Refused), 9_999));
    let kinds: Vec<Kind> = verdicts(&[pool], &[], &namespace("host"))
        .iter()
        .map(|verdict| verdict.kind)
        .collect();
    assert_eq!(kinds, [Kind::Churn, Kind::NotPorts]);
}

#[test]
fn ports_that_wait_for_an_answer_are_the_destinations_fault() {
    let failures = [
        failed("app", 1, EXHAUSTED, 40),
        failed("app", 1, (110, Cause::TimedOut), 9),
    ];
    let pool = failing(443, &[holder("app", 1, &[(SynSent, 28_232)])], &failures);
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(first(&verdicts), (Kind::NotPorts, "app".to_owned(), ""));
    assert_eq!(verdicts.len(), 1);
    let evidence = verdicts[0].evidence.join(" ");
    assert!(
        evidence.contains("the destination does not answer"),
        "{evidence}"
    );
    assert!(
        evidence.contains("9 connect() calls failed with ETIMEDOUT"),
        "{evidence}"
    );
}
