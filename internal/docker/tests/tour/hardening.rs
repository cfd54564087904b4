//! What a shed may not do, observed from inside.

use shed_api::Code;
use shed_api::shed::{CreateShed, Mount};
use shed_core::Bind;
use shed_engine::local::{Peer, PeerCheck as _};
use shed_model::shed::life::Request;

use crate::support::{TestDocker, problem, shed, worker_of};

#[tokio::test(flavor = "multi_thread")]
async fn dev_has_no_capability_and_root_has_seven() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    let line = "grep -E '^(CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t ' ' '";
    let dev = test.sh("a", line).await;
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID are the bits 0, 1, 3, 4, 5, 6, 7.
    let rest = "CapBnd: 00000000000000fb\nCapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n";
    assert_eq!(dev, format!("CapEff: 0000000000000000\n{rest}"));
    assert_eq!(test.root("a", line).await, format!("CapEff: 00000000000000fb\n{rest}"));
    assert_eq!(test.sh("a", "id -u; id -un; id -G").await, "1000\ndev\n1000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_works_as_people_expect() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    let line = "id -u; apt-get --version | head -1 | cut -d' ' -f1; touch /root/x; chown dev /root/x; stat -c %U /root/x";
    assert_eq!(test.root("a", line).await, "0\napt\ndev\n");
    test.sh("a", "setsid sleep 1000 > /dev/null 2>&1 < /dev/null & echo $! > pid").await;
    test.root("a", "kill -KILL $(cat /workspace/pid)").await;
    // A setuid program of the image raises nobody.
    assert_eq!(
        test.sh(
            "a",
            "test -u $(command -v su) && su -c id < /dev/null > /dev/null 2>&1 || echo no"
        )
        .await,
        "no\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_decides_no_group_beside_directories_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let mount = Mount {
        source: dir.path().to_str().unwrap().to_owned(),
        target: "/mnt/host".to_owned(),
        read_only: true,
    };
    let test =
        TestDocker::with(|settings, _| settings.mounts.allow = vec![dir.path().into()]).await;
    let create =
        |name: &str, mounts| CreateShed { name: name.to_owned(), mounts, ..CreateShed::default() };
    test.create(create("plain", vec![])).await.unwrap();
    test.create(create("mounted", vec![mount])).await.unwrap();
    for (name, groups) in [("plain", "0 42 999\n"), ("mounted", "1000\n")] {
        // As an image could have it.
        let line = "sed -i 's/:1000:1000:/:1000:0:/' /etc/passwd; echo 'a:x:42:dev\nb:x:999:x,dev' >> /etc/group";
        test.root(name, line).await;
        test.app.sheds().request(&test.admin, &shed(name), Request::Restart).await.unwrap();
        assert_eq!(test.sh(name, "id -G | tr ' ' '\\n' | sort -n | xargs").await, groups, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_host_is_visible_inside() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    let sockets = test.root("a", "find / -xdev -type s 2> /dev/null; find /run /var/run /opt/shed -name '*docker*' -o -name '*containerd*'").await;
    assert!(!sockets.contains("docker") && !sockets.contains("containerd"), "{sockets}");
    // Only what was mounted on purpose comes from the host.
    let mounts = test.root("a", "awk '$5 ~ /^.(workspace|worktrees|home|opt|run)/ {print $5, $6}' /proc/self/mountinfo | sort").await;
    let targets: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').next()).collect();
    let expected = [
        "/home/dev",
        "/opt/shed",
        "/run/shed/box",
        "/run/shed/link",
        "/run/shed/link/host",
        "/workspace",
        "/worktrees",
    ];
    assert_eq!(targets, expected);
    let read_only = ["/opt/shed ro", "/run/shed/link/host ro"];
    assert!(read_only.iter().all(|mount| mounts.contains(mount)), "{mounts}");
    // Nor are the control groups of other containers: a process is at the top of what it sees.
    let groups = test.root("a", "cut -d: -f3 /proc/self/cgroup | sort -u").await;
    assert_eq!(groups, "/\n");
    for line in [
        "mount -t tmpfs none /mnt",
        "mknod /root/sda b 8 0",
        "echo 1 > /proc/sys/kernel/sysrq",
        "touch /opt/shed/x",
    ] {
        let tried = test.root("a", &format!("({line}) 2>&1 && echo done || true")).await;
        assert!(!tried.contains("done"), "{line}: {tried}");
    }
}

/// A program in the shed that dials the link's socket and prints what comes of it.
const DIAL: &str = "python3 -c '
import socket
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(\"/run/shed/link/host/link.sock\")
    s.settimeout(10)
    print(\"heard\", len(s.recv(100)))
except OSError as e:
    print(type(e).__name__)
'";

#[tokio::test(flavor = "multi_thread")]
async fn the_link_is_out_of_reach_for_dev_and_hangs_up_on_root() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    for _ in 0..2 {
        assert_eq!(test.sh("a", DIAL).await, "PermissionError\n");
        assert_eq!(test.root("a", DIAL).await, "heard 0\n");
        let modes = "stat -c %a /run/shed/link /run/shed/link/host/link.sock";
        assert_eq!(test.root("a", modes).await, "700\n600\n");
        // Again: a further start of the container gives the tmpfs another mode.
        test.app.sheds().request(&test.admin, &shed("a"), Request::Restart).await.unwrap();
    }
    let swap = "mv /run/shed/link/host/link.sock /tmp/x 2>&1; ln -sf /var/run/docker.sock /run/shed/link/host/link.sock 2>&1; true";
    let swapped = test.root("a", swap).await;
    assert_eq!(swapped.matches("Read-only file system").count(), 2, "{swapped}");
    // shed-init's own link is as it was.
    assert!(test.app.sheds().get(&test.admin, &shed("a")).unwrap().link.connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_cannot_trace_a_program_that_shares_sockets_with_the_server() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    let bind = Bind::Tcp("localhost".to_owned(), 0);
    let _listening = test.app.forwards().listen(&test.admin, &shed("a"), &bind).await.unwrap();
    // The kernel lets those read a process's environment who may trace it.
    let read = "for p in $(pgrep -u dev -f '[s]hed-init listen') $$; do \
                cat /proc/$p/environ > /dev/null 2>&1 && echo open || echo closed; done";
    assert_eq!(test.sh("a", read).await, "closed\nopen\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_shed_init_of_that_shed_is_a_peer() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    test.shed("b").await;
    let is_peer = async |name: &str, pid: u32, uid: u32| {
        test.engine.is_peer(&shed(name), Peer { pid, uid }).await.unwrap()
    };
    let first = test.pid("a");
    let worker = worker_of(first).unwrap();
    assert!(is_peer("a", first, 0).await);
    assert!(is_peer("a", worker, 0).await);
    assert!(!is_peer("a", worker, 1000).await);
    assert!(!is_peer("b", worker, 0).await);
    assert!(!is_peer("a", 0, 0).await);
    assert!(!is_peer("a", std::process::id(), 0).await);
    assert!(!is_peer("nobody", worker, 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_s_socket_is_never_mounted() {
    // The rules are off, as if somebody had allowed everything.
    let test = TestDocker::with(|settings, _| settings.mounts.allow.push("/".into())).await;
    for source in ["/var/run/docker.sock", "/var/run", "/run"] {
        let mount =
            Mount { source: source.to_owned(), target: "/mnt/x".to_owned(), read_only: true };
        let request =
            CreateShed { name: "a".to_owned(), mounts: vec![mount], ..CreateShed::default() };
        // Either by the rules, which refuse symbolic links, or by the engine.
        let refused = problem(test.create(request).await);
        assert!(matches!(refused.code, Code::EngineFailed | Code::Forbidden), "{refused:?}");
        test.app.sheds().delete(&test.admin, &shed("a"), shed_core::Removal::Everything).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_as_requested() {
    let test = TestDocker::start().await;
    let own = test.make_dir("own");
    std::fs::write(own.join("f"), "hello").unwrap();
    for path in [own.clone(), own.join("f")] {
        std::os::unix::fs::chown(path, Some(1000), Some(1000)).unwrap();
    }
    let source = own.to_str().unwrap().to_owned();
    let mount = |target: &str, read_only| Mount {
        source: source.clone(),
        target: target.to_owned(),
        read_only,
    };
    let mounts = vec![mount("/in", true), mount("/out", false)];
    let mut admin = test.admin.clone();
    admin.local_uid = Some(1000);
    let request = CreateShed { name: "a".to_owned(), mounts, ..CreateShed::default() };
    test.app.sheds().create(&admin, request).await.unwrap();
    test.app.sheds().created(&admin, &shed("a")).await.unwrap();
    assert_eq!(
        test.sh("a", "cat /in/f; touch /in/g 2>&1 | grep -o Read-only; echo bye > /out/f").await,
        "helloRead-only\n"
    );
    assert_eq!(std::fs::read_to_string(own.join("f")).unwrap(), "bye\n");
}
