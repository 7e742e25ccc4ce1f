/*! Columns that only ever grow, so lines stay aligned while the stream runs, and the words in them. */

use std::io::{self, Write};
use std::net::IpAddr;

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::model::{Event, Ownership, Place};
use crate::view::escape;

/// Columns of a line: time, process, what, count, place; then the detail.
const FIXED: usize = 5;

/// Where the columns begin with, so that the first lines of a quiet stream line up with the next.
const LEAST: [usize; FIXED] = [8, 14, 13, 6, 15];

/// How far they grow on a terminal; a longer word is shortened.
const MOST: [usize; FIXED] = [12, 24, 15, 10, 30];

/// Cells the detail is worth having.
const LEAST_DETAIL: usize = 8;

/// How a word is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::view) enum Colour {
    /// Not at all.
    Plain,
    /// What failed or was lost.
    Bad,
    /// What holds a port.
    Notable,
    /// What went well.
    Good,
    /// What is in the way of the rest.
    Faint,
}

/// The widths so far.
#[derive(Debug)]
pub(super) struct Columns {
    terminal: Option<usize>,
    colour: bool,
    widths: [usize; FIXED],
}

impl Columns {
    /// For a terminal of this many columns; `None` shortens nothing.
    pub(super) fn new(terminal: Option<usize>, colour: bool) -> Self {
        Self {
            terminal,
            colour,
            widths: LEAST,
        }
    }

    /// The style of a colour, empty without colours.
    pub(super) fn style(&self, colour: Colour) -> Style {
        style(self.colour, colour)
    }

    /// Writes one line; `colour` is that of the third word.
    pub(super) fn line(
        &mut self,
        words: [&str; FIXED + 1],
        colour: Colour,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut used = 0;
        for (column, word) in words.iter().take(FIXED).enumerate() {
            let most = self.terminal.map_or(usize::MAX, |_| MOST[column]);
            let width = &mut self.widths[column];
            *width = word.width().min(most).max(*width);
            let last = column + 1 == FIXED && words[FIXED].is_empty();
            // What is left of a narrow terminal, with a space before the detail.
            let room = self
                .terminal
                .map_or(usize::MAX, |terminal| terminal.saturating_sub(used));
            let width = (*width).min(room);
            let word = match column {
                1 => shorten(word, width, Keep::Process),
                4 => shorten(word, width, Keep::Port),
                _ => shorten(word, width, Keep::Start),
            };
            let style = self.style(match column {
                0 => Colour::Faint,
                2 => colour,
                _ => Colour::Plain,
            });
            let padding = if last { 0 } else { width - word.width() };
            write!(out, "{style}{word}{style:#}{:padding$}", "")?;
            if !last {
                out.push(b' ');
            }
            used += width + 1;
        }
        let room = self
            .terminal
            .map_or(usize::MAX, |terminal| terminal.saturating_sub(used));
        if room >= LEAST_DETAIL {
            out.extend_from_slice(shorten(words[FIXED], room, Keep::Start).as_bytes());
        }
        while out.last() == Some(&b' ') {
            out.pop();
        }
        out.push(b'\n');
        Ok(())
    }
}

/// The style of a colour, empty without colours.
pub(in crate::view) fn style(coloured: bool, colour: Colour) -> Style {
    if !coloured {
        return Style::new();
    }
    match colour {
        Colour::Plain => Style::new(),
        Colour::Bad => AnsiColor::Red.on_default(),
        Colour::Notable => AnsiColor::Yellow.on_default(),
        Colour::Good => AnsiColor::Green.on_default(),
        Colour::Faint => Style::new().dimmed(),
    }
}

/// What is worth most of a word that does not fit.
#[derive(Clone, Copy, Debug)]
pub(in crate::view) enum Keep {
    Start,
    /// `web-fron…[4242]`
    Process,
    /// `→ [fd00:…:1]:6432`
    Port,
}

