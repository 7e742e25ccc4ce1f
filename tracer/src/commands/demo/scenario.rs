/*! What each demo is made of: a client that does one thing wrong, and a server that lets it. */

use std::net::SocketAddr;

use crate::cli::Scenario;
use crate::diagnosis::Kind;
use crate::model::TcpState;
use crate::sandbox::workload::{BindFirst, Collide, Connect, Manner, Serve, Then, Work};
use crate::sandbox::{CLIENT_V4, SERVER_V4};

/// Failures after which the client gives up.
const FAILURES: u64 = 50;

/// Destinations of a client that binds first.
const SHARDS: u16 = 4;

/// The source port of a client that has only one.
const PINNED: u16 = 20_000;

impl Scenario {
    /// The client's name.
    pub(super) fn client(self) -> &'static str {
        match self {
            Self::Churn => "churning-app",
            Self::Leak => "leaking-app",
            Self::CloseWait => "unclosing-app",
            Self::Bound => "binding-app",
            Self::Collision => "pinned-app",
        }
    }

    /// The verdict that is right.
    pub(super) fn verdict(self) -> Kind {
        match self {
            Self::Churn => Kind::Churn,
            Self::Leak => Kind::Leak,
            Self::CloseWait => Kind::CloseWait,
            Self::Bound => Kind::Bound,
            Self::Collision => Kind::Collision,
        }
    }

    /// Where the server listens.
    fn ports(self) -> std::ops::Range<u16> {
        match self {
            Self::Churn => 5432..5433,
            Self::Leak => 5672..5673,
            Self::CloseWait => 8080..8081,
            Self::Bound => 6379..6379 + SHARDS,
            Self::Collision => 9042..9043,
        }
    }

    fn destinations(self) -> Vec<SocketAddr> {
        let ports = self.ports();
        ports
            .map(|port| SocketAddr::new(SERVER_V4.into(), port))
            .collect()
    }

    /// Where to, for people.
    pub(super) fn towards(self) -> String {
        let ports = self.ports();
        match ports.len() {
            1 => format!("{SERVER_V4}:{}", ports.start),
            _ => SERVER_V4.to_string(),
        }
    }

    /// What the server does.
    pub(super) fn server(self) -> Work {
        let manner = match self {
            Self::CloseWait => Manner::CloseFirst,
            Self::Churn | Self::Leak | Self::Bound | Self::Collision => Manner::Echo,
        };
        Work::Serve(Serve {
            at: self.destinations(),
            manner,
        })
    }

    /// What the client does with `ports` source ports.
    pub(super) fn work(self, ports: u16) -> Work {
        let attempts = u64::from(ports) + FAILURES;
        let to = SocketAddr::new(SERVER_V4.into(), self.ports().start);
        let connect = |then| {
            let connect = Connect::new(to, attempts).stop_after(FAILURES);
            Work::Connect(connect.then(then))
        };
        match self {
            Self::Churn => connect(Then::Close),
            Self::Leak => connect(Then::PingAndKeep),
            Self::CloseWait => connect(Then::ReadAndKeep),
            Self::Bound => Work::BindFirst(BindFirst {
                from: SocketAddr::new(CLIENT_V4.into(), 0),
                to: self.destinations(),
                attempts,
                stop_after: FAILURES,
            }),
            Self::Collision => Work::Collide(Collide {
                from: SocketAddr::new(CLIENT_V4.into(), PINNED),
                to,
                times: FAILURES,
            }),
        }
    }

    /// The state in which its connections end up.
    pub(super) fn rest(self) -> TcpState {
        match self {
            Self::Churn => TcpState::TimeWait,
            Self::CloseWait => TcpState::CloseWait,
            Self::Leak | Self::Bound | Self::Collision => TcpState::Established,
        }
    }

    /// What goes on, for people.
    pub(super) fn does(self) -> &'static str {
        match self {
            Self::Churn => "opens and closes connections until connect() fails",
            Self::Leak => "opens connections and closes none until connect() fails",
            Self::CloseWait => "keeps what its server closed until connect() fails",
            Self::Bound => "binds before connecting to 4 ports in turn until that fails",
            Self::Collision => "connects again and again from one source port",
        }
    }
}
