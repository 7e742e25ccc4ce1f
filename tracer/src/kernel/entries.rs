/*!
Every entry of a hash map, thousands a system call (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6).

aya walks a map key by key: two system calls an entry, and where the key it
stands at is removed meanwhile it begins anew. A batch is whole buckets, each
read under its lock.
*/

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::Pod;
use aya::maps::{Map, MapError};
use aya::sys::SyscallError;
use nix::libc;

/// `BPF_MAP_LOOKUP_BATCH` (include/uapi/linux/bpf.h).
const LOOKUP_BATCH: libc::c_int = 24;

/// Entries a system call, to begin with: more where one bucket has more.
const AT_ONCE: u32 = 4_096;

/// The part of `union bpf_attr` for batches.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    /// Where to go on, or null; and where that will be.
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    /// In: room; out: entries.
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The entries of a hash map with these keys and values.
pub(super) struct Entries<K, V> {
    map: OwnedFd,
    kinds: PhantomData<(K, V)>,
}

impl<K: Pod + Default, V: Pod + Default> Entries<K, V> {
    /// Of `map`, of which it keeps a descriptor.
    ///
    /// # Errors
    /// When that is no hash map of such keys and values.
    pub(super) fn of(map: &Map) -> Result<Self, MapError> {
        let Map::HashMap(data) = map else {
            return Err(MapError::InvalidMapType { map_type: 0 });
        };
        let info = data.info()?;
        let (key, value) = (info.key_size() as usize, info.value_size() as usize);
        if key != size_of::<K>() {
            return Err(MapError::InvalidKeySize {
                size: key,
                expected: size_of::<K>(),
            });
        }
        if value != size_of::<V>() {
            return Err(MapError::InvalidValueSize {
                size: value,
                expected: size_of::<V>(),
            });
        }
        let map = data.fd().as_fd().try_clone_to_owned()?;
        Ok(Self {
            map,
            kinds: PhantomData,
        })
    }

    /// Hands each entry to `each`. One that comes or goes meanwhile may be among them or not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn each(&self, mut each: impl FnMut(&K, &V)) -> Result<(), MapError> {
        let mut room = AT_ONCE;
        let mut keys = vec![K::default(); room as usize];
        let mut values = vec![V::default(); room as usize];
        let (mut from, mut to) = (0_u32, 0_u32);
        let mut begun = false;
        loop {
            let mut attributes = Attributes {
                from: if begun { (&raw const from) as u64 } else { 0 },
                to: (&raw mut to) as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: room,
                map: self.map.as_raw_fd().cast_unsigned(),
                ..Attributes::default()
            };
            // SAFETY: the kernel writes at most `count` keys and values, whose sizes are the map's,
            // and one position. It fills the padding of neither; both are plain data.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    LOOKUP_BATCH,
                    &raw mut attributes,
                    size_of::<Attributes>(),
                )
            };
            let error = (done < 0).then(io::Error::last_os_error);
            let number = error.as_ref().and_then(io::Error::raw_os_error);
            match (error, number) {
                (None, _) | (_, Some(libc::ENOENT)) => {}
                // A bucket with more.
                (_, Some(libc::ENOSPC)) => {
                    room *= 2;
                    keys.resize(room as usize, K::default());
                    values.resize(room as usize, V::default());
                    continue;
                }
                (_, Some(libc::EINTR)) => continue,
                (Some(io_error), _) => {
                    return Err(MapError::SyscallError(SyscallError {
                        call: "bpf_map_lookup_batch",
                        io_error,
                    }));
                }
            }
            let count = attributes.count.min(room) as usize;
            for (key, value) in keys[..count].iter().zip(&values[..count]) {
                each(key, value);
            }
            // Past the last bucket.
            if number.is_some() {
                return Ok(());
            }
            from = to;
            begun = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use aya::Btf;
    use aya::maps::HashMap;
    use tracer_ebpf::{Config, Socket, names};

    use super::{AT_ONCE, Entries};
    use crate::kernel::object::{self, Sizes};
    use crate::kernel::{btf::VMLINUX, layout};

    /// Batches of more than one call, of buckets that hold several entries each.
    #[test]
    fn every_entry_is_handed_out_once() {
        const COUNT: u32 = 3 * AT_ONCE + 17;
        let skip = |why: &dyn std::fmt::Display| {
            println!("skipping every_entry_is_handed_out_once: {why}");
        };
        let offsets = match layout::read(Path::new(VMLINUX)) {
            Ok(offsets) => offsets,
            Err(error) => return skip(&error),
        };
        let types = Btf::from_sys_fs().unwrap();
        let sizes = Sizes {
            sockets: COUNT,
            ..Sizes::TRIAL
        };
        let opened = object::open(&types, &offsets.layout, &Config::default(), &sizes);
        let mut ebpf = match opened {
            Ok(ebpf) => ebpf,
            Err(error) => return skip(&error),
        };
        let entries = Entries::<u64, Socket>::of(ebpf.map(names::SOCKETS).unwrap()).unwrap();
        let mut found = Vec::new();
        entries.each(|key, _| found.push(*key)).unwrap();
        assert!(found.is_empty());
        let mut sockets: HashMap<_, u64, Socket> =
            HashMap::try_from(ebpf.map_mut(names::SOCKETS).unwrap()).unwrap();
        for cookie in 1..=u64::from(COUNT) {
            let socket = Socket {
                cookie,
                ..Socket::default()
            };
            sockets.insert(cookie, socket, 0).unwrap();
        }
        let each = |key: &u64, socket: &Socket| {
            assert_eq!(*key, socket.cookie);
            found.push(*key);
        };
        entries.each(each).unwrap();
        assert_eq!(found.len(), COUNT as usize);
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), COUNT as usize);
    }
}
