/*!
Network sysctls, which each network namespace has its own of.

/proc/sys/net shows the namespace of the *task that opens the file*, so reading
another one's means calling these inside [`Netns::run_in`](super::netns::Netns::run_in).
*/

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::model::{PortRange, TwReuse};

/// What could not be done with a sysctl.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The kernel (or this namespace) has no such sysctl.
    #[error("the kernel has no sysctl {0}, or /proc is not mounted")]
    Missing(String),
    /// It could not be read.
    #[error("reading the sysctl {name} failed: {source}")]
    Read {
        /// Its name, with slashes.
        name: String,
        /// What refused.
        source: io::Error,
    },
    /// It could not be written.
    #[error("setting the sysctl {name} to `{value}` failed: {source}{hint}", hint = write_hint(source))]
    Write {
        /// Its name, with slashes.
        name: String,
        /// The value.
        value: String,
        /// What refused.
        source: io::Error,
    },
    /// It holds something this program does not know.
    #[error("the sysctl {name} reads `{value}`, which is not {expected}")]
    Malformed {
        /// Its name, with slashes.
        name: String,
        /// What it read.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
}

fn write_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; it needs root over the network namespace and a writable /proc/sys"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; /proc/sys is mounted read-only here",
        io::ErrorKind::InvalidInput => "; the kernel does not accept this value",
        _ => "",
    }
}

/// A text that is not of a sysctl's form; holds the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct NotOfForm(pub &'static str);

/// Reads a sysctl of the calling thread's namespace, without the newline.
/// `name` has slashes, relative to /proc/sys: `net/ipv4/tcp_fin_timeout`.
///
/// # Errors
/// [`SysctlError::Missing`] or [`SysctlError::Read`].
pub fn read(name: &str) -> Result<String, SysctlError> {
    match std::fs::read_to_string(format!("/proc/sys/{name}")) {
        Ok(mut text) => {
            text.truncate(text.trim_end().len());
            Ok(text)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SysctlError::Missing(name.to_owned()))
        }
        Err(source) => Err(SysctlError::Read {
            name: name.to_owned(),
            source,
        }),
    }
}

/// Writes a sysctl of the calling thread's namespace. The kernel wants the value in one write(2).
///
/// # Errors
/// [`SysctlError::Missing`] or [`SysctlError::Write`].
pub fn write(name: &str, value: impl fmt::Display) -> Result<(), SysctlError> {
    let value = value.to_string();
    let path = format!("/proc/sys/{name}");
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SysctlError::Missing(name.to_owned()))
        }
        Err(source) => Err(SysctlError::Write {
            name: name.to_owned(),
            value,
            source,
        }),
    }
}

/// Reads a sysctl into a typed value.
///
/// # Errors
/// Those of [`read`], and [`SysctlError::Malformed`].
pub fn get<T: FromStr<Err = NotOfForm>>(name: &str) -> Result<T, SysctlError> {
    let value = read(name)?;
    value
        .parse()
        .map_err(|NotOfForm(expected)| SysctlError::Malformed {
            name: name.to_owned(),
            value,
            expected,
        })
}

/// Reads a sysctl that is one number, such as `net/ipv4/tcp_max_tw_buckets`.
///
/// # Errors
/// Those of [`get`].
pub fn number(name: &str) -> Result<u32, SysctlError> {
    get(name).map(|Number(number)| number)
}

struct Number(u32);

impl FromStr for Number {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        let number = text.trim().parse();
        number.map(Self).map_err(|_| NotOfForm("a number"))
    }
}

/// Name of `ip_local_port_range` below /proc/sys.
pub const PORT_RANGE: &str = "net/ipv4/ip_local_port_range";

impl PortRange {
    /// The range of the calling thread's namespace.
    ///
    /// # Errors
    /// Those of [`get`].
    pub fn read() -> Result<Self, SysctlError> {
        get(PORT_RANGE)
    }

