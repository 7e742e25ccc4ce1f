/*! The quick line against the declared one, on events nobody would think of. */

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::Quick;
use crate::model::{
    Cause, Closer, Direction, EndReason, Error, Event, Kind, Ownership, Process, Runtime, TaskName,
    TcpState, Tuple,
};
use crate::view::json::line::{self, Time};
use crate::view::json::socket::{Line, Names};

/// splitmix64: the same events in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn maybe(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Of any length in digits, not nearly always of twenty.
    fn number(&mut self) -> u64 {
        let digits = self.below(64);
        self.next() >> digits
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    fn some<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        self.maybe().then(|| self.of(list))
    }

    fn name(&mut self) -> TaskName {
        let mut name = [0; 16];
        let ascii = self.maybe();
        for byte in name.iter_mut().take(self.next() as usize % 16) {
            *byte = if ascii {
                b' ' + self.below(95) as u8
            } else {
                self.next() as u8
            };
        }
        TaskName::new(name)
    }

    fn address(&mut self) -> IpAddr {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        match self.below(4) {
            0 => Ipv6Addr::from_bits(bits).into(),
            // Runs of zeros, which the text form leaves out.
            1 => Ipv6Addr::from_bits(bits & 0xffff << self.below(112)).into(),
            _ => Ipv4Addr::from_bits(self.number() as u32).into(),
        }
    }

    /// A process in no place yet.
    fn process(&mut self) -> Process {
        Process {
            tgid: self.number() as u32,
            uid: self.number() as u32,
            start_ns: self.number(),
            cgroup_id: self.number(),
            comm: self.name(),
            thread: self.name(),
            ..Process::default()
        }
    }

    /// The same process in another place.
    fn placed(&mut self, process: &Process) -> Arc<Process> {
        const TEXT: [&str; 5] = [
            "",
            "/usr/bin/web",
            "a\"b\\c\n",
            "\u{202e}\u{e0041}",
            "日本\u{9b}",
        ];
        Arc::new(Process {
            exe: self.some(&TEXT).map(Into::into),
            cgroup: self.some(&TEXT).map(Into::into),
            container: self.some(&TEXT).map(Into::into),
            runtime: self.some(&[Runtime::Docker, Runtime::CriO]),
            pod: self.some(&TEXT).map(Into::into),
            ..process.clone()
        })
    }

    fn event(&mut self, process: &Arc<Process>, tid: u32) -> Event {
        use TcpState::{CloseWait, Established, FinWait2, LastAck, TimeWait};
        const FAILED: [Kind; 2] = [Kind::ConnectFailed, Kind::BindFailed];
        const OTHERS: [Kind; 4] = [
            Kind::Opened,
            Kind::Closed,
            Kind::TimeWait,
            Kind::TimeWaitEnd,
        ];
        Event {
            ts_ns: self.number(),
            kind: if self.maybe() {
                self.of(&FAILED)
            } else {
                self.of(&OTHERS)
            },
            process: Arc::clone(process),
            tid,
            ownership: self.of(&[Ownership::Seen, Ownership::AtClose, Ownership::Unknown]),
            tuple: Tuple {
                netns: self.number() as u32,
                ifindex: self.number() as u32 & 7,
                mapped: self.maybe(),
                src: self.address(),
                sport: self.number() as u16,
                dst: self.address(),
                dport: self.number() as u16,
            },
            cookie: self.maybe().then(|| self.number()),
            duration_ns: self.maybe().then(|| self.number()),
            search_ns: self.maybe().then(|| self.number()),
            errno: self.some(&[Error(99), Error(111), Error(4000)]),
            cause: self.some(&[Cause::PortsExhausted, Cause::Refused]),
            closer: self.some(&[Closer::Local, Closer::Peer, Closer::Reset]),
            direction: self.some(&[Direction::In, Direction::Out]),
            state: self.some(&[TimeWait, FinWait2, LastAck, CloseWait, Established]),
            end_reason: self.some(&[
                EndReason::Expired,
                EndReason::Early,
                EndReason::Reused,
                EndReason::Killed,
                EndReason::NetnsRemoved,
            ]),
            inferred: self.maybe(),
            bound: self.maybe(),
            sample: self.maybe(),
        }
    }
}

fn declared(event: &Event, time: i128) -> String {
    let names = Names::of(&event.process);
    let mut out = Vec::new();
    line::write(&Line::of(event, Time(time), &names), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn quick(quick: &mut Quick, event: &Event, time: i128) -> String {
    let mut out = Vec::new();
    quick.event(event, &Time(time), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_quick_line_is_the_declared_line() {
    let mut random = Random(3);
    let mut view = Quick::default();
    let mut owners: Vec<(Arc<Process>, u32)> = Vec::new();
    let mut time = 1_700_000_000_000_000_000;
    for _ in 0..20_000 {
        // Owners come again, come in another place or with another name, and go.
        if owners.len() < 100 {
            let process = random.process();
            owners.push((random.placed(&process), random.number() as u32));
        }
        let place = random.below(owners.len() as u64) as usize;
        match random.below(40) {
            0 => drop(owners.swap_remove(place)),
            1 => owners[place].0 = random.placed(&owners[place].0),
            2 => Arc::make_mut(&mut owners[place].0).thread = random.name(),
            3 => owners[place].1 = random.below(8) as u32,
            _ => {}
        }
        let place = random.below(owners.len() as u64) as usize;
        let (process, tid) = &owners[place];
        let event = random.event(process, *tid);
        time = match random.below(50) {
            0 => i128::from(random.number()) - i128::from(random.number()),
            1 => i128::from(random.next()) << random.below(64),
            _ => time + i128::from(random.below(100_000_000)),
        };
        assert_eq!(quick(&mut view, &event, time), declared(&event, time));
    }
}

#[test]
fn times_agree_at_their_edges() {
    let mut view = Quick::default();
    let event = Random(5).event(&Process::nobody(), 0);
    for time in [
        0,
        -1,
        -1_000_000_000,
        -1_000_000_001,
        999_999_999,
        1_000_000_000,
        // The last moment of jiff's calendar, and the first after it.
        253_402_207_200_999_999_999,
        253_402_207_201_000_000_000,
        i128::from(i64::MAX) + i128::from(u64::MAX),
        // Back from where no text could be kept.
        1_700_000_000_123_456_789,
    ] {
        assert_eq!(
            quick(&mut view, &event, time),
            declared(&event, time),
            "{time}"
        );
    }
}
