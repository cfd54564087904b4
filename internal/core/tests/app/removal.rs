//! Work that a deletion could destroy, through the App: what is refused before anything is ended, and what is found in the
//! trash afterwards.

use std::path::Path;

use shed_api::git::{RestoreTrash, TrashEntry, TrashKind};
use shed_api::session::{NewSession, Session, SessionStatus, SessionType};
use shed_api::work::Gc;
use shed_api::{Code, Problem};
use shed_core::{DiffQuery, Removal};
use shed_testing::TestApp;

use crate::support::{kept, problem, repository, session, sh, shed, words};

async fn with_repository() -> TestApp {
    let test = TestApp::start().await;
    test.shed("a").await;
    repository(&test, "a").await;
    test
}

fn tree(name: &str) -> NewSession {
    NewSession { kind: Some(SessionType::Worktree), ..kept(name, &["cat"]) }
}

async fn make(test: &TestApp, request: NewSession) -> Session {
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap()
}

async fn inside(test: &TestApp, made: &Session, line: &str) -> String {
    let directory = made.directory.clone().unwrap();
    let identity =
        "export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t";
    let done = sh(test, "a", &format!("{identity}; cd '{directory}' && {line}")).await;
    assert_eq!(done.exit, 0, "{line}: {}", done.stderr);
    done.stdout
}

async fn delete(test: &TestApp, name: &str, force: bool) -> Result<(), Problem> {
    let deleted = test.app.sessions().delete(&test.admin, &shed("a"), &session(name), force).await;
    deleted.map(drop).map_err(|error| error.problem())
}

