/*!
The line about a socket, byte for byte that of [`Line`](super::socket::Line), at
a fraction of its cost: at tens of thousands of lines a second the process and
the second are the same from one to the next, and what is left is numbers.
*/

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use super::line::{self, Time};
use super::socket::{Names, Person};
use crate::model::{Event, Kind, Ownership, Process};

/// Threads whose part of a line is kept, mostly below a kilobyte each. A hostile path of `PATH_MAX`
/// makes it 25 kB, so 6 MB at worst.
const KEPT: usize = 256;

/// Nanoseconds in a second.
const SECOND: i128 = 1_000_000_000;

/// What the lines before have in common with the next.
#[derive(Debug)]
pub(super) struct Quick {
    second: Option<Second>,
    people: Box<[Option<Known>]>,
}

/// A second since 1970, and its text up to the fraction.
#[derive(Debug)]
struct Second {
    number: i128,
    text: String,
}

/// A thread as the lines show it.
#[derive(Debug)]
struct Known {
    /// Held, so that no other process can come to its address.
    process: Arc<Process>,
    tid: u32,
    ownership: Ownership,
    /// Its fields, with a comma in front.
    text: Vec<u8>,
}

impl Default for Quick {
    fn default() -> Self {
        Self {
            second: None,
            people: std::iter::repeat_with(|| None).take(KEPT).collect(),
        }
    }
}

impl Quick {
    /// Writes the line of one event.
    pub(super) fn event(
        &mut self,
        event: &Event,
        time: &Time,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let tuple = &event.tuple;
        word(r#"{"schema":1,"type":""#, event.kind.name(), out);
        put(r#","ts":""#, out);
        self.time(time, out)?;
        put("\"", out);
        self.person(event, out)?;
        number(r#","netns":"#, u64::from(tuple.netns), out);
        if tuple.ifindex != 0 {
            number(r#","ifindex":"#, u64::from(tuple.ifindex), out);
        }
        if let Some(direction) = event.direction {
            word(r#","direction":""#, direction.name(), out);
        }
        address(r#","src":""#, tuple.src, out)?;
        if tuple.sport != 0 {
            number(r#","sport":"#, u64::from(tuple.sport), out);
        }
        if event.kind != Kind::BindFailed {
            address(r#","dst":""#, tuple.dst, out)?;
            number(r#","dport":"#, u64::from(tuple.dport), out);
        }
        if tuple.mapped {
            put(r#","mapped":true"#, out);
        }
        if let Some(errno) = event.errno {
            word(r#","errno":""#, &errno.name(), out);
        }
        if let Some(cause) = event.cause {
            word(r#","cause":""#, cause.name(), out);
        }
        if let Some(closer) = event.closer {
            word(r#","closer":""#, closer.name(), out);
        }
        if let Some(state) = event.state {
            word(r#","state":""#, state.name(), out);
        }
        if let Some(reason) = event.end_reason {
            word(r#","reason":""#, reason.name(), out);
        }
        for (name, value) in [
            (r#","duration_ns":"#, event.duration_ns),
            (r#","search_ns":"#, event.search_ns),
            (r#","cookie":"#, event.cookie),
        ] {
            if let Some(value) = value {
                number(name, value, out);
            }
        }
        if event.inferred {
            put(r#","inferred":true"#, out);
        }
        if event.bound {
            put(r#","bound":true"#, out);
        }
        put("}\n", out);
        Ok(())
    }

    fn time(&mut self, time: &Time, out: &mut Vec<u8>) -> io::Result<()> {
        let number = time.0.div_euclid(SECOND);
        if self
            .second
            .as_ref()
            .is_none_or(|last| last.number != number)
        {
            let text = Time(number * SECOND).to_string();
            // A time that no calendar has is no text with a fraction.
            self.second = text.split_once('.').map(|(text, _)| Second {
                number,
                text: text.to_owned(),
            });
        }
        let Some(second) = &self.second else {
            return write!(out, "{time}");
        };
        put(&second.text, out);
        let mut fraction = *b".000000000Z";
        let mut rest = time.0.rem_euclid(SECOND) as u32;
        for digit in fraction[1..10].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&fraction);
        Ok(())
    }

    fn person(&mut self, event: &Event, out: &mut Vec<u8>) -> io::Result<()> {
        // Threads of a pool have ids in a row: few share a place.
        let index = event.tid as usize % self.people.len();
        let place = &mut self.people[index];
        let known = match place {
            Some(known) if known.is_of(event) => known,
            _ => place.insert(Known::new(event)?),
        };
        out.extend_from_slice(&known.text);
        Ok(())
    }
}

impl Known {
    fn new(event: &Event) -> io::Result<Self> {
        let names = Names::of(&event.process);
        let mut text = Vec::new();
        line::object(&Person::of(event, &names), &mut text)?;
        // There is always a field: a known owner has its pid, an unknown one says so.
        text[0] = b',';
        text.pop();
        Ok(Self {
            process: Arc::clone(&event.process),
            tid: event.tid,
            ownership: event.ownership,
            text,
        })
    }

    fn is_of(&self, event: &Event) -> bool {
        Arc::ptr_eq(&self.process, &event.process)
            && self.tid == event.tid
            && self.ownership == event.ownership
    }
}

fn put(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
}

/// A word of ours, which needs no escape.
fn word(name: &str, word: &str, out: &mut Vec<u8>) {
    put(name, out);
    put(word, out);
    put("\"", out);
}

fn number(name: &str, number: u64, out: &mut Vec<u8>) {
    put(name, out);
    put(itoa::Buffer::new().format(number), out);
}

fn address(name: &str, address: IpAddr, out: &mut Vec<u8>) -> io::Result<()> {
    put(name, out);
    match address {
        IpAddr::V4(four) => {
            for (index, octet) in four.octets().into_iter().enumerate() {
                number(if index == 0 { "" } else { "." }, u64::from(octet), out);
            }
        }
        IpAddr::V6(six) => write!(out, "{six}")?,
    }
    put("\"", out);
    Ok(())
}

#[cfg(test)]
mod tests;
