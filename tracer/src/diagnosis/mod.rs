/*!
What the books mean: pools in, verdicts and remedies out.

Pure: the same pools give the same verdicts. Nothing here reads the machine or
knows how a verdict is shown.
*/

mod bound;
mod causes;
mod culprits;
mod evidence;
mod facts;
mod growth;
mod mechanism;
mod myths;
mod not_ports;
mod remedies;
mod settings;
mod verdicts;
mod what_if;
mod words;

pub use self::verdicts::diagnose;

use crate::model::{Cause, Error, Failed, Forecast, Foretold, Holder, PoolId, States};

/// Lifetime of a TIME_WAIT: `TCP_TIMEWAIT_LEN`, compiled into the kernel.
pub const TIME_WAIT_S: f64 = 60.0;

/// What is wrong with a pool, or that nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Holdings are mostly TIME_WAIT of connections that lived much shorter.
    Churn,
    /// Open connections grow and do not level off.
    Leak,
    /// The peer closed, the application does not.
    CloseWait,
    /// We closed, the peer does not.
    FinWait2,
    /// Ports are bound before connect(): each is lost to every destination.
    Bound,
    /// EADDRNOTAVAIL by a 4-tuple that exists, with ports free.
    Collision,
    /// The range, or what is left of it, is too small for anything.
    SmallRange,
    /// The failures are not about ports.
    NotPorts,
}

impl Kind {
    /// The name of the JSON schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Churn => "churn",
            Self::Leak => "leak",
            Self::CloseWait => "close_wait",
            Self::FinWait2 => "fin_wait2",
            Self::Bound => "bound",
            Self::Collision => "collision",
            Self::SmallRange => "small_range",
            Self::NotPorts => "not_ports",
        }
    }
}

/// How much it matters, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Urgency {
    /// Worth knowing; nothing fails and nothing will soon.
    Watch,
    /// The pool will run dry at the present rate.
    Soon,
    /// Calls fail.
    Failing,
}

impl Urgency {
    /// The name of the JSON schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Soon => "soon",
            Self::Failing => "failing",
        }
    }
}

/// One thing to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// Short name: `reuse`, `close`, `more_destinations`, `tw_reuse`, `range`, `no_port`, ….
    pub name: &'static str,
    /// What to do, a sentence.
    pub what: String,
    /// Exact lines to type or to put into a manifest; none where it is a change of the program.
    pub lines: Vec<String>,
    /// What it costs or does not do, a sentence.
    pub trade_off: String,
    /// Its effect on this pool as a number: `range 1024-65535: 1,075/s`.
    pub effect: Option<Effect>,
}

/// What if: the pool after a remedy.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The change in a few words: `3 destination ports`.
    pub change: String,
    /// Connections per second it can then bear for ever, where churn bounds it.
    pub safe_rate: Option<f64>,
    /// Ports it will then hold, where that is known.
    pub ports: Option<u64>,
}

/// A change people try here that does nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Myth {
    /// The setting: `tcp_fin_timeout`.
    pub setting: &'static str,
    /// Why not, a sentence; says so when it was found set.
    pub truth: String,
}

/// Failures of one errno and cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// What the calls returned.
    pub errno: Option<Error>,
    /// Why.
    pub cause: Cause,
    /// Whether it was bind().
    pub bind: bool,
    /// How many.
    pub count: u64,
}

/// What is wrong with one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What.
    pub kind: Kind,
    /// How much it matters.
    pub urgency: Urgency,
    /// Which pool. For `Bound` and `NotPorts` of bind() the destination is unspecified, port 0.
    pub pool: PoolId,
    /// What people call the pool's namespace.
    pub namespace: String,
    /// Ports in use now, at most so far, and in all; 0 in all when the capacity is not known.
    pub level: Level,
    /// Holdings by state.
    pub states: States,
    /// Facts that led here, each a sentence with its numbers, the strongest first.
    pub evidence: Vec<String>,
    /// Who causes it: ranked by holdings, then by rate.
    pub culprits: Vec<Holder>,
    /// Who got the error.
    pub victims: Vec<Failed>,
    /// The failures by errno and cause.
    pub failures: Vec<Count>,
    /// Connections per second the pool can bear for ever: capacity / 60 s.
    pub ceiling: f64,
    /// The rate to stay below: the ceiling less a margin for the half-range knee and for bursts.
    pub safe_rate: f64,
    /// Connections per second now.
    pub rate: f64,
    /// Where it is heading.
    pub forecast: Option<Forecast>,
    /// What had been forecast, once it ran dry.
    pub foretold: Option<Foretold>,
    /// What to change, the best first.
    pub remedies: Vec<Remedy>,
    /// What not to bother with.
    pub myths: Vec<Myth>,
}

/// How full a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Ports in use.
    pub used: u64,
    /// The most so far.
    pub peak: u64,
    /// Ports there are; 0 when not known.
    pub capacity: u64,
}

#[cfg(test)]
mod tests;
