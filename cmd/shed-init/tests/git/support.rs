//! A repository for each test, and requests to `shed-init git`.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use shed_link::git::{FailureKind, GitAnswer, GitDone, GitFailure, GitOp};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shed-init");

/// An environment without the user's configuration and home.
pub(crate) const CLEAN: [(&str, &str); 8] = [
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_AUTHOR_NAME", "t"),
    ("GIT_AUTHOR_EMAIL", "t@t"),
    ("GIT_COMMITTER_NAME", "t"),
    ("GIT_COMMITTER_EMAIL", "t@t"),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
];

pub(crate) struct Repo {
    dir: tempfile::TempDir,
}

impl Repo {
    /// A repository without a commit.
    pub(crate) fn empty() -> Self {
        let repo = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(repo.top()).unwrap();
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    /// A repository with a commit of `a` and `d/b`.
    pub(crate) fn new() -> Self {
        let repo = Self::empty();
        repo.write("a", "one\ntwo\n");
        repo.write("d/b", "b\n");
        repo.commit("first");
        repo
    }

    /// The same with a remote `origin`, whose `main` is fetched.
    pub(crate) fn cloned() -> Self {
        let repo = Self::new();
        let origin = repo.beside("origin.git");
        let origin = origin.to_str().unwrap();
        repo.git(&["clone", "-q", "--bare", ".", origin]);
        repo.git(&["remote", "add", "origin", origin]);
        repo.git(&["fetch", "-q", "origin"]);
        repo.git(&["remote", "set-head", "origin", "main"]);
        repo
    }

    pub(crate) fn top(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// A path outside of the working tree.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.top().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.top().join(name)).unwrap()
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    /// Runs git in the top directory; it must succeed.
    pub(crate) fn git(&self, words: &[&str]) -> String {
        git_in(&self.top(), words)
    }

    pub(crate) fn view(&self) -> Value {
        view(&self.top())
    }

    pub(crate) fn snapshot(&self) -> shed_link::git::TakenCheckpoint {
        match done(json!({"snapshot": {"view": self.view(), "kind": "manual"}})) {
            GitDone::Snapshot(snapshot) => snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn restore(&self, n: u64) -> shed_link::git::Restored {
        match done(json!({"restore": {"view": self.view(), "from": "s", "n": n}})) {
            GitDone::Restored(restored) => restored,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn numbers(&self, base: &Value) -> shed_api::git::DiffNumbers {
        match done(json!({"numbers": {"view": self.view(), "base": base}})) {
            GitDone::Numbers(numbers) => numbers,
            other => panic!("{other:?}"),
        }
    }

    /// All refs, worktrees and settings of the repository.
    pub(crate) fn state(&self) -> String {
        let config = fs::read_to_string(self.top().join(".git/config")).unwrap();
        let records = self.top().join(".git/worktrees").exists();
        format!(
            "{}{}{config}{records}",
            self.git(&["for-each-ref"]),
            self.git(&["worktree", "list"])
        )
    }
}

pub(crate) fn git_in(directory: &Path, words: &[&str]) -> String {
    let output = try_git(directory, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn try_git(directory: &Path, words: &[&str]) -> Output {
    Command::new("git").args(words).current_dir(directory).envs(CLEAN).output().unwrap()
}

pub(crate) fn view(worktree: &Path) -> Value {
    json!({"worktree": worktree, "session": "s"})
}

pub(crate) fn command(subcommand: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg(subcommand).envs(CLEAN).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Sends bytes as a request and returns the whole output.
pub(crate) fn ask_bytes(request: &[u8]) -> Vec<u8> {
    let mut child = command("git").spawn().unwrap();
    // Fails when it has answered without reading everything.
    child.stdin.take().unwrap().write_all(request).ok();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Sends a request and returns the answer and the patch.
pub(crate) fn ask(request: Value) -> (GitAnswer, Vec<u8>) {
    // As the server, which only sends valid requests.
    let op: GitOp = serde_json::from_value(request).unwrap();
    split(&ask_bytes(&serde_json::to_vec(&op).unwrap()))
}

pub(crate) fn split(output: &[u8]) -> (GitAnswer, Vec<u8>) {
    let end = output.iter().position(|byte| *byte == b'\n').unwrap();
    (serde_json::from_slice(&output[..end]).unwrap(), output[end + 1..].to_vec())
}

pub(crate) fn done(request: Value) -> GitDone {
    match ask(request).0 {
        GitAnswer::Done(done) => *done,
        GitAnswer::Failed(failure) => panic!("{failure:?}"),
    }
}

pub(crate) fn failed(request: Value) -> GitFailure {
    match ask(request).0 {
        GitAnswer::Failed(failure) => failure,
        GitAnswer::Done(done) => panic!("{done:?}"),
    }
}

pub(crate) fn assert_fails(request: Value, kind: FailureKind, text: &str) {
    let failure = failed(request);
    assert_eq!(failure.kind, kind, "{failure:?}");
    assert!(failure.text.contains(text), "{failure:?}");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A mounted file system, unmounted on drop.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts a tmpfs; `None` if this user may not mount one.
    pub(crate) fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(at).stderr(Stdio::null());
        if !is_root() || !mount.status().is_ok_and(|status| status.success()) {
            eprintln!("skipped: this user cannot mount a tmpfs");
            return None;
        }
        Some(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

pub(crate) fn os(name: &[u8]) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(name)
}

/// Bytes that do not compress.
pub(crate) fn noise(n_bytes: usize) -> Vec<u8> {
    let mut seed = 7_u64;
    let next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_be_bytes()[2]
    };
    std::iter::repeat_with(next).take(n_bytes).collect()
}
