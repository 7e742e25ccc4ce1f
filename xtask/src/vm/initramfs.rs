/*!
The guest's file system: busybox, tracer and its tests with the libraries they
ask for, the kernel modules the tests need, and an init that runs one command.
*/
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

use super::{cross::Cross, guest::STATUS, kernel::Kernel, programs};
use crate::{
    exec::{exec, quoted},
    paths,
};

/// What the tests' namespaces are made of and socket dumps come from. A
/// kernel that has one built in needs no file of it.
const MODULES: &[&str] = &["veth", "dummy", "tcp_diag"];

/// Programs the tests compare tracer with; taken along where the machine has
/// them.
pub(super) const PEERS: &[&str] = &["ss", "bpftool"];

/// What runs in a guest.
#[derive(Debug)]
pub(super) struct Payload {
    /// The tracer binary.
    pub(super) tracer: PathBuf,
    /// The binary of the tests or of the bench, if one is to run.
    pub(super) tests: Option<PathBuf>,
    /// Whether it can list the scenarios it would run.
    pub(super) lists_scenarios: bool,
    /// The command and its arguments.
    pub(super) command: Vec<String>,
    /// Where all else comes from, when not from this machine.
    pub(super) cross: Option<Cross>,
}

impl Payload {
    /// The command as a person would type it.
    pub(super) fn spelled(&self) -> String {
        let words: Vec<_> = self.command.iter().map(|word| quoted(word)).collect();
        words.join(" ")
    }

    /// A program for the guest.
    fn program(&self, name: &str) -> Option<PathBuf> {
        match &self.cross {
            Some(cross) => cross.program(name),
            None => paths::program(name),
        }
    }
}

/// Builds the initramfs and returns its path.
///
/// # Errors
///
/// When a file cannot be copied, a module is missing, or cpio fails.
pub(super) fn build(kernel: &Kernel, payload: &Payload) -> Result<PathBuf> {
    let work = paths::target().join("vm/guests").join(&kernel.release);
    let tree = work.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("emptying {}", tree.display()))?;
    }
    for dir in [
        "bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tmp",
    ] {
        let dir = tree.join(dir);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let busybox = payload
        .program("busybox")
        .context("looked for busybox and found none")?;
    copy(&busybox, &tree.join("bin/busybox"))?;
    // Tests find tracer where cargo built it, people find it in PATH.
    let mut programs = vec![payload.tracer.clone()];
    programs.extend(payload.tests.clone());
    programs.extend(PEERS.iter().filter_map(|peer| payload.program(peer)));
    for program in programs {
        install(&program, payload.cross.as_ref(), &tree)?;
        let name = program.file_name().expect("a program has a file name");
        symlink(&program, tree.join("bin").join(name))
            .with_context(|| format!("linking {} in the guest", program.display()))?;
    }
    let modules = modules(kernel, &tree)?;
    write(
        &tree,
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    )?;
    write(&tree, "etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
    programs::pack(payload, &tree)?;
    write(&tree, "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
    write(&tree, "init", &init(&modules, payload))?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))
        .context("making the guest's init executable")?;

    let image = work.join("initramfs.cpio");
    let pack = format!(
        "find . | cpio --create --format=newc --quiet --owner=+0:+0 > {}",
        quoted(&image.to_string_lossy())
    );
    exec(Command::new("sh").args(["-c", &pack]).current_dir(&tree))?;
    Ok(image)
}

/// The script that sets the guest up, runs the command and states its status.
fn init(modules: &[String], payload: &Payload) -> String {
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin HOME=/root RUST_BACKTRACE=1 TERM=dumb TRACER_VM=1\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         chmod 1777 /tmp\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         mount -t tracefs tracefs /sys/kernel/tracing\n\
         mkdir -p /dev/pts /dev/shm /run/netns\n\
         mount -t tmpfs -o mode=1777 tmpfs /dev/shm\n\
         mount -t devpts devpts /dev/pts\n\
         ln -sf /proc/self/fd /dev/fd\n\
         hostname guest\n\
         ip link set lo up\n",
    );
    for module in modules {
        script.push_str(&format!("insmod /modules/{module}\n"));
    }
    // A child, so that the status is told however the command ends.
    script.push_str(&format!(
        "cd /root\n({})\nstatus=$?\necho\necho \"{STATUS}$status\"\npoweroff -f\n",
        payload.spelled()
    ));
    script
}

fn write(tree: &Path, file: &str, text: &str) -> Result<()> {
    fs::write(tree.join(file), text).with_context(|| format!("writing the guest's {file}"))
}

