/*!
Incidents people wrote about, as one host shows them: pools and failures in,
verdict, first culprit and first remedy out.
*/

use std::net::IpAddr;

use super::build::{
    EXHAUSTED, NOW_NS, churning, failed, failing, holder, leaking, namespace, pool, pool_id,
};
use super::{first, verdicts};
use crate::diagnosis::{Kind, Urgency};
use crate::event::Cause;
use crate::event::TcpState::{CloseWait, Established, FinWait2, SynSent, TimeWait};
use crate::ledger::pool::{Capacity, Ends, Failed, Forecast, Holder, Pool, PoolId, Rates};

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

/// A pool full of TIME_WAITs of one program, which also gets the error.
fn burnt(comm: &str, dport: u16) -> Pool {
    let holder = churning(comm, 1, &[(TimeWait, 28_200)], 30_000, 1_400.0);
    Pool {
        lifetime_ns: Some((1_200_000, 8_000_000)),
        ..failing(dport, &[holder], &[failed(comm, 1, EXHAUSTED, 900)])
    }
}

fn small((low, high): (u16, u16), pool: Pool) -> Pool {
    Pool {
        capacity: Some(Capacity {
            range: (low, high),
            reserved: 0,
            blocked: 0,
        }),
        ..pool
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
fn case_2_bind_finds_no_port_and_the_remedy_is_not_more_destinations() {
    // bind(ip, 0) before connect() to ten endpoints (7: Envoy, shadowsocks; 2: Bluesky).
    let pools: Vec<Pool> = (0..10)
        .map(|index| Pool {
            capacity: Some(Capacity {
                range: super::build::DEFAULT,
                reserved: 0,
                blocked: 28_232,
            }),
            ..failing(
                8_000 + index,
                &[Holder {
                    bound: 2_823,
                    ..churning("envoy", 1, &[(TimeWait, 2_823)], 2_823, 40.0)
                }],
                &[],
            )
        })
        .collect();
    let elsewhere = [(bind_id([10, 0, 0, 1]), bind("envoy", 1, EXHAUSTED_BIND, 77))];
    let verdicts = verdicts(&pools, &elsewhere, &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::Bound, "envoy".to_owned(), "no_port")
    );
    assert_eq!(verdicts.len(), 1, "ten pools, one cause");
    let bound = &verdicts[0];
    assert_eq!(bound.culprits[0].states.total(), 28_230);
    assert_eq!(bound.level.used, 28_232);
    assert_eq!(bound.level.capacity, 28_232);
    assert_eq!(bound.victims[0].count, 77);
    assert!(
        bound
            .remedies
            .iter()
            .all(|one| one.name != "more_destinations")
    );
}

#[test]
fn who_cannot_bind_is_named_though_it_holds_nothing() {
    let elsewhere = [(bind_id([127, 0, 0, 6]), bind("envoy", 5, EXHAUSTED_BIND, 9))];
    let verdicts = verdicts(&[], &elsewhere, &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::Bound, "envoy".to_owned(), "no_port")
    );
}

#[test]
fn a_pool_that_starves_on_others_bound_ports_names_those() {
    let eaten = Some(Capacity {
        range: (40_000, 40_999),
        reserved: 0,
        blocked: 1_000,
    });
    let binder = Pool {
        capacity: eaten,
        ..failing(
            80,
            &[Holder {
                bound: 1_000,
                opened: 1_000,
                ..holder("proxy", 1, &[(Established, 1_000)])
            }],
            &[],
        )
    };
    let victim = Pool {
        capacity: eaten,
        ..failing(
            5_432,
            &[holder("app", 2, &[])],
            &[failed("app", 2, EXHAUSTED, 5)],
        )
    };
    let verdicts = verdicts(&[victim, binder], &[], &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::Bound, "proxy".to_owned(), "no_port")
    );
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].victims[0].owner.tgid, 2);
}

#[test]
fn case_3_a_proxy_with_its_clients_port_collides_on_an_empty_pool() {
    let holders = [
        holder("app", 1, &[(Established, 1_900)]),
        Holder {
            bound: 60,
            ..holder("wrk:worker_3", 2, &[(Established, 60)])
        },
    ];
    let collided = failed("wrk:worker_3", 2, (99, Cause::TupleInUse), 37);
    let verdicts = verdicts(
        &[failing(8_080, &holders, &[collided])],
        &[],
        &namespace("host"),
    );
    assert_eq!(
        first(&verdicts),
        (Kind::Collision, "wrk:worker_3".to_owned(), "source_port")
    );
    assert_eq!(verdicts.len(), 1);
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
    assert_eq!(verdicts[0].victims[0].owner.tgid, 2);
}

#[test]
fn case_17_close_wait_is_found_before_anything_fails() {
    for held in [40, 27_000] {
        let list = [(CloseWait, held), (Established, 12)];
        let pool = pool(&[holder("gorouter", 1, &list)]);
        let verdicts = verdicts(&[pool], &[], &namespace("host"));
        assert_eq!(
            first(&verdicts),
            (Kind::CloseWait, "gorouter".to_owned(), "close")
        );
        assert_eq!(verdicts[0].urgency, Urgency::Watch);
    }
}

