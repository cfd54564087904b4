//! The image's environment, whichever way somebody comes in: what only a real image has.

use std::collections::BTreeMap;

use shed_api::shed::CreateShed;
use shed_api::stream::{AttachOpen, ConsoleOpen, Tty};
use shed_core::{Attach, Exec, ExecKind, Stream};
use shed_testing::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{TestDocker, docker, shed};

/// Prints the container's tool, its variable, and the charset of the locale.
const LINE: &str = "echo \"[$(command -v the-tool)|$GOPATH|$OF_CREATOR|$(locale charmap)]\"";
/// What it prints.
const EXPECTED: &str = "[/opt/tool/bin/the-tool|/go|yes|UTF-8]";

fn tty() -> Tty {
    Tty { cols: 200, rows: 24, term: "xterm-256color".to_owned(), ..Tty::default() }
}

/// The locale of a laptop, which the image does not have.
fn of_laptop() -> BTreeMap<String, String> {
    BTreeMap::from([("LANG".to_owned(), "en_US.UTF-8".to_owned())])
}

/// An image with a `PATH` of its own, made without a builder.
fn image_with_path(test: &TestDocker) -> String {
    let (base, image) = (test.container("base"), format!("{}-path:latest", test.options.prefix));
    let run = test.run_label();
    docker(&["create", "--name", &base, "--label", &run, "shed-base:latest", "true"]);
    let path = "ENV PATH=/opt/tool/bin:/usr/local/bin:/usr/bin:/bin GOPATH=/go";
    docker(&["commit", "--change", path, &base, &image]);
    image
}

async fn shows(mut running: Stream, line: Option<&str>) {
    if let Some(line) = line {
        let input = running.input.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
    wait::text(EXPECTED, async || {
        let mut buffer = vec![0; 4096];
        let n_read = running.output.read(&mut buffer).await.unwrap();
        buffer.truncate(n_read);
        (n_read > 0).then_some(buffer)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_path_and_a_locale_it_has_hold_for_all_ways_in() {
    let test = TestDocker::start().await;
    let image = Some(image_with_path(&test));
    let env = BTreeMap::from([("OF_CREATOR".to_owned(), "yes".to_owned())]);
    let request = CreateShed { name: "a".to_owned(), image, env, ..CreateShed::default() };
    test.create(request).await.unwrap();
    test.root("a", "mkdir -p /opt/tool/bin && cp /bin/true /opt/tool/bin/the-tool").await;
    let (streams, admin, name) = (test.app.streams(), &test.admin, shed("a"));
    assert_eq!(test.sh("a", LINE).await.trim(), EXPECTED);
    let open = ConsoleOpen { tty: tty(), root: false, env: of_laptop() };
    shows(streams.console(admin, &name, open).await.unwrap(), Some(LINE)).await;
    let open = AttachOpen {
        tty: tty(),
        new: false,
        existing: false,
        read_only: false,
        detach_others: false,
        env: of_laptop(),
    };
    let attach = Attach { open, connection: Vec::new() };
    let session = "work".parse().unwrap();
    shows(streams.attach(admin, &name, &session, attach).await.unwrap(), Some(LINE)).await;
    for terminal in [None, Some(tty())] {
        let exec =
            |kind| Exec { kind, env: of_laptop().into_iter().collect(), tty: terminal.clone() };
        let shell = streams.ssh(admin, &name, exec(ExecKind::Shell)).await.unwrap();
        shows(shell, Some(LINE)).await;
        let line = ExecKind::Line(LINE.as_bytes().to_vec());
        shows(streams.ssh(admin, &name, exec(line)).await.unwrap(), None).await;
    }
    // Root's is fixed.
    let of_root = test.root("a", "echo \"$PATH|$OF_CREATOR\"; command -v the-tool || true").await;
    assert_eq!(of_root, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piped_command_can_open_its_standard_streams_by_name() {
    let test = TestDocker::start().await;
    test.shed_of("a", "shed-test-busybox:latest").await;
    let line = "echo out > /dev/stdout; { echo err > /dev/stderr; } 2>&1; cat /dev/stdin; id -u";
    assert_eq!(test.sh("a", line).await, "out\nerr\n1000\n");
}
