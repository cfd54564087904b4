//! A shed at its limits: who goes too far ends, and shed-init and tmux do not.
//!
//! What goes too far waits for the file `go`: nobody can list its session, and so answer whoever makes it, once there is no
//! process or memory left.

use shed_api::shed::CreateShed;
use shed_testing::eventually;

use crate::support::{TestDocker, id_of, kill, new_session, worker_of};

async fn narrow(memory: &str, pids: u32) -> TestDocker {
    let test = TestDocker::start().await;
    let memory = Some(memory.to_owned());
    let request =
        CreateShed { name: "a".to_owned(), memory, pids: Some(pids), ..CreateShed::default() };
    test.create(request).await.unwrap();
    test
}

/// Waits until a command runs and the session is the one it was.
async fn lives_on(test: &TestDocker, before: &str) {
    eventually("an exec", async || {
        test.exec("a", &["echo", "alive"]).await.ok().filter(|ran| ran.stdout == "alive\n")
    })
    .await;
    eventually("the session", async || {
        (id_of(test, "a", "work").as_deref() == Some(before)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_hog_ends_alone() {
    let test = narrow("64M", 256).await;
    let first = test.pid("a");
    // The shell stays, and with it the session.
    let session = new_session(&test, "a", "work", &["sh", "-c", HOG]).await;
    test.sh("a", "touch go").await;
    eventually("its end", async || {
        test.exec("a", &["cat", "ended"]).await.ok().filter(|ran| ran.stdout == "137\n")
    })
    .await;
    lives_on(&test, &session.id).await;
    assert_eq!(test.pid("a"), first);
}

/// Takes all the memory there is once it is told to, and says how that ended.
const HOG: &str = "until test -e /workspace/go; do sleep 0.01; done; tail /dev/zero; echo $? > /workspace/ended; exec cat";

#[tokio::test(flavor = "multi_thread")]
async fn shared_memory_cannot_fill_a_shed() {
    let test = narrow("64M", 256).await;
    test.sh("a", "head -c 100000000 /dev/zero > /dev/shm/full 2> /dev/null || true; ls /dev/shm")
        .await;
    assert_eq!(test.sh("a", "echo still").await, "still\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_ends_alone() {
    let test = narrow("512M", 64).await;
    let first = test.pid("a");
    let session = new_session(&test, "a", "work", &["python3", "-c", BOMB]).await;
    test.sh("a", "touch go").await;
    eventually("the limit", async || {
        test.exec("a", &["test", "-e", "full"]).await.ok().filter(|ran| ran.exit == 0)
    })
    .await;
    lives_on(&test, &session.id).await;
    assert_eq!(test.pid("a"), first);
}

/// Takes every process there is for two seconds once it is told to, and says when there is none left. Its first process
/// stays.
const BOMB: &str = "
import os, time
while not os.path.exists('/workspace/go'): time.sleep(0.01)
first, end = os.getpid(), time.time() + 2
while time.time() < end:
    try: os.fork()
    except OSError:
        open('/workspace/full', 'w')
        time.sleep(0.01)
while os.getpid() == first: time.sleep(1000)";

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_reaped() {
    let test = narrow("512M", 64).await;
    // More than the limit, one after the other: none may stay as a zombie.
    test.sh("a", "for i in $(seq 100); do (sh -c 'sleep 0.01 &'); done").await;
    eventually("the end of all", async || {
        let count = "cat /proc/[0-9]*/stat 2> /dev/null | grep -c ') Z ' || true";
        (test.sh("a", count).await == "0\n").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shed_init_worker_restarts_and_sessions_continue() {
    let test = narrow("512M", 64).await;
    let first = test.pid("a");
    let session = new_session(&test, "a", "work", &[]).await;
    for _ in 0..3 {
        let worker = worker_of(first).unwrap();
        kill(worker);
        eventually("another worker", async || worker_of(first).filter(|now| *now != worker)).await;
        lives_on(&test, &session.id).await;
    }
    assert_eq!(test.pid("a"), first);
}
