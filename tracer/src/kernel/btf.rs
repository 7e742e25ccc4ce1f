/*!
Reads BTF, the kernel's type information: where a struct member lies, which
functions there are and how many arguments they take.

An own reader because none of the crates fits: aya-obj keeps struct members to
itself, and `btf` takes half a second, copies every type, lets a function hide
a struct of the same name and overflows on damaged input. Only native byte order
is read. Types of kernel modules are in files of their own and not looked at.
*/

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where the running kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Most bytes read: the kernel's own are about 5 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Most anonymous structs and unions inside each other.
const MAX_DEPTH: u32 = 32;
/// Most members looked at for one path: bounds the work on hostile input.
const MAX_STEPS: u32 = 1 << 20;

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const TYPE_HEADER: usize = 12;
const MEMBER: usize = 12;

/// Kinds of types, as the kernel numbers them (`include/uapi/linux/btf.h`).
mod kind {
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const TYPE_TAG: u32 = 18;
}

/// Why the type information could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel was built without BTF, or /sys is not mounted.
    #[error("the kernel shows no type information (BTF) at {}", .0.display())]
    Absent(PathBuf),
    /// The file is there but cannot be read.
    #[error("cannot read the kernel's type information (BTF) at {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What refused.
        source: io::Error,
    },
    /// The bytes are not BTF, or not whole.
    #[error("the type information (BTF) is damaged at byte {at}: {what}")]
    Malformed {
        /// Position in the file.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// A kind of type this version does not know, and the file does not say how long it is.
    #[error(
        "the type information (BTF) has types of kind {0}, which this version of tracer does not know"
    )]
    UnknownKind(u32),
}

/// Where a member lies in its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Offset in bytes; of a bit-field, that of the byte its first bit lies in.
    pub byte: u32,
    /// First bit within that byte as BTF counts; 0 unless a bit-field.
    pub bit: u32,
    /// Width in bits of a bit-field; 0 for any other member.
    pub width: u32,
}

/// A type: its position, and what its header says.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    count: usize,
    bit_fields: bool,
    /// A size or another type, depending on `kind`.
    target: u32,
}

/// The type information of a kernel, whole in memory and checked to be within bounds.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    /// Position of each type; its id is its index plus one.
    types: Vec<u32>,
    strings: std::ops::Range<usize>,
}

