/*! Paths as the runtimes write them, and what must be read from each. */

use super::{Membership, Runtime, parse_path, parse_process, unescape_unit};

const ID: &str = "3b7cd0d4a1f2e9c8b6a5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3";
const INNER: &str = "c0ffee00112233445566778899aabbccddeeff00112233445566778899aabbcc";
const UID: &str = "5a3e1f0c-9b2d-4c7a-8f61-0d2e4b6a8c11";
const UID_IN_SLICE: &str = "5a3e1f0c_9b2d_4c7a_8f61_0d2e4b6a8c11";
const STATIC_POD: &str = "0123456789abcdef0123456789abcdef";

fn membership(container: Option<&str>, runtime: Option<Runtime>, pod: Option<&str>) -> Membership {
    Membership {
        container: container.map(str::to_owned),
        runtime,
        pod: pod.map(str::to_owned),
    }
}

/// `{id}`, `{inner}`, `{uid}` and `{slice}` stand for the constants above.
fn fill(path: &str) -> String {
    path.replace("{id}", ID)
        .replace("{inner}", INNER)
        .replace("{uid}", UID)
        .replace("{slice}", UID_IN_SLICE)
        .replace("{static}", STATIC_POD)
}

#[test]
fn reads_the_container_and_the_pod() {
    use Runtime::{Containerd, Cri, CriO, Docker, Lxc, Nspawn, Podman};
    let id = Some(ID);
    let uid = Some(UID);
    let table = [
        ("/docker/{id}", id, Some(Docker), None),
        ("/system.slice/docker-{id}.scope", id, Some(Docker), None),
        (
            "/system.slice/docker-{id}.scope/init.scope",
            id,
            Some(Docker),
            None,
        ),
        (
            "/system.slice/docker-{id}.scope/system.slice/nginx.service",
            id,
            Some(Docker),
            None,
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{id}.scope",
            id,
            Some(Docker),
            None,
        ),
        ("/ecs/{static}/{id}", id, Some(Docker), None),
        (
            "/ecs/{static}/{static}-2531612879",
            Some("0123456789abcdef0123456789abcdef-2531612879"),
            Some(Containerd),
            None,
        ),
        (
            "/system.slice/nerdctl-{id}.scope",
            id,
            Some(Containerd),
            None,
        ),
        ("/default/{id}", id, Some(Containerd), None),
        ("/k8s.io/{id}", id, Some(Containerd), None),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-{id}.scope",
            id,
            Some(Containerd),
            uid,
        ),
        (
            "/kubepods.slice/kubepods-pod{slice}.slice/cri-containerd-{id}.scope",
            id,
            Some(Containerd),
            uid,
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice:cri-containerd:{id}",
            id,
            Some(Containerd),
            uid,
        ),
        (
            "/system.slice/containerd.service/kubepods-burstable-pod{slice}.slice:cri-containerd:{id}",
            id,
            Some(Containerd),
            uid,
        ),
        ("/kubepods/besteffort/pod{uid}/{id}", id, Some(Cri), uid),
        ("/kubepods/pod{uid}/{id}", id, Some(Cri), uid),
        (
            "/kubepods/burstable/pod{static}/{id}",
            id,
            Some(Cri),
            Some(STATIC_POD),
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{static}.slice/crio-{id}.scope",
            id,
            Some(CriO),
            Some(STATIC_POD),
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/crio-{id}.scope/container",
            id,
            Some(CriO),
            uid,
        ),
        (
            "/kubepods/burstable/pod{uid}/crio-{id}",
            id,
            Some(CriO),
            uid,
        ),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/cri-containerd-{id}.scope",
            id,
            Some(Containerd),
            uid,
        ),
        (
            "/docker/{inner}/kubelet/kubepods/besteffort/pod{uid}/{id}",
            id,
            Some(Cri),
            uid,
        ),
        (
            "/kubepods/burstable/pod{uid}/{inner}/docker/{id}",
            id,
            Some(Docker),
            uid,
        ),
        (
            "/kubepods.slice/kubepods-pod{slice}.slice/cri-containerd-{inner}.scope/system.slice/docker-{id}.scope",
            id,
            Some(Docker),
            uid,
        ),
        ("/machine.slice/libpod-{id}.scope", id, Some(Podman), None),
        (
            "/machine.slice/libpod-{id}.scope/container",
            id,
            Some(Podman),
            None,
        ),
        ("/libpod_parent/libpod-{id}", id, Some(Podman), None),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container",
            id,
            Some(Podman),
            None,
        ),
        (
            "/system.slice/web.service/libpod-payload-{id}",
            id,
            Some(Podman),
            None,
        ),
        (
            "/machine.slice/machine-libpod_pod_{inner}.slice/libpod-{id}.scope",
            id,
            Some(Podman),
            Some(INNER),
        ),
        // Seen through a cgroup namespace that is not the process's own.
        ("/../{id}", id, None, None),
        ("/../../pod{uid}/{id}", id, None, uid),
        (
            "/lxc.payload.web-1/system.slice/nginx.service",
            Some("web-1"),
            Some(Lxc),
            None,
        ),
        (
            "/lxc/101/ns/system.slice/ssh.service",
            Some("101"),
            Some(Lxc),
            None,
        ),
        (
            "/machine.slice/systemd-nspawn@web.service/payload",
            Some("web"),
            Some(Nspawn),
            None,
        ),
        (
            r"/machine.slice/machine-web\x2d1.scope",
            Some("web-1"),
            Some(Nspawn),
            None,
        ),
        // A pod's own slice, before or beside its containers.
        ("/kubepods.slice/kubepods-pod{slice}.slice", None, None, uid),
        (
            "/system.slice/docker-{id}.scope (deleted)",
            id,
            Some(Docker),
            None,
        ),
    ];
    for (path, container, runtime, pod) in table {
        let path = fill(path);
        assert_eq!(
            parse_path(&path),
            membership(container, runtime, pod),
            "{path}"
        );
    }
}

