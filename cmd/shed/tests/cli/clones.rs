//! Sheds with a repository in them.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use shed_testing::eventually;
use tokio::io::AsyncWriteExt as _;

use crate::support::{Desk, ended, signal, started, until};

/// Runs git somewhere, as nobody in particular.
fn git(dir: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args([
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@example.com",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A bare repository with branches `main` and `dev`; its URL.
fn repository(desk: &Desk, name: &str) -> String {
    let work = desk.path("work");
    std::fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q"]);
    std::fs::write(work.join("README"), "main\n").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "one"]);
    git(&work, &["checkout", "-q", "-b", "dev"]);
    std::fs::write(work.join("README"), "dev\n").unwrap();
    git(&work, &["commit", "-q", "-a", "-m", "two"]);
    git(&work, &["checkout", "-q", "main"]);
    let bare = desk.path(name);
    git(&work, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    format!("file://{}", bare.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_cloned_with_ones_own_name() {
    let desk = Desk::empty().await;
    let url = repository(&desk, "repo.git");
    let config = "[user]\n\tname = Ann Example\n\temail = ann@example.com\n";
    std::fs::write(desk.path("home/.gitconfig"), config).unwrap();
    desk.run(&["create", "web", "--repo", &url]).await.ok();
    let shed = desk.run(&["show", "web", "--json"]).await.json();
    assert_eq!(shed["repo"], url);
    let line =
        "cat README; git config user.name; git config user.email; git rev-parse --abbrev-ref HEAD";
    let said = desk.run(&["exec", "web", "sh", "-c", line]).await;
    assert_eq!(said.ok(), "main\nAnn Example\nann@example.com\nmain\n");
    desk.run(&["create", "dev", "--repo", &url, "--branch", "dev"]).await.ok();
    assert_eq!(desk.run(&["exec", "dev", "cat", "README"]).await.ok(), "dev\n");
    assert!(desk.run(&["show", "dev"]).await.ok().contains(&format!("{url} (dev)")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_failed_says_how_to_try_again() {
    let desk = Desk::empty().await;
    let url = format!("file://{}", desk.path("later.git").display());
    let failed = desk.run(&["create", "web", "--repo", &url]).await;
    let words = failed.fails(1);
    assert!(words.contains("cannot clone") && words.contains("later.git"), "{words}");
    assert!(words.contains("try: shed create web --retry"), "{words}");
    let shed = desk.run(&["show", "web", "--json"]).await.json();
    assert_eq!(shed["status"], "failed");
    assert!(shed["reason"].as_str().unwrap().contains("cannot clone"), "{shed}");
    // It can be entered, and is as it was before.
    assert_eq!(desk.run(&["exec", "web", "ls", "-A"]).await.ok(), "");
    desk.run(&["create", "web", "--repo", &url]).await.fails(4);
    desk.run(&["create", "web", "--retry"]).await.fails(1);

    repository(&desk, "later.git");
    desk.run(&["create", "web", "--retry"]).await.ok();
    assert_eq!(desk.run(&["exec", "web", "cat", "README"]).await.ok(), "main\n");
    assert_eq!(desk.run(&["show", "web", "--json"]).await.json()["status"], "running");
    desk.run(&["create", "web", "--retry"]).await.fails(4);
    desk.run(&["create", "none", "--retry"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_hangs_is_called_off() {
    let desk = Desk::empty().await;
    // Somebody who takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("git://{}/repo", silent.local_addr().unwrap());
    let mut create = desk.terminal(&["create", "web", "--repo", &url]);
    create.until(&format!("web: cloning {url}")).await;
    let (held, _) = silent.accept().await.unwrap();
    // As a person does it.
    create.keys("\x03").await;
    let (seen, status) = create.end().await;
    assert!(status == Some(130) && seen.contains("calling it off"), "{status:?} {seen}");
    desk.run(&["show", "web"]).await.fails(3);
    drop(held);

    // Hanging up calls nothing off: what git says at last is the shed's reason.
    let child = started(desk.shed(&["create", "web", "--repo", &url]));
    let (held, _) = silent.accept().await.unwrap();
    signal(&child, Signal::KILL);
    ended(child).await.fails(137);
    assert_eq!(desk.run(&["show", "web", "--json"]).await.json()["status"], "creating");
    drop(held);
    eventually("the end of the clone", async || {
        let shed = desk.run(&["show", "web", "--json"]).await.json();
        (shed["status"] == "failed").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_is_followed_over_a_restart_of_the_server() {
    let mut desk = Desk::empty().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("git://{}/repo", silent.local_addr().unwrap());
    let create = started(desk.shed(&["create", "web", "--repo", &url]));
    let (first, _) = silent.accept().await.unwrap();
    desk.close().await;
    desk.reopen().await;
    // The new server begins the clone again.
    let (second, _) = silent.accept().await.unwrap();
    drop((first, second));
    let said = ended(create).await;
    assert!(said.fails(1).contains("try: shed create web --retry"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_url_is_shown_nowhere() {
    let desk = Desk::empty().await;
    let url = "http://ann:hunter2@127.0.0.1:1/repo.git";
    let failed = desk.run(&["create", "web", "--repo", url]).await;
    let mut said = failed.fails(1).to_owned();
    for words in [&["show", "web", "--json"][..], &["list"], &["logs", "web"]] {
        said += desk.run(words).await.ok();
    }
    assert!(said.contains("http://127.0.0.1:1/repo.git") && !said.contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_lent_to_the_clone_that_asks_and_kept_nowhere() {
    let desk = Desk::empty().await;
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = host.local_addr().unwrap();
    let config =
        format!("[credential]\n\thelper = store --file={}\n", desk.path("store").display());
    std::fs::write(desk.path("home/.gitconfig"), config).unwrap();
    std::fs::write(desk.path("store"), format!("http://ann:hunter2@{address}\n")).unwrap();
    let url = format!("http://{address}/repo.git");
    let create = started(desk.shed(&["create", "web", "--repo", &url]));
    // Asks who it is, hears it, and has no such repository.
    let seen = async {
        loop {
            let (mut socket, _) = host.accept().await.unwrap();
            let request = until(&mut socket, "\r\n\r\n").await;
            let word = request.lines().find_map(|line| line.strip_prefix("Authorization: "));
            let status = if word.is_some() { "404 Not Found" } else { "401 Unauthorized" };
            let answer = format!(
                "HTTP/1.1 {status}\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
            if let Some(word) = word {
                return word.to_owned();
            }
        }
    };
    let (word, said) = tokio::join!(seen, ended(create));
    // ann:hunter2
    assert_eq!(word, "Basic YW5uOmh1bnRlcjI=");
    assert!(said.fails(1).contains("not found"), "{said:?}");
    let kept = Command::new("grep").args(["-rl", "hunter2"]).arg(desk.test.dir()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
}