/// Copies a file, and makes the directory it goes to.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let dir = to
        .parent()
        .expect("a file of the guest lies in a directory");
    fs::create_dir_all(dir)
        .and_then(|()| fs::copy(from, to).map(drop))
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Copies a program and its libraries to the same paths below `tree`, those of
/// another architecture to where its loader looks.
fn install(program: &Path, cross: Option<&Cross>, tree: &Path) -> Result<()> {
    let inside = |path: &Path| tree.join(path.strip_prefix("/").unwrap_or(path));
    let target = inside(program);
    copy(program, &target)?;
    // Debug information is most of a debug build and all of it would be kept
    // in the guest's memory. binutils come with the linker Rust needs.
    let strip = cross.map_or_else(|| "strip".to_owned(), |cross| cross.tool("strip"));
    if paths::program(&strip).is_some() {
        exec(Command::new(strip).arg("--strip-debug").arg(&target))?;
    }
    if let Some(cross) = cross {
        for (name, library) in cross.libraries(program)? {
            copy(&library, &tree.join("lib").join(name))?;
        }
        return Ok(());
    }
    let listed = Command::new("ldd")
        .arg(program)
        .output()
        .context("starting ldd")?;
    if !listed.status.success() {
        // A static program has none.
        return Ok(());
    }
    for library in libraries(&String::from_utf8_lossy(&listed.stdout)) {
        let target = inside(&library);
        if !target.exists() {
            copy(&library, &target)?;
        }
    }
    Ok(())
}

/// The files in the output of ldd, for one program or several.
pub(super) fn libraries(listed: &str) -> Vec<PathBuf> {
    listed
        .lines()
        // Others name the program.
        .filter(|line| line.starts_with('\t'))
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// Copies [`MODULES`] and what they depend on below `tree`, uncompressed, and
/// returns their files in the order to insert them.
fn modules(kernel: &Kernel, tree: &Path) -> Result<Vec<String>> {
    let mut files = BTreeMap::new();
    collect(&kernel.modules, &mut files)?;
    let builtin = fs::read_to_string(kernel.modules.join("modules.builtin")).unwrap_or_default();
    let builtin: Vec<_> = builtin
        .lines()
        .filter_map(|line| name(Path::new(line)))
        .collect();
    let mut order = Vec::new();
    // Depth first: a module is inserted after those it depends on.
    let mut stack: Vec<_> = MODULES
        .iter()
        .rev()
        .map(|name| ((*name).to_owned(), false))
        .collect();
    while let Some((module, dependencies_done)) = stack.pop() {
        let file = format!("{module}.ko");
        if order.contains(&file) || builtin.contains(&module) {
            continue;
        }
        if dependencies_done {
            order.push(file);
            continue;
        }
        let Some(source) = files.get(&module) else {
            bail!(
                "looked for the kernel module {module} of {} and found none",
                kernel.release
            );
        };
        let target = tree.join("modules").join(&file);
        uncompress(source, &target)?;
        stack.push((module, true));
        let bytes = fs::read(&target).with_context(|| format!("reading {}", target.display()))?;
        stack.extend(dependencies(&bytes)?.into_iter().map(|name| (name, false)));
    }
    Ok(order)
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let path = entry
            .with_context(|| format!("listing {}", dir.display()))?
            .path();
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files)?;
        } else if let Some(name) = name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The name of the module in `file`: the kernel takes `-` and `_` for the same.
fn name(file: &Path) -> Option<String> {
    let file = file.file_name()?.to_str()?;
    let (name, _) = file.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn uncompress(from: &Path, to: &Path) -> Result<()> {
    match from.extension().and_then(OsStr::to_str) {
        Some("ko") => copy(from, to),
        Some("xz") => {
            let file = fs::File::create(to).with_context(|| format!("making {}", to.display()))?;
            exec(
                Command::new("xz")
                    .args(["--decompress", "--stdout"])
                    .arg(from)
                    .stdout(file),
            )
        }
        _ => bail!(
            "{} is compressed in a way this does not know",
            from.display()
        ),
    }
}

/// The modules that `module`, an ELF file, says it depends on.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let elf = object::File::parse(module).context("reading a kernel module")?;
    let info = elf
        .section_by_name(".modinfo")
        .context("a kernel module has no .modinfo section")?;
    let info = info.data().context("reading a kernel module's .modinfo")?;
    Ok(info
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.strip_prefix(b"depends="))
        .flat_map(|names| names.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Payload, init, libraries, name};

    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "/bin/first:\n\
                      \tlinux-vdso.so.1 (0x00007ffd)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries(listed),
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn modules_are_named_as_the_kernel_names_them() {
        assert_eq!(name(Path::new("a/nf-log.ko.xz")).unwrap(), "nf_log");
        assert_eq!(
            name(Path::new("kernel/net/ipv4/inet_diag.ko")).unwrap(),
            "inet_diag"
        );
        assert_eq!(name(Path::new("modules.order")), None);
    }

    #[test]
    fn the_init_quotes_the_command_and_states_its_status() {
        let payload = Payload {
            tracer: PathBuf::from("/t/tracer"),
            tests: None,
            lists_scenarios: false,
            command: vec!["sh".to_owned(), "-c".to_owned(), "exit 3".to_owned()],
            cross: None,
        };
        let script = init(&["veth.ko".to_owned()], &payload);
        assert!(script.contains("insmod /modules/veth.ko\n"), "{script}");
        assert!(script.contains("(sh -c 'exit 3')\nstatus=$?\n"), "{script}");
    }
}
