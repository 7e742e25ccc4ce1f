/*! Network namespaces in `/proc/self/mountinfo`. */

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::namespaces::inode_in;

/// The bind-mounted network namespaces and where. Paths hold what anyone who may mount chose, a
/// line that makes no sense is no reason to give up the others.
pub(super) fn namespaces(mountinfo: &[u8]) -> Vec<(u32, PathBuf)> {
    mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(line)
        .collect()
}

/// `36 35 0:4 net:[4026532] /run/netns/web rw shared:1 - nsfs nsfs rw`: id, parent, device, root,
/// mount point, options, any number of optional fields, a dash, type.
fn line(line: &[u8]) -> Option<(u32, PathBuf)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let inode = inode_in(fields.nth(3)?)?;
    let path = unescaped(fields.next()?);
    fields.find(|&field| field == b"-")?;
    (fields.next()? == b"nsfs").then(|| (inode, PathBuf::from(OsString::from_vec(path))))
}

/// Undoes the kernel's octal escapes of blanks, tabs, newlines and backslashes.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = (byte == b'\\').then(|| after.get(..3)).flatten();
        let escaped = digits
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(escaped) => {
                plain.push(escaped);
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::namespaces;

    #[test]
    fn finds_namespaces_among_hostile_mounts() {
        let lines: &[&[u8]] = &[
            b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
            b"40 22 0:4 net:[4026532001] /run/netns/web rw shared:7 - nsfs nsfs rw",
            b"41 22 0:4 mnt:[4026532002] /run/mnt rw - nsfs nsfs rw",
            // A directory named like a namespace, on another file system.
            b"42 22 254:0 net:[4026532003] /mnt/fake rw - ext4 /dev/vda rw",
            b"43 22 0:4 net:[4026532004] /run/netns/a\\040b\\012c\\134d rw - nsfs nsfs rw",
            b"44 22 0:4 net:[4026532005] /run/netns/\xff\xfe rw shared:1 master:2 - nsfs nsfs rw",
            b"45 22 0:4 net:[4026532006] /run/netns/bad\\9z9\\777\\1 rw - nsfs nsfs rw",
            // A mount point that looks like the end of the optional fields.
            b"46 22 0:4 net:[4026532007] - rw - nsfs nsfs rw",
            b"47 22 0:4 net:[4026532008]",
            b"48 22 0:4 net:[4026532009] /torn rw",
            b"49 22 0:4 net:[99999999999] /big rw - nsfs nsfs rw",
            b"",
            b"    ",
            b"\xff\xff\xff",
        ];
        let found = namespaces(&lines.join(&b'\n'));
        let found: Vec<_> = found
            .iter()
            .map(|(inode, path)| (inode - 4_026_532_000, path.as_os_str().as_bytes()))
            .collect();
        assert_eq!(
            found,
            [
                (1, &b"/run/netns/web"[..]),
                (4, b"/run/netns/a b\nc\\d"),
                (5, b"/run/netns/\xff\xfe"),
                (6, b"/run/netns/bad\\9z9\\777\\1"),
                (7, b"-"),
            ]
        );
    }
}
