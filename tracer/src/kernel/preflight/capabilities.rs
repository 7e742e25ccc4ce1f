/*! Which capabilities there are, what each is for, and how to get them. */

use super::{Capability, Check, Facts, Status};

/// Nothing inside a user namespace can be done about it.
pub(super) const LEAVE_USER_NAMESPACE: &str =
    "run on the host, or in a container without user namespace (not rootless)";

/// Events carry pids of the host.
pub(super) const LEAVE_PID_NAMESPACE: &str = "hostPID: true (Kubernetes), --pid=host (Docker)";

/// What each capability is for; the first two are needed, the others help.
const CAPABILITIES: &[(Capability, Status, &str)] = &[
    (Capability::Bpf, Status::Missing, "load BPF programs"),
    (
        Capability::Perfmon,
        Status::Missing,
        "attach tracing programs",
    ),
    (
        Capability::SysAdmin,
        Status::Degraded,
        "enter network namespaces and mount a private tracefs",
    ),
    (
        Capability::SysPtrace,
        Status::Degraded,
        "name the program (exe) behind other users' processes",
    ),
    (
        Capability::Syslog,
        Status::Degraded,
        "find TIME_WAIT timers by their handler's address",
    ),
];

/// One check for each capability.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    CAPABILITIES
        .iter()
        .map(|(capability, severity, purpose)| {
            let name = capability.to_string();
            if facts.has(*capability) {
                return Check::new(&name, Status::Ok, "held", format!("tracer can {purpose}"));
            }
            Check::new(
                &name,
                *severity,
                "not held",
                format!("tracer cannot {purpose}"),
            )
            .fix(obtain_lacking(facts))
        })
        .collect()
}

/// How to get every capability that is of use and not held.
pub(super) fn obtain_lacking(facts: &Facts) -> String {
    let lacking: Vec<Capability> = CAPABILITIES
        .iter()
        .map(|(capability, ..)| *capability)
        .filter(|capability| !facts.has(*capability))
        .collect();
    obtain(facts, &lacking)
}

/// How to get capabilities: as root, unless whoever started us took them from root too.
pub(super) fn obtain(facts: &Facts, wanted: &[Capability]) -> String {
    if facts.first_user_namespace == Some(false) {
        return LEAVE_USER_NAMESPACE.to_owned();
    }
    if wanted
        .iter()
        .all(|capability| facts.could_have(*capability))
    {
        return "run it as root: sudo tracer …".to_owned();
    }
    let names: Vec<&str> = wanted.iter().map(|capability| capability.name()).collect();
    let docker: Vec<String> = names
        .iter()
        .map(|name| format!("--cap-add {name}"))
        .collect();
    let systemd: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let systemd = systemd.join(" ");
    format!(
        "root here lacks it too, so the container or service must be given it: securityContext: \
         {{capabilities: {{add: [{}]}}}} (Kubernetes), {} (Docker), \
         AmbientCapabilities={systemd} CapabilityBoundingSet={systemd} (systemd)",
        names.join(", "),
        docker.join(" "),
    )
}
