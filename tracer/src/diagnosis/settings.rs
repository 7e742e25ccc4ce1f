/*!
The exact lines that change a sysctl in the namespace of a pool: on the host, in
a namespace with a name, in a pod or a container.
*/

use std::borrow::Cow;

use crate::model::{Holder, Namespace, Runtime};

/// What the namespace of pid 1 is called.
const HOST: &str = "host";

/// Sets `key` to `value` in `namespace`; in the manifest too, where a culprit runs in a pod or a
/// container with a namespace of its own.
pub(super) fn lines(
    key: &str,
    value: &str,
    namespace: Option<&Namespace>,
    culprits: &[Holder],
) -> Vec<String> {
    let value_typed = typed(value);
    let command = format!("sysctl -w {key}={value_typed}");
    if namespace.is_some_and(|namespace| namespace.name == HOST) {
        return vec![command];
    }
    let mut lines = match handle(namespace, culprits) {
        Some(handle) => vec![format!("nsenter --net={} {command}", quoted(&handle))],
        None => vec![
            "# inside the network namespace of the pool:".to_owned(),
            command,
        ],
    };
    let who = culprits.first().map(|holder| &holder.process);
    if who.is_some_and(|who| who.pod.is_some()) {
        lines.push("# and in the Pod's spec, for it to last:".to_owned());
        lines.extend(pod(key, value));
    } else if let Some(tool) = who.and_then(|who| tool(who.runtime?)) {
        lines.push(format!("{tool} run --sysctl {key}={value_typed} \u{2026}"));
    }
    lines
}

/// The manifest lines for `key`.
fn pod(key: &str, value: &str) -> [String; 4] {
    [
        "securityContext:".to_owned(),
        "  sysctls:".to_owned(),
        format!("  - name: {key}"),
        format!("    value: \"{value}\""),
    ]
}

/// A file that stands for the namespace.
fn handle<'a>(namespace: Option<&'a Namespace>, culprits: &[Holder]) -> Option<Cow<'a, str>> {
    let name = namespace.map(|namespace| namespace.name.as_str());
    if let Some(path) = name.filter(|name| name.starts_with('/')) {
        return Some(Cow::Borrowed(path));
    }
    // `pid 4242 nginx`: the process lives in it.
    let inhabitant = name
        .and_then(|name| name.strip_prefix("pid "))
        .and_then(|rest| rest.split(' ').next())
        .and_then(|pid| pid.parse::<u32>().ok());
    let pid = inhabitant.or_else(|| {
        let pids = culprits.iter().map(|holder| holder.process.tgid);
        pids.into_iter().find(|&pid| pid != 0)
    })?;
    Some(Cow::Owned(format!("/proc/{pid}/ns/net")))
}

/// The command that starts containers of `runtime`, where it takes `--sysctl`.
fn tool(runtime: Runtime) -> Option<&'static str> {
    match runtime {
        Runtime::Docker => Some("docker"),
        Runtime::Podman => Some("podman"),
        _ => None,
    }
}

/// A value as one types it.
fn typed(value: &str) -> Cow<'_, str> {
    if value.is_empty() || value.contains(' ') {
        return Cow::Owned(format!("\"{value}\""));
    }
    Cow::Borrowed(value)
}

/// A path for a shell. Namespaces are named by whoever may mount: nothing in it may be obeyed.
fn quoted(path: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@+".contains(c);
    if path.chars().all(plain) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(format!("'{}'", path.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::lines;
    use crate::diagnosis::tests::build::{holder, namespace};
    use crate::model::{Holder, Process, Runtime};

    const KEY: &str = "net.ipv4.ip_local_port_range";

    fn in_pod(runtime: Runtime, pod: Option<&str>) -> Holder {
        Holder {
            process: Arc::new(Process {
                runtime: Some(runtime),
                pod: pod.map(Into::into),
                ..Process::clone(&holder("app", 77, &[]).process)
            }),
            ..holder("app", 77, &[])
        }
    }

    #[test]
    fn each_namespace_has_its_own_line() {
        let app = [holder("app", 77, &[])];
        for (name, line) in [
            (
                "host",
                "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
            ),
            (
                "/run/netns/web",
                "nsenter --net=/run/netns/web sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
            ),
            (
                "/run/netns/a b;c",
                "nsenter --net='/run/netns/a b;c' sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
            ),
            (
                "pid 4242 nginx",
                "nsenter --net=/proc/4242/ns/net sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
            ),
            (
                "something else",
                "nsenter --net=/proc/77/ns/net sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
            ),
        ] {
            let namespace = namespace(name);
            assert_eq!(lines(KEY, "1024 65535", Some(&namespace), &app), [line]);
        }
        let nowhere = lines("a.b", "1", None, &[]);
        assert_eq!(nowhere[1], "sysctl -w a.b=1");
    }

    #[test]
    fn a_pod_gets_its_manifest_and_the_host_does_not() {
        let pod = [in_pod(Runtime::Cri, Some("8d8c8b8a"))];
        let namespace_of_pod = namespace("pid 4242 nginx");
        let lines_of_pod = lines(KEY, "1024 65535", Some(&namespace_of_pod), &pod);
        assert_eq!(
            lines_of_pod[2..],
            [
                "securityContext:",
                "  sysctls:",
                "  - name: net.ipv4.ip_local_port_range",
                "    value: \"1024 65535\"",
            ]
        );
        // hostNetwork: Kubernetes refuses sysctls of the host's namespace in a pod.
        let host = namespace("host");
        assert_eq!(lines(KEY, "1024 65535", Some(&host), &pod).len(), 1);
        let docker = [in_pod(Runtime::Docker, None)];
        assert_eq!(
            lines(KEY, "1024 65535", Some(&namespace_of_pod), &docker)[1],
            "docker run --sysctl net.ipv4.ip_local_port_range=\"1024 65535\" \u{2026}"
        );
    }
}
