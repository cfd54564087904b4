//! More than one server: added, listed, asked at once, over unix sockets and ssh.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use shed_api::Scope;
use shed_api::access::{NewKey, NewToken};
use shed_http::{Http, Listen, Listener};
use shed_ssh::{HostKey, SshServer};
use shed_testing::{Terminal, TestApp};
use tokio::process::Command;

use crate::support::{Desk, Said, ended, serve, started};

/// A second server, with an SSH door.
struct Remote {
    test: TestApp,
    address: String,
    fingerprint: String,
}

impl Remote {
    /// With a running shed `a`, that knows the desk's key.
    async fn open(desk: &Desk) -> Self {
        let test = TestApp::start().await;
        test.shed("a").await;
        let host_key = HostKey::load_or_create(&test.dir().join("host_key")).unwrap();
        let api = Arc::new(OnceLock::<Http>::new());
        let pipe: shed_ssh::ApiPipe = {
            let api = Arc::clone(&api);
            Arc::new(move |person, stream| {
                let http = api.get().unwrap().clone();
                tokio::spawn(async move { http.serve_person(person, stream).await });
            })
        };
        let options = shed_ssh::Options { api: Some(pipe), ..Default::default() };
        let mut ssh = SshServer::new(test.app.clone(), &host_key, options);
        let port = ssh.bind("127.0.0.1:0".parse().unwrap()).await.unwrap().port();
        let options = shed_http::Options { ssh_port: Some(port), ..Default::default() };
        api.get_or_init(|| Http::new(test.app.clone(), options));
        tokio::spawn(ssh.run());
        let public_key = std::fs::read_to_string(desk.path("key.pub")).unwrap();
        let key =
            NewKey { name: "ann".to_owned(), public_key, scope: Scope::Drive, sheds: Vec::new() };
        test.app.credentials().add_key(&test.admin, key).await.unwrap();
        let address = format!("ssh://127.0.0.1:{port}");
        Self { test, address, fingerprint: host_key.fingerprint() }
    }
}

