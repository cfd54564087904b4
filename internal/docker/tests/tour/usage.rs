//! Limits, measurements and logs.

use shed_api::shed::{CreateShed, PatchShed};
use shed_api::{Code, ShedStatus};
use shed_model::shed::life::Request;

use crate::support::{TestDocker, new_session, problem, shed, worker_of};

/// What the issue promises of shed-init: its two processes together, and its file.
const MAX_RESIDENT_KB: u64 = 5 << 10;
const MAX_BINARY_BYTES: u64 = 3 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_from_the_start_and_change_while_it_runs() {
    let test = TestDocker::start().await;
    let request = CreateShed {
        name: "a".to_owned(),
        cpus: Some(0.5),
        memory: Some("100M".to_owned()),
        pids: Some(77),
        ..CreateShed::default()
    };
    test.create(request).await.unwrap();
    let shown = || {
        test.field("a", "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}}")
    };
    assert_eq!(shown(), format!("500000000 {0} {0} 77", 100 << 20));
    let patch = PatchShed {
        cpus: Some(1.5),
        memory: Some("200M".to_owned()),
        pids: Some(99),
        ..PatchShed::default()
    };
    let after = test.app.sheds().patch(&test.admin, &shed("a"), patch).await.unwrap();
    assert_eq!((after.limits.memory_bytes, after.limits.pids), (200 << 20, 99));
    assert_eq!(shown(), format!("1500000000 {0} {0} 99", 200 << 20));
    // As the kernel has them, whichever kind of cgroup this is.
    let line = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2> /dev/null | head -1;
        cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null | head -1";
    assert_eq!(test.sh("a", line).await, format!("99\n{}\n", 200 << 20));
    // More CPUs than there are is as many as there are.
    let patch = PatchShed { cpus: Some(4000.0), ..PatchShed::default() };
    test.app.sheds().patch(&test.admin, &shed("a"), patch).await.unwrap();
    // Down again, below what it was.
    let patch = PatchShed { memory: Some("64M".to_owned()), ..PatchShed::default() };
    test.app.sheds().patch(&test.admin, &shed("a"), patch).await.unwrap();
    assert_eq!(test.field("a", "{{.HostConfig.Memory}}"), (64 << 20).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_shed_is_measured() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    new_session(
        &test,
        "a",
        "work",
        &["sh", "-c", "x=$(head -c 30000000 /dev/zero | tr '\\0' x); while :; do :; done"],
    )
    .await;
    // Cache is not memory in use.
    test.sh("a", "head -c 100000000 /dev/zero > big; cat big > /dev/null").await;
    let stats = shed_testing::eventually("the numbers", async || {
        let stats = test.app.sheds().stats(&test.admin, &shed("a")).await.unwrap();
        (stats.cpus > 0.2 && stats.memory_bytes > 30_000_000).then_some(stats)
    })
    .await;
    assert!(stats.cpus < 2.5, "{stats:?}");
    assert!(stats.memory_bytes < 100_000_000, "{stats:?}");
    assert_eq!(stats.memory_limit_bytes, 512 << 20);
    // Two of shed-init, tmux and its watch, the shell.
    assert!((4..30).contains(&stats.pids), "{stats:?}");
    let (_, stopped) =
        test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    assert_eq!(stopped.status, ShedStatus::Stopped);
    let refused = test.app.sheds().stats(&test.admin, &shed("a")).await;
    assert_eq!(problem(refused).code, Code::NotRunning);
    assert!(test.app.sheds().all_stats(&test.admin).await.unwrap().stats.is_empty());
    let direct = shed_engine::Engine::stats(&*test.engine, &shed("a")).await;
    assert!(matches!(direct, Err(shed_engine::EngineError::NoContainer(_))), "{direct:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_use_is_reported_by_volume_and_container() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    test.sh("a", "head -c 3000000 /dev/zero > /workspace/f; head -c 2000000 /dev/zero > ~/f").await;
    test.root("a", "head -c 1000000 /dev/zero > /in-the-container").await;
    let disk = test.app.sheds().disk(&test.admin).await.unwrap().disk;
    let told: Vec<(&str, &str, u64, bool)> = disk
        .iter()
        .map(|row| (row.name.as_str(), row.what.as_str(), row.n_bytes / 1_000_000, row.kept))
        .collect();
    let expected = [
        ("a", "container", 1, false),
        ("a", "home", 2, false),
        ("a", "workspace", 3, false),
        ("a", "worktrees", 0, false),
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_what_the_first_process_printed_without_frames_or_control_characters() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    // Docker reads what is printed when it gets to it, and the two streams in no order: one after the other.
    let printed = async |line: &str, last: &str| {
        test.root("a", line).await;
        shed_testing::eventually("the log", async || {
            let logs = test.app.sheds().logs(&test.admin, &shed("a"), 100).await.unwrap();
            logs.ends_with(last).then_some(())
        })
        .await;
    };
    printed("printf 'one\\ntwo\\033[31m\\a\\n\\303\\274\\n' > /proc/1/fd/1", "ü\n").await;
    printed("echo three > /proc/1/fd/2", "three\n").await;
    let logs = test.app.sheds().logs(&test.admin, &shed("a"), 3).await.unwrap();
    assert_eq!(logs, "two[31m\nü\nthree\n");
    assert_eq!(test.app.sheds().logs(&test.admin, &shed("a"), 1).await.unwrap(), "three\n");
    // They are still there when it is not running, and are none when there is no container.
    test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    assert!(test.app.sheds().logs(&test.admin, &shed("a"), 100).await.unwrap().contains("three"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shed_init_is_small() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    let first = test.pid("a");
    let worker = worker_of(first).unwrap();
    let resident: Vec<u64> = [first, worker].map(resident_kb).into();
    let size = std::fs::metadata(shed_testing::shed_init_path()).unwrap().len();
    eprintln!("supervisor and worker: {resident:?} kB; file: {size} bytes");
    assert!(resident.iter().sum::<u64>() <= MAX_RESIDENT_KB, "{resident:?} kB");
    assert!(size <= MAX_BINARY_BYTES, "{size} bytes");
}

fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
