//! What happens in a worktree before the operation. Each action leaves a marker in a place of its own.

/// An action. Its script runs in the worktree (`$W`); `$P` is the repository, `$L` the directory around both and `$M` the
/// marker. `submodule` initialises the submodule `sub`.
pub(super) struct Action {
    pub(super) name: &'static str,
    pub(super) script: &'static str,
    pub(super) holds: Holds,
    /// Whether the trash cannot hold what it leaves, so that a removal must be refused.
    pub(super) blocks: bool,
    /// Whether nothing of the worktree's directory is left in its place.
    pub(super) clears: bool,
}

/// Where the marker is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holds {
    Nothing,
    /// In a file of the worktree.
    File(&'static str),
    /// In a commit of the repository.
    Commit,
    /// In a repository inside the worktree, which is its directory.
    Nested(&'static str),
}

use Holds::{Commit, File, Nested, Nothing};

impl Action {
    pub(super) fn marker(&self) -> String {
        format!("marker-{}-end", self.name.replace(' ', "-"))
    }
}

const fn saved(name: &'static str, holds: Holds, script: &'static str) -> Action {
    Action { name, script, holds, blocks: false, clears: false }
}

const fn blocks(name: &'static str, holds: Holds, script: &'static str) -> Action {
    Action { blocks: true, ..saved(name, holds, script) }
}

const fn clears(name: &'static str, script: &'static str) -> Action {
    Action { clears: true, ..saved(name, Nothing, script) }
}

pub(super) const ACTIONS: [Action; 46] = [
    saved("edit", File("b"), "echo $M >> b"),
    saved("edit deep", File("d/c"), "echo $M >> d/c"),
    saved("skip-worktree", File("e"), "git update-index --skip-worktree e; echo $M > e"),
    saved(
        "assume-unchanged",
        File("d/c"),
        "git update-index --assume-unchanged d/c; echo $M > d/c",
    ),
    saved("sparse", Nothing, "git update-index --skip-worktree a; rm a"),
    saved("untracked", File("new"), "echo $M > new"),
    saved("untracked deep", File("x/y/z"), "mkdir -p x/y; echo $M > x/y/z"),
    saved("odd name", File("-o\n\"x"), "echo $M > \"./$(printf -- '-o\\n\"x')\""),
    saved("ignored", Nothing, "mkdir -p ignored; echo $M > ignored/x; echo $M > x.log"),
    saved("read-only directory", File("ro/x"), "mkdir ro; echo $M > ro/x; chmod 555 ro"),
    saved("staged", Nothing, "echo $M > st; git add st"),
    saved("staged and edited", Commit, "echo $M > se; git add se; echo other > se"),
    saved("staged and removed", Commit, "echo $M > sr; git add sr; rm sr"),
    saved("commit", Commit, "echo $M > c1; git add c1; git commit -qm c1 -- c1"),
    saved("commit message", Commit, "git commit -q --allow-empty -m $M"),
    saved(
        "detached",
        Commit,
        "git checkout -q --detach; echo $M > c2; git add c2; git commit -qm c2 -- c2",
    ),
    saved(
        "detached and back",
        Commit,
        "git checkout -q --detach; git commit -q --allow-empty -m $M; git checkout -q -",
    ),
    saved("reset", Commit, "git commit -q --allow-empty -m $M; git reset -q --soft HEAD~1"),
    saved(
        "amend",
        Commit,
        "git commit -q --allow-empty -m $M; git commit -q --amend --allow-empty -m x",
    ),
    saved("stash", Commit, "echo $M > sh; git add sh; git stash push -q -- sh"),
    saved(
        "rebase",
        Commit,
        "echo $M > a; git commit -qm $M -- a; ! git rebase -q --autostash origin/other; test -d $(git rev-parse --git-dir)/rebase-merge",
    ),
    saved(
        "autostash",
        Commit,
        "echo x > a; git commit -qm x -- a; echo $M >> b; ! git rebase -q --autostash origin/other; test -d $(git rev-parse --git-dir)/rebase-merge",
    ),
    saved(
        "merge",
        Commit,
        "echo $M > a; git commit -qm $M -- a; ! git merge -q origin/other; test -e $(git rev-parse --git-dir)/MERGE_HEAD",
    ),
    saved("bisect", Nothing, "git bisect start; git bisect bad; git bisect good HEAD~1 || true"),
    saved("other branch", Commit, "git switch -q -c mine; git commit -q --allow-empty -m $M"),
    saved("renamed branch", Commit, "git commit -q --allow-empty -m $M; git branch -m renamed"),
    saved("orphan branch", File("b"), "git checkout -q --orphan alone; echo $M > b"),
    saved(
        "per-worktree ref",
        Commit,
        "git update-ref refs/worktree/x $(git commit-tree -m $M HEAD^{tree})",
    ),
    saved("index lock", Nothing, "touch $(git rev-parse --git-dir)/index.lock"),
    saved("clean clone", Nothing, "git clone -q $L/origin.git clone"),
    saved(
        "clean ignored clone",
        Nothing,
        "mkdir -p ignored; git clone -q $L/origin.git ignored/clone",
    ),
    saved(
        "broken link",
        File("bl/x"),
        "mkdir bl; echo $M > bl/x; echo 'gitdir: /none/x' > bl/.git",
    ),
    saved("clean worktree", Nothing, "git worktree add -q --detach in1"),
    saved("worktree", File("in2/new"), "git worktree add -q -b in2 in2; echo $M > in2/new"),
    saved(
        "ignored worktree",
        Commit,
        "git worktree add -q --detach ignored/in3; cd ignored/in3; echo $M > b; git commit -qam x",
    ),
    saved(
        "locked worktree",
        Commit,
        "git worktree add -q -b in4 in4; git worktree lock in4; cd in4; echo $M > n; git add n; echo x > n",
    ),
    saved(
        "vanished worktree",
        Commit,
        "git worktree add -q --detach in5; git -C in5 commit -q --allow-empty -m $M; rm -rf in5",
    ),
    blocks("repository", Nested("r1"), "git init -q r1; cd r1; git commit -q --allow-empty -m $M"),
    blocks("repository without commit", Nested("r2"), "git init -q r2; echo $M > r2/x"),
    blocks(
        "ignored repository",
        Nested("ignored/r3"),
        "mkdir -p ignored; git init -q ignored/r3; cd ignored/r3; git commit -q --allow-empty -m $M",
    ),
    blocks("changed clone", Nested("r4"), "git clone -q $L/lib r4; echo $M >> r4/l"),
    blocks(
        "clone with a stash",
        Nested("ignored/r5"),
        "mkdir -p ignored; git clone -q $L/lib ignored/r5; cd ignored/r5; echo $M >> l; git stash -q",
    ),
    blocks(
        "clone with a hidden change",
        Nested("ignored/r6"),
        "mkdir -p ignored; git clone -q $L/lib ignored/r6; cd ignored/r6; git update-index --assume-unchanged l; echo $M > l",
    ),
    blocks(
        "damaged repository",
        Nested("r7"),
        "git init -q r7; cd r7; git commit -q --allow-empty -m $M; rm .git/HEAD",
    ),
    blocks("unreadable file", Nested("dark"), "echo $M > dark; chmod 000 dark"),
    blocks(
        "unreadable directory",
        Nested("night"),
        "mkdir night; echo $M > night/x; chmod 000 night",
    ),
];

/// What happens to the submodule, the worktree or the repository as a whole. At most one of these, as the last action.
pub(super) const LAST: [Action; 15] = [
    saved("clean submodule", Nothing, "submodule"),
    blocks(
        "submodule with a commit",
        Nested("sub"),
        "submodule; cd sub; git commit -q --allow-empty -m $M",
    ),
    blocks("changed submodule", Nested("sub"), "submodule; echo $M > sub/new"),
    blocks(
        "removed submodule",
        Nothing,
        "submodule; git -C sub commit -q --allow-empty -m $M; git submodule --quiet deinit -f sub",
    ),
    blocks("files without submodule", Nested("sub"), "mkdir -p sub; echo $M > sub/x"),
    blocks("locked", Nothing, "git worktree lock ."),
    blocks(
        "another repository",
        Nested(""),
        "rm -f .git; git init -q; git add b; git commit -qm $M",
    ),
    saved("no .git", File("last"), "echo $M > last; rm -f .git"),
    saved("pruned record", File("last"), "echo $M > last; rm -rf $P/.git/worktrees/w"),
    saved("cloned again", File("last"), "echo $M > last; rm -rf $P; git clone -q $L/origin.git $P"),
    blocks("repository gone", File("last"), "echo $M > last; rm -rf $P"),
    blocks("bare repository", File("last"), "echo $M > last; git config core.bare true"),
    clears("directory gone", "cd $L; chmod -R u+rwX $W; rm -rf $W"),
    clears("symlink", "mv $W $L/moved; ln -s $L/moved $W"),
    saved(
        "ref lock",
        Nothing,
        "mkdir -p $P/.git/refs/heads/shed; touch $P/.git/refs/heads/shed/w.lock; false",
    ),
];
