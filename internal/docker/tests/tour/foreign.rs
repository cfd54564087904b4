//! Foreign containers, volumes and networks are never used, changed or removed.

use shed_api::shed::CreateShed;
use shed_api::{Code, ShedStatus};
use shed_core::Removal;
use shed_engine::Engine as _;

use crate::support::{TestDocker, docker, problem, shed, try_docker};

fn create(name: &str) -> CreateShed {
    let image = Some("shed-test-busybox:latest".to_owned());
    CreateShed { name: name.to_owned(), image, ..CreateShed::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_container_of_that_name_is_a_conflict_and_stays() {
    let test = TestDocker::start().await;
    let (name, run) = (test.container("a"), test.run_label());
    let stranger = docker(&[
        "run",
        "-d",
        "--name",
        &name,
        "--label",
        &run,
        "--label",
        "shed=true",
        "--label",
        "shed.name=a",
        "--label",
        "shed.server=another",
        "shed-test-busybox:latest",
        "sleep",
        "1000",
    ]);
    let conflict = problem(test.create(create("a")).await);
    assert_eq!(conflict.code, Code::Conflict);
    assert!(
        conflict.detail.contains(&format!("docker container inspect {name}")),
        "{}",
        conflict.detail
    );
    // Nothing of the attempt is left, and nothing is done to it by any other way.
    let volumes = docker(&["volume", "ls", "-q", "--filter", &format!("label={run}")]);
    assert_eq!(volumes, "");
    assert_eq!(test.engine.find(&shed("a")).await.unwrap(), None);
    let limit = std::time::Duration::ZERO;
    test.engine.stop(&shed("a"), limit).await.unwrap();
    assert!(test.engine.start(&shed("a")).await.is_err());
    assert!(test.engine.pause(&shed("a")).await.is_err());
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::Everything).await.unwrap();
    assert_eq!(test.field("a", "{{.Id}} {{.State.Status}}"), format!("{stranger} running"));
    docker(&["rm", "-f", &stranger]);
    assert_eq!(test.create(create("a")).await.unwrap().status, ShedStatus::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_volume_of_that_name_is_a_conflict_and_stays() {
    let test = TestDocker::start().await;
    let (volume, run) = (format!("{}-home", test.container("a")), test.run_label());
    docker(&["volume", "create", "--label", &run, &volume]);
    let conflict = problem(test.create(create("a")).await);
    assert_eq!(conflict.code, Code::Conflict);
    assert!(conflict.detail.contains(&volume), "{}", conflict.detail);
    // The other two had been made and are gone again.
    let volumes = || docker(&["volume", "ls", "-q", "--filter", &format!("label={run}")]);
    assert_eq!(volumes(), volume);
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::Everything).await.unwrap();
    assert_eq!(volumes(), volume);
    let (is_there, _, _) = try_docker(&["container", "inspect", &test.container("a")]);
    assert!(!is_there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_network_of_that_name_is_a_conflict() {
    let test = TestDocker::start().await;
    docker(&["network", "create", "--label", &test.run_label(), &test.options.network]);
    let request = CreateShed { network: Some(shed_api::shed::Network::Filtered), ..create("a") };
    let conflict = problem(test.create(request).await);
    assert_eq!(conflict.code, Code::Conflict);
    assert!(conflict.detail.contains(&test.options.network), "{}", conflict.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_use_is_named_and_stays() {
    let test = TestDocker::start().await;
    test.create(create("a")).await.unwrap();
    let volume = format!("{}-home", test.container("a"));
    let mount = format!("{volume}:/x");
    docker(&[
        "create",
        "--label",
        &test.run_label(),
        "-v",
        &mount,
        "shed-test-busybox:latest",
        "true",
    ]);
    let refused = test.app.sheds().delete(&test.admin, &shed("a"), Removal::Everything).await;
    let refused = problem(refused);
    assert_eq!(refused.code, Code::Conflict);
    assert!(
        refused.detail.contains(&format!("docker ps -a --filter volume={volume}")),
        "{}",
        refused.detail
    );
    // The other two went all the same.
    let filter = format!("label={}", test.run_label());
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &filter]), volume);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_resumes_with_the_remains_of_an_earlier_one_and_replaces_a_wrong_image() {
    let test = TestDocker::start().await;
    test.make_dir("links/a");
    let plan = |image: &str| shed_engine::ContainerPlan {
        shed: shed("a"),
        created_at: chrono::DateTime::UNIX_EPOCH,
        repo: None,
        image: image.to_owned(),
        limits: test.settings.defaults.limits,
        network: shed_api::shed::Network::None,
        mounts: Vec::new(),
        env: std::collections::BTreeMap::new(),
        home: "/home/dev".to_owned(),
    };
    let first = test.engine.create(&plan("shed-test-busybox:latest")).await.unwrap();
    assert!(first.made_volumes);
    let id = test.field("a", "{{.Id}}");
    let again = test.engine.create(&plan("shed-test-busybox:latest")).await.unwrap();
    assert!(!again.made_volumes);
    assert_eq!(test.field("a", "{{.Id}}"), id);
    test.engine.create(&plan("shed-test-notmux:latest")).await.unwrap();
    assert_eq!(test.field("a", "{{.Config.Image}}"), "shed-test-notmux:latest");
    assert_ne!(test.field("a", "{{.Id}}"), id);
}
