//! Sheds of images that were not made for shed.

use std::time::{Duration, Instant};

use shed_api::shed::{CreateShed, RebuildShed};
use shed_api::stream::{ConsoleOpen, Exit, Tty};
use shed_api::{Code, ShedStatus};
use shed_core::Removal;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::support::{TestDocker, docker, new_session_request, problem, shed};

async fn console(test: &TestDocker, line: &str) -> (String, Option<Exit>) {
    let open = ConsoleOpen {
        tty: Tty { cols: 80, rows: 24, term: "xterm-256color".to_owned(), ..Tty::default() },
        root: false,
        env: std::collections::BTreeMap::new(),
    };
    let mut running = test.app.streams().console(&test.admin, &shed("a"), open).await.unwrap();
    running.input.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 4096]);
    loop {
        match running.output.read(&mut buffer).await {
            Ok(n_read) if n_read > 0 => seen.extend_from_slice(&buffer[..n_read]),
            Ok(_) | Err(_) => break,
        }
    }
    (String::from_utf8_lossy(&seen).into_owned(), running.exit.wait().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_only_busybox_gets_a_user_and_reports_that_tmux_is_missing() {
    let test = TestDocker::start().await;
    let made = test.shed_of("a", "shed-test-busybox:latest").await;
    assert_eq!((made.status, made.link.tmux), (ShedStatus::Running, None));
    assert_eq!(
        test.sh("a", "id -u; whoami; pwd; echo ~; touch f ~/f; stat -c %U f").await,
        "1000\ndev\n/workspace\n/home/dev\ndev\n"
    );
    assert_eq!(test.root("a", "id -u").await, "0\n");
    let (seen, exit) = console(&test, "stty size; exit 3\r").await;
    assert!(seen.contains("24 80"), "{seen}");
    assert_eq!(exit, Some(Exit::Code(3)));
    let refused =
        test.app.sessions().create(&test.admin, &shed("a"), new_session_request("work", &[])).await;
    assert_eq!(problem(refused).code, Code::TmuxNotAvailable);
    let list = test.app.sessions().list(&test.admin, None).unwrap();
    assert_eq!(list.warnings[0].code, Code::TmuxNotAvailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_another_name_for_uid_1000_keeps_it() {
    let test = TestDocker::start().await;
    test.shed_of("a", "shed-test-notmux:latest").await;
    assert_eq!(
        test.sh("a", "whoami; echo ~; echo kept > ~/f; stat -c %U ~").await,
        "node\n/home/node\nnode\n"
    );
    let homes = test.field(
        "a",
        "{{range .Mounts}}{{if eq .Destination \"/home/node\"}}{{.Name}}{{end}}{{end}}",
    );
    assert_eq!(homes, format!("{}-home", test.container("a")));
    let (seen, exit) = console(&test, "exit 0\r").await;
    assert_eq!(exit, Some(Exit::Code(0)), "{seen}");
    let refused =
        test.app.sessions().create(&test.admin, &shed("a"), new_session_request("work", &[])).await;
    let refused = problem(refused);
    assert!(refused.hint.unwrap().contains("apt-get install -y tmux"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_reported_quickly_and_a_retry_with_another_works() {
    let test = TestDocker::start().await;
    let start = Instant::now();
    let image = Some("no-such-image-anywhere:1".to_owned());
    let request = CreateShed { name: "a".to_owned(), image, ..CreateShed::default() };
    let missing = problem(test.create(request).await);
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    assert_eq!(missing.code, Code::ImageNotFound);
    assert!(missing.detail.contains("no-such-image-anywhere:1"), "{}", missing.detail);
    let failed = test.app.sheds().get(&test.admin, &shed("a")).unwrap();
    assert_eq!(
        (failed.status, failed.reason_code),
        (ShedStatus::Failed, Some(Code::ImageNotFound))
    );
    let image = Some("shed-test-busybox:latest".to_owned());
    let retry = CreateShed { name: "a".to_owned(), image, retry: true, ..CreateShed::default() };
    assert_eq!(test.create(retry).await.unwrap().status, ShedStatus::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_name_that_is_a_path_of_the_engines_api_is_refused() {
    let test = TestDocker::start().await;
    test.shed_of("a", "shed-test-busybox:latest").await;
    let image = Some(format!("a/../../containers/{}", test.container("a")));
    let refused = test.app.sheds().rebuild(&test.admin, &shed("a"), RebuildShed { image }).await;
    assert_eq!(problem(refused).code, Code::ImageNotFound);
    assert_eq!(test.sh("a", "echo here").await, "here\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_command_user_healthcheck_and_labels_are_ignored() {
    let test = TestDocker::start().await;
    // Made without a builder: a container's settings and its label become the image's.
    let (base, image) = (test.container("base"), format!("{}-odd:latest", test.options.prefix));
    let run = test.run_label();
    docker(&["create", "--name", &base, "--label", &run, "shed-test-busybox:latest", "true"]);
    docker(&[
        "commit",
        "--change",
        "USER 1234",
        "--change",
        "WORKDIR /odd",
        "--change",
        "ENV FOO=bar SHED_NAME=liar",
        "--change",
        "ENTRYPOINT [\"/bin/false\"]",
        "--change",
        "VOLUME /anonymous",
        "--change",
        "LABEL shed.repo=https://evil.example/x shed.env=FOO shed.server=evil",
        "--change",
        "HEALTHCHECK --interval=1s CMD false",
        &base,
        &image,
    ]);
    let made = test.shed_of("a", &image).await;
    assert_eq!((made.status, made.repo), (ShedStatus::Running, None));
    assert_eq!(
        test.sh("a", "whoami; echo $FOO $SHED_NAME; ls -d /odd /anonymous").await,
        "dev\nbar a\n/anonymous\n/odd\n"
    );
    assert_eq!(test.field("a", "{{.Config.StopSignal}} {{.State.Health}}"), "SIGTERM <nil>");
    let anonymous = test.field(
        "a",
        "{{range .Mounts}}{{if eq .Destination \"/anonymous\"}}{{.Name}}{{end}}{{end}}",
    );
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::Everything).await.unwrap();
    let volumes = docker(&["volume", "ls", "-q"]);
    assert!(!volumes.contains(&anonymous), "an anonymous volume was left behind");
}
