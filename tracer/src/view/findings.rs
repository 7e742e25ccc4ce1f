/*! What a demo found, in words: process, destination, pool, failures, and whether all counts agree. */

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::escape;
use crate::diagnosis::{Kind, Verdict};
use crate::model::{Cause, Error, Process, TcpState};

/// Columns of a line.
const WIDTH: usize = 80;

/// Columns before what a line says.
const INDENT: usize = 15;

/// Sockets by state.
pub type Holdings = BTreeMap<TcpState, usize>;

/// What was traced, beside what is known without tracing.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The process with the most failures, as traced.
    pub culprit: Arc<Process>,
    /// Where from, as traced.
    pub src: IpAddr,
    /// Where to, as traced; `None` for a bind(), which is for any destination.
    pub destination: Option<SocketAddr>,
    /// Without a destination: the most ports that one of them holds, and which.
    pub fullest: Option<(usize, SocketAddr)>,
    /// Failures of the culprit, as traced.
    pub failures: BTreeMap<(Option<Error>, Cause), u64>,
    /// `TIME_WAIT`s born of the culprit, as traced.
    pub time_waits: u64,
    /// Events lost.
    pub lost: u64,
    /// Source ports the pool has.
    pub capacity: usize,
    /// The kernel's own sockets of the pool; without a destination of all.
    pub holdings: Holdings,
    /// Process id of the client.
    pub client: u32,
    /// Failures the client counted itself.
    pub counted: u64,
    /// The diagnosis' first verdict.
    pub verdict: Option<Verdict>,
    /// The one that is right.
    pub right: Kind,
}

impl Findings {
    /// Ports in use.
    pub fn used(&self) -> usize {
        self.holdings.values().sum()
    }

    /// What the trace has otherwise than the client and the kernel; nothing when all agree.
    pub fn disagreements(&self) -> Vec<String> {
        let failed: u64 = self.failures.values().sum();
        let waiting = self.holding(TcpState::TimeWait);
        let mut list = Vec::new();
        if self.culprit.tgid != self.client {
            list.push(format!("the client is process {}", self.client));
        }
        if failed != self.counted {
            list.push(format!(
                "the client counted {} failures",
                grouped(self.counted)
            ));
        }
        if self.time_waits != waiting {
            list.push(format!(
                "{} TIME_WAITs were traced, the kernel has {}",
                grouped(self.time_waits),
                grouped(waiting)
            ));
        }
        let right = self.right.name();
        let diagnosed = self.verdict.as_ref().map(|verdict| verdict.kind.name());
        if diagnosed != Some(right) {
            let diagnosed = diagnosed.unwrap_or("none");
            list.push(format!("the diagnosis is {diagnosed}, not {right}"));
        }
        let blamed = self.verdict.as_ref().and_then(|it| it.culprits.first());
        let blamed = blamed.map_or(0, |holder| holder.process.tgid);
        if blamed != self.client {
            list.push(format!("the diagnosis names process {blamed} first"));
        }
        if self.lost > 0 {
            list.push(format!("{} events were lost", grouped(self.lost)));
        }
        list
    }

    fn holding(&self, state: TcpState) -> u64 {
        self.holdings.get(&state).copied().unwrap_or_default() as u64
    }

    /// Writes it, in lines of at most 80 columns.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let comm = escape::terminal(self.culprit.comm.bytes());
        let to = match self.destination {
            Some(to) => to.to_string(),
            None => "any".to_owned(),
        };
        let used = self.used();
        let full = if used >= self.capacity { ", full" } else { "" };
        let states: Vec<String> = self
            .holdings
            .iter()
            .map(|(&state, &count)| format!("{} {}", name(state), grouped(count as u64)))
            .collect();
        writeln!(out, "found")?;
        writeln!(out, "  process      {comm}[{}]", self.culprit.tgid)?;
        writeln!(out, "  destination  {to} from {}", self.src)?;
        writeln!(
            out,
            "  pool         {}/{} ports used{full}: {}",
            grouped(used as u64),
            grouped(self.capacity as u64),
            states.join(", ")
        )?;
        if let Some((most, to)) = self.fullest {
            writeln!(
                out,
                "  fullest      {}/{} of them to {to}: none alone is full",
                grouped(most as u64),
                grouped(self.capacity as u64)
            )?;
        }
        for (&(errno, cause), &count) in &self.failures {
            let errno = errno.map_or_else(|| "no errno".into(), Error::name);
            let count = grouped(count);
            writeln!(
                out,
                "  failed       {count} \u{d7} {errno}, cause {}",
                cause.name()
            )?;
        }
        let disagreements = self.disagreements();
        if disagreements.is_empty() {
            let counted = grouped(self.counted);
            writeln!(
                out,
                "  check        the client counted {counted} failures too: they agree"
            )?;
        }
        for disagreement in disagreements {
            writeln!(out, "  WRONG        {disagreement}")?;
        }
        let Some(verdict) = &self.verdict else {
            return Ok(());
        };
        // That calls failed stands above.
        let why = verdict.evidence.iter().find(|why| !why.contains("failed"));
        let why = why.map_or("", String::as_str);
        lines(out, "verdict", &format!("{}: {why}", verdict.kind.name()))?;
        match verdict.remedies.first() {
            Some(remedy) => lines(out, "remedy", &remedy.what),
            None => Ok(()),
        }
    }
}

