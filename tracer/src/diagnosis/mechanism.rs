/*!
What reuse means for the program and the service at hand: nginx needs an
`upstream`, PHP a persistent connection, a broker's client one connection.
*/

use std::net::SocketAddr;

use crate::model::{Holder, PoolId};

/// What listens at a pool's destination, by its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// PgBouncer.
    PgBouncer,
    /// A database with a protocol of its own.
    Database,
    /// Redis, memcached.
    Cache,
    /// AMQP, MQTT, NATS, Kafka: one connection carries everything.
    Broker,
    /// HTTP, gRPC.
    Http,
    /// Anything else.
    Unknown,
}

impl Service {
    /// By the port people run it on.
    pub(super) fn of(pool: &PoolId) -> Self {
        match pool.dport {
            6432 => Self::PgBouncer,
            5432 | 3306 | 1433 | 1521 | 27017 | 9042 => Self::Database,
            6379 | 11211 => Self::Cache,
            5671 | 5672 | 1883 | 8883 | 4222 | 9092 | 61613 | 61616 => Self::Broker,
            80 | 443 | 3000 | 8000 | 8080 | 8443 | 50051 => Self::Http,
            _ => Self::Unknown,
        }
    }
}

/// A sentence, and lines for the program's code or configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// What to do.
    pub what: &'static str,
    /// Lines, where they can be exact.
    pub lines: Vec<String>,
}

impl Advice {
    fn plain(what: &'static str) -> Self {
        Self {
            what,
            lines: Vec::new(),
        }
    }

    fn with(what: &'static str, lines: &[&str]) -> Self {
        Self {
            what,
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
        }
    }
}

/// How `culprit` uses its connections to `pool` again, instead of one for each request.
pub(super) fn reuse(culprit: Option<&Holder>, pool: &PoolId) -> Advice {
    culprit
        .and_then(|holder| by_program(&program(holder), pool))
        .unwrap_or_else(|| by_service(Service::of(pool)))
}

/// The name of a holder's program: of its executable, since a task may call itself anything.
fn program(holder: &Holder) -> String {
    let exe = holder.process.exe.as_deref();
    let name = exe.and_then(|path| path.rsplit('/').next());
    let comm = || String::from_utf8_lossy(holder.process.comm.bytes()).into_owned();
    name.map_or_else(comm, str::to_owned).to_ascii_lowercase()
}

fn by_program(program: &str, pool: &PoolId) -> Option<Advice> {
    let starts = |names: &[&str]| names.iter().any(|name| program.starts_with(name));
    if starts(&["nginx", "openresty", "angie"]) {
        let upstream = SocketAddr::new(pool.dst, pool.dport);
        return Some(Advice {
            what: "Let nginx keep its connections: name the server in an upstream block with \
                   keepalive, and proxy_pass to that name.",
            lines: vec![
                format!("upstream app {{ server {upstream}; keepalive 64; }}"),
                "proxy_pass http://app;".to_owned(),
                "proxy_http_version 1.1;".to_owned(),
                "proxy_set_header Connection \"\";".to_owned(),
            ],
        });
    }
    if starts(&["haproxy"]) {
        return Some(Advice::with(
            "Let HAProxy use its connections to the servers again.",
            &["http-reuse safe", "option http-keep-alive"],
        ));
    }
    if starts(&["traefik"]) {
        return Some(Advice::with(
            "Let Traefik keep more idle connections per backend than Go's default of 2.",
            &["--serversTransport.maxIdleConnsPerHost=200"],
        ));
    }
    if starts(&[
        "envoy",
        "ztunnel",
        "pilot-agent",
        "cilium-envoy",
        "linkerd2",
    ]) {
        return Some(Advice::plain(
            "Let the proxy keep its upstream connections: no max_requests_per_connection of 1, \
             and an idle_timeout longer than the gaps between requests.",
        ));
    }
    if starts(&["php", "apache2", "httpd"]) {
        return Some(if pool.dport == 6379 {
            Advice::with(
                "Connect persistently: the worker then keeps one connection over its requests.",
                &["$redis->pconnect($host, 6379);"],
            )
        } else {
            Advice::with(
                "Connect persistently: the worker then keeps one connection over its requests.",
                &["PDO::ATTR_PERSISTENT => true"],
            )
        });
    }
    if is_load_generator(program) {
        return Some(Advice::plain(
            "The load generator itself runs out of ports, not what it tests: let it keep \
             connections alive, or spread it over several source addresses.",
        ));
    }
    None
}

