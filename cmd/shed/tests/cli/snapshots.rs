//! The text output of the commands, compared with the reviewed files in `tests/snapshots`.
//!
//! To accept changed texts: `INSTA_UPDATE=always cargo nextest run -p shed snapshots::`, then review the difference in git.

use std::fmt::Write as _;

use shed_testing::eventually;

use crate::support::{CommandOutput, TestEnv};

/// Patterns of what differs between two runs, and their replacements, in the order of application.
const FILTERS: &[(&str, &str)] = &[
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "[id]"),
    (r"\b[0-9a-f]{40}\b", "[commit]"),
    (r"\b[0-9a-f]{32}\b", "[id]"),
    (r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?", "[time]"),
    (r"\b20\d\d-?\d\d-?\d\d\b", "[day]"),
    (r"just now|\b\d+[smhd] ago", "[age]"),
    (r"\b\d+ ms\b", "[time] ms"),
    (r"\b\d+(\.\d+)?[BK]\b", "[size]"),
    (r"(?m)^tmux +\d.*", "tmux  [version]"),
    (r"OpenSSH_.*", "OpenSSH [version]"),
    (r"(?m)^first port +\d+", "first port  [port]"),
    (r"(?m)^user +\S+", "user  [user]"),
    (r"\(local:\w+\)", "(local:[user])"),
    // The width of a column depends on what was replaced in it.
    (r"(\S) {2,}", "$1  "),
];

/// Commands with their output, as a terminal shows them.
struct Transcript<'a> {
    env: &'a TestEnv,
    text: String,
}

impl<'a> Transcript<'a> {
    fn new(env: &'a TestEnv) -> Self {
        Self { env, text: String::new() }
    }

    /// Runs the client and records the command line, the output and the exit status.
    async fn run(&mut self, args: &[&str]) {
        let output = self.env.run(args).await;
        self.record(args, &output);
    }

    fn record(&mut self, args: &[&str], output: &CommandOutput) {
        let words: Vec<_> = args
            .iter()
            .map(|arg| if arg.contains(' ') { format!("'{arg}'") } else { (*arg).to_owned() })
            .collect();
        let stdout = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        write!(self.text, "$ shed {}\n{stdout}", words.join(" ")).unwrap();
        if !output.stderr.is_empty() {
            write!(self.text, "--- stderr\n{}", output.stderr).unwrap();
        }
        if output.status != 0 {
            writeln!(self.text, "--- exit status {}", output.status).unwrap();
        }
        self.text.push('\n');
    }