    /// Sets the range of the calling thread's namespace.
    ///
    /// # Errors
    /// Those of [`write`](fn@write); the kernel refuses low > high and low = 0.
    pub fn write(self) -> Result<(), SysctlError> {
        write(PORT_RANGE, self)
    }
}

impl FromStr for PortRange {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        let form = NotOfForm("two ports, the lower first");
        let mut words = text.split_ascii_whitespace();
        let mut port = || words.next().and_then(|word| word.parse().ok()).ok_or(form);
        let (low, high) = (port()?, port()?);
        if low > high || words.next().is_some() {
            return Err(form);
        }
        Ok(Self { low, high })
    }
}

/// `ip_local_reserved_ports`: ports the kernel never chooses by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservedPorts(Vec<PortRange>);

impl ReservedPorts {
    /// Its name below /proc/sys.
    pub const NAME: &'static str = "net/ipv4/ip_local_reserved_ports";

    /// Those of the calling thread's namespace.
    ///
    /// # Errors
    /// Those of [`get`].
    pub fn read() -> Result<Self, SysctlError> {
        get(Self::NAME)
    }

    /// True when `port` is reserved.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(port))
    }

    /// How many ports of `range` are reserved, each counted once.
    #[must_use]
    pub fn within(&self, range: PortRange) -> u32 {
        self.0
            .iter()
            .map(|reserved| PortRange {
                low: reserved.low.max(range.low),
                high: reserved.high.min(range.high),
            })
            .map(PortRange::ports)
            .sum()
    }
}

impl FromStr for ReservedPorts {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        let form = NotOfForm("a list of ports such as 8080,9000-9010");
        let mut ranges = Vec::new();
        for item in text.trim().split(',').filter(|item| !item.is_empty()) {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            let low = low.parse().map_err(|_| form)?;
            let high = high.parse().map_err(|_| form)?;
            if low > high {
                return Err(form);
            }
            ranges.push(PortRange { low, high });
        }
        Ok(Self(merged(ranges)))
    }
}

/// Ranges in order, none of which touches another: else a port would be counted twice.
fn merged(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable_by_key(|range| (range.low, range.high));
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.low <= last.high.saturating_add(1) => {
                last.high = last.high.max(range.high);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Name of `tcp_tw_reuse` below /proc/sys.
pub const TW_REUSE: &str = "net/ipv4/tcp_tw_reuse";

impl TwReuse {
    /// That of the calling thread's namespace.
    ///
    /// # Errors
    /// Those of [`get`].
    pub fn read() -> Result<Self, SysctlError> {
        get(TW_REUSE)
    }

    /// Sets that of the calling thread's namespace.
    ///
    /// # Errors
    /// Those of [`write`](fn@write).
    pub fn write(self) -> Result<(), SysctlError> {
        let value = match self {
            Self::Off => 0,
            Self::On => 1,
            Self::LoopbackOnly => 2,
        };
        write(TW_REUSE, value)
    }
}

impl FromStr for TwReuse {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        match text.trim() {
            "0" => Ok(Self::Off),
            "1" => Ok(Self::On),
            "2" => Ok(Self::LoopbackOnly),
            _ => Err(NotOfForm("0, 1 or 2")),
        }
    }
}

/// `tcp_fin_timeout`: seconds an orphan stays in `FIN_WAIT2`. It does not shorten `TIME_WAIT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinTimeout(
    /// Seconds.
    pub u32,
);

impl FinTimeout {
    /// Its name below /proc/sys.
    pub const NAME: &'static str = "net/ipv4/tcp_fin_timeout";

    /// That of the calling thread's namespace.
    ///
    /// # Errors
    /// Those of [`get`].
    pub fn read() -> Result<Self, SysctlError> {
        get(Self::NAME)
    }
}

impl FromStr for FinTimeout {
    type Err = NotOfForm;

    fn from_str(text: &str) -> Result<Self, NotOfForm> {
        let seconds = text.trim().parse();
        seconds
            .map(Self)
            .map_err(|_| NotOfForm("a number of seconds"))
    }
}

#[cfg(test)]
mod tests;
