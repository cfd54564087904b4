//! Containers that are stopped, killed or removed with Docker itself.

use shed_api::ShedStatus;
use shed_model::shed::life::Request;
use shed_testing::eventually;

use crate::support::{TestDocker, docker, shed};

async fn becomes(test: &TestDocker, status: ShedStatus) -> shed_api::shed::Shed {
    eventually(status.as_str(), async || {
        Some(test.app.sheds().get(&test.admin, &shed("a")).unwrap())
            .filter(|now| now.status == status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_or_killed_container_is_detected_and_starts_on_entering() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    for (verb, status) in [("stop", 0), ("kill", 137)] {
        docker(&[verb, &test.container("a")]);
        let stopped = becomes(&test, ShedStatus::Stopped).await;
        let reason = stopped.reason.unwrap();
        assert!(reason.contains(&format!("exit status {status}")), "{reason}");
        assert_eq!(test.sh("a", "echo up").await, "up\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_was_started_paused_or_unpaused_is_detected() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    docker(&["pause", &test.container("a")]);
    becomes(&test, ShedStatus::Paused).await;
    docker(&["unpause", &test.container("a")]);
    becomes(&test, ShedStatus::Running).await;
    test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    docker(&["start", &test.container("a")]);
    becomes(&test, ShedStatus::Running).await;
    assert_eq!(test.sh("a", "echo up").await, "up\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_container_is_created_again_on_its_volumes() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    test.sh("a", "echo kept > f").await;
    let before = test.field("a", "{{.Id}}");
    docker(&["rm", "-f", &test.container("a")]);
    becomes(&test, ShedStatus::Stopped).await;
    assert_eq!(test.sh("a", "cat f").await, "kept\n");
    assert_ne!(test.field("a", "{{.Id}}"), before);
}
