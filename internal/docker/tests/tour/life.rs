//! Sheds in containers, from creation to deletion.

use shed_api::ShedStatus;
use shed_api::shed::{CreateShed, RebuildShed};
use shed_core::{Answer, Removal};
use shed_model::shed::life::Request;

use crate::support::{Database, TestDocker, docker, shed};

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_is_created_used_stopped_started_restarted_and_deleted() {
    let test = TestDocker::start().await;
    let name = shed("a");
    let made = test.shed("a").await;
    assert_eq!((made.status, made.link.user.as_deref()), (ShedStatus::Running, Some("dev")));
    assert_eq!(made.container_id.unwrap(), test.field("a", "{{.Id}}"));
    test.sh("a", "echo kept > /workspace/f; echo kept > ~/f; echo kept > /worktrees/f").await;
    let (answer, stopped) =
        test.app.sheds().request(&test.admin, &name, Request::Stop).await.unwrap();
    assert_eq!((answer, stopped.status), (Answer::Done, ShedStatus::Stopped));
    assert_eq!(test.field("a", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    let (answer, _) = test.app.sheds().request(&test.admin, &name, Request::Stop).await.unwrap();
    assert_eq!(answer, Answer::Already);
    let (_, started) = test.app.sheds().request(&test.admin, &name, Request::Start).await.unwrap();
    assert_eq!(started.status, ShedStatus::Running);
    assert_eq!(test.sh("a", "cat /workspace/f ~/f /worktrees/f").await, "kept\nkept\nkept\n");
    let before = test.pid("a");
    let (_, restarted) =
        test.app.sheds().request(&test.admin, &name, Request::Restart).await.unwrap();
    assert_eq!(restarted.status, ShedStatus::Running);
    assert_ne!(test.pid("a"), before);
    assert_eq!(test.sh("a", "hostname; pwd").await, "a\n/workspace\n");
    test.app.sheds().delete(&test.admin, &name, Removal::Everything).await.unwrap();
    assert!(test.app.sheds().list(&test.admin).sheds.is_empty());
    assert_eq!(things_of(&test), "");
}

/// Names of containers and volumes with the test's label.
fn things_of(test: &TestDocker) -> String {
    let filter = format!("label={}", test.run_label());
    let containers = docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
    let volumes = docker(&["volume", "ls", "--filter", &filter, "--format", "{{.Name}}"]);
    format!("{containers}\n{volumes}").trim().replace(&test.options.prefix, "P")
}

/// The server's program directory is a symbolic link. A running shed keeps what it was started with.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_brings_the_shed_init_that_the_server_has_now() {
    let test = TestDocker::with(|_, options| {
        let link = options.host_dirs.program_dir.with_file_name("current");
        std::os::unix::fs::symlink(&options.host_dirs.program_dir, &link).unwrap();
        options.host_dirs.program_dir = link;
    })
    .await;
    test.shed("a").await;
    let (link, newer) = (&test.options.host_dirs.program_dir, test.make_dir("newer"));
    std::fs::copy(link.join("shed-init"), newer.join("shed-init")).unwrap();
    std::fs::write(newer.join("newer"), "").unwrap();
    std::fs::remove_file(link).unwrap();
    std::os::unix::fs::symlink(&newer, link).unwrap();
    assert_eq!(test.sh("a", "ls /opt/shed").await, "shed-init\n");
    test.app.sheds().request(&test.admin, &shed("a"), Request::Restart).await.unwrap();
    assert_eq!(test.sh("a", "ls /opt/shed").await, "newer\nshed-init\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_shed_is_frozen_and_can_be_stopped() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    let name = shed("a");
    let (_, paused) = test.app.sheds().request(&test.admin, &name, Request::Pause).await.unwrap();
    assert_eq!(paused.status, ShedStatus::Paused);
    assert_eq!(test.field("a", "{{.State.Status}}"), "paused");
    let (_, running) =
        test.app.sheds().request(&test.admin, &name, Request::Unpause).await.unwrap();
    assert_eq!(running.status, ShedStatus::Running);
    assert_eq!(test.sh("a", "echo back").await, "back\n");
    test.app.sheds().request(&test.admin, &name, Request::Pause).await.unwrap();
    test.app.sheds().request(&test.admin, &name, Request::Stop).await.unwrap();
    assert_eq!(test.field("a", "{{.State.Status}}"), "exited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_has_a_new_container_and_the_same_volumes() {
    let test = TestDocker::start().await;
    let before = test.shed("a").await;
    test.sh("a", "echo kept > /workspace/f; echo kept > ~/f").await;
    test.root("a", "touch /in-the-container").await;
    let same =
        test.app.sheds().rebuild(&test.admin, &shed("a"), RebuildShed::default()).await.unwrap();
    assert_ne!(same.container_id, before.container_id);
    assert_eq!(
        test.sh("a", "cat /workspace/f ~/f; ls /in-the-container || echo gone").await,
        "kept\nkept\ngone\n"
    );
    let image = Some("shed-test-notmux:latest".to_owned());
    let other =
        test.app.sheds().rebuild(&test.admin, &shed("a"), RebuildShed { image }).await.unwrap();
    assert_eq!(
        (other.status, other.image.as_str()),
        (ShedStatus::Running, "shed-test-notmux:latest")
    );
    // The home volume follows the image's user.
    assert_eq!(
        test.sh("a", "whoami; cat /workspace/f ~/f; echo ~").await,
        "node\nkept\nkept\n/home/node\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_volumes_are_reused() {
    let test = TestDocker::start().await;
    test.shed("a").await;
    test.sh("a", "echo kept > /workspace/f").await;
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::KeepVolumes).await.unwrap();
    assert_eq!(things_of(&test), "P-a-home\nP-a-workspace\nP-a-worktrees");
    let disk = test.app.sheds().disk(&test.admin).await.unwrap().disk;
    assert!(disk.iter().all(|row| row.name == "a" && row.kept), "{disk:?}");
    test.shed("a").await;
    assert_eq!(test.sh("a", "cat /workspace/f").await, "kept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_is_created_without_being_started() {
    let test = TestDocker::start().await;
    let request = CreateShed { name: "a".to_owned(), no_start: true, ..CreateShed::default() };
    let made = test.create(request).await.unwrap();
    assert_eq!(made.status, ShedStatus::Stopped);
    assert_eq!(test.field("a", "{{.State.Status}}"), "created");
    assert_eq!(test.sh("a", "echo up").await, "up\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_finds_its_sheds_and_adopts_unknown_ones() {
    let mut test = TestDocker::start().await;
    let mount = test.make_dir("shared");
    let source = mount.to_str().unwrap().to_owned();
    let request = CreateShed {
        name: "a".to_owned(),
        image: Some("shed-base:latest".to_owned()),
        cpus: Some(0.5),
        memory: Some("300M".to_owned()),
        pids: Some(99),
        env: [("A".to_owned(), "b=c".to_owned())].into(),
        mounts: vec![shed_api::shed::Mount {
            source,
            target: "/shared".to_owned(),
            read_only: true,
        }],
        ..CreateShed::default()
    };
    let made = test.create(request).await.unwrap();
    test.create(CreateShed { name: "b".to_owned(), no_start: true, ..CreateShed::default() })
        .await
        .unwrap();
    let pid = test.pid("a");
    test.restart(Database::Kept).await;
    assert_eq!(test.sh("a", "echo $A").await, "b=c\n");
    test.restart(Database::Lost).await;
    assert_eq!(test.sh("a", "echo $A").await, "b=c\n");
    assert_eq!(test.pid("a"), pid);
    let found = test.app.sheds().get(&test.admin, &shed("a")).unwrap();
    let known = |shed: shed_api::shed::Shed| {
        (shed.created_at, shed.image, shed.limits, shed.network, shed.mounts, shed.env)
    };
    assert_eq!(known(found), known(made));
    assert_eq!(test.app.sheds().get(&test.admin, &shed("b")).unwrap().status, ShedStatus::Stopped);
    // Another server has nothing to do with them.
    test.settings.server_id = "another".to_owned();
    test.options.server_id = "another".to_owned();
    test.restart(Database::Lost).await;
    assert!(test.app.sheds().list(&test.admin).sheds.is_empty());
}
