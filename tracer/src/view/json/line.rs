/*! How a line is written: compact, whole, and safe to look at; and the time in it. */

use std::fmt::{self, Display};
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::view::escape;

/// Nanoseconds since 1970, shown as RFC 3339.
pub(super) struct Time(pub(super) i128);

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

/// Writes one line.
pub(super) fn write(line: &impl Serialize, out: &mut Vec<u8>) -> io::Result<()> {
    object(line, out)?;
    out.push(b'\n');
    Ok(())
}

/// Writes one object, without the end of the line.
pub(super) fn object(value: &impl Serialize, out: &mut Vec<u8>) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Safe);
    Ok(value.serialize(&mut serializer)?)
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