impl Btf {
    /// Reads the file at `path`, normally [`VMLINUX`].
    ///
    /// # Errors
    /// When there is no such file, it cannot be read, or is not whole BTF.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let mut data = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut data))
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => BtfError::Absent(path.to_owned()),
                _ => BtfError::Unreadable {
                    path: path.to_owned(),
                    source,
                },
            })?;
        Self::parse(data)
    }

    /// Takes over `data` and finds where each type begins.
    ///
    /// # Errors
    /// When the bytes are not BTF, cut short, or hold a kind of type nobody described.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let header = Header::parse(&data)?;
        let mut types = Vec::with_capacity(header.types.len() / 24);
        let mut at = header.types.start;
        while at < header.types.end {
            let found = read_type(&data, at).filter(|_| at + TYPE_HEADER <= header.types.end);
            let Some(found) = found else {
                return Err(BtfError::Malformed {
                    at,
                    what: "the last type is cut short",
                });
            };
            let tail = tail_len(found.kind, found.count)
                .or_else(|| header.described_len(&data, found.kind, found.count))
                .ok_or(BtfError::UnknownKind(found.kind))?;
            let next = at
                .checked_add(TYPE_HEADER)
                .and_then(|body| body.checked_add(tail))
                .filter(|next| *next <= header.types.end);
            let (Some(next), Ok(start)) = (next, u32::try_from(at)) else {
                return Err(BtfError::Malformed {
                    at,
                    what: "a type reaches beyond the end of its section",
                });
            };
            types.push(start);
            at = next;
        }
        Ok(Self {
            strings: header.strings,
            types,
            data,
        })
    }

    /// Where `path`, a `struct.member[.member]…`, lies; anonymous structs and
    /// unions are looked into. `None` when the kernel has no such struct or member.
    pub fn member(&self, path: &str) -> Option<Member> {
        let (name, members) = path.split_once('.')?;
        let mut holder = self.definition(name)?;
        let mut steps = MAX_STEPS;
        let mut bits = 0_u32;
        let mut width = 0;
        let mut names = members.split('.').peekable();
        while let Some(name) = names.next() {
            if name.is_empty() {
                return None;
            }
            let (offset, size, type_id) = self.find_member(holder, name, 0, &mut steps)?;
            bits = bits.checked_add(offset)?;
            width = size;
            if names.peek().is_some() {
                holder = self.resolve(type_id)?;
            }
        }
        Some(Member {
            byte: bits / 8,
            bit: bits % 8,
            width,
        })
    }

    /// Bytes of a struct; `None` when the kernel has no full definition of it.
    pub fn size(&self, name: &str) -> Option<u32> {
        self.definition(name).map(|found| found.target)
    }

    /// Whether the kernel has a full definition of the struct.
    pub fn has_struct(&self, name: &str) -> bool {
        self.definition(name).is_some()
    }

    /// Whether the kernel has a function of this name that was not inlined away.
    pub fn has_function(&self, name: &str) -> bool {
        self.named(kind::FUNC, name).is_some()
    }

    /// How many arguments the function takes; `None` when there is no such function.
    pub fn function_arity(&self, name: &str) -> Option<usize> {
        let function = self.named(kind::FUNC, name)?;
        let prototype = self.by_id(function.target)?;
        (prototype.kind == kind::FUNC_PROTO).then_some(prototype.count)
    }

    /// Whether programs of type `tp_btf` can be attached to the tracepoint.
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.named(kind::TYPEDEF, &format!("btf_trace_{name}"))
            .is_some()
    }

    /// The first definition of a struct that has members: BTF may repeat a name.
    fn definition(&self, name: &str) -> Option<Type> {
        self.all(kind::STRUCT, name).find(|found| found.count > 0)
    }

    fn named(&self, kind: u32, name: &str) -> Option<Type> {
        self.all(kind, name).next()
    }

    fn all(&self, kind: u32, name: &str) -> impl Iterator<Item = Type> {
        self.types
            .iter()
            .filter_map(|at| read_type(&self.data, *at as usize))
            .filter(move |found| found.kind == kind && self.is_named(found.name, name))
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        let at = *self.types.get((id as usize).checked_sub(1)?)?;
        read_type(&self.data, at as usize)
    }

    /// Follows typedefs and qualifiers to the struct or union behind them.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let found = self.by_id(id)?;
            match found.kind {
                kind::STRUCT | kind::UNION => return Some(found),
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = found.target;
                }
                _ => return None,
            }
        }
        None
    }

    /// Offset in bits, bit-field width and type of a member, within `holder`.
    fn find_member(
        &self,
        holder: Type,
        name: &str,
        depth: u32,
        steps: &mut u32,
    ) -> Option<(u32, u32, u32)> {
        let first = holder.at + TYPE_HEADER;
        for index in 0..holder.count {
            *steps = steps.checked_sub(1)?;
            let at = first + index * MEMBER;
            let (label, type_id, place) = (
                word(&self.data, at)?,
                word(&self.data, at + 4)?,
                word(&self.data, at + 8)?,
            );
            // With the flag set, the top byte is the width of a bit-field, 0 for none.
            let (offset, width) = if holder.bit_fields {
                (place & 0x00ff_ffff, place >> 24)
            } else {
                (place, 0)
            };
            if self.is_named(label, name) {
                return Some((offset, width, type_id));
            }
            if self.is_named(label, "")
                && depth < MAX_DEPTH
                && let Some(inner) = self.resolve(type_id)
                && let Some((more, width, type_id)) =
                    self.find_member(inner, name, depth + 1, steps)
            {
                return Some((offset.checked_add(more)?, width, type_id));
            }
        }
        None
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let strings = &self.data[self.strings.clone()];
        strings
            .get(offset as usize..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Where the sections lie, checked against the length of the file.
struct Header {
    types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
    /// Section that says how long the types of each kind are; empty on kernels before 7.
    kinds: std::ops::Range<usize>,
}

impl Header {
    fn parse(data: &[u8]) -> Result<Self, BtfError> {
        let bad = |at, what| BtfError::Malformed { at, what };
        let magic = data.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
        match magic {
            Some(MAGIC) => {}
            Some(magic) if magic.swap_bytes() == MAGIC => {
                return Err(bad(0, "it is of another byte order"));
            }
            _ => return Err(bad(0, "the file does not begin like BTF")),
        }
        let field = |at| {
            word(data, at)
                .map(|value| value as usize)
                .ok_or(bad(at, "the header is cut short"))
        };
        let length = field(4)?;
        if length < HEADER || length > data.len() {
            return Err(bad(4, "the header's length is wrong"));
        }
        let section = |at| {
            let (offset, size) = (field(at)?, field(at + 4)?);
            length
                .checked_add(offset)
                .and_then(|start| Some(start..start.checked_add(size)?))
                .filter(|range| range.end <= data.len())
                .ok_or(bad(at, "a section reaches beyond the end of the file"))
        };
        Ok(Self {
            types: section(8)?,
            strings: section(16)?,
            kinds: if length >= HEADER + 8 {
                section(24)?
            } else {
                0..0
            },
        })
    }

    /// Bytes behind the header of a type, by the file's own description of its kind.
    fn described_len(&self, data: &[u8], kind: u32, count: usize) -> Option<usize> {
        let entry = data
            .get(self.kinds.clone())?
            .get(kind as usize * 4..)?
            .first_chunk::<4>()?;
        let (fixed, each) = (usize::from(entry[0]), usize::from(entry[1]));
        count.checked_mul(each)?.checked_add(fixed)
    }
}

/// Bytes behind the header of a type; `None` for a kind not known here.
fn tail_len(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // pointer, forward, typedef, qualifiers, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        // integer, variable, declaration tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        // struct, union, data section, 64-bit enumeration
        4 | 5 | 15 | 19 => count.checked_mul(12)?,
        // enumeration, function prototype
        6 | 13 => count.checked_mul(8)?,
        _ => return None,
    })
}

fn read_type(data: &[u8], at: usize) -> Option<Type> {
    let info = word(data, at.checked_add(4)?)?;
    Some(Type {
        at,
        name: word(data, at)?,
        // Newer kernels use bits 16 to 23 and 29 to 30 as well; before, they were zero.
        kind: info >> 24 & 0x7f,
        count: (info & 0x00ff_ffff) as usize,
        bit_fields: info >> 31 == 1,
        target: word(data, at.checked_add(8)?)?,
    })
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests;
