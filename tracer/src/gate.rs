/*!
`--fail-on`: conditions on what was measured, such as
`eaddrnotavail>0,utilization>0.8`.

Pure: parses the expression and says what holds. A gate never passes silently:
what was not measured, or only in part, is a reason to fail too.
*/

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;

use crate::state::State;

/// Largest errno Linux gives to programs.
const LAST_ERRNO: i32 = 133;

/// What a condition can be about, for error messages.
const METRICS: &str = "failures, utilization, time_wait, open, rate, lost, and the name of any errno in lower case, \
     such as eaddrnotavail, eaddrinuse, econnrefused or etimedout";

/// Why an expression is none: names the part that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGate {
    /// A condition is empty.
    #[error("a condition is missing; write it as eaddrnotavail>0,utilization>0.8")]
    Empty,
    /// There is no operator.
    #[error(
        "`{0}` compares nothing; write METRIC, one of > >= < <= == and a number, as in eaddrnotavail>0"
    )]
    Operator(String),
    /// There is no such metric.
    #[error("`{0}` is no metric; there are {METRICS}")]
    Metric(String),
    /// Not a number.
    #[error("`{part}` is no number in `{condition}`; write it as 0, 0.8 or 1000")]
    Number {
        /// What stands for the number.
        part: String,
        /// The condition it stands in.
        condition: String,
    },
    /// The condition holds never: the gate would let everything pass.
    #[error("`{0}` can never be true, {1}")]
    Never(String, &'static str),
}

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// connect() and bind() calls that failed with this errno, its name in lower case.
    Errno(String),
    /// All connect() and bind() calls that failed.
    Failures,
    /// The highest level of any pool, from 0 to 1.
    Utilization,
    /// TIME_WAITs left behind.
    TimeWait,
    /// The most connections open or closing at a time.
    Open,
    /// The most connections opened within a second.
    Rate,
    /// Events lost.
    Lost,
}

impl Metric {
    fn name(&self) -> &str {
        match self {
            Self::Errno(name) => name,
            Self::Failures => "failures",
            Self::Utilization => "utilization",
            Self::TimeWait => "time_wait",
            Self::Open => "open",
            Self::Rate => "rate",
            Self::Lost => "lost",
        }
    }
}

impl FromStr for Metric {
    type Err = BadGate;

    fn from_str(name: &str) -> Result<Self, BadGate> {
        Ok(match name {
            "failures" => Self::Failures,
            "utilization" => Self::Utilization,
            "time_wait" => Self::TimeWait,
            "open" => Self::Open,
            "rate" => Self::Rate,
            "lost" => Self::Lost,
            name if is_errno(name) => Self::Errno(name.to_owned()),
            name => return Err(BadGate::Metric(name.to_owned())),
        })
    }
}

/// Whether `name` is that of an errno, in lower case.
fn is_errno(name: &str) -> bool {
    (1..=LAST_ERRNO)
        .map(Errno::from_raw)
        .filter(|&errno| errno != Errno::UnknownErrno)
        .any(|errno| format!("{errno:?}").to_lowercase() == name)
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    More,
    Least,
    Less,
    Most,
    Equal,
}

impl Operator {
    /// The longer ones first, as they begin like the shorter.
    const ALL: [(&'static str, Self); 5] = [
        (">=", Self::Least),
        ("<=", Self::Most),
        ("==", Self::Equal),
        (">", Self::More),
        ("<", Self::Less),
    ];

    fn sign(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(sign, operator)| (operator == self).then_some(sign))
            .unwrap_or_default()
    }

    fn holds(self, value: f64, limit: f64) -> bool {
        match value.total_cmp(&limit) {
            Ordering::Less => matches!(self, Self::Less | Self::Most),
            Ordering::Equal => matches!(self, Self::Least | Self::Most | Self::Equal),
            Ordering::Greater => matches!(self, Self::More | Self::Least),
        }
    }
}

/// `metric operator number`
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    metric: Metric,
    operator: Operator,
    limit: f64,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (metric, sign) = (self.metric.name(), self.operator.sign());
        write!(f, "{metric}{sign}{}", self.limit)
    }
}

impl FromStr for Condition {
    type Err = BadGate;

