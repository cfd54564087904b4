//! How a shed stops, and how fast.

use std::time::{Duration, Instant};

use shed_engine::Engine as _;
use shed_model::shed::life::Request;
use shed_testing::eventually;

use crate::support::{TestDocker, new_session, shed};

/// What the issue promises of a shed in which nothing happens.
const IDLE_STOP: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_shed_stops_in_under_half_a_second() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    new_session(&test, "a", "work", &[]).await;
    // The best of three: this machine has other things to do, too.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
        best = best.min(start.elapsed());
        test.app.sheds().request(&test.admin, &shed("a"), Request::Start).await.unwrap();
    }
    eprintln!("idle stop: {best:?}");
    assert!(best < IDLE_STOP, "{best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_on_term_is_waited_for() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    let line = "trap 'sleep 1; echo done > /workspace/told; exit' TERM; trap '' HUP; touch /workspace/ready; while :; do sleep 0.05; done";
    new_session(&test, "a", "work", &["sh", "-c", line]).await;
    eventually("the trap", async || {
        test.exec("a", &["test", "-e", "ready"]).await.ok().filter(|ran| ran.exit == 0)
    })
    .await;
    test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    assert_eq!(test.field("a", "{{.State.ExitCode}}"), "0");
    assert_eq!(test.sh("a", "cat told").await, "done\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ignores_term_is_killed_at_the_limit() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    let line = "trap '' TERM HUP; touch /workspace/ready; while :; do sleep 0.05; done";
    new_session(&test, "a", "work", &["sh", "-c", line]).await;
    eventually("the trap", async || {
        test.exec("a", &["test", "-e", "ready"]).await.ok().filter(|ran| ran.exit == 0)
    })
    .await;
    let limit = Duration::from_secs(2);
    let start = Instant::now();
    test.engine.stop(&shed("a"), limit).await.unwrap();
    let took = start.elapsed();
    assert!(took >= limit && took < limit + Duration::from_secs(5), "{took:?}");
    assert_eq!(test.field("a", "{{.State.ExitCode}}"), "137");
    // Idempotent, also for what is not there at all.
    test.engine.stop(&shed("a"), limit).await.unwrap();
    test.engine.stop(&shed("nobody"), limit).await.unwrap();
}
