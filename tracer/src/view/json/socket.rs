/*! The line about a socket: every field, in its order. */

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;

use super::SCHEMA;
use super::line::Time;
use crate::model::{Event, Kind, Ownership, Process};
use crate::view::escape;

/// Both names as text; they must outlive the line that borrows them.
pub(super) struct Names<'a> {
    comm: Cow<'a, str>,
    thread: Cow<'a, str>,
}

impl<'a> Names<'a> {
    pub(super) fn of(process: &'a Process) -> Self {
        Self {
            comm: escape::lossless(process.comm.bytes()),
            thread: escape::lossless(process.thread.bytes()),
        }
    }
}

/// Who is behind a socket.
#[derive(Serialize)]
pub(super) struct Person<'a> {
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
}

impl<'a> Person<'a> {
    /// The process behind an event, as sure as the event is.
    pub(super) fn of(event: &'a Event, names: &'a Names<'_>) -> Self {
        let process = &*event.process;
        let known = event.ownership != Ownership::Unknown;
        Self {
            pid: known.then_some(process.tgid),
            tid: known.then_some(event.tid),
            comm: known.then_some(&names.comm),
            thread: known.then_some(&names.thread),
            exe: process.exe.as_deref(),
            uid: known.then_some(process.uid),
            container: process.container.as_deref(),
            runtime: process.runtime.map(crate::model::Runtime::as_str),
            pod: process.pod.as_deref(),
            cgroup: process.cgroup.as_deref(),
            owner: match event.ownership {
                Ownership::Seen => None,
                Ownership::AtClose => Some("at_close"),
                Ownership::Unknown => Some("unknown"),
            },
        }
    }
}

/// A line about sockets. Its field names are an interface: never renamed.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    schema: u32,
    r#type: &'static str,
    pub(super) ts: Time,
    #[serde(flatten)]
    person: Person<'a>,
    netns: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    src: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sport: Option<u16>,
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
    pub(super) count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closer: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) search_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cookie: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    inferred: bool,
    #[serde(skip_serializing_if = "is_false")]
    bound: bool,
}

impl<'a> Line<'a> {
    /// The line of one event, with the time given.
    pub(super) fn of(event: &'a Event, ts: Time, names: &'a Names<'_>) -> Self {
        let tuple = &event.tuple;
        let destination = event.kind != Kind::BindFailed;
        Self {
            schema: SCHEMA,
            r#type: event.kind.name(),
            ts,
            person: Person::of(event, names),
            netns: tuple.netns,
            ifindex: Some(tuple.ifindex).filter(|&ifindex| ifindex != 0),
            direction: event.direction.map(crate::model::Direction::name),
            src: tuple.src,
            sport: Some(tuple.sport).filter(|&port| port != 0),
            dst: destination.then_some(tuple.dst),
            dport: destination.then_some(tuple.dport),
            mapped: tuple.mapped,
            errno: event.errno.map(crate::model::Error::name),
            cause: event.cause.map(crate::model::Cause::name),
            count: None,
            closer: event.closer.map(crate::model::Closer::name),
            state: event.state.map(crate::model::TcpState::name),
            reason: event.end_reason.map(crate::model::EndReason::name),
            duration_ns: event.duration_ns,
            search_ns: event.search_ns,
            cookie: event.cookie,
            inferred: event.inferred,
            bound: event.bound,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_false(value: &bool) -> bool {
    !value
}
