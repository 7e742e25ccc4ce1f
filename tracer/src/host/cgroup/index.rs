/*!
From a cgroup id, the only thing an event carries, to its path: for processes
that were gone before anyone looked.

A cgroup v2 id is the inode of the cgroup's directory, so walking the cgroup2
mount gives every path there is. The walk happens on the first question and
again when an id is unknown, at most once a second: a storm of short-lived
cgroups must not turn into a storm of walks.
*/

use std::collections::HashMap;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procfs::process::Process;

use crate::host::process::readable;

/// The root's id, also what every process has where only cgroup v1 has controllers.
const ROOT: u64 = 1;

/// Shortest time between two walks.
const PAUSE: Duration = Duration::from_secs(1);

/// Most paths kept: about 10 MB at 150 bytes a path.
const MOST: usize = 65_536;

/// What is known of a cgroup id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its path from the root of the hierarchy.
    Found(String),
    /// No such cgroup: it was removed before it was ever seen, or no cgroup2 is mounted.
    Absent,
    /// Not among those seen so far; from this instant on asking again walks again.
    NotBefore(Instant),
}

/// Paths of cgroups by id. A removed cgroup keeps its path until the bound (65,536) is met.
#[derive(Debug)]
pub struct Index {
    mounts: Vec<Mount>,
    paths: HashMap<u64, String>,
    walked: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Where it is mounted.
    at: PathBuf,
    /// The cgroup that is mounted there.
    root: String,
}

impl Index {
    /// An index of the cgroup2 mounts of this mount namespace, read now; the walk comes later.
    #[must_use]
    pub fn new() -> Self {
        Self::over(mounts())
    }

    fn over(mounts: Vec<Mount>) -> Self {
        Self {
            mounts,
            paths: HashMap::new(),
            walked: None,
        }
    }

    /// The path of the cgroup called `id`. `now` paces the walks.
    pub fn path(&mut self, id: u64, now: Instant) -> Lookup {
        if id == ROOT {
            return Lookup::Found("/".to_owned());
        }
        if id == 0 || self.mounts.is_empty() {
            return Lookup::Absent;
        }
        if let Some(path) = self.paths.get(&id) {
            return Lookup::Found(path.clone());
        }
        if let Some(walked) = self.walked
            && now.saturating_duration_since(walked) < PAUSE
        {
            return Lookup::NotBefore(walked + PAUSE);
        }
        self.walked = Some(now);
        self.walk();
        self.paths
            .get(&id)
            .map_or(Lookup::Absent, |path| Lookup::Found(path.clone()))
    }

