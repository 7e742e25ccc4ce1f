/*! Values of options, parsed and checked. */

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;

/// Smallest ring: a multiple of the page size of every machine Linux runs on.
const SMALLEST_RING: u32 = 64 << 10;

/// Largest ring.
const LARGEST_RING: u32 = 1 << 30;

/// Why a value is none. The text ends with examples.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// Not a destination.
    #[error("it is no network; write 10.0.0.0/8, 10.0.0.2:6432, fd00::/8 or [fd00::/8]:6432")]
    Destination,
    /// Not a time span.
    #[error("it is no time span above zero; write 500ms, 30s, 5m or 1h")]
    Duration,
    /// Not a level of a pool.
    #[error(
        "it is neither a part of a pool from 0% to 100% nor a number of ports up to 65535; write 10%, 2.5% or 500"
    )]
    Level,
    /// Not a size of the ring.
    #[error("it is no power of two from 64K to 1G; write 512K, 8M or 64M")]
    Bytes,
}

/// A network and maybe a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationFilter {
    /// The network; a single address has all its bits.
    pub network: IpNet,
    /// The port; `None` for any.
    pub port: Option<u16>,
}

impl FromStr for DestinationFilter {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (network, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (network, port) = rest.split_once(']').ok_or(BadValue::Destination)?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or(BadValue::Destination)?),
                };
                (network, port)
            }
            // With two colons it is an IPv6 network, whose port needs brackets.
            None => match text.split_once(':') {
                Some((network, port)) if !port.contains(':') => (network, Some(port)),
                _ => (text, None),
            },
        };
        let network = network
            .parse::<IpNet>()
            .or_else(|_| network.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| BadValue::Destination)?;
        let port = match port {
            None => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                let port = port.parse().ok().filter(|&port: &u16| port != 0);
                Some(port.ok_or(BadValue::Destination)?)
            }
            Some(_) => return Err(BadValue::Destination),
        };
        Ok(Self {
            network: network.trunc(),
            port,
        })
    }
}

/// Reads a time span such as `500ms`, `30s`, `5m`, `1h` or `1h30m`.
///
/// # Errors
/// [`BadValue::Duration`].
pub fn duration(text: &str) -> Result<Duration, BadValue> {
    let span: SignedDuration = text.parse().map_err(|_| BadValue::Duration)?;
    Duration::try_from(span)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or(BadValue::Duration)
}

/// How full a pool may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// This part of its capacity, from 0 to 1.
    Part(f64),
    /// This many ports.
    Ports(u64),
}

impl Level {
    /// The most ports in use that are not above the level. `None` for a part of a capacity that is
    /// not known.
    pub fn of(self, capacity: Option<u64>) -> Option<u64> {
        match self {
            // Below 65,536, so exact.
            Self::Part(part) => capacity.map(|ports| (ports as f64 * part).floor() as u64),
            Self::Ports(ports) => Some(ports),
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Undoes the division without its rounding error.
            Self::Part(part) => write!(f, "{}%", (part * 1e8).round() / 1e6),
            Self::Ports(1) => write!(f, "1 port"),
            Self::Ports(ports) => write!(f, "{ports} ports"),
        }
    }
}

impl FromStr for Level {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let digits = text.strip_suffix('%').unwrap_or(text);
        // parse() would also take signs, exponents and `inf`.
        if !digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            return Err(BadValue::Level);
        }
        if digits.len() == text.len() {
            let ports = text.parse::<u16>().map_err(|_| BadValue::Level)?;
            return Ok(Self::Ports(ports.into()));
        }
        let percent: f64 = digits.parse().map_err(|_| BadValue::Level)?;
        (0.0..=100.0)
            .contains(&percent)
            .then_some(Self::Part(percent / 100.0))
            .ok_or(BadValue::Level)
    }
}

/// Size of the ring buffer, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u32);

impl FromStr for Bytes {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (digits, shift) = match text.char_indices().last() {
            Some((at, 'k' | 'K')) => (&text[..at], 10),
            Some((at, 'm' | 'M')) => (&text[..at], 20),
            Some((at, 'g' | 'G')) => (&text[..at], 30),
            _ => (text, 0),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadValue::Bytes);
        }
        let number: u32 = digits.parse().map_err(|_| BadValue::Bytes)?;
        number
            .checked_mul(1 << shift)
            .filter(|bytes| bytes.is_power_of_two())
            .filter(|bytes| (SMALLEST_RING..=LARGEST_RING).contains(bytes))
            .map(Self)
            .ok_or(BadValue::Bytes)
    }
}