/// Whether the program is one of those that people test load with.
pub(super) fn is_load_generator(program: &str) -> bool {
    const NAMES: [&str; 14] = [
        "wrk",
        "wrk2",
        "ab",
        "hey",
        "oha",
        "k6",
        "vegeta",
        "bombardier",
        "siege",
        "locust",
        "h2load",
        "jmeter",
        "emqtt_bench",
        "httperf",
    ];
    NAMES.contains(&program)
}

fn by_service(service: Service) -> Advice {
    match service {
        Service::PgBouncer | Service::Database => Advice::plain(
            "Keep a pool of connections in the program (sqlx PgPool, pgxpool, HikariCP) instead of \
             opening one for each query.",
        ),
        Service::Cache => Advice::plain(
            "Keep one client object, or a small pool, for the life of the process instead of \
             connecting for each request.",
        ),
        Service::Broker => Advice::plain(
            "Open one connection per process and share it: a channel or a subscription for each \
             task, not a connection.",
        ),
        Service::Http => Advice::with(
            "Use one HTTP client for the whole program, with keep-alive, and read each body to its \
             end: else its connection is not used again.",
            &[
                "Go:      http.Transport{MaxIdleConnsPerHost: 100}, made once",
                "Rust:    one reqwest::Client, cloned",
                "Python:  one requests.Session",
                "Node.js: new http.Agent({ keepAlive: true })",
            ],
        ),
        Service::Unknown => Advice::plain(
            "Use connections again: a pool or keep-alive, one client object for the whole program, \
             instead of one connection for each request.",
        ),
    }
}

/// How a leaking program stops keeping what it opens.
pub(super) fn close(pool: &PoolId) -> Advice {
    match Service::of(pool) {
        Service::Broker => Advice::plain(
            "Open one connection per process and share it: the program opens another for each \
             request and keeps them all.",
        ),
        Service::Http => Advice::plain(
            "Close each connection when done, or share one client: read the response's body to \
             its end and close it, and set a timeout for each request.",
        ),
        _ => Advice::plain(
            "Close each connection when done, on every path also after an error, or share one.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Service, close, reuse};
    use crate::diagnosis::tests::build::{holder, pool_id};

    #[test]
    fn advice_knows_the_program_and_the_service() {
        let nginx = reuse(Some(&holder("nginx", 1, &[])), &pool_id(8080));
        assert_eq!(
            nginx.lines[0],
            "upstream app { server 10.0.0.2:8080; keepalive 64; }"
        );
        let php = reuse(Some(&holder("php-fpm8.2", 1, &[])), &pool_id(6379));
        assert_eq!(php.lines, ["$redis->pconnect($host, 6379);"]);
        let wrk = reuse(Some(&holder("wrk", 1, &[])), &pool_id(8080));
        assert!(wrk.what.contains("load generator itself"));
        let rust = reuse(Some(&holder("orders", 1, &[])), &pool_id(6432));
        assert!(rust.what.contains("sqlx"));
        let web = reuse(Some(&holder("api", 1, &[])), &pool_id(443));
        assert!(
            web.lines
                .iter()
                .any(|line| line.contains("MaxIdleConnsPerHost"))
        );
        assert!(
            close(&pool_id(5672))
                .what
                .contains("one connection per process")
        );
        assert_eq!(Service::of(&pool_id(1)), Service::Unknown);
    }
}