async fn trash(test: &TestApp) -> Vec<TrashEntry> {
    test.app.files().trash(&test.admin, &shed("a")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_deletion_leaves_the_session_running() {
    let test = with_repository().await;
    let cases = [
        ("git worktree lock .", "is locked", "git worktree unlock ."),
        ("git init -q r && git -C r commit -q --allow-empty -m x", "\"r\"", "ls -la"),
        ("rm .git && git init -q && git add a && git commit -qm x", "of its own", "ls -la"),
    ];
    for (n, (line, text, hint)) in cases.into_iter().enumerate() {
        let name = format!("s{n}");
        let made = make(&test, tree(&name)).await;
        inside(&test, &made, line).await;
        let refused = delete(&test, &name, true).await.unwrap_err();
        assert_eq!(refused.code, Code::Conflict, "{refused:?}");
        assert!(refused.detail.contains(text), "{refused:?}");
        assert!(refused.hint.as_ref().unwrap().contains(hint), "{refused:?}");
        let row = test.app.sessions().get(&test.admin, &shed("a"), &session(&name)).unwrap();
        assert_eq!(row.status, SessionStatus::Running, "{line}");
        assert_eq!(inside(&test, &made, "ls a").await, "a\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_inside_is_named_and_goes_to_the_trash_with_force() {
    let test = with_repository().await;
    let made = make(&test, tree("fix")).await;
    let line = "mkdir .claude && echo '*' > .claude/.gitignore && \
                git worktree add -q -b sub .claude/sub && echo draft > .claude/sub/new";
    inside(&test, &made, line).await;
    let refused = delete(&test, "fix", false).await.unwrap_err();
    assert_eq!(refused.code, Code::WorkWouldBeLost);
    assert!(refused.detail.contains("1 other worktree inside it"), "{refused:?}");
    assert!(refused.detail.contains("/.claude/sub"), "{refused:?}");
    assert!(refused.hint.unwrap().contains("--force"));
    delete(&test, "fix", true).await.unwrap();
    let saved = trash(&test).await.into_iter().find(|it| it.kind == TrashKind::Checkpoint);
    let show = format!("git show {}:new", saved.unwrap().name);
    assert_eq!(sh(&test, "a", &show).await.stdout, "draft\n");
    let left = sh(&test, "a", "git worktree list | wc -l; git branch --list sub").await.stdout;
    assert_eq!(left, "1\n  sub\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_edits_need_force_and_go_to_the_trash() {
    let test = with_repository().await;
    let made = make(&test, tree("fix")).await;
    inside(&test, &made, "git update-index --skip-worktree a && echo MINE > a").await;
    let refused = delete(&test, "fix", false).await.unwrap_err();
    assert!(refused.detail.contains("1 changed file"), "{refused:?}");
    delete(&test, "fix", true).await.unwrap();
    let saved = trash(&test).await.into_iter().find(|it| it.kind == TrashKind::Checkpoint);
    let show = format!("git show {}:a", saved.unwrap().name);
    assert_eq!(sh(&test, "a", &show).await.stdout, "MINE\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trash_of_a_repository_outlives_its_last_session() {
    let test = with_repository().await;
    let root = test.engine.workspace("a");
    for name in ["one", "two"] {
        let line = format!(
            "git init -q -b main {name} && cd {name} && git config user.name t && \
                            git config user.email t@t && echo {name} > f && git add f && git commit -qm {name}"
        );
        sh(&test, "a", &line).await;
        let directory = Some(root.join(name).to_str().unwrap().to_owned());
        // The same name in two repositories.
        let made = make(&test, NewSession { directory, ..tree("fix") }).await;
        inside(&test, &made, "git commit -q --allow-empty -m work && echo x > new").await;
        delete(&test, "fix", true).await.unwrap();
    }
    let tips: Vec<TrashEntry> =
        trash(&test).await.into_iter().filter(|it| it.kind == TrashKind::Branch).collect();
    let [one, two] = tips.as_slice() else { panic!("{tips:?}") };
    assert_eq!(one.name, two.name);
    assert_eq!(Path::new(&one.repository), root.join("one"));
    let request = |repository: Option<&str>| RestoreTrash {
        name: one.name.clone(),
        branch: "back".to_owned(),
        repository: repository.map(str::to_owned),
    };
    let restore = async |repository: Option<&str>| {
        test.app.files().restore_trash(&test.admin, &shed("a"), request(repository)).await
    };
    let ambiguous = problem(restore(None).await);
    assert!(ambiguous.detail.contains("--repository"), "{ambiguous:?}");
    restore(Some(&two.repository)).await.unwrap();
    let branches = sh(&test, "a", "git -C one branch --list back; git -C two branch --list back");
    assert_eq!(branches.await.stdout, "  back\n");
    restore(None).await.unwrap();
    let gc = Gc { dry_run: false, older_than_days: Some(0) };
    let report = test.app.housekeeping().gc(&test.admin, &shed("a"), gc).await.unwrap();
    assert!(report.items.iter().any(|item| item.kind == "trash" && item.remove), "{report:?}");
    let left =
        sh(&test, "a", "git -C one for-each-ref refs/shed; git -C two for-each-ref refs/shed");
    assert_eq!(left.await.stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_a_worktree_that_is_gone_are_listed_restored_and_forked() {
    let test = with_repository().await;
    let (name, fix) = (shed("a"), session("fix"));
    let made = make(&test, tree("fix")).await;
    let checkpoint = async || test.app.files().make_checkpoint(&test.admin, &name, &fix, "").await;
    inside(&test, &made, "echo draft > notes").await;
    checkpoint().await.unwrap();
    inside(&test, &made, "echo more >> notes").await;
    checkpoint().await.unwrap();
    let directory = made.directory.clone().unwrap();
    sh(&test, "a", &format!("rm -rf '{directory}'")).await;
    let list = test.app.files().checkpoints(&test.admin, &name, &fix).await.unwrap();
    assert_eq!(list.checkpoints.len(), 2);
    let query =
        DiffQuery { from: Some("1".to_owned()), to: Some("2".to_owned()), ..DiffQuery::default() };
    let (diff, _) = test.app.files().diff(&test.admin, &name, &fix, query).await.unwrap();
    assert_eq!(diff.insertions, 1);
    let fork = NewSession { command: words(&["cat"]), ..kept("other", &[]) };
    let fork = test.app.files().fork_checkpoint(&test.admin, &name, &fix, 1, fork).await.unwrap();
    assert_eq!(inside(&test, &fork, "cat notes").await, "draft\n");
    // A restore creates it again, whether git has forgotten it or not.
    let restore = async |n| {
        test.app.files().restore_checkpoint(&test.admin, &name, &fix, n, Vec::new()).await.unwrap()
    };
    restore(2).await;
    let line = "cat notes; git branch --show-current; git status --short";
    assert_eq!(inside(&test, &made, line).await, "draft\nmore\nshed/fix\n?? notes\n");
    sh(&test, "a", &format!("rm -rf '{directory}' && git worktree prune")).await;
    restore(1).await;
    assert_eq!(inside(&test, &made, line).await, "draft\nshed/fix\n?? notes\n");
    // Nothing of a directory that is gone can be lost; its branch and checkpoints go to the trash.
    sh(&test, "a", &format!("rm -rf '{directory}'")).await;
    delete(&test, "fix", false).await.unwrap();
    assert!(trash(&test).await.iter().any(|it| it.name.ends_with("/fix.ckpt")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_run_after_the_directory_of_worktrees_was_deleted() {
    let test = with_repository().await;
    make(&test, tree("one")).await;
    let worktrees = test.engine.workspace("a").with_file_name("worktrees");
    let gone = format!("rm -rf '{}' ; git worktree prune", worktrees.display());
    sh(&test, "a", &gone).await;
    let made = make(&test, tree("two")).await;
    assert_eq!(made.status, SessionStatus::Running);
    assert_eq!(inside(&test, &made, "cat a").await, "one\n");
}

/// A few states of each kind through all layers; `shed-init`'s own tests try many more.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_through_the_app() {
    let test = with_repository().await;
    let states = [
        ("echo M0 > new", "M0"),
        ("echo M1 > s && git add s && echo x > s", "M1"),
        ("git commit -q --allow-empty -m M2 && git reset -q --soft HEAD~1", "M2"),
        ("git checkout -q --detach && git commit -q --allow-empty -m M3", "M3"),
        ("git update-index --assume-unchanged a && echo M4 > a", "M4"),
        ("echo M5 > new && rm -rf \"$(git rev-parse --git-dir)\"", "M5"),
        ("git worktree add -q --detach in && git -C in commit -q --allow-empty -m M6", "M6"),
    ];
    for (n, (line, _)) in states.iter().enumerate() {
        let name = format!("s{n}");
        let made = make(&test, tree(&name)).await;
        inside(&test, &made, line).await;
        test.app.sessions().terminate(&test.admin, &shed("a"), &session(&name)).await.unwrap();
        delete(&test, &name, true).await.unwrap();
    }
    let line =
        "git rev-list --objects --single-worktree --all --no-object-names | git cat-file --batch";
    let check = async || {
        let reached = sh(&test, "a", line).await.stdout;
        for (state, marker) in states {
            assert!(reached.contains(marker), "{marker} of {state:?} is lost");
        }
    };
    check().await;
    // Kept volumes keep the trash.
    test.app.sheds().delete(&test.admin, &shed("a"), Removal::KeepVolumes).await.unwrap();
    test.shed("a").await;
    check().await;
}