/// A sentence after its label.
fn lines(out: &mut impl Write, label: &str, sentence: &str) -> io::Result<()> {
    let sentence = escape::terminal(sentence.as_bytes());
    for (index, line) in textwrap::wrap(&sentence, WIDTH - INDENT).iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        writeln!(out, "  {label:<11}  {line}")?;
    }
    Ok(())
}

fn name(state: TcpState) -> &'static str {
    match state {
        TcpState::SynRecv | TcpState::Close | TcpState::Listen => "other",
        state => state.name(),
    }
}

fn grouped(number: u64) -> String {
    super::text::grouped(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::Findings;
    use crate::diagnosis::Kind;
    use crate::model::{Cause, Error, Process, TaskName, TcpState};
    use crate::view::sample::{churn, holder};

    fn findings() -> Findings {
        let mut comm = [0; 16];
        comm[..12].copy_from_slice(b"churning-app");
        let mut verdict = churn();
        verdict.culprits[0].process = holder(4242, b"web", &[]).process;
        Findings {
            culprit: Arc::new(Process {
                tgid: 4242,
                comm: TaskName::new(comm),
                ..Process::default()
            }),
            src: "2001:db8::1".parse().unwrap(),
            destination: Some("[2001:db8::2]:5432".parse().unwrap()),
            fullest: None,
            failures: BTreeMap::from([((Some(Error(99)), Cause::PortsExhausted), 50)]),
            time_waits: 1000,
            lost: 0,
            capacity: 1000,
            holdings: BTreeMap::from([(TcpState::TimeWait, 1000)]),
            client: 4242,
            counted: 50,
            verdict: Some(verdict),
            right: Kind::Churn,
        }
    }

    fn text(findings: &Findings) -> String {
        let mut out = Vec::new();
        findings.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn says_all_that_matters() {
        let expected = "\
found
  process      churning-app[4242]
  destination  [2001:db8::2]:5432 from 2001:db8::1
  pool         1,000/1,000 ports used, full: TIME_WAIT 1,000
  failed       50 \u{d7} EADDRNOTAVAIL, cause ports_exhausted
  check        the client counted 50 failures too: they agree
  verdict      churn: 960 of 1,000 ports are in TIME_WAIT, 60 s each.
  remedy       Keep connections open and reuse them: a pool of 20 is enough for
               this rate.
";
        assert_eq!(text(&findings()), expected);
    }

    #[test]
    fn a_bind_has_no_destination_and_may_fail_with_every_pool_half_empty() {
        let bind = Findings {
            destination: None,
            fullest: Some((250, "192.0.2.2:6379".parse().unwrap())),
            ..findings()
        };
        let text = text(&bind);
        assert!(
            text.contains("destination  any from 2001:db8::1\n"),
            "{text}"
        );
        let line = "fullest      250/1,000 of them to 192.0.2.2:6379: none alone is full\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn says_what_does_not_agree() {
        let wrong = Findings {
            counted: 51,
            client: 1,
            lost: 3,
            time_waits: 999,
            right: Kind::Leak,
            ..findings()
        };
        assert_eq!(wrong.disagreements().len(), 6);
        let text = text(&wrong);
        assert!(!text.contains("agree"), "{text}");
        assert!(
            text.contains("WRONG        the client counted 51 failures"),
            "{text}"
        );
        assert!(
            text.contains("999 TIME_WAITs were traced, the kernel has 1,000"),
            "{text}"
        );
    }
}
