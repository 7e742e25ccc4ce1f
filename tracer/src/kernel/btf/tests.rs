/*! Tests on a BTF built here, and on the running kernel's. */

use super::*;

/// Builds BTF type by type.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    fn new() -> Self {
        Self {
            strings: vec![0],
            ..Self::default()
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    /// Adds a type and returns its id.
    fn add(&mut self, name: &str, info: u32, target: u32, tail: &[u32]) -> u32 {
        let name = self.string(name);
        for word in [name, info, target].iter().chain(tail) {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    /// A struct or union; members are (name, type, offset word).
    fn holder(&mut self, kind: u32, flag: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let tail: Vec<u32> = members
            .iter()
            .flat_map(|(name, id, place)| [self.string(name), *id, *place])
            .collect();
        self.add(
            name,
            flag << 31 | kind << 24 | members.len() as u32,
            64,
            &tail,
        )
    }

    /// The file; with `kinds` the section that describes the kinds.
    fn build(&self, kinds: Option<&[u8]>) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut header = vec![0, types, types, strings];
        if let Some(kinds) = kinds {
            header.extend([types + strings, kinds.len() as u32]);
        }
        let mut data = MAGIC.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        data.extend((8 + header.len() as u32 * 4).to_ne_bytes());
        for word in header {
            data.extend(word.to_ne_bytes());
        }
        data.extend(&self.types);
        data.extend(&self.strings);
        data.extend(kinds.unwrap_or_default());
        data
    }
}

const INT: u32 = 1 << 24;
const PTR: u32 = 2 << 24;
const FWD: u32 = 7 << 24;
const TYPEDEF: u32 = 8 << 24;
const CONST: u32 = 10 << 24;
const VOLATILE: u32 = 9 << 24;
const FUNC: u32 = 12 << 24;
const PROTO: u32 = 13 << 24;
const TYPE_TAG: u32 = 18 << 24;

/// A miniature of the shapes the kernel has.
fn sample() -> Builder {
    let mut btf = Builder::new();
    let int = btf.add("int", INT, 4, &[32]);
    btf.add("sock", FWD, 0, &[]);
    btf.add("sock", FUNC, 0, &[]);
    btf.holder(4, 0, "sock", &[]);
    let pair = btf.holder(4, 0, "", &[("daddr", int, 0), ("saddr", int, 32)]);
    let either = btf.holder(5, 0, "", &[("both", int, 0), ("", pair, 0)]);
    let inner = btf.holder(4, 0, "ns_common", &[("first", int, 0), ("inum", int, 64)]);
    let named = btf.add("ns_t", TYPEDEF, inner, &[]);
    let constant = btf.add("", CONST, named, &[]);
    let volatile = btf.add("", VOLATILE, constant, &[]);
    let tagged = btf.add("user", TYPE_TAG, volatile, &[]);
    let pointer = btf.add("", PTR, inner, &[]);
    btf.holder(
        4,
        1,
        "sock",
        &[
            ("lead", int, 0),
            ("", either, 64),
            ("ns", tagged, 192),
            ("pad", int, 4 << 24 | 320),
            ("userlocks", int, 4 << 24 | 324),
            ("net", pointer, 384),
        ],
    );
    btf.holder(4, 0, "sock", &[("lead", int, 800)]);
    let proto = btf.add("", PROTO | 2, int, &[0, int, 0, pointer]);
    btf.add("inet_hash_connect", FUNC, proto, &[]);
    btf.add("broken", FUNC, int, &[]);
    let target = btf.add("", PTR, proto, &[]);
    btf.add("btf_trace_inet_sock_set_state", TYPEDEF, target, &[]);
    btf
}

fn plain(byte: u32) -> Option<Member> {
    Some(Member {
        byte,
        bit: 0,
        width: 0,
    })
}

#[test]
fn members_are_found_through_anonymous_holders_and_qualifiers() {
    let btf = Btf::parse(sample().build(None)).unwrap();
    assert_eq!(btf.member("sock.lead"), plain(0));
    assert_eq!(btf.member("sock.both"), plain(8));
    assert_eq!(btf.member("sock.daddr"), plain(8));
    assert_eq!(btf.member("sock.saddr"), plain(12));
    assert_eq!(btf.member("sock.ns.inum"), plain(32));
    assert_eq!(
        btf.member("sock.userlocks"),
        Some(Member {
            byte: 40,
            bit: 4,
            width: 4
        })
    );
    for path in [
        "sock",
        "sock.",
        "sock.none",
        "none.lead",
        "sock.net.inum",
        "sock.lead.x",
        "soc.lead",
        "",
    ] {
        assert_eq!(btf.member(path), None, "{path}");
    }
}

#[test]
fn functions_structs_and_tracepoints_are_told_apart() {
    let btf = Btf::parse(sample().build(None)).unwrap();
    assert!(btf.has_function("inet_hash_connect"));
    assert_eq!(btf.function_arity("inet_hash_connect"), Some(2));
    assert_eq!(btf.function_arity("broken"), None);
    assert_eq!(btf.function_arity("int"), None);
    assert!(!btf.has_function("ns_common"));
    assert!(btf.has_struct("ns_common"));
    assert!(!btf.has_struct("inet_hash_connect"));
    assert!(btf.has_tracepoint("inet_sock_set_state"));
    assert!(!btf.has_tracepoint("timer_start"));
}

#[test]
fn unknown_kinds_are_skipped_when_the_file_describes_them() {
    let mut btf = Builder::new();
    let int = btf.add("int", INT, 4, &[32]);
    btf.add("later", 40 << 24 | 2, 0, &[7, 8, 9]);
    btf.holder(4, 0, "after", &[("lead", int, 0), ("tail", int, 32)]);
    let error = Btf::parse(btf.build(None)).unwrap_err();
    assert!(matches!(error, BtfError::UnknownKind(40)), "{error}");

    let mut kinds = vec![0_u8; 41 * 4];
    // 4 bytes once, 4 bytes for each of the two elements.
    kinds[160..164].copy_from_slice(&[4, 4, 0, 0]);
    let described = Btf::parse(btf.build(Some(&kinds))).unwrap();
    assert_eq!(described.member("after.tail"), plain(4));
    let short = Btf::parse(btf.build(Some(&kinds[..163]))).unwrap_err();
    assert!(matches!(short, BtfError::UnknownKind(40)), "{short}");
}

/// Asks everything there is to ask: none of it may panic.
fn ask(btf: &Btf) {
    for path in ["sock.saddr", "sock.ns.inum", "sock.none", "net.ns.inum"] {
        let _ = btf.member(path);
    }
    let _ = btf.function_arity("inet_hash_connect");
    let _ = btf.has_tracepoint("inet_sock_set_state");
}

#[test]
fn every_truncation_is_an_error() {
    let whole = sample().build(Some(&[0; 80]));
    for length in 0..whole.len() {
        let result = Btf::parse(whole[..length].to_vec());
        assert!(result.is_err(), "{length} of {} bytes", whole.len());
    }
    assert!(Btf::parse(whole).is_ok());
}

#[test]
fn no_changed_byte_makes_it_panic() {
    let whole = sample().build(Some(&[0; 80]));
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 0x10] {
            let mut data = whole.clone();
            data[at] = value;
            if let Ok(btf) = Btf::parse(data) {
                ask(&btf);
            }
        }
    }
}

