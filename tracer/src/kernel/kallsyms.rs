/*!
Addresses of kernel functions, from /proc/kallsyms.

Only `tw_timer_handler` is of interest: a kernel timer with this handler is a `TIME_WAIT`.
*/

use std::fs::File;
use std::io::{self, BufRead, BufReader};

/// Where the kernel lists its symbols.
pub const PATH: &str = "/proc/kallsyms";

/// The handler of every `TIME_WAIT` timer.
pub const TW_TIMER_HANDLER: &str = "tw_timer_handler";

/// What the list says about a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// Its address, never 0.
    At(u64),
    /// It is there, but the kernel shows 0 for its address to this process
    /// (`kernel.kptr_restrict`, or no `CAP_SYSLOG`).
    Hidden,
    /// The list does not have it.
    Absent,
}

impl Symbol {
    /// The address, 0 when it is not known: what [`tracer_ebpf::Config::tw_timer_handler`] wants.
    pub fn address(self) -> u64 {
        match self {
            Self::At(address) => address,
            Self::Hidden | Self::Absent => 0,
        }
    }
}

/// Looks `symbol` up in the running kernel.
///
/// # Errors
/// When [`PATH`] cannot be read.
pub fn lookup(symbol: &str) -> io::Result<Symbol> {
    find(BufReader::with_capacity(1 << 16, File::open(PATH)?), symbol)
}

/// Looks `symbol` up in a list of `address type name [module]` lines; the first
/// of that name counts, and a suffix the compiler's LTO adds does not.
///
/// # Errors
/// When `list` cannot be read.
pub fn find(mut list: impl BufRead, symbol: &str) -> io::Result<Symbol> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if list.read_until(b'\n', &mut line)? == 0 {
            return Ok(Symbol::Absent);
        }
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let (Some(address), Some(name)) = (words.next(), words.nth(1)) else {
            continue;
        };
        let rest = name.strip_prefix(symbol.as_bytes());
        if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b".llvm.")) {
            continue;
        }
        let address = std::str::from_utf8(address)
            .ok()
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        match address {
            Some(0) => return Ok(Symbol::Hidden),
            Some(address) => return Ok(Symbol::At(address)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_found_by_its_whole_name() {
        let list = "\
ffffffff820089e0 t __pfx_tw_timer_handler
ffffffff820089e8 t tw_timer_handler_else
ffffffff820089f0 t tw_timer_handler
ffffffffc0000000 t tw_timer_handler\t[other]
";
        let found = |name| find(list.as_bytes(), name).unwrap();
        assert_eq!(found("tw_timer_handler"), Symbol::At(0xffff_ffff_8200_89f0));
        assert_eq!(found("tw_timer"), Symbol::Absent);
        assert_eq!(found("none"), Symbol::Absent);
    }

    #[test]
    fn hidden_lto_and_damaged_lines() {
        let cases: &[(&str, Symbol)] = &[
            ("0000000000000000 t tw_timer_handler\n", Symbol::Hidden),
            (
                "0000000000000010 t tw_timer_handler.llvm.123\n",
                Symbol::At(16),
            ),
            ("0000000000000010 t tw_timer_handler.cold\n", Symbol::Absent),
            ("", Symbol::Absent),
            ("\n\n \nxyz\n", Symbol::Absent),
            ("zz t tw_timer_handler\n", Symbol::Absent),
            (
                "11112222333344445 t tw_timer_handler\n0000000000000020 t tw_timer_handler",
                Symbol::At(32),
            ),
        ];
        for (list, expected) in cases {
            let found = find(list.as_bytes(), TW_TIMER_HANDLER).unwrap();
            assert_eq!(found, *expected, "{list:?}");
        }
        assert_eq!(Symbol::Hidden.address(), 0);
        assert_eq!(Symbol::At(7).address(), 7);
    }

    #[test]
    fn the_running_kernel_has_the_handler() {
        match lookup(TW_TIMER_HANDLER) {
            Ok(found) => assert_ne!(found, Symbol::Absent),
            Err(error) => println!("skipping the_running_kernel_has_the_handler: {error}"),
        }
    }
}