#[test]
fn a_unit_of_the_host_is_no_container() {
    let table = [
        "/",
        "",
        "/init.scope",
        "/system.slice/nginx.service",
        "/system.slice/docker.service",
        "/system.slice/containerd.service",
        "/system.slice/kubelet.service",
        "/system.slice/docker-compose.scope",
        "/user.slice/user-1000.slice/session-3.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-4711.scope",
        "/user.slice/user-1000.slice/user@1000.service/user.slice/podman-1234.scope",
        "/machine.slice/libpod-conmon-{id}.scope",
        "/kubepods.slice/crio-conmon-{id}.scope",
        r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
        "/lxc.monitor.web-1",
        "/process_api/{static}",
        "/podcast/podium",
        "/system.slice/tripod-podded.slice",
        "/docker/3b7cd0d4",
    ];
    for path in table {
        let path = fill(path);
        assert_eq!(parse_path(&path), Membership::default(), "{path}");
    }
}

#[test]
fn a_process_line_with_a_container_beats_the_rest() {
    let hybrid = fill(
        "12:memory:/docker/{id}\n2:cpu,cpuacct:/docker/{id}\n1:name=systemd:/docker/{id}\n0::/system.slice/containerd.service\n",
    );
    let (path, found) = parse_process(&hybrid).unwrap();
    assert_eq!(path, fill("/docker/{id}"));
    assert_eq!(found, membership(Some(ID), Some(Runtime::Docker), None));
}

#[test]
fn v2_beats_v1_and_any_path_beats_the_root() {
    let path = |lines| parse_process(lines).unwrap().0;
    assert_eq!(path("0::/user.slice\n"), "/user.slice");
    assert_eq!(
        path("1:name=systemd:/a.service\n0::/b.service\n"),
        "/b.service"
    );
    assert_eq!(
        path("4:pids:/x\n1:name=systemd:/a.service\n0::/\n"),
        "/a.service"
    );
    assert_eq!(
        path("4:memory:/jobs/7\n1:name=systemd:/\n0::/\n"),
        "/jobs/7"
    );
    assert_eq!(path("4:memory:/\n0::/\n"), "/");
    assert_eq!(path("0::/odd:name\n"), "/odd:name");
}

#[test]
fn what_cannot_be_read_is_nothing() {
    for lines in ["", "\n", "0", "0:", "0::", "0::relative", "::\n:\n"] {
        assert_eq!(parse_process(lines), None, "{lines:?}");
    }
}

#[test]
fn unit_names_are_unescaped() {
    assert_eq!(unescape_unit(r"a\x2db"), "a-b");
    assert_eq!(unescape_unit(r"\x2d\x2d"), "--");
    assert_eq!(unescape_unit(r"a\x2"), r"a\x2");
    assert_eq!(unescape_unit(r"a\xffb\xé"), r"a\xffb\xé");
}
