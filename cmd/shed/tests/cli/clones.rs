//! `shed create --repo`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use shed_testing::eventually;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{LIMIT, TestEnv, ended, signal, started, until};

/// Runs git in a directory, with a fixed identity.
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
fn repository(env: &TestEnv, name: &str) -> String {
    let work = env.path("work");
    std::fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q"]);
    std::fs::write(work.join("README"), "main\n").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "one"]);
    git(&work, &["checkout", "-q", "-b", "dev"]);
    std::fs::write(work.join("README"), "dev\n").unwrap();
    git(&work, &["commit", "-q", "-a", "-m", "two"]);
    git(&work, &["checkout", "-q", "main"]);
    let bare = env.path(name);
    git(&work, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    format!("file://{}", bare.display())
}

/// Accepts the connection of a clone.
async fn accept(listener: &TcpListener, what: &str) -> (TcpStream, SocketAddr) {
    let accepted = timeout(LIMIT, listener.accept()).await;
    accepted.unwrap_or_else(|_| panic!("{what} does not connect")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_cloned_with_the_local_git_identity() {
    let env = TestEnv::empty().await;
    let url = repository(&env, "repo.git");
    let config = "[user]\n\tname = Ann Example\n\temail = ann@example.com\n";
    std::fs::write(env.path("home/.gitconfig"), config).unwrap();
    env.run(&["create", "web", "--repo", &url]).await.ok();
    let shed = env.run(&["show", "web", "--json"]).await.json();
    assert_eq!(shed["repo"], url);
    let line =
        "cat README; git config user.name; git config user.email; git rev-parse --abbrev-ref HEAD";
    let output = env.run(&["exec", "web", "sh", "-c", line]).await;
    assert_eq!(output.ok(), "main\nAnn Example\nann@example.com\nmain\n");
    env.run(&["create", "dev", "--repo", &url, "--branch", "dev"]).await.ok();
    assert_eq!(env.run(&["exec", "dev", "cat", "README"]).await.ok(), "dev\n");
    assert!(env.run(&["show", "dev"]).await.ok().contains(&format!("{url} (dev)")));
    // So do its worktrees.
    env.run(&["run", "dev", "-w", "-d", "--name", "fix", "--", "sleep", "1000"]).await.ok();
    let made = env.run(&["sessions", "show", "dev", "fix", "--json"]).await.json();
    let directory = made["directory"].as_str().unwrap();
    assert_eq!(env.run(&["exec", "-w", directory, "dev", "cat", "README"]).await.ok(), "dev\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_whose_head_names_no_branch_says_why_nothing_is_there() {
    let env = TestEnv::empty().await;
    let url = repository(&env, "repo.git");
    git(&env.path("repo.git"), &["symbolic-ref", "HEAD", "refs/heads/gone"]);
    let made = env.run(&["create", "web", "--repo", &url]).await;
    assert_eq!(made.ok(), "web\n");
    let told =
        "HEAD of the repository names a branch that does not exist; its branches are dev, main";
    assert!(made.stderr.contains(told), "{made:?}");
    env.run(&["exec", "web", "git", "switch", "dev"]).await.ok();
    // An empty repository is as people made it.
    let empty = env.path("empty.git");
    std::fs::create_dir(&empty).unwrap();
    git(&empty, &["init", "-q", "--bare"]);
    let made = env.run(&["create", "new", "--repo", &format!("file://{}", empty.display())]).await;
    assert!(made.status == 0 && !made.stderr.contains("checked out"), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_has_its_submodules_and_names_those_that_it_lacks() {
    let env = TestEnv::empty().await;
    let inner = repository(&env, "inner.git");
    std::fs::rename(env.path("work"), env.path("inner")).unwrap();
    let outer = repository(&env, "outer.git");
    let work = env.path("work");
    for path in ["a-gone", "there"] {
        let allow = ["-c", "protocol.file.allow=always"];
        git(&work, &[&allow[..], &["submodule", "-q", "add", &inner, path]].concat());
    }
    git(&work, &["config", "-f", ".gitmodules", "submodule.a-gone.url", "file:///nonexistent"]);
    git(&work, &["commit", "-q", "-a", "-m", "submodules"]);
    git(&work, &["push", "-q", env.path("outer.git").to_str().unwrap(), "main"]);
    // git takes submodules from directories only if it is told to.
    let made = env
        .run(&[
            "create",
            "web",
            "-e",
            "GIT_CONFIG_COUNT=1",
            "-e",
            "GIT_CONFIG_KEY_0=protocol.file.allow",
            "-e",
            "GIT_CONFIG_VALUE_0=always",
            "--repo",
            &outer,
        ])
        .await;
    let stderr = &made.stderr;
    assert!(stderr.contains("submodule \"a-gone\" could not be fetched"), "{stderr}");
    assert!(stderr.contains("git submodule update --init --recursive"), "{stderr}");
    assert_eq!(env.run(&["exec", "web", "cat", "there/README"]).await.ok(), "main\n");
    let shed = env.run(&["show", "web", "--json"]).await.json();
    assert_eq!((&shed["status"], shed["notes"].as_array().unwrap().len()), (&"running".into(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_clone_can_be_retried() {
    let env = TestEnv::empty().await;
    let url = format!("file://{}", env.path("later.git").display());
    let failed = env.run(&["create", "web", "--repo", &url]).await;
    let stderr = failed.fails(1);
    assert!(stderr.contains("later.git"), "{stderr}");
    assert!(stderr.contains("try: shed create web --retry"), "{stderr}");
    let shed = env.run(&["show", "web", "--json"]).await.json();
    assert_eq!(shed["status"], "failed");
    assert!(shed["reason"].as_str().unwrap().contains("later.git"), "{shed}");
    // The shed is usable, and the failed clone has left no files.
    assert_eq!(env.run(&["exec", "web", "ls", "-A"]).await.ok(), "");
    env.run(&["create", "web", "--repo", &url]).await.fails(4);
    env.run(&["create", "web", "--retry"]).await.fails(1);

    repository(&env, "later.git");
    env.run(&["create", "web", "--retry"]).await.ok();
    assert_eq!(env.run(&["exec", "web", "cat", "README"]).await.ok(), "main\n");
    assert_eq!(env.run(&["show", "web", "--json"]).await.json()["status"], "running");
    env.run(&["create", "web", "--retry"]).await.fails(4);
    env.run(&["create", "none", "--retry"]).await.fails(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_clone_can_be_cancelled() {
    let env = TestEnv::empty().await;
    // Accepts connections and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("git://{}/repo", silent.local_addr().unwrap());
    let mut create = env.terminal(&["create", "web", "--repo", &url]);
    create.until(&url).await;
    let (held, _) = accept(&silent, "the clone").await;
    create.keys("\x03").await;
    let (seen, status) = create.end().await;
    assert!(status == Some(130) && seen.contains("cancelling"), "{status:?} {seen}");
    env.run(&["show", "web"]).await.fails(3);
    drop(held);

    // Killing the client cancels nothing.
    let child = started(env.shed(&["create", "web", "--repo", &url]));
    let (held, _) = accept(&silent, "the clone of the killed client").await;
    signal(&child, Signal::KILL);
    ended(child).await.fails(137);
    assert_eq!(env.run(&["show", "web", "--json"]).await.json()["status"], "creating");
    drop(held);
    eventually("the end of the clone", async || {
        let shed = env.run(&["show", "web", "--json"]).await.json();
        (shed["status"] == "failed").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn create_follows_a_creation_across_a_restart_of_the_server() {
    let mut env = TestEnv::empty().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("git://{}/repo", silent.local_addr().unwrap());
    let create = started(env.shed(&["create", "web", "--repo", &url]));
    let (first, _) = accept(&silent, "the first clone").await;
    env.close().await;
    env.reopen().await;
    // The restarted server clones again.
    let (second, _) = accept(&silent, "the clone after the restart").await;
    drop((first, second));
    let output = ended(create).await;
    assert!(output.fails(1).contains("try: shed create web --retry"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_url_is_never_printed() {
    let env = TestEnv::empty().await;
    let url = "http://ann:hunter2@127.0.0.1:1/repo.git";
    let failed = env.run(&["create", "web", "--repo", url]).await;
    let mut output = failed.fails(1).to_owned();
    for words in [&["show", "web", "--json"][..], &["list"], &["logs", "web"]] {
        output += env.run(words).await.ok();
    }
    assert!(
        output.contains("http://127.0.0.1:1/repo.git") && !output.contains("hunter2"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_forwarded_to_the_clone_and_not_stored() {
    let env = TestEnv::empty().await;
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = host.local_addr().unwrap();
    let config = format!("[credential]\n\thelper = store --file={}\n", env.path("store").display());
    std::fs::write(env.path("home/.gitconfig"), config).unwrap();
    std::fs::write(env.path("store"), format!("http://ann:hunter2@{address}\n")).unwrap();
    let url = format!("http://{address}/repo.git");
    let create = started(env.shed(&["create", "web", "--repo", &url]));
    // A git host that asks for credentials and then answers that the repository does not exist.
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
    let (word, output) = tokio::join!(seen, ended(create));
    // ann:hunter2
    assert_eq!(word, "Basic YW5uOmh1bnRlcjI=");
    assert!(output.fails(1).contains("not found"), "{output:?}");
    let kept = Command::new("grep").args(["-rl", "hunter2"]).arg(env.test.dir()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
}