    fn from_str(text: &str) -> Result<Self, BadGate> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadGate::Empty);
        }
        let at = text
            .find(['<', '>', '='])
            .ok_or_else(|| BadGate::Operator(text.to_owned()))?;
        let (name, rest) = text.split_at(at);
        let metric: Metric = name.trim().parse()?;
        let (operator, number) = Operator::ALL
            .into_iter()
            .find_map(|(sign, operator)| Some((operator, rest.strip_prefix(sign)?.trim())))
            .ok_or_else(|| BadGate::Operator(text.to_owned()))?;
        // Digits and a point: the longer notations of numbers are slips here, and NaN holds never.
        let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        let limit = number
            .parse()
            .ok()
            .filter(|_| number.bytes().all(plain))
            .ok_or_else(|| BadGate::Number {
                part: number.to_owned(),
                condition: text.to_owned(),
            })?;
        let condition = Self {
            metric,
            operator,
            limit,
        };
        condition.possible()
    }
}

impl Condition {
    /// Refuses what no run can meet.
    fn possible(self) -> Result<Self, BadGate> {
        let why = match (&self.metric, self.operator) {
            (_, Operator::Less) if self.limit == 0.0 => "as nothing is less than 0",
            (Metric::Utilization, Operator::More) if self.limit >= 1.0 => {
                "as utilization is from 0 to 1"
            }
            (Metric::Utilization, Operator::Least | Operator::Equal) if self.limit > 1.0 => {
                "as utilization is from 0 to 1"
            }
            _ => return Ok(self),
        };
        Err(BadGate::Never(self.to_string(), why))
    }

    fn check(&self, state: &State) -> Option<Reason> {
        let value = value(&self.metric, state);
        if let Some(value) = value
            && self.operator.holds(value, self.limit)
        {
            return Some(Reason::Met(self.clone(), value));
        }
        let nameless = state.totals.errnos().contains_key(&None);
        let nameless = nameless && matches!(self.metric, Metric::Errno(_));
        (value.is_none() || nameless).then(|| Reason::Unmeasured(self.clone()))
    }
}

/// What a metric is in this state; `None` where it could not be measured.
fn value(metric: &Metric, state: &State) -> Option<f64> {
    let failures = state.totals.errnos();
    let count = match metric {
        Metric::Errno(wanted) => failures
            .iter()
            .filter(|(errno, _)| errno.is_some_and(|errno| errno.name().to_lowercase() == *wanted))
            .map(|(_, count)| count)
            .sum(),
        Metric::Failures => failures.values().sum(),
        Metric::Utilization => return state.highest_utilization(),
        Metric::TimeWait => state.load.time_wait,
        Metric::Open => state.load.open_peak,
        Metric::Rate => state.load.rate_peak,
        Metric::Lost => lost(state),
    };
    Some(count as f64)
}

/// Events that happened and were not accounted. A line that found the output too slow was measured
/// all the same.
fn lost(state: &State) -> u64 {
    let lost = &state.losses.lost;
    lost.total() - lost.output
}

/// Why a gate does not let pass. Its text is a sentence without the full stop.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// A condition was met, by this value.
    Met(Condition, f64),
    /// Whether a condition was met is not known.
    Unmeasured(Condition),
    /// Events were lost.
    Lost(u64),
    /// Tracing ended before the command did.
    Broken(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Met(condition, value) => {
                let value = (value * 1000.0).round() / 1000.0;
                write!(
                    f,
                    "{condition} was met: {} is {value}",
                    condition.metric.name()
                )
            }
            Self::Unmeasured(condition) => write!(
                f,
                "whether {condition} was met is not known: not all of {} could be measured, and a \
                 gate never passes unseen",
                condition.metric.name()
            ),
            Self::Lost(1) => f.write_str("an event was lost, and a gate never passes unseen"),
            Self::Lost(lost) => {
                write!(f, "{lost} events were lost, and a gate never passes unseen")
            }
            Self::Broken(why) => write!(
                f,
                "tracing ended before the command did, and a gate never passes unseen: {why}"
            ),
        }
    }
}

/// The conditions of which one is enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate(Vec<Condition>);

impl FromStr for Gate {
    type Err = BadGate;

    fn from_str(text: &str) -> Result<Self, BadGate> {
        let conditions: Result<_, _> = text.split(',').map(str::parse).collect();
        Ok(Self(conditions?))
    }
}

impl Gate {
    /// Why this must not pass; empty when it may.
    pub fn check(&self, state: &State) -> Vec<Reason> {
        let mut reasons: Vec<_> = self.0.iter().filter_map(|one| one.check(state)).collect();
        let about_loss =
            |reason: &Reason| matches!(reason, Reason::Met(one, _) if one.metric == Metric::Lost);
        let lost = lost(state);
        if lost > 0 && !reasons.iter().any(about_loss) {
            reasons.push(Reason::Lost(lost));
        }
        reasons.extend(state.broken.clone().map(Reason::Broken));
        reasons
    }
}

#[cfg(test)]
mod tests;