    /// Compares everything recorded with a snapshot. Each of `more` is replaced by its name as well.
    fn check(self, name: &str, more: &[(&str, &str)]) {
        let mut text = self.text;
        for (value, shown) in more {
            text = text.replace(value, shown);
        }
        for (dir, shown) in [
            (self.env.path(""), "[client]"),
            (self.env.test.engine.workspace("a"), "[workspace]"),
            (self.env.test.dir().to_owned(), "[server]"),
        ] {
            text = text.replace(dir.to_str().unwrap().trim_end_matches('/'), shown);
        }
        text = text.replace(env!("CARGO_PKG_VERSION"), "[version]");
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for (pattern, shown) in FILTERS {
            settings.add_filter(pattern, *shown);
        }
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}

/// Creates a repository with one commit in shed `a`, and session `fix` with a worktree in which a file is changed and one
/// is new. Returns the directory of the worktree.
async fn with_changes(env: &TestEnv) -> String {
    let line = "git init -q -b main . && git config user.name T && \
                git config user.email t@example.com && printf 'one\\ntwo\\n' > a.txt && \
                git add -A && git commit -qm first";
    env.run(&["exec", "a", "sh", "-c", line]).await.ok();
    let args = ["run", "a", "--worktree", "-d", "--name", "fix", "--json", "--", "sleep", "1000"];
    let session = env.run(&args).await.json();
    let dir = session["directory"].as_str().unwrap().to_owned();
    let line = "printf 'one\\n2\\n' > a.txt; echo new > new.txt";
    env.run(&["exec", "-w", &dir, "a", "sh", "-c", line]).await.ok();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn sheds() {
    let env = TestEnv::empty().await;
    let mut shell = Transcript::new(&env);
    shell.run(&["list"]).await;
    shell.run(&["create", "a"]).await;
    shell.run(&["create", "a"]).await;
    shell.run(&["list"]).await;
    shell.run(&["list", "--all"]).await;
    shell.run(&["show", "a"]).await;
    shell.run(&["df"]).await;
    shell.run(&["set", "a", "--cpus", "3", "--memory", "1G"]).await;
    for operation in ["start", "pause", "pause", "unpause", "stop", "stop", "restart", "rebuild"] {
        shell.run(&[operation, "a"]).await;
    }
    shell.run(&["delete", "a"]).await;
    shell.run(&["delete", "-f", "a"]).await;
    shell.run(&["show", "a"]).await;
    shell.check("sheds", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stats() {
    let env = TestEnv::new().await;
    let mut shell = Transcript::new(&env);
    shell.run(&["stats"]).await;
    shell.run(&["stats", "none"]).await;
    shell.check("stats", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions() {
    let env = TestEnv::new().await;
    let mut shell = Transcript::new(&env);
    shell.run(&["sessions"]).await;
    shell.run(&["sessions", "new", "a", "tests", "cat"]).await;
    shell.run(&["run", "a", "-d", "--name", "work", "--", "sleep", "1000"]).await;
    let args = ["sessions", "set", "a", "work", "--title", "Fix the login", "--tag", "urgent"];
    shell.run(&args).await;
    shell.run(&["sessions", "a"]).await;
    shell.run(&["sessions", "--all", "--long"]).await;
    shell.run(&["sessions", "show", "a", "work"]).await;
    shell.run(&["sessions", "rename", "a", "tests", "cats"]).await;
    shell.run(&["sessions", "send", "a", "cats", "--enter", "hello"]).await;
    shell.run(&["sessions", "freeze", "a", "work"]).await;
    shell.run(&["sessions", "thaw", "a", "work"]).await;
    shell.run(&["terminate", "a", "work"]).await;
    shell.run(&["sessions", "restart", "a", "work"]).await;
    shell.run(&["sessions", "delete", "a", "cats", "none"]).await;
    shell.run(&["sessions", "a", "--watch", "new"]).await;
    shell.check("sessions", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers() {
    let env = TestEnv::new().await;
    let mut shell = Transcript::new(&env);
    shell.run(&["run", "a", "-d", "--name", "work", "--", "sleep", "1000"]).await;
    shell.run(&["workers", "add", "a", "work", "-n", "failing", "--", "sh", "-c", "exit 3"]).await;
    eventually("the exit", async || {
        let list = env.run(&["workers", "list", "a", "work", "--json"]).await.json();
        (list["workers"][1]["status"] == "exited").then_some(())
    })
    .await;
    shell.run(&["workers", "list", "a", "work"]).await;
    shell.run(&["workers", "restart", "a", "work", "sleep"]).await;
    shell.run(&["workers", "remove", "a", "work", "failing"]).await;
    shell.run(&["workers", "remove", "a", "work", "failing"]).await;
    shell.check("workers", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_and_output() {
    let env = TestEnv::new().await;
    let mut shell = Transcript::new(&env);
    shell
        .run(&["run", "a", "--name", "work", "--", "sh", "-c", "echo one; echo two; exit 7"])
        .await;
    shell.run(&["output", "a", "work"]).await;
    shell.run(&["output", "a", "work", "-n", "1"]).await;
    shell.run(&["output", "a", "work", "--search", "two"]).await;
    shell.run(&["output", "a", "work", "--search", "three"]).await;
    shell.run(&["output", "a", "work", "none"]).await;
    shell.run(&["exec", "a", "sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    shell.check("run-and-output", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_and_checkpoints() {
    let env = TestEnv::new().await;
    let dir = with_changes(&env).await;
    let mut shell = Transcript::new(&env);
    shell.run(&["diff", "a", "fix"]).await;
    shell.run(&["diff", "a", "fix", "--stat"]).await;
    shell.run(&["diff", "a", "fix", "--numbers"]).await;
    shell.run(&["checkpoint", "create", "a", "fix", "-m", "tests pass"]).await;
    shell.run(&["checkpoint", "create", "a", "fix"]).await;
    shell.run(&["checkpoint", "list", "a", "fix"]).await;
    shell.run(&["checkpoint", "show", "a", "fix", "1"]).await;
    env.run(&["exec", "-w", &dir, "a", "sh", "-c", "echo lost > a.txt"]).await.ok();
    shell.run(&["checkpoint", "diff", "a", "fix", "1", "--stat"]).await;
    shell.run(&["checkpoint", "restore", "a", "fix", "1"]).await;
    let args = ["checkpoint", "fork", "a", "fix", "1", "--name", "other", "--", "sleep", "1000"];
    shell.run(&args).await;
    shell.run(&["checkpoint", "show", "a", "fix", "9"]).await;
    shell.check("diff-and-checkpoints", &[(&dir, "[worktree]")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn trash_and_gc() {
    let env = TestEnv::new().await;
    let dir = with_changes(&env).await;
    env.run(&["exec", "-w", &dir, "a", "git", "commit", "-qam", "second"]).await.ok();
    let commit = env.run(&["exec", "-w", &dir, "a", "git", "rev-parse", "HEAD"]).await;
    let commit = &commit.ok()[..9];
    let mut shell = Transcript::new(&env);
    shell.run(&["trash", "list", "a"]).await;
    shell.run(&["sessions", "delete", "a", "fix"]).await;
    shell.run(&["sessions", "delete", "a", "fix", "--force"]).await;
    shell.run(&["trash", "list", "a"]).await;
    let trash = env.run(&["trash", "list", "a", "--json"]).await.json();
    let rows = trash["trash"].as_array().unwrap();
    let branch = rows.iter().find(|row| row["kind"] == "branch").unwrap();
    shell.run(&["trash", "restore", "a", branch["ref"].as_str().unwrap(), "again"]).await;
    shell.run(&["gc", "a", "--dry-run"]).await;
    shell.run(&["gc", "a"]).await;
    shell.check("trash-and-gc", &[(&dir, "[worktree]"), (commit, "[commit]")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates() {
    let env = TestEnv::new().await;
    let line = "mkdir -p .shed/templates && cd .shed/templates && \
                printf 'description = \"says hello\"\\ncommand = [\"echo\", \"hello\"]\\n' > hello.toml && \
                printf 'title = 1\\n' > broken.toml";
    env.run(&["exec", "a", "sh", "-c", line]).await.ok();
    std::fs::write(env.path("good.toml"), "command = ['true']\n").unwrap();
    std::fs::write(env.path("bad.toml"), "title = 1\n").unwrap();
    let mut shell = Transcript::new(&env);
    shell.run(&["template", "list", "a"]).await;
    shell.run(&["template", "show", "a", "hello"]).await;
    shell.run(&["template", "show", "a", "none"]).await;
    shell.run(&["template", "check", "good.toml", "bad.toml", "none.toml"]).await;
    shell.run(&["run", "a", "--template", "none", "-d"]).await;
    shell.check("templates", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_and_doctor() {
    let env = TestEnv::new().await;
    let mut shell = Transcript::new(&env);
    shell.run(&["orphans", "list", "a"]).await;
    shell.run(&["doctor"]).await;
    env.run(&["exec", "a", "tmux", "new-session", "-d", "-s", "unmanaged", "cat"]).await.ok();
    let line = "SHED_SESSION_ID=0123 setsid sleep 1000 > /dev/null 2>&1 &";
    env.run(&["exec", "a", "sh", "-c", line]).await.ok();
    let pid = eventually("the orphans", async || {
        let list = env.run(&["orphans", "list", "a", "--json"]).await.json();
        let rows = list["orphans"].as_array().unwrap().clone();
        let process = rows.iter().find(|row| row["kind"] == "process")?;
        (rows.len() == 2).then(|| process["name"].as_str().unwrap().to_owned())
    })
    .await;
    shell.run(&["orphans", "list", "a"]).await;
    shell.run(&["doctor"]).await;
    shell.run(&["orphans", "clean", "a", &pid]).await;
    shell.run(&["orphans", "clean", "a", "none"]).await;
    shell.run(&["sessions", "adopt", "a", "unmanaged"]).await;
    shell.check("orphans-and-doctor", &[(&pid, "[pid]")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batch() {
    let env = TestEnv::new().await;
    for name in ["one", "two"] {
        let args = ["run", "a", "-d", "--name", name, "--tag", "x", "--", "sleep", "1000"];
        env.run(&args).await.ok();
    }
    let mut shell = Transcript::new(&env);
    shell.run(&["batch", "terminate", "--tag", "x", "--dry-run"]).await;
    shell.run(&["batch", "terminate", "--tag", "x"]).await;
    shell.run(&["batch", "terminate", "--tag", "none"]).await;
    shell.run(&["batch", "freeze", "--tag", "x"]).await;
    shell.run(&["batch", "delete"]).await;
    shell.run(&["batch", "input", "--tag", "x"]).await;
    shell.run(&["batch", "delete", "--tag", "x", "--add-tag", "y"]).await;
    shell.check("batch", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers() {
    let env = TestEnv::new().await;
    let address = env.address();
    let mut shell = Transcript::new(&env);
    shell.run(&["server", "list"]).await;
    shell.run(&["server", "add", &address, "--name", "home"]).await;
    shell.run(&["server", "list"]).await;
    shell.run(&["server", "ping", "home"]).await;
    shell.run(&["server", "set-default", "local"]).await;
    shell.run(&["server", "remove", "home"]).await;
    shell.run(&["server", "remove", "home"]).await;
    shell.run(&["server", "add", &address, "--name", "a b"]).await;
    shell.run(&["server", "add", "https://127.0.0.1:1"]).await;
    shell.run(&["server", "add", "ftp://host"]).await;
    shell.run(&["ssh-config"]).await;
    shell.run(&["ssh-config", "--install", "--dry-run"]).await;
    shell.check("servers", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events() {
    let env = TestEnv::new().await;
    env.run(&["run", "a", "--name", "work", "--", "true"]).await.ok();
    env.run(&["sessions", "delete", "a", "work"]).await.ok();
    env.run(&["stop", "a"]).await.ok();
    let mut shell = Transcript::new(&env);
    let args = ["events", "--no-follow", "--shed", "a"];
    let mut output = env.run(&args).await;
    // Without ids and times and sorted by kind: the order of concurrent events varies.
    let text = output.ok().to_owned();
    let mut lines: Vec<_> = text.lines().map(|line| line.splitn(3, "  ").last().unwrap()).collect();
    lines.sort_unstable();
    output.stdout = (lines.join("\n") + "\n").into_bytes();
    shell.record(&args, &output);
    shell.check("events", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors() {
    let env = TestEnv::new().await;
    let mut shell = Transcript::new(&env);
    for args in [
        &["show", "none"][..],
        &["start", "none"],
        &["exec", "a", "no-such-program"],
        &["exec", "-S", "none", "a", "true"],
        &["sessions", "show", "a", "none"],
        &["cp", "none", "a:"],
        &["cp", "x", "y"],
        &["cp", "a:x", "a:y"],
        &["create", "b", "--env", "NOT_SET"],
        &["create", "b", "--memory", "much"],
        &["create", "b", "--repo", "owner/repo", "--no-start"],
        &["create", "b", "--image", "missing-one"],
        &["set", "a"],
        &["run", "a"],
        &["attach", "a"],
        &["console", "a"],
        &["delete", "a"],
        &["output", "a", "none"],
        &["forward", "none", "0:80"],
        &["-s", "nobody", "list"],
        &["-s", "unix:/nowhere/shed.sock", "list"],
        &["-s", "http://127.0.0.1:1", "list"],
        &["-s", "http://example.com", "list"],
    ] {
        shell.run(args).await;
    }
    let args = ["exec", "-S", "default", "a", "cat", "it's"];
    let output = env.run_with(&args, b"x").await;
    shell.record(&args, &output);
    shell.check("errors", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_errors() {
    let env = TestEnv::empty().await;
    let mut shell = Transcript::new(&env);
    for args in [
        &["lst"][..],
        &["list", "--jsn"],
        &["create"],
        &["create", "Bad_Name"],
        &["create", ".."],
        &["exec", "a"],
        &["checkpoint", "show", "a", "fix", "x"],
        &["attach", "a", "--new", "--read-only"],
        &["run", "a", "--max-runtime", "soon"],
        &["run", "a", "--max-output", "much"],
        &["forward", "a", "80:0"],
        &["batch", "explode", "--tag", "x"],
        &["batch", "delete", "--status", "dead"],
        &["create", "b", "--network", "some"],
        &["create", "b", "--mount", "nonsense"],
        &["sessions", "set", "a", "work", "--auto-respond", "yes"],
    ] {
        shell.run(args).await;
    }
    shell.check("usage-errors", &[]);
}