#[test]
fn loops_end() {
    let mut btf = Builder::new();
    // 1 and 2 name each other; 3 holds itself twice, without a name.
    btf.add("a", TYPEDEF, 2, &[]);
    btf.add("b", TYPEDEF, 1, &[]);
    btf.holder(
        4,
        0,
        "knot",
        &[("", 3, 0), ("", 3, 0), ("", 1, 0), ("x", 1, 0)],
    );
    let btf = Btf::parse(btf.build(None)).unwrap();
    assert_eq!(btf.member("knot.none"), None);
    assert_eq!(btf.member("knot.x.y"), None);
}

#[test]
fn another_byte_order_is_named() {
    let mut data = sample().build(None);
    data.swap(0, 1);
    let error = Btf::parse(data).unwrap_err().to_string();
    assert!(error.contains("another byte order"), "{error}");
}

#[test]
fn an_absent_file_is_told_from_an_unreadable_one() {
    let folder = tempfile::tempdir().unwrap();
    let absent = Btf::read(&folder.path().join("vmlinux")).unwrap_err();
    assert!(matches!(absent, BtfError::Absent(_)), "{absent}");
    let unreadable = Btf::read(folder.path()).unwrap_err();
    assert!(
        matches!(unreadable, BtfError::Unreadable { .. }),
        "{unreadable}"
    );
}

#[test]
fn the_running_kernel_is_read_and_its_truncations_are_refused() {
    let data = match std::fs::read(VMLINUX) {
        Ok(data) => data,
        Err(error) => {
            println!(
                "skipping the_running_kernel_is_read_and_its_truncations_are_refused: {error}"
            );
            return;
        }
    };
    for length in (0..data.len()).step_by(data.len() / 50 + 1) {
        assert!(Btf::parse(data[..length].to_vec()).is_err(), "{length}");
    }
    let btf = Btf::parse(data).unwrap();
    assert!(btf.has_struct("sock_common"));
    assert_eq!(btf.function_arity("inet_hash_connect"), Some(2));
    assert_eq!(btf.function_arity("tcp_v4_connect"), Some(3));
    assert!(btf.has_tracepoint("inet_sock_set_state"));
}