/// `word` in at most `width` cells.
pub(in crate::view) fn shorten(word: &str, width: usize, keep: Keep) -> String {
    if word.width() <= width {
        return word.to_owned();
    }
    let tail = match keep {
        Keep::Start => "",
        Keep::Process => word.rfind('[').map_or("", |at| &word[at..]),
        Keep::Port => {
            let port = word.rfind(':').map_or("", |at| &word[at..]);
            if word.contains("]:") {
                &word[word.len() - port.len() - 1..]
            } else {
                port
            }
        }
    };
    let tail = if tail.width() + 2 > width { "" } else { tail };
    let mut room = width.saturating_sub(tail.width() + 1);
    let mut short = String::new();
    for c in word.chars() {
        let cells = c.width().unwrap_or(0);
        if cells > room {
            break;
        }
        room -= cells;
        short.push(c);
    }
    if width > 0 {
        short.push('\u{2026}');
    }
    short + tail
}

/// `web[4242]`; `?` when nobody is known.
pub(super) fn who(event: &Event) -> String {
    if event.ownership == Ownership::Unknown {
        return "?".to_owned();
    }
    let process = &event.process;
    format!(
        "{}[{}]",
        escape::terminal(process.comm.bytes()),
        process.tgid
    )
}

/// `10.0.0.2:6432`, `[fd00::2]:6432`.
pub(in crate::view) fn endpoint(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// `→ destination`, `← listener`, `bind address`.
pub(super) fn arrow(place: &Place) -> String {
    match *place {
        Place::Pool { dst, dport, .. } => format!("\u{2192} {}", endpoint(dst, dport)),
        Place::Listener { address, port, .. } => {
            format!("\u{2190} {}", endpoint(address, port))
        }
        Place::Bind { address, port, .. } => format!("bind {}", endpoint(address, port)),
    }
}

/// `1,204`
pub(in crate::view) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `850ns`, `12.3µs`, `1.24ms`, `41.0s`, `12m30s`: three digits that mean something.
pub(super) fn span(ns: u64) -> String {
    let (whole, unit) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        1_000_000_000..60_000_000_000 => (1_000_000_000, "s"),
        _ => {
            let seconds = ns / 1_000_000_000;
            return format!("{}m{:02}s", seconds / 60, seconds % 60);
        }
    };
    // Cut, not rounded: 999.96 must not become 1000.
    let hundredths = ns * 100 / whole;
    match hundredths {
        0..1_000 => format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100),
        1_000..10_000 => format!("{}.{}{unit}", hundredths / 100, hundredths / 10 % 10),
        _ => format!("{}{unit}", hundredths / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::{Keep, grouped, shorten, span};

    #[test]
    fn numbers_are_for_reading() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1204, "1,204"),
            (1_000_000, "1,000,000"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
        for (ns, text) in [
            (850, "850ns"),
            (1_240, "1.24\u{b5}s"),
            (12_345, "12.3\u{b5}s"),
            (999_999, "999\u{b5}s"),
            (1_240_000, "1.24ms"),
            (41_000_000_000, "41.0s"),
            (750_000_000_000, "12m30s"),
        ] {
            assert_eq!(span(ns), text);
        }
    }

    #[test]
    fn a_shortened_word_keeps_its_pid_and_port() {
        assert_eq!(
            shorten("web-frontend[4242]", 14, Keep::Process),
            "web-fro\u{2026}[4242]"
        );
        assert_eq!(
            shorten("\u{2192} [fd00:1234::5678:9abc]:6432", 18, Keep::Port),
            "\u{2192} [fd00:123\u{2026}]:6432"
        );
        assert_eq!(
            shorten("\u{2192} 100.100.100.100:6432", 15, Keep::Port),
            "\u{2192} 100.100\u{2026}:6432"
        );
        assert_eq!(
            shorten("ports_exhausted", 8, Keep::Start),
            "ports_e\u{2026}"
        );
        assert_eq!(
            shorten("\u{65e5}\u{672c}\u{8a9e}", 5, Keep::Start),
            "\u{65e5}\u{672c}\u{2026}"
        );
        assert_eq!(shorten("abc", 3, Keep::Start), "abc");
        assert_eq!(shorten("abc", 0, Keep::Start), "");
    }
}
