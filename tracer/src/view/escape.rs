/*!
The choke point for strings that come from other processes: a task's name is
any 15 bytes its program chose, and a terminal obeys some of them.
*/

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal may obey `c`, or show the text around it in another
/// order or not at all: control characters, line and paragraph separators,
/// bidirectional and invisible formatting.
pub fn is_hazardous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Text for a terminal, in one line: hazardous characters as `\u{1b}`, bytes
/// that are not UTF-8 as `\xff`.
pub fn terminal(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes)
        && !text.contains(is_hazardous)
    {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_hazardous(c) {
                safe.extend(c.escape_unicode());
            } else {
                safe.push(c);
            }
        }
        push_bytes(&mut safe, chunk.invalid());
    }
    Cow::Owned(safe)
}

/// Text that every byte string has another of: bytes that are not UTF-8 as
/// `\xff`, a backslash as `\\`. Control characters are left to the format it goes into.
pub fn lossless(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes)
        && !text.contains('\\')
    {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push('\\');
            }
            text.push(c);
        }
        push_bytes(&mut text, chunk.invalid());
    }
    Cow::Owned(text)
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::{is_hazardous, lossless, terminal};

    #[test]
    fn a_terminal_gets_nothing_to_obey() {
        for (hostile, shown) in [
            (b"nginx".as_slice(), "nginx"),
            (
                "Gr\u{fc}\u{df}e \u{65e5}\u{672c}".as_bytes(),
                "Gr\u{fc}\u{df}e \u{65e5}\u{672c}",
            ),
            (b"\x1b]52;c;cm0=\x07", "\\u{1b}]52;c;cm0=\\u{7}"),
            (b"\x1b[2J", "\\u{1b}[2J"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            (b"\x9b31m", "\\x9b31m"),
            ("a\u{202e}gpj.exe".as_bytes(), "a\\u{202e}gpj.exe"),
            ("\u{2066}x\u{2069}".as_bytes(), "\\u{2066}x\\u{2069}"),
            (b"two\nlines\r", "two\\u{a}lines\\u{d}"),
            (b"\xff\xfeok\xc3", "\\xff\\xfeok\\xc3"),
            (b"del\x7f", "del\\u{7f}"),
            ("zero\u{200b}width".as_bytes(), "zero\\u{200b}width"),
            (b"", ""),
        ] {
            assert_eq!(terminal(hostile), shown);
        }
    }

    #[test]
    fn no_byte_pair_reaches_a_terminal_unsafely() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let shown = terminal(&[first, second]).into_owned();
                assert!(!shown.contains(is_hazardous), "{first:#x} {second:#x}");
            }
        }
    }

    #[test]
    fn no_two_byte_strings_read_the_same() {
        assert_eq!(lossless(b"web"), "web");
        assert_eq!(lossless(b"a\xff"), "a\\xff");
        assert_eq!(lossless(b"a\\xff"), "a\\\\xff");
        assert_eq!(lossless(b"\x1b[2J"), "\x1b[2J");
    }
}