    fn walk(&mut self) {
        let mut seen = HashMap::new();
        for mount in &self.mounts {
            collect(mount, &mut seen);
        }
        if self.paths.len() + seen.len() > MOST {
            self.paths = seen;
        } else {
            self.paths.extend(seen);
        }
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds every directory below `mount`, outermost first, until [`MOST`] are there.
fn collect(mount: &Mount, seen: &mut HashMap<u64, String>) {
    let mut level = vec![(mount.at.clone(), mount.root.clone())];
    while !level.is_empty() {
        let mut below = Vec::new();
        for (directory, name) in level {
            // A cgroup may be removed during the walk; then there is nothing to list.
            let Ok(entries) = std::fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if seen.len() >= MOST {
                    log::warn!(
                        "There are more than {MOST} cgroups; processes that ended in one of the others are shown without their container."
                    );
                    return;
                }
                let path = format!(
                    "{}/{}",
                    name.trim_end_matches('/'),
                    readable(entry.file_name().as_encoded_bytes())
                );
                seen.insert(entry.ino(), path.clone());
                below.push((entry.path(), path));
            }
        }
        level = below;
    }
}

/// The cgroup2 mounts of this mount namespace: the one that shows the whole hierarchy, or else all.
fn mounts() -> Vec<Mount> {
    let Ok(all) = Process::myself().and_then(|process| process.mountinfo()) else {
        return Vec::new();
    };
    let mounts: Vec<Mount> = all
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .map(|mount| Mount {
            at: mount.mount_point,
            root: mount.root,
        })
        .collect();
    widest(mounts)
}

fn widest(mut mounts: Vec<Mount>) -> Vec<Mount> {
    if let Some(whole) = mounts.iter().position(|mount| mount.root == "/") {
        return vec![mounts.swap_remove(whole)];
    }
    mounts.dedup();
    mounts.retain(|mount| mount.at != Path::new(""));
    mounts
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::{Index, Lookup, Mount, PAUSE, widest};
    use std::time::{Duration, Instant};

    fn mount(at: &std::path::Path, root: &str) -> Mount {
        Mount {
            at: at.to_owned(),
            root: root.to_owned(),
        }
    }

    #[test]
    fn finds_paths_by_inode_and_paces_its_walks() {
        let hierarchy = tempfile::tempdir().unwrap();
        let unit = hierarchy.path().join("system.slice/web.service");
        std::fs::create_dir_all(&unit).unwrap();
        std::fs::write(unit.join("cgroup.procs"), "").unwrap();
        let inode = |path: &std::path::Path| std::fs::metadata(path).unwrap().ino();
        let start = Instant::now();
        let mut index = Index::over(vec![mount(hierarchy.path(), "/")]);

        let found = Lookup::Found("/system.slice/web.service".to_owned());
        assert_eq!(index.path(inode(&unit), start), found);

        let late = hierarchy.path().join("late.scope");
        std::fs::create_dir(&late).unwrap();
        let soon = start + PAUSE - Duration::from_millis(1);
        assert_eq!(
            index.path(inode(&late), soon),
            Lookup::NotBefore(start + PAUSE)
        );
        let late_found = Lookup::Found("/late.scope".to_owned());
        assert_eq!(index.path(inode(&late), start + PAUSE), late_found);

        let gone = inode(&unit);
        std::fs::remove_dir_all(&unit).unwrap();
        assert_eq!(index.path(u64::MAX, start + 2 * PAUSE), Lookup::Absent);
        assert_eq!(
            index.path(gone, start + 2 * PAUSE),
            found,
            "forgot a removed cgroup"
        );
    }

    #[test]
    fn paths_count_from_the_root_of_the_hierarchy() {
        let subtree = tempfile::tempdir().unwrap();
        let unit = subtree.path().join("inner");
        std::fs::create_dir(&unit).unwrap();
        let id = std::fs::metadata(&unit).unwrap().ino();
        let mut index = Index::over(vec![mount(subtree.path(), "/docker/abc")]);
        let found = Lookup::Found("/docker/abc/inner".to_owned());
        assert_eq!(index.path(id, Instant::now()), found);
    }

    #[test]
    fn the_root_and_no_mount_need_no_walk() {
        let mut index = Index::over(Vec::new());
        assert_eq!(index.path(1, Instant::now()), Lookup::Found("/".to_owned()));
        assert_eq!(index.path(77, Instant::now()), Lookup::Absent);
        assert_eq!(index.path(0, Instant::now()), Lookup::Absent);
    }

    #[test]
    fn the_whole_hierarchy_is_enough() {
        let part = mount("/a".as_ref(), "/docker/x");
        let whole = mount("/sys/fs/cgroup".as_ref(), "/");
        assert_eq!(widest(vec![part.clone(), whole.clone()]), [whole]);
        assert_eq!(widest(vec![part.clone()]), [part]);
    }

    /// The real thing: a cgroup made here is found by the inode the kernel calls its id.
    #[test]
    fn finds_a_real_cgroup() {
        let Some(root) = super::mounts().into_iter().find(|mount| mount.root == "/") else {
            eprintln!("skipping finds_a_real_cgroup: no cgroup2 is mounted");
            return;
        };
        let name = format!("tracer-test-{}", std::process::id());
        let directory = root.at.join(&name);
        if let Err(error) = std::fs::create_dir(&directory) {
            eprintln!("skipping finds_a_real_cgroup: no cgroup can be made here: {error}");
            return;
        }
        let id = std::fs::metadata(&directory).unwrap().ino();
        let found = Index::new().path(id, Instant::now());
        std::fs::remove_dir(&directory).unwrap();
        assert_eq!(found, Lookup::Found(format!("/{name}")));
    }
}
