//! Several servers, over unix sockets, ssh and http.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use shed_api::Scope;
use shed_api::access::{NewKey, NewToken};
use shed_http::{Http, Listen, Listener};
use shed_ssh::{HostKey, SshServer};
use shed_testing::{Terminal, TestApp};
use tokio::process::Command;

use crate::support::{CommandOutput, TestEnv, ended, serve, started};

/// A second server, with an SSH listener.
struct Remote {
    test: TestApp,
    address: String,
    fingerprint: String,
}

impl Remote {
    /// A server with a running shed `a` that accepts the environment's key.
    async fn open(env: &TestEnv) -> Self {
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
        let public_key = std::fs::read_to_string(env.path("key.pub")).unwrap();
        let key =
            NewKey { name: "ann".to_owned(), public_key, scope: Scope::Drive, sheds: Vec::new() };
        test.app.access().add_key(&test.admin, key).await.unwrap();
        let address = format!("ssh://127.0.0.1:{port}");
        Self { test, address, fingerprint: host_key.fingerprint() }
    }
}

/// An environment with an ssh key, and an `ssh` that ignores the developer's configuration.
async fn env() -> TestEnv {
    let env = TestEnv::new().await;
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(env.path("key"));
    ended(started(keygen)).await.ok();
    let config =
        format!("Host *\nIdentityFile {}\nIdentitiesOnly yes\n", env.path("key").display());
    std::fs::write(env.path("ssh_config"), config).unwrap();
    std::fs::create_dir(env.path("bin")).unwrap();
    let real = which("ssh");
    let script =
        format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", real, env.path("ssh_config").display());
    std::fs::write(env.path("bin/ssh"), script).unwrap();
    std::fs::set_permissions(env.path("bin/ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    env
}

fn which(program: &str) -> String {
    let path = std::env::var("PATH").unwrap();
    let found = path.split(':').map(|dir| format!("{dir}/{program}"));
    found.into_iter().find(|path| Path::new(path).exists()).unwrap()
}

fn shed(env: &TestEnv, words: &[&str]) -> Command {
    let mut command = env.shed(words);
    let path = format!("{}:{}", env.path("bin").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path);
    command
}

async fn run(env: &TestEnv, words: &[&str]) -> CommandOutput {
    ended(started(shed(env, words))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_added_over_ssh_after_its_fingerprint_is_confirmed() {
    let env = env().await;
    let remote = Remote::open(&env).await;
    let (address, fingerprint) = (remote.address.as_str(), remote.fingerprint.as_str());
    // Without a terminal nothing is pinned, and the hint has the fingerprint.
    let unasked = run(&env, &["server", "add", address]).await;
    let stderr = unasked.fails(2);
    assert!(stderr.contains(fingerprint), "{stderr}");
    let hint =
        stderr.lines().find_map(|line| line.trim().strip_prefix("try: shed ")).unwrap().to_owned();
    assert_eq!(hint, format!("server add {address} --fingerprint {fingerprint}"));
    let wrong = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let refused = run(&env, &["server", "add", address, "--fingerprint", wrong]).await;
    assert!(refused.fails(6).contains(fingerprint), "{refused:?}");
    let hosts = std::fs::read_to_string(env.path("config/known_hosts")).unwrap_or_default();
    assert_eq!(hosts, "");

    let mut no = Terminal::start(shed(&env, &["server", "add", address]), 80, 24);
    no.until(fingerprint).await;
    no.until("[y/N]").await;
    no.keys("n\r").await;
    assert_eq!(no.end().await.1, Some(1));
    let mut yes = Terminal::start(shed(&env, &["server", "add", address, "--name", "box"]), 80, 24);
    yes.until("[y/N]").await;
    yes.keys("y\r").await;
    let (seen, status) = yes.end().await;
    assert!(status == Some(0) && seen.contains("server box was added"), "{status:?} {seen}");
    let again: Vec<&str> = hint.split(' ').collect();
    let again = run(&env, &again).await;
    again.ok();
    assert!(again.stderr.contains("server test was added") && again.stderr.contains("scope drive"));

    let list = run(&env, &["server", "list", "--json"]).await.json();
    let rows = list["servers"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["local", "box", "test"]);
    assert!(rows.iter().all(|row| row["online"] == true), "{list}");
    assert_eq!(rows[1]["default"], true);

    // The first added server is the default, and commands work over ssh.
    assert_eq!(run(&env, &["list", "--json"]).await.json()["sheds"][0]["server"], "box");
    let output = run(&env, &["exec", "a", "sh", "-c", "pwd; exit 7"]).await;
    output.fails(7);
    let workspace = remote.test.engine.workspace("a");
    assert_eq!(output.stdout, format!("{}\n", workspace.display()).into_bytes());
    assert!(run(&env, &["exec", "--root", "a", "true"]).await.fails(6).contains("admin"));
    // Otherwise tmux could take Ctrl-B D, typed fast, for a paste.
    let args = ["-s", "test", "exec", "a", "tmux", "set", "-g", "assume-paste-time", "0"];
    run(&env, &args).await.ok();
    let mut attach = Terminal::start(shed(&env, &["-s", "test", "attach", "a"]), 80, 24);
    attach.until("[default]").await;
    attach.keys("\x02d").await;
    assert_eq!(attach.end().await.1, Some(0));
    let ping = run(&env, &["server", "ping", "box"]).await;
    assert!(ping.ok().contains("online, ") && ping.ok().contains(" ms"), "{ping:?}");

    // The ssh configuration works with plain ssh.
    run(&env, &["-s", "box", "ssh-config", "--install", "--file", "for-editors"]).await.ok();
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(env.path("for-editors")).arg("-i").arg(env.path("key"));
    ssh.args(["-o", "BatchMode=yes", "shed-a.box", "echo hello; exit 9"]);
    let output = ended(started(ssh)).await;
    output.fails(9);
    assert_eq!(output.stdout, b"hello\n");

    // A changed host key is refused.
    let hosts = std::fs::read_to_string(env.path("config/known_hosts")).unwrap();
    let other = std::fs::read_to_string(env.path("key.pub")).unwrap();
    let key = hosts.split_whitespace().nth(2).unwrap();
    let forged = hosts.replace(key, other.split_whitespace().nth(1).unwrap());
    std::fs::write(env.path("config/known_hosts"), forged).unwrap();
    // Prevents reuse of a shared connection.
    std::fs::rename(env.path("config/ssh"), env.path("config/old")).unwrap();
    assert!(run(&env, &["list"]).await.fails(5).contains("Host key verification failed"));

    run(&env, &["server", "remove", "box"]).await.ok();
    run(&env, &["server", "remove", "test"]).await.ok();
    run(&env, &["server", "remove", "test"]).await.fails(3);
    assert_eq!(std::fs::read_to_string(env.path("config/known_hosts")).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_all_servers_include_unreachable_ones() {
    let env = env().await;
    let remote = Remote::open(&env).await;
    let gone = TestApp::start().await;
    let socket = env.path("gone.sock");
    let serving = serve(&gone, &socket, shed_http::Options::default()).await;
    let gone_address = format!("unix:{}", socket.display());
    run(&env, &["server", "add", &gone_address, "--name", "gone"]).await.ok();
    run(
        &env,
        &["server", "add", &remote.address, "-n", "box", "--fingerprint", &remote.fingerprint],
    )
    .await
    .ok();
    run(&env, &["server", "set-default", "local"]).await.ok();
    run(&env, &["list", "--all", "--strict"]).await.ok();
    gone.app.close().await;
    serving.await.unwrap();
    env.run(&["sessions", "new", "a", "here"]).await.ok();
    run(&env, &["-s", "box", "sessions", "new", "a", "there"]).await.ok();

    let list = run(&env, &["list", "-a"]).await;
    let rows: Vec<Vec<&str>> =
        list.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["SHED", "SERVER", "STATUS"]);
    assert_eq!(rows[1][..3], ["a", "local", "running"]);
    assert_eq!(rows[2][..3], ["a", "box", "running"]);
    assert_eq!(rows[3], ["-", "gone", "unreachable"]);
    // Why, below the table.
    assert!(rows[4].is_empty() && rows[5][0] == "gone:", "{list:?}");
    assert!(list.ok().contains("is shed-server running?"), "{list:?}");
    let strict = run(&env, &["list", "-a", "--strict", "--json"]).await;
    strict.fails(5);
    let json: serde_json::Value = serde_json::from_slice(&strict.stdout).unwrap();
    assert_eq!(json["sheds"].as_array().unwrap().len(), 2);
    assert_eq!(json["unreachable"][0]["server"], "gone");

    let sessions = run(&env, &["sessions", "--all"]).await;
    let rows: Vec<Vec<&str>> =
        sessions.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["SHED", "SERVER", "SESSION", "STATUS", "CREATED", "WINDOWS"]);
    assert_eq!(rows[1], ["-", "gone", "-", "unreachable"]);
    assert!(rows[4].is_empty() && rows[5][0] == "gone:", "{sessions:?}");
    assert_eq!(rows[2][..3], ["a", "box", "there"]);
    assert_eq!(rows[3][..3], ["a", "local", "here"]);
    run(&env, &["sessions", "--all", "--strict"]).await.fails(5);
    run(&env, &["server", "ping"]).await.fails(5);
    run(&env, &["server", "ping", "local", "box"]).await.ok();
    run(&env, &["server", "ping", "nobody"]).await.fails(3);
    let doctor = run(&env, &["doctor"]).await;
    doctor.fails(1);
    let report = str::from_utf8(&doctor.stdout).unwrap();
    assert!(
        report.contains("FAIL  server gone") && report.contains("pass  server box"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_added_selected_and_removed() {
    let env = TestEnv::new().await;
    let address = env.address();
    for bad in ["local", "", "-x", "a b", "a/b"] {
        env.run(&["server", "add", &address, &format!("--name={bad}")]).await.fails(2);
    }
    env.run(&["server", "add", "https://127.0.0.1:1"]).await.fails(2);
    env.run(&["server", "add", "unix:/nowhere.sock"]).await.fails(5);
    env.run(&["server", "add", "ssh://-oProxyCommand=id"]).await.fails(2);
    env.run(&["server", "add", &address, "-n", "one"]).await.ok();
    // Adding the same server again is harmless; another server of that name is a conflict.
    env.run(&["server", "add", &address, "-n", "one"]).await.ok();
    let other = TestApp::start().await;
    let socket = env.path("other.sock");
    serve(&other, &socket, shed_http::Options::default()).await;
    let other_address = format!("unix:{}", socket.display());
    let taken = env.run(&["server", "add", &other_address, "-n", "one"]).await;
    assert!(
        taken.fails(4).contains(&format!("shed server add {other_address} --name one-2")),
        "{taken:?}"
    );

    // Concurrent clients lose no change.
    let adding = (0..6).map(|n| {
        let (env, address) = (&env, &other_address);
        async move { env.run(&["server", "add", address, "-n", &format!("s{n}")]).await }
    });
    for added in futures_util::future::join_all(adding).await {
        added.ok();
    }
    let list = env.run(&["server", "list", "--json"]).await.json();
    assert_eq!(list["servers"].as_array().unwrap().len(), 8);

    env.run(&["server", "set-default", "nobody"]).await.fails(3);
    env.run(&["server", "set-default", "s3"]).await.ok();
    env.run(&["show", "a"]).await.fails(3);
    env.run(&["-s", "one", "show", "a"]).await.ok();
    let list = env.run(&["server", "list"]).await;
    let row = list.ok().lines().find(|line| line.starts_with("s3 ")).unwrap();
    assert!(row.ends_with('*'), "{row}");
    // Without a default server the local one is used.
    env.run(&["server", "remove", "s3"]).await.ok();
    env.run(&["show", "a"]).await.ok();
    let mode = std::fs::metadata(env.path("config/config.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // An invalid file is not overwritten.
    std::fs::write(env.path("config/config.toml"), "[servers.a]\nadress = 'x'\n").unwrap();
    assert!(env.run(&["list"]).await.fails(2).contains("adress"));
    env.run(&["server", "remove", "a"]).await.fails(2);
    assert!(std::fs::read_to_string(env.path("config/config.toml")).unwrap().contains("adress"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_delays_lists_by_the_time_limit_only() {
    let env = TestEnv::new().await;
    std::fs::create_dir(env.path("config")).unwrap();
    let mute = env.path("mute.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&mute).unwrap();
    let config = format!("[servers.mute]\naddress = \"unix:{}\"\n", mute.display());
    std::fs::write(env.path("config/config.toml"), config).unwrap();
    let (list, sessions) =
        tokio::join!(env.run(&["list", "-a", "--strict"]), env.run(&["sessions", "-a"]));
    list.fails(5);
    let text = str::from_utf8(&list.stdout).unwrap();
    assert!(text.contains("server mute did not answer within 5 seconds"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("a ") && line.contains("local")), "{text}");
    assert!(sessions.ok().contains("server mute did not answer within 5 seconds"), "{sessions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_stored_for_its_server() {
    let env = TestEnv::new().await;
    let listener = Listener::bind(Listen::Tcp("127.0.0.1:0".parse().unwrap(), None)).await.unwrap();
    let address = format!("http://{}", listener.address().unwrap());
    tokio::spawn(Http::new(env.test.app.clone(), shed_http::Options::default()).serve(listener));
    let new = NewToken {
        name: "ann".to_owned(),
        scope: Scope::Drive,
        sheds: Vec::new(),
        expires_in_seconds: None,
    };
    let issued = env.test.app.access().add_token(&env.test.admin, new).await.unwrap();
    let add = ["server", "add", &address, "-n", "web", "--token-file", "-"];
    env.run_with(&add, b"shed_nonsense\n").await.fails(6);
    env.run_with(&add, b"\n").await.fails(2);
    let listed = env.run(&["server", "list", "--json"]).await.json();
    assert_eq!(listed["servers"].as_array().unwrap().len(), 1);
    env.run_with(&add, format!("{}\n", issued.token).as_bytes()).await.ok();
    let listed = env.run(&["server", "list", "--json"]).await.json();
    assert!(!listed.to_string().contains(&issued.token), "{listed}");
    assert_eq!(env.run(&["-s", "web", "exec", "a", "echo", "hi"]).await.ok(), "hi\n");
    env.test.app.access().remove_token(&env.test.admin, &issued.id).await.unwrap();
    env.run(&["-s", "web", "list"]).await.fails(6);
}
