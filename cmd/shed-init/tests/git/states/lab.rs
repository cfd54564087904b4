//! A directory with a repository and a worktree, which belongs to a user without privileges as in a shed.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use shed_link::git::{GitAnswer, GitOp};

use super::actions::Action;
use crate::support::{CLEAN, PROGRAM, is_root, split};

/// The user that everything runs as if the test runs as root, who may read everything.
const USER: u32 = 1000;

/// `origin.git`, `lib` (which is pushed) and `proj`, a clone of it with the submodule `sub`, which is not initialised.
const FIXTURE: &str = r"
git init -q -b main lib && cd lib && echo lib > l && git add -A && git commit -qm lib && cd ..
git init -q -b main proj && cd proj
mkdir d && echo one > a && echo two > b && echo deep > d/c && echo five > e
printf 'ignored/\n*.log\n' > .gitignore && git add -A && git commit -qm first
git submodule --quiet add ../lib sub && git commit -qm submodule && git submodule --quiet deinit -f sub
rm -rf .git/modules && cd ..
git clone -q --bare proj origin.git && cd proj && git remote add origin ../origin.git
git fetch -q && git remote set-head origin main
git switch -q -c other HEAD~1 && echo theirs > a && git commit -qam theirs && git switch -q main
git push -q origin other && rm -rf .git/hooks
";

/// Defines `submodule` for the scripts of actions.
const SUBMODULE: &str = r#"set +e
submodule() { git config submodule.sub.url "$L/lib"; git submodule --quiet update --init; }
"#;

/// A repository that is copied for each state.
pub(super) struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        give(dir.path());
        // Where the user may run it.
        let program = dir.path().join("shed-init");
        fs::copy(PROGRAM, &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let fixture = Self { dir };
        let base = fixture.dir.path().join("base");
        fs::create_dir(&base).unwrap();
        give(&base);
        let said = script(&base, FIXTURE, &[]);
        assert!(base.join("proj/.git/refs/remotes/origin/HEAD").exists(), "{said}");
        fixture
    }

    pub(super) fn lab(&self) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        give(dir.path());
        let from = self.dir.path().join("base/.");
        let line = r#"cp -a "$FROM" . && git -C proj worktree add -q -b shed/w ../trees/w"#;
        let said = script(dir.path(), line, &[("FROM", from.to_str().unwrap())]);
        assert!(dir.path().join("trees/w/.git").exists(), "{said}");
        Lab { dir, program: self.dir.path().join("shed-init") }
    }
}

fn give(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
}

fn command(program: impl AsRef<std::ffi::OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).envs(CLEAN).env("GIT_ALLOW_PROTOCOL", "file");
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "init.templateDir");
    command.env("GIT_CONFIG_VALUE_0", "");
    if is_root() {
        command.uid(USER).gid(USER);
    }
    command
}

