/*! One JSON object a line, schema 1. */

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use super::{Summary, View, escape};
use crate::event::{Event, Kind, Ownership};
use crate::host::process::Identity;
use crate::source::{About, Failure, Loss, Lost};
use crate::stream::tally::Totals;

const SCHEMA: u32 = 1;

/// Renders JSON lines.
#[derive(Debug)]
pub struct Json {
    clock_offset_ns: i64,
}

impl Json {
    /// For a source with this clock.
    pub fn new(about: &About) -> Self {
        Self {
            clock_offset_ns: about.clock_offset_ns,
        }
    }

    fn time(&self, monotonic_ns: u64) -> Time {
        Time(i128::from(monotonic_ns) + i128::from(self.clock_offset_ns))
    }

    fn line<'a>(&self, event: &Event, who: &'a Identity, names: &'a Names<'_>) -> Line<'a> {
        let known = event.ownership != Ownership::Unknown;
        let tuple = &event.tuple;
        let destination = event.kind != Kind::BindFailed;
        Line {
            schema: SCHEMA,
            r#type: event.kind.name(),
            ts: self.time(event.ts_ns),
            pid: known.then_some(event.owner.tgid),
            tid: known.then_some(event.owner.tid),
            comm: known.then_some(&names.comm),
            thread: known.then_some(&names.thread),
            exe: who.exe.as_deref(),
            uid: known.then_some(event.owner.uid),
            container: who.container.as_deref(),
            runtime: who.runtime.map(crate::host::cgroup::Runtime::as_str),
            pod: who.pod.as_deref(),
            cgroup: who.cgroup.as_deref(),
            owner: match event.ownership {
                Ownership::Seen => None,
                Ownership::AtClose => Some("at_close"),
                Ownership::Unknown => Some("unknown"),
            },
            netns: tuple.netns,
            ifindex: Some(tuple.ifindex).filter(|&ifindex| ifindex != 0),
            direction: event.direction.map(crate::event::Direction::name),
            src: tuple.src,
            sport: Some(tuple.sport).filter(|&port| port != 0),
            dst: destination.then_some(tuple.dst),
            dport: destination.then_some(tuple.dport),
            mapped: tuple.mapped,
            errno: event.errno.map(crate::event::Error::name),
            cause: event.cause.map(crate::event::Cause::name),
            count: None,
            closer: event.closer.map(crate::event::Closer::name),
            state: event.state.map(crate::event::TcpState::name),
            reason: event.end_reason.map(crate::event::EndReason::name),
            duration_ns: event.duration_ns,
            search_ns: event.search_ns,
            cookie: event.cookie,
            inferred: event.inferred,
            bound: event.bound,
        }
    }
}

impl View for Json {
    fn event(&mut self, event: &Event, who: &Arc<Identity>, out: &mut Vec<u8>) -> io::Result<()> {
        let names = Names::of(event);
        write_line(&self.line(event, who, &names), out)
    }

    fn failure(
        &mut self,
        failure: &Failure,
        who: &Arc<Identity>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let first = &failure.first;
        let names = Names::of(first);
        let mut line = self.line(first, who, &names);
        line.ts = self.time(failure.last_ns);
        line.count = Some(failure.count);
        let search_ns = failure.search_sum_ns.checked_div(failure.count);
        line.search_ns = search_ns.filter(|&mean| mean != 0);
        // One source port and one socket do not stand for many; a bind() asked for its port each time.
        if !failure.fresh || failure.count > 1 {
            line.cookie = None;
            line.sport = line.sport.filter(|_| first.kind == Kind::BindFailed);
        }
        write_line(&line, out)
    }

    fn tick(&mut self, _now_ns: u64, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn loss(&mut self, now_ns: u64, loss: &Loss, out: &mut Vec<u8>) -> io::Result<()> {
        let line = LossLine {
            schema: SCHEMA,
            r#type: "loss",
            ts: self.time(now_ns),
            lost: loss.lost,
        };
        write_line(&line, out)
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, summary: &Summary, out: &mut Vec<u8>) -> io::Result<()> {
        let loss = &summary.loss;
        let line = SummaryLine {
            schema: SCHEMA,
            r#type: "summary",
            ts: self.time(summary.end_ns),
            duration_ns: summary.duration_ns,
            events: summary.totals,
            lost: loss.lost,
            recursion: Recursion {
                skipped: loss.recursion_skipped,
                rescued: loss.recursion_rescued,
            },
            samples_skipped: loss.samples_skipped,
            failures_full: loss.failures_full,
            about: &summary.about,
        };
        write_line(&line, out)
    }
}

/// Both names as text; they must outlive the line that borrows them.
struct Names<'a> {
    comm: Cow<'a, str>,
    thread: Cow<'a, str>,
}

impl<'a> Names<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            comm: escape::lossless(event.owner.comm.bytes()),
            thread: escape::lossless(event.owner.thread.bytes()),
        }
    }
}

/// A line about sockets. Its field names are an interface: never renamed.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    r#type: &'static str,
    ts: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<&'a Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<&'a Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'static str>,
    netns: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    src: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    #[serde(skip_serializing_if = "is_false")]
    mapped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closer: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    inferred: bool,
    #[serde(skip_serializing_if = "is_false")]
    bound: bool,
}

#[derive(Serialize)]
struct LossLine {
    schema: u32,
    r#type: &'static str,
    ts: Time,
    lost: Lost,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    schema: u32,
    r#type: &'static str,
    ts: Time,
    duration_ns: u64,
    events: Totals,
    lost: Lost,
    recursion: Recursion,
    samples_skipped: u64,
    failures_full: u64,
    #[serde(flatten)]
    about: &'a About,
}

#[derive(Serialize)]
struct Recursion {
    skipped: u64,
    rescued: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// Nanoseconds since 1970, shown as RFC 3339.
struct Time(i128);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(self.0) {
            Ok(time) => write!(f, "{time:.9}"),
            // Only a broken clock leads out of jiff's 20,000 years.
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn write_line(line: &impl Serialize, out: &mut Vec<u8>) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Safe);
    line.serialize(&mut serializer)?;
    out.push(b'\n');
    Ok(())
}

/// Compact JSON that is also safe to look at: what a terminal may obey is
/// written as `\u009b`, which is the same string to every JSON reader.
struct Safe;

impl Formatter for Safe {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        mut fragment: &str,
    ) -> io::Result<()> {
        // Nearly every string: no need to look at characters.
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return writer.write_all(fragment.as_bytes());
        }
        while let Some(at) = fragment.find(escape::is_hazardous) {
            let (plain, rest) = fragment.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut rest = rest.chars();
            if let Some(c) = rest.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            fragment = rest.as_str();
        }
        writer.write_all(fragment.as_bytes())
    }
}

#[cfg(test)]
mod tests;