#[test]
fn a_peer_that_does_not_close_is_told_to() {
    let list = [(FinWait2, 900), (TimeWait, 90)];
    let pool = small((40_000, 40_999), pool(&[holder("app", 1, &list)]));
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::FinWait2, "app".to_owned(), "peer_close")
    );
}

#[test]
fn case_18_a_leak_is_found_long_before_it_fails() {
    let leaking = leaking("web", 1, 200, 2.0);
    let pool = Pool {
        net_rate: 2.0,
        forecast: Some(Forecast {
            made_ns: NOW_NS,
            dry_in_s: Some(14_016.0),
            settles_at: None,
        }),
        ..failing(5_672, &[leaking], &[])
    };
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(first(&verdicts), (Kind::Leak, "web".to_owned(), "close"));
    assert_eq!(verdicts[0].urgency, Urgency::Watch, "in four hours");
    assert!(verdicts[0].level.used * 100 < verdicts[0].level.capacity);
}

#[test]
fn a_churn_above_the_ceiling_is_found_before_it_fails() {
    let pool = Pool {
        net_rate: 600.0,
        forecast: Some(Forecast {
            made_ns: NOW_NS,
            dry_in_s: Some(41.0),
            settles_at: Some(36_000.0),
        }),
        ..failing(
            6_432,
            &[churning("app", 1, &[(TimeWait, 3_600)], 3_600, 600.0)],
            &[],
        )
    };
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(first(&verdicts), (Kind::Churn, "app".to_owned(), "reuse"));
    assert_eq!(verdicts[0].urgency, Urgency::Soon);
}

#[test]
fn demos_in_a_thousand_ports_get_their_own_verdict() {
    let thousand = |holder: Holder, dport| {
        let failure = failed("app", 1, EXHAUSTED, 50);
        small((40_000, 40_999), failing(dport, &[holder], &[failure]))
    };
    let rates = Rates {
        second: 1_000.0,
        ten: 1_800.0,
        minute: 1_800.0,
        peak: 2_100.0,
    };
    let churn = thousand(
        Holder {
            open_rate: rates,
            ..churning("app", 1, &[(TimeWait, 995), (FinWait2, 5)], 1_000, 0.0)
        },
        5_432,
    );
    let leak = thousand(
        Holder {
            opened: 1_000,
            open_rate: rates,
            ..holder("app", 1, &[(Established, 1_000)])
        },
        5_672,
    );
    let close_wait = thousand(
        Holder {
            opened: 1_000,
            open_rate: rates,
            ends: Ends::default(),
            ..holder("app", 1, &[(CloseWait, 1_000)])
        },
        8_080,
    );
    for (pool, kind, remedy) in [
        (churn, Kind::Churn, "reuse"),
        (leak, Kind::Leak, "close"),
        (close_wait, Kind::CloseWait, "close"),
    ] {
        let verdicts = verdicts(&[pool], &[], &namespace("/run/netns/demo"));
        assert_eq!(first(&verdicts), (kind, "app".to_owned(), remedy));
        assert_eq!(verdicts.len(), 1, "{kind:?}: a wider range is no verdict");
    }
}

#[test]
fn a_modest_churn_in_a_small_range_has_two_causes() {
    let pool = small(
        (40_000, 40_999),
        failing(
            5_432,
            &[churning("app", 1, &[(TimeWait, 1_000)], 1_500, 16.0)],
            &[failed("app", 1, EXHAUSTED, 50)],
        ),
    );
    let kinds: Vec<Kind> = verdicts(&[pool], &[], &namespace("host"))
        .iter()
        .map(|verdict| verdict.kind)
        .collect();
    assert_eq!(kinds, [Kind::Churn, Kind::SmallRange]);
}

#[test]
fn reserved_ports_that_eat_the_range_are_named() {
    let pool = Pool {
        capacity: Some(Capacity {
            range: super::build::DEFAULT,
            reserved: 28_200,
            blocked: 0,
        }),
        ..failing(
            9_090,
            &[holder("app", 1, &[(Established, 32)])],
            &[failed("app", 1, EXHAUSTED, 4)],
        )
    };
    let verdicts = verdicts(&[pool], &[], &namespace("host"));
    assert_eq!(
        first(&verdicts),
        (Kind::SmallRange, "app".to_owned(), "reserved")
    );
}

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
    let foreign = (
        bind_id([192, 0, 2, 9]),
        bind("app", 1, (99, Cause::AddressNotLocal), 2),
    );
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

/// bind() to port 0 that found none.
const EXHAUSTED_BIND: (u16, Cause) = (98, Cause::PortsExhausted);

fn bind_id(src: [u8; 4]) -> PoolId {
    PoolId {
        src: IpAddr::from(src),
        dst: IpAddr::from([0, 0, 0, 0]),
        dport: 0,
        ..pool_id(0)
    }
}

fn bind(comm: &str, pid: u32, what: (u16, Cause), count: u64) -> Failed {
    Failed {
        bind: true,
        ..failed(comm, pid, what, count)
    }
}