/// A desk with a key, and an `ssh` that is this machine's with no configuration but the desk's.
async fn desk() -> Desk {
    let desk = Desk::new().await;
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(desk.path("key"));
    ended(started(keygen)).await.ok();
    let config =
        format!("Host *\nIdentityFile {}\nIdentitiesOnly yes\n", desk.path("key").display());
    std::fs::write(desk.path("ssh_config"), config).unwrap();
    std::fs::create_dir(desk.path("bin")).unwrap();
    let real = which("ssh");
    let script =
        format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", real, desk.path("ssh_config").display());
    std::fs::write(desk.path("bin/ssh"), script).unwrap();
    std::fs::set_permissions(desk.path("bin/ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    desk
}

fn which(program: &str) -> String {
    let path = std::env::var("PATH").unwrap();
    let found = path.split(':').map(|dir| format!("{dir}/{program}"));
    found.into_iter().find(|path| Path::new(path).exists()).unwrap()
}

fn shed(desk: &Desk, words: &[&str]) -> Command {
    let mut command = desk.shed(words);
    let path = format!("{}:{}", desk.path("bin").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path);
    command
}

async fn run(desk: &Desk, words: &[&str]) -> Said {
    ended(started(shed(desk, words))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_added_over_ssh_when_its_fingerprint_is_right() {
    let desk = desk().await;
    let remote = Remote::open(&desk).await;
    let (address, fingerprint) = (remote.address.as_str(), remote.fingerprint.as_str());
    // Nobody to ask: nothing is pinned, and the words to paste work.
    let unasked = run(&desk, &["server", "add", address]).await;
    let words = unasked.fails(2);
    assert!(words.contains(fingerprint), "{words}");
    let hint =
        words.lines().find_map(|line| line.trim().strip_prefix("try: shed ")).unwrap().to_owned();
    assert_eq!(hint, format!("server add {address} --fingerprint {fingerprint}"));
    let wrong = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let refused = run(&desk, &["server", "add", address, "--fingerprint", wrong]).await;
    assert!(refused.fails(6).contains(fingerprint), "{refused:?}");
    let hosts = std::fs::read_to_string(desk.path("config/known_hosts")).unwrap_or_default();
    assert_eq!(hosts, "");

    let mut no = Terminal::start(shed(&desk, &["server", "add", address]), 80, 24);
    no.until(fingerprint).await;
    no.until("is it the same? [y/N]").await;
    no.keys("n\r").await;
    assert_eq!(no.end().await.1, Some(1));
    let mut yes =
        Terminal::start(shed(&desk, &["server", "add", address, "--name", "box"]), 80, 24);
    yes.until("[y/N]").await;
    yes.keys("y\r").await;
    let (seen, status) = yes.end().await;
    assert!(status == Some(0) && seen.contains("server box was added"), "{status:?} {seen}");
    let again: Vec<&str> = hint.split(' ').collect();
    let again = run(&desk, &again).await;
    again.ok();
    assert!(
        again.errors.contains("server test was added") && again.errors.contains("scope is drive")
    );

    let list = run(&desk, &["server", "list", "--json"]).await.json();
    let rows = list["servers"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["local", "box", "test"]);
    assert!(rows.iter().all(|row| row["online"] == true), "{list}");
    assert_eq!(rows[1]["default"], true);

    // Everything goes over it: one that is added first is the one that is meant.
    assert_eq!(run(&desk, &["list", "--json"]).await.json()["sheds"][0]["server"], "box");
    let said = run(&desk, &["exec", "a", "sh", "-c", "pwd; exit 7"]).await;
    said.fails(7);
    let workspace = remote.test.engine.workspace("a");
    assert_eq!(said.out, format!("{}\n", workspace.display()).into_bytes());
    assert!(run(&desk, &["exec", "--root", "a", "true"]).await.fails(6).contains("admin"));
    let mut attach = Terminal::start(shed(&desk, &["-s", "test", "attach", "a"]), 80, 24);
    attach.until("[default]").await;
    attach.keys("\x02d").await;
    assert_eq!(attach.end().await.1, Some(0));
    let ping = run(&desk, &["server", "ping", "box"]).await;
    assert!(ping.ok().contains("online, ") && ping.ok().contains(" ms"), "{ping:?}");

    // Plain ssh and editors get there as well.
    run(&desk, &["-s", "box", "ssh-config", "--install", "--file", "for-editors"]).await.ok();
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(desk.path("for-editors")).arg("-i").arg(desk.path("key"));
    ssh.args(["-o", "BatchMode=yes", "shed-a.box", "echo hello; exit 9"]);
    let said = ended(started(ssh)).await;
    said.fails(9);
    assert_eq!(said.out, b"hello\n");

    // A host that has another key now is not talked to.
    let hosts = std::fs::read_to_string(desk.path("config/known_hosts")).unwrap();
    let other = std::fs::read_to_string(desk.path("key.pub")).unwrap();
    let key = hosts.split_whitespace().nth(2).unwrap();
    let forged = hosts.replace(key, other.split_whitespace().nth(1).unwrap());
    std::fs::write(desk.path("config/known_hosts"), forged).unwrap();
    // No connection that was made before.
    std::fs::rename(desk.path("config/ssh"), desk.path("config/old")).unwrap();
    assert!(run(&desk, &["list"]).await.fails(5).contains("Host key verification failed"));

    run(&desk, &["server", "remove", "box"]).await.ok();
    run(&desk, &["server", "remove", "test"]).await.ok();
    run(&desk, &["server", "remove", "test"]).await.fails(3);
    assert_eq!(std::fs::read_to_string(desk.path("config/known_hosts")).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_servers_are_asked_and_one_that_is_gone_is_a_row() {
    let desk = desk().await;
    let remote = Remote::open(&desk).await;
    let gone = TestApp::start().await;
    let socket = desk.path("gone.sock");
    let serving = serve(&gone, &socket, shed_http::Options::default()).await;
    let gone_address = format!("unix:{}", socket.display());
    run(&desk, &["server", "add", &gone_address, "--name", "gone"]).await.ok();
    run(
        &desk,
        &["server", "add", &remote.address, "-n", "box", "--fingerprint", &remote.fingerprint],
    )
    .await
    .ok();
    run(&desk, &["server", "set-default", "local"]).await.ok();
    run(&desk, &["list", "--all", "--strict"]).await.ok();
    gone.app.close().await;
    serving.await.unwrap();
    desk.run(&["sessions", "new", "a", "here"]).await.ok();
    run(&desk, &["-s", "box", "sessions", "new", "a", "there"]).await.ok();

    let list = run(&desk, &["list", "-a"]).await;
    let rows: Vec<Vec<&str>> =
        list.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["SHED", "SERVER", "STATUS"]);
    assert_eq!(rows[1][..3], ["a", "local", "running"]);
    assert_eq!(rows[2][..3], ["a", "box", "running"]);
    assert_eq!(rows[3][..3], ["-", "gone", "unreachable:"]);
    assert!(list.ok().contains("is shed-server running?"), "{list:?}");
    let strict = run(&desk, &["list", "-a", "--strict", "--json"]).await;
    strict.fails(5);
    let json: serde_json::Value = serde_json::from_slice(&strict.out).unwrap();
    assert_eq!(json["sheds"].as_array().unwrap().len(), 2);
    assert_eq!(json["unreachable"][0]["server"], "gone");

    let sessions = run(&desk, &["sessions", "--all"]).await;
    let rows: Vec<Vec<&str>> =
        sessions.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["SHED", "SERVER", "SESSION", "STATUS", "CREATED", "WINDOWS"]);
    assert_eq!(rows[1][..4], ["-", "gone", "-", "unreachable:"]);
    assert_eq!(rows[2][..3], ["a", "box", "there"]);
    assert_eq!(rows[3][..3], ["a", "local", "here"]);
    run(&desk, &["sessions", "--all", "--strict"]).await.fails(5);
    run(&desk, &["server", "ping"]).await.fails(5);
    run(&desk, &["server", "ping", "local", "box"]).await.ok();
    run(&desk, &["server", "ping", "nobody"]).await.fails(3);
    let doctor = run(&desk, &["doctor"]).await;
    doctor.fails(1);
    let report = str::from_utf8(&doctor.out).unwrap();
    assert!(
        report.contains("FAIL  server gone") && report.contains("pass  server box"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_named_chosen_and_forgotten() {
    let desk = Desk::new().await;
    let address = desk.address();
    for bad in ["local", "", "-x", "a b", "a/b"] {
        desk.run(&["server", "add", &address, &format!("--name={bad}")]).await.fails(2);
    }
    desk.run(&["server", "add", "https://127.0.0.1:1"]).await.fails(2);
    desk.run(&["server", "add", "unix:/nowhere.sock"]).await.fails(5);
    desk.run(&["server", "add", "ssh://-oProxyCommand=id"]).await.fails(2);
    desk.run(&["server", "add", &address, "-n", "one"]).await.ok();
    // The same again is no harm, another one of the name is.
    desk.run(&["server", "add", &address, "-n", "one"]).await.ok();
    let other = TestApp::start().await;
    let socket = desk.path("other.sock");
    serve(&other, &socket, shed_http::Options::default()).await;
    let other_address = format!("unix:{}", socket.display());
    let taken = desk.run(&["server", "add", &other_address, "-n", "one"]).await;
    assert!(taken.fails(4).contains("--name OTHER"), "{taken:?}");

    // Two clients at once lose nothing.
    let adding = (0..6).map(|n| {
        let (desk, address) = (&desk, &other_address);
        async move { desk.run(&["server", "add", address, "-n", &format!("s{n}")]).await }
    });
    for added in futures_util::future::join_all(adding).await {
        added.ok();
    }
    let list = desk.run(&["server", "list", "--json"]).await.json();
    assert_eq!(list["servers"].as_array().unwrap().len(), 8);

    desk.run(&["server", "set-default", "nobody"]).await.fails(3);
    desk.run(&["server", "set-default", "s3"]).await.ok();
    desk.run(&["show", "a"]).await.fails(3);
    desk.run(&["-s", "one", "show", "a"]).await.ok();
    let list = desk.run(&["server", "list"]).await;
    let row = list.ok().lines().find(|line| line.starts_with("s3 ")).unwrap();
    assert!(row.ends_with('*'), "{row}");
    // The one that is meant is gone: this machine's own is meant.
    desk.run(&["server", "remove", "s3"]).await.ok();
    desk.run(&["show", "a"]).await.ok();
    let mode = std::fs::metadata(desk.path("config/config.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // What cannot be read is left alone.
    std::fs::write(desk.path("config/config.toml"), "[servers.a]\nadress = 'x'\n").unwrap();
    assert!(desk.run(&["list"]).await.fails(2).contains("adress"));
    desk.run(&["server", "remove", "a"]).await.fails(2);
    assert!(std::fs::read_to_string(desk.path("config/config.toml")).unwrap().contains("adress"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_holds_nobody_up() {
    let desk = Desk::new().await;
    std::fs::create_dir(desk.path("config")).unwrap();
    let mute = desk.path("mute.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&mute).unwrap();
    let config = format!("[servers.mute]\naddress = \"unix:{}\"\n", mute.display());
    std::fs::write(desk.path("config/config.toml"), config).unwrap();
    let (list, sessions) =
        tokio::join!(desk.run(&["list", "-a", "--strict"]), desk.run(&["sessions", "-a"]));
    list.fails(5);
    let text = str::from_utf8(&list.out).unwrap();
    assert!(text.contains("mute did not answer in 5 seconds"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("a ") && line.contains("local")), "{text}");
    assert!(sessions.ok().contains("mute did not answer in 5 seconds"), "{sessions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_kept_for_its_server() {
    let desk = Desk::new().await;
    let listener = Listener::bind(Listen::Tcp("127.0.0.1:0".parse().unwrap(), None)).await.unwrap();
    let address = format!("http://{}", listener.address().unwrap());
    tokio::spawn(Http::new(desk.test.app.clone(), shed_http::Options::default()).serve(listener));
    let new = NewToken {
        name: "ann".to_owned(),
        scope: Scope::Drive,
        sheds: Vec::new(),
        expires_in_seconds: None,
    };
    let issued = desk.test.app.credentials().add_token(&desk.test.admin, new).await.unwrap();
    let add = ["server", "add", &address, "-n", "web", "--token-file", "-"];
    desk.run_with(&add, b"shed_nonsense\n").await.fails(6);
    desk.run_with(&add, b"\n").await.fails(2);
    let listed = desk.run(&["server", "list", "--json"]).await.json();
    assert_eq!(listed["servers"].as_array().unwrap().len(), 1);
    desk.run_with(&add, format!("{}\n", issued.token).as_bytes()).await.ok();
    let listed = desk.run(&["server", "list", "--json"]).await.json();
    assert!(!listed.to_string().contains(&issued.token), "{listed}");
    assert_eq!(desk.run(&["-s", "web", "exec", "a", "echo", "hi"]).await.ok(), "hi\n");
    desk.test.app.credentials().remove_token(&desk.test.admin, &issued.id).await.unwrap();
    desk.run(&["-s", "web", "list"]).await.fails(6);
}