/// Runs a shell script and returns all that it printed.
fn script(directory: &Path, text: &str, env: &[(&str, &str)]) -> String {
    let mut command = command("sh", directory);
    command.args(["-euc", text]).envs(env.iter().copied()).stdin(Stdio::null());
    let output = command.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The repository of one state, in `proj`, and its worktree, in `trees/w`.
pub(super) struct Lab {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Lab {
    pub(super) fn tree(&self) -> PathBuf {
        self.dir.path().join("trees/w")
    }

    fn repo(&self) -> PathBuf {
        self.dir.path().join("proj")
    }

    /// Carries out actions; returns the names of those that failed.
    pub(super) fn act(&self, actions: &[&Action]) -> Vec<String> {
        let line = |action: &&Action| {
            let (name, marker, lines) = (action.name, action.marker(), action.script);
            format!(
                "(set -eu; M={marker}; cd \"$W\"; {lines}\n) >/dev/null 2>&1\n[ $? = 0 ] || echo '{name}'\n"
            )
        };
        let text = SUBMODULE.to_owned() + &actions.iter().map(line).collect::<String>();
        let (root, tree, repo) = (self.dir.path(), self.tree(), self.repo());
        let env = [
            ("L", root.to_str().unwrap()),
            ("W", tree.to_str().unwrap()),
            ("P", repo.to_str().unwrap()),
        ];
        script(root, &text, &env).lines().map(str::to_owned).collect()
    }

    pub(super) fn view(&self) -> Value {
        json!({"worktree": self.tree(), "session": "s"})
    }

    pub(super) fn survey(&self) -> Value {
        json!({"survey": {"repo": self.repo(), "path": self.tree(), "branch": "shed/w", "delete_branch": true}})
    }

    pub(super) fn removal(&self, session: Option<&str>) -> Value {
        json!({"remove-worktree": {"repo": self.repo(), "path": self.tree(), "branch": "shed/w",
            "delete_branch": true, "trash": "w", "session": session}})
    }

    pub(super) fn ask(&self, request: &Value) -> GitAnswer {
        let op: GitOp = serde_json::from_value(request.clone()).unwrap();
        let mut command = command(&self.program, self.dir.path());
        command.arg("git").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&serde_json::to_vec(&op).unwrap()).unwrap();
        split(&child.wait_with_output().unwrap().stdout).0
    }

    /// The content of all objects of the repository.
    pub(super) fn all_objects(&self) -> Objects {
        self.cat(&["--batch-all-objects"], Vec::new())
    }

    /// The content of the objects that refs reach.
    pub(super) fn reached(&self) -> Objects {
        self.listed(&["--single-worktree", "--all"])
    }

    /// The content of the objects that refs and logs of refs reach.
    pub(super) fn logged(&self) -> Objects {
        self.listed(&["--single-worktree", "--all", "--reflog"])
    }

    fn listed(&self, which: &[&str]) -> Objects {
        let mut command = command("git", self.dir.path());
        command.arg("-C").arg(self.repo()).args(["rev-list", "--objects", "--no-object-names"]);
        let output = command.args(which).output().unwrap();
        assert!(output.status.success() || !self.repo().exists(), "{output:?}");
        self.cat(&[], output.stdout)
    }

    fn cat(&self, args: &[&str], input: Vec<u8>) -> Objects {
        let mut command = command("git", self.dir.path());
        command.arg("-C").arg(self.repo()).args(["cat-file", "--batch"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Objects(output.stdout)
    }

    /// Where the files of the worktree are: they may have been moved away.
    pub(super) fn place(&self) -> PathBuf {
        let moved = self.dir.path().join("moved");
        if moved.exists() { moved } else { self.tree() }
    }

    /// Whether a file of the worktree contains a text.
    pub(super) fn on_disk(&self, name: &str, text: &str) -> bool {
        fs::read(self.place().join(name)).is_ok_and(|bytes| contains(&bytes, text))
    }

    /// All files below the directory.
    pub(super) fn files(&self) -> Files {
        let mut files = BTreeMap::new();
        let mut left = vec![self.dir.path().to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let (path, metadata) = (entry.path(), entry.metadata().unwrap());
                let mut hasher = DefaultHasher::new();
                if metadata.is_dir() {
                    left.push(path);
                    continue;
                }
                if metadata.is_symlink() {
                    fs::read_link(&path).unwrap().hash(&mut hasher);
                } else {
                    // Unreadable for the test too, unless it runs as root.
                    fs::read(&path).unwrap_or_default().hash(&mut hasher);
                }
                files.insert(path, hasher.finish());
            }
        }
        Files(files)
    }

    /// Whether shed may write a file: objects, refs of its own, private indexes.
    pub(super) fn is_ours(&self, path: &Path) -> bool {
        let git = self.repo().join(".git");
        ["objects", "shed", "refs/shed", "packed-refs", "logs/refs/shed"]
            .iter()
            .any(|name| path.starts_with(git.join(name)))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Directories without permissions are in the way of another user than root.
        script(self.dir.path(), "chmod -R u+rwX . || true", &[]);
    }
}

/// The content of objects, one after the other.
pub(super) struct Objects(Vec<u8>);

impl Objects {
    pub(super) fn contains(&self, text: &str) -> bool {
        contains(&self.0, text)
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The files of a lab with hashes of their content.
pub(super) struct Files(BTreeMap<PathBuf, u64>);

impl Files {
    /// The files that are missing later or have other content.
    pub(super) fn changed<'a>(&'a self, later: &'a Self) -> impl Iterator<Item = &'a Path> {
        let changed = self.0.iter().filter(|(path, hash)| later.0.get(*path) != Some(hash));
        changed.map(|(path, _)| path.as_path())
    }

    /// The files below a directory.
    pub(super) fn below<'a>(&'a self, directory: &Path) -> impl Iterator<Item = (&'a Path, u64)> {
        let directory = directory.to_owned();
        let below = self.0.iter().filter(move |(path, _)| path.starts_with(&directory));
        below.map(|(path, hash)| (path.as_path(), *hash))
    }

    pub(super) fn has(&self, (path, hash): (&Path, u64)) -> bool {
        self.0.get(path) == Some(&hash)
    }
}
