/*!
A network namespace by its inode. The kernel has no call for it on the kernels we
support, so: look where one can be shown, the cheap places first.
*/

use std::fs;
use std::path::{Path, PathBuf};

use procfs::process::Process;

use super::Netns;

pub(super) fn by_inode(inode: u32) -> Option<Netns> {
    let link = format!("net:[{inode}]");
    let open = |path: &Path| Netns::from_path(path).ok().filter(|ns| ns.inode == inode);
    let own = PathBuf::from("/proc/thread-self/ns/net");
    if shows(&own, &link) {
        return open(&own);
    }
    let processes = directories(Path::new("/proc"));
    let of_threads = processes
        .iter()
        .flat_map(|process| directories(&process.join("task")))
        .map(|thread| thread.join("ns/net"))
        .filter(|path| shows(path, &link))
        .find_map(|path| open(&path));
    if of_threads.is_some() {
        return of_threads;
    }
    mounts(&link)
        .into_iter()
        .find_map(|path| open(&path))
        .or_else(|| {
            processes
                .iter()
                .flat_map(|process| directories(&process.join("fd")))
                .filter(|path| shows(path, &link))
                .find_map(|path| open(&path))
        })
}

fn shows(path: &Path, link: &str) -> bool {
    fs::read_link(path).is_ok_and(|target| target.as_os_str() == link)
}

/// The entries of a directory whose names are numbers; none when it cannot be read.
fn directories(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .map(|entry| entry.path())
        .collect()
}

/// Where the namespace is bind-mounted, as `ip netns add` does.
fn mounts(link: &str) -> Vec<PathBuf> {
    Process::myself()
        .and_then(|process| process.mountinfo())
        .map(|mounts| {
            mounts
                .into_iter()
                .filter(|mount| mount.fs_type == "nsfs" && mount.root == link)
                .map(|mount| mount.mount_point)
                .collect()
        })
        .unwrap_or_default()
}
