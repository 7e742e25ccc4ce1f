/*!
Incidents people wrote about, as one host shows them: pools and failures in,
verdict, first culprit and first remedy out.
*/

use std::net::IpAddr;

use super::build::{
    EXHAUSTED, burnt, churning, failed, failing, holder, leaking, namespace, small,
};
use super::{first, verdicts};
use crate::diagnosis::{Kind, Urgency};
use crate::model::TcpState::{Established, TimeWait};
use crate::model::{Holder, Pool, PoolId, Rates};

struct Case {
    what: &'static str,
    pool: Pool,
    verdict: Kind,
    culprit: &'static str,
    remedy: &'static str,
}

fn case(
    what: &'static str,
    pool: Pool,
    verdict: Kind,
    culprit: &'static str,
    remedy: &'static str,
) -> Case {
    Case {
        what,
        pool,
        verdict,
        culprit,
        remedy,
    }
}

fn from(src: [u8; 4], dst: [u8; 4], pool: Pool) -> Pool {
    Pool {
        id: PoolId {
            src: IpAddr::from(src),
            dst: IpAddr::from(dst),
            ..pool.id
        },
        ..pool
    }
}

/// Incidents 1, 2, 5, 6, 8 to 16 and 18 to 20 of the list, as far as one pool shows them.
fn cases() -> Vec<Case> {
    let churn = Kind::Churn;
    let leak = Kind::Leak;
    vec![
        case(
            "1: a Rust service opens a PgBouncer connection per query",
            burnt("orders", 6432),
            churn,
            "orders",
            "reuse",
        ),
        case(
            "2: a fan-out overflows its memcached pool",
            Pool {
                open_rate: Rates {
                    second: 900.0,
                    ten: 300.0,
                    minute: 300.0,
                    peak: 15_000.0,
                },
                ..burnt("appview", 11_211)
            },
            churn,
            "appview",
            "reuse",
        ),
        case(
            "5: a mesh sends all inbound traffic from 127.0.0.6",
            from([127, 0, 0, 6], [10, 0, 0, 2], burnt("envoy", 8_080)),
            churn,
            "envoy",
            "reuse",
        ),
        case(
            "6: all outbound traffic goes to the one listener of a sidecar",
            burnt("client", 15_001),
            churn,
            "client",
            "reuse",
        ),
        case(
            "8: Traefik keeps 2 idle connections per host",
            burnt("traefik", 8_080),
            churn,
            "traefik",
            "reuse",
        ),
        case(
            "9: nginx without an upstream block",
            burnt("nginx", 3_000),
            churn,
            "nginx",
            "reuse",
        ),
        case(
            "10: HAProxy closes first",
            burnt("haproxy", 8_000),
            churn,
            "haproxy",
            "reuse",
        ),
        case(
            "11: a balancer and its workers on loopback, 100,000 long connections",
            from(
                [127, 0, 0, 1],
                [127, 0, 0, 1],
                failing(
                    6_001,
                    &[Holder {
                        opened: 28_232,
                        ..holder("haproxy", 1, &[(Established, 28_232)])
                    }],
                    &[failed("haproxy", 1, EXHAUSTED, 40)],
                ),
            ),
            leak,
            "haproxy",
            "close",
        ),
        case(
            "12: a proxy of notebooks never lets go of connections",
            failing(
                8_888,
                &[
                    leaking("node", 1, 27_000, 9.0),
                    churning("curl", 2, &[(TimeWait, 30)], 90, 0.5),
                ],
                &[failed("node", 1, EXHAUSTED, 120)],
            ),
            leak,
            "node",
            "close",
        ),
        case(
            "13: PHP connects to Redis for each request, in 40 workers",
            failing(
                6_379,
                &(1..=40)
                    .map(|pid| churning("php-fpm", pid, &[(TimeWait, 680)], 700, 12.0))
                    .chain([holder("monitor", 99, &[(Established, 900)])])
                    .collect::<Vec<_>>(),
                &[failed("php-fpm", 7, EXHAUSTED, 300)],
            ),
            churn,
            "php-fpm",
            "reuse",
        ),
        case(
            "14: a Go program makes a Transport for each request",
            burnt("api", 443),
            churn,
            "api",
            "reuse",
        ),
        case(
            "15: a Rust program makes a client for each request and keeps the sockets",
            failing(
                443,
                &[leaking("crawler", 1, 28_232, 0.0)],
                &[failed("crawler", 1, EXHAUSTED, 10)],
            ),
            leak,
            "crawler",
            "close",
        ),
        case(
            "16: a gRPC channel for each call dies at call 32,293",
            small(
                (28_000, 60_292),
                failing(
                    50_051,
                    &[leaking("java", 1, 32_293, 0.0)],
                    &[failed("java", 1, EXHAUSTED, 1)],
                ),
            ),
            leak,
            "java",
            "close",
        ),
        case(
            "18: a web server opens a broker connection per request; others fail first",
            failing(
                5_672,
                &[
                    leaking("web", 1, 27_900, 0.0),
                    holder("mailer", 2, &[(Established, 3)]),
                ],
                &[
                    failed("mailer", 2, EXHAUSTED, 800),
                    failed("web", 1, EXHAUSTED, 100),
                ],
            ),
            leak,
            "web",
            "close",
        ),
        case(
            "19: a load generator without keep-alive",
            burnt("k6", 8_080),
            churn,
            "k6",
            "reuse",
        ),
        case(
            "20: a pod has 4 ports, and they are in use",
            small(
                (32_000, 32_003),
                failing(
                    9_090,
                    &[holder("frontend", 1, &[(Established, 4)])],
                    &[failed("frontend", 1, EXHAUSTED, 12)],
                ),
            ),
            Kind::SmallRange,
            "frontend",
            "range",
        ),
        case(
            "20: the same with short connections",
            small(
                (32_000, 32_003),
                failing(
                    9_090,
                    &[churning("frontend", 1, &[(TimeWait, 4)], 9, 0.07)],
                    &[failed("frontend", 1, EXHAUSTED, 12)],
                ),
            ),
            Kind::SmallRange,
            "frontend",
            "range",
        ),
    ]
}

#[test]
fn each_incident_gets_its_verdict_culprit_and_remedy() {
    let namespace = namespace("/run/netns/web");
    for case in cases() {
        let verdicts = verdicts(std::slice::from_ref(&case.pool), &[], &namespace);
        let expected = (case.verdict, case.culprit.to_owned(), case.remedy);
        assert_eq!(first(&verdicts), expected, "{}", case.what);
        assert_eq!(verdicts[0].urgency, Urgency::Failing, "{}", case.what);
    }
}

#[test]
fn case_4_the_process_in_the_log_is_not_the_consumer() {
    let holders = [
        leaking("beam.smp", 2, 9_400, 0.0),
        leaking("ztunnel", 1, 18_800, 0.0),
    ];
    let failures = [failed("beam.smp", 2, EXHAUSTED, 5_000)];
    let verdicts = verdicts(
        &[failing(9_092, &holders, &failures)],
        &[],
        &namespace("pid 42 beam.smp"),
    );
    assert_eq!(
        first(&verdicts),
        (Kind::Leak, "ztunnel".to_owned(), "close")
    );
    assert_eq!(verdicts[0].victims[0].process.tgid, 2);
}
