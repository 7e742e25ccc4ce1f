/*!
What a cgroup path says about containers: id, runtime and pod, without asking
any daemon or API server. Pure, but for [`Index`], which finds the path of a
cgroup whose processes are gone.
*/

mod index;

use crate::model::Runtime;

pub use self::index::{Index, Lookup};

/// The container and pod a cgroup path belongs to. All `None` for a process of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The innermost container: 64 hexadecimal digits, or the name where the runtime uses names.
    pub container: Option<String>,
    /// Its runtime; `None` when the path holds an id that anyone may have made.
    pub runtime: Option<Runtime>,
    /// The innermost pod: its Kubernetes uid with dashes, or Podman's pod id.
    pub pod: Option<String>,
}

/// Reads a cgroup path, v1 or v2. The innermost container and the innermost pod win, so Docker
/// inside a pod is that Docker container, in that pod.
#[must_use]
pub fn parse_path(path: &str) -> Membership {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    // A systemd-style path given to a cgroupfs driver makes `slice:prefix:id` one component.
    let components: Vec<&str> = path.split(['/', ':']).filter(|c| !c.is_empty()).collect();
    let mut found = Membership::default();
    for (depth, component) in components.iter().enumerate().rev() {
        let outer = components.get(..depth).unwrap_or_default();
        if found.container.is_none()
            && let Some((id, runtime)) = container(component, outer)
        {
            found.container = Some(id);
            found.runtime = runtime;
        }
        if found.pod.is_none() {
            found.pod = pod(component);
        }
    }
    found
}

/// Reads `/proc/PID/cgroup` (`0::path` for v2, `N:controllers:path` for each v1 hierarchy) into
/// the path that says most, and what it says. On hybrid hosts a path with a container id beats
/// one with a pod, that beats v2, and any path beats the root. `None` when no line can be read.
#[must_use]
pub fn parse_process(lines: &str) -> Option<(String, Membership)> {
    lines
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            path.starts_with('/').then_some((controllers, path))
        })
        .map(|(controllers, path)| {
            let membership = parse_path(path);
            let rank = (
                membership.container.is_none(),
                membership.pod.is_none(),
                path == "/",
                match controllers {
                    "" => 0,
                    "name=systemd" => 1,
                    _ => 2,
                },
            );
            (rank, path, membership)
        })
        .min_by_key(|(rank, _, _)| *rank)
        .map(|(_, path, membership)| (path.to_owned(), membership))
}

fn container(component: &str, outer: &[&str]) -> Option<(String, Option<Runtime>)> {
    let unit = component.strip_suffix(".scope").unwrap_or(component);
    if is_id(unit) {
        return Some((unit.to_owned(), bare_id_runtime(outer)));
    }
    let prefixes = [
        ("docker-", Runtime::Docker),
        ("cri-containerd-", Runtime::Containerd),
        ("nerdctl-", Runtime::Containerd),
        ("crio-", Runtime::CriO),
        ("libpod-payload-", Runtime::Podman),
        ("libpod-", Runtime::Podman),
    ];
    // `crio-conmon-` and `libpod-conmon-` fall through: the monitor is not in the container.
    for (prefix, runtime) in prefixes {
        if let Some(id) = unit.strip_prefix(prefix).filter(|id| is_id(id)) {
            return Some((id.to_owned(), Some(runtime)));
        }
    }
    let parent = outer.last().copied();
    if parent.is_some_and(|task| outer.contains(&"ecs") && is_fargate(task, unit)) {
        return Some((unit.to_owned(), Some(Runtime::Containerd)));
    }
    let lxc = component
        .strip_prefix("lxc.payload.")
        .or_else(|| (parent == Some("lxc") || parent == Some("lxc.payload")).then_some(component));
    if let Some(name) = lxc {
        return Some((name.to_owned(), Some(Runtime::Lxc)));
    }
    machine(component, parent).map(|name| (name, Some(Runtime::Nspawn)))
}

/// Who made a container whose path component is nothing but the id.
fn bare_id_runtime(outer: &[&str]) -> Option<Runtime> {
    outer.iter().rev().find_map(|&component| match component {
        "docker" | "moby" | "ecs" => Some(Runtime::Docker),
        "k8s.io" | "default" | "cri-containerd" | "nerdctl" => Some(Runtime::Containerd),
        "crio" => Some(Runtime::CriO),
        "libpod_parent" | "libpod" => Some(Runtime::Podman),
        _ if component.contains("kubepods") => Some(Runtime::Cri),
        _ => None,
    })
}

/// AWS Fargate names a container TASK-NUMBER below its task: 32 hexadecimal digits and decimals.
fn is_fargate(task: &str, unit: &str) -> bool {
    unit.strip_prefix(task)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|number| {
            task.len() == 32
                && task.bytes().all(|b| b.is_ascii_hexdigit())
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
        })
}

/// The name of an nspawn machine. Virtual machines have units of the same form and are not meant.
fn machine(component: &str, parent: Option<&str>) -> Option<String> {
    if let Some(name) = component
        .strip_prefix("systemd-nspawn@")
        .and_then(|rest| rest.strip_suffix(".service"))
    {
        return Some(unescape_unit(name)).filter(|name| !name.is_empty());
    }
    let name = component
        .strip_prefix("machine-")
        .and_then(|rest| rest.strip_suffix(".scope"))
        .filter(|_| parent == Some("machine.slice"))?;
    let name = unescape_unit(name);
    (!name.is_empty() && !name.starts_with("qemu-")).then_some(name)
}

/// Undoes systemd's escaping of unit names: `\xNN`, where NN is one ASCII byte.
fn unescape_unit(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("\\x") {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        let byte = escape
            .get(2..4)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(u8::is_ascii);
        match byte {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &escape[4..];
            }
            None => {
                plain.push_str("\\x");
                rest = &escape[2..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn pod(component: &str) -> Option<String> {
    if let Some(slice) = component.strip_suffix(".slice") {
        if let Some((_, id)) = slice.split_once("libpod_pod_") {
            return is_id(id).then(|| id.to_owned());
        }
        let (class, uid) = slice.rsplit_once("-pod")?;
        return class.contains("kubepods").then(|| pod_uid(uid))?;
    }
    pod_uid(component.strip_prefix("pod")?)
}

/// A pod's uid: a UUID, its dashes written `_` in slice names; static pods have 32 digits instead.
fn pod_uid(text: &str) -> Option<String> {
    let uid = text.replace('_', "-");
    let hexadecimal = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let uuid = uid.len() == 36
        && uid.split('-').map(str::len).eq([8_usize, 4, 4, 4, 12])
        && uid.split('-').all(hexadecimal);
    (uuid || uid.len() == 32 && hexadecimal(&uid)).then_some(uid)
}

/// A container id as every OCI runtime writes it: 64 lower-case hexadecimal digits.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
