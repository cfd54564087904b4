//! Templates, batches and the trash, on real tmux and git.

use shed_api::git::RestoreTrash;
use shed_api::session::{NewSession, Session, SessionStatus, SessionType};
use shed_api::work::{Batch, BatchFilter, BatchItem, BatchOp};
use shed_api::{Actor, Code, Scope};
use shed_core::Person;
use shed_model::shed::life::Request;
use shed_testing::{TestApp, eventually};

use crate::support::{problem, repository, session, sh, shed, words};

async fn make(test: &TestApp, request: NewSession) -> Session {
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap()
}

fn kept(name: &str) -> NewSession {
    NewSession {
        name: Some(name.to_owned()),
        command: words(&["cat"]),
        keep: Some(true),
        ..NewSession::default()
    }
}

fn tree(name: &str) -> NewSession {
    NewSession { kind: Some(SessionType::Worktree), ..kept(name) }
}

fn from_template(name: &str) -> NewSession {
    NewSession { template: Some(name.to_owned()), ..NewSession::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_uses_the_templates_of_the_repository_that_it_works_in() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let project = test.engine.workspace("a").join("proj");
    std::fs::create_dir_all(project.join(".shed/templates")).unwrap();
    let text = "title = 'of proj'\ncommand = ['sleep', '1000']\n";
    std::fs::write(project.join(".shed/templates/review.toml"), text).unwrap();
    let made = sh(&test, "a", "git init -q proj && mkdir proj/src").await;
    assert_eq!(made.exit, 0, "{}", made.stderr);
    let directory = project.to_str().unwrap().to_owned();
    let list = test.app.templates().list(&test.admin, &shed("a")).await.unwrap().templates;
    let found = (list.len(), list[0].name.as_str(), list[0].directory.as_ref());
    assert_eq!(found, (1, "review", Some(&directory)));
    let there = NewSession {
        directory: Some(project.join("src").to_str().unwrap().to_owned()),
        ..from_template("review")
    };
    let made = test.app.sessions().create(&test.admin, &shed("a"), there).await.unwrap();
    assert_eq!(made.title.as_deref(), Some("of proj"));
    let elsewhere = from_template("review");
    let refused = problem(test.app.sessions().create(&test.admin, &shed("a"), elsewhere).await);
    let hint = format!("shed run a --dir {directory} --template review");
    assert!(refused.detail.contains(&hint), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_made_from_templates_of_the_server_and_the_repository() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let server = test.dir().join("templates");
    let repository = test.engine.workspace("a").join(".shed/templates");
    std::fs::create_dir_all(&server).unwrap();
    std::fs::create_dir_all(&repository).unwrap();
    let write = |dir: &std::path::Path, name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
    };
    write(&server, "both.toml", "title = 'of the server'");
    write(&server, "only.toml", "tags = ['t']\ncommand = ['sleep', '1000']\n[env]\nX = 'y'\n");
    write(&server, "broken.toml", "title = 'fine'");
    write(&server, "notes.txt", "title = 'no template'");
    write(&repository, "both.toml", "title = 'of the repository'\ncommand = ['sleep', '1000']\n");
    write(&repository, "broken.toml", "title = 'x'\n\nagnet = 'claude'\n");
    write(&repository, "large.toml", &format!("title = '{}'", "x".repeat(64 << 10)));
    for name in ["$(touch owned).toml", "-rf.toml", "a\nb.toml", ".toml", "\u{1b}[2J.toml"] {
        write(&repository, name, "title = 'hostile'");
    }
    std::os::unix::fs::symlink("/etc/passwd", repository.join("link.toml")).unwrap();
    std::fs::create_dir(repository.join("dir.toml")).unwrap();
    let list = async || test.app.templates().list(&test.admin, &shed("a")).await.unwrap().templates;
    let all = list().await;
    let good: Vec<_> = all
        .iter()
        .filter(|it| it.template.is_some())
        .map(|it| (it.name.as_str(), it.source.as_str()))
        .collect();
    let expected =
        [("both", "repository"), ("both", "server"), ("broken", "server"), ("only", "server")];
    assert_eq!(good, expected);
    let errors: Vec<_> = all.iter().filter(|it| it.template.is_none()).collect();
    let error = |name: &str| {
        errors.iter().find(|it| it.name == name).and_then(|it| it.error.clone()).unwrap()
    };
    assert!(
        error("broken").contains("line 3, column 1: unknown key `agnet`"),
        "{}",
        error("broken")
    );
    assert!(error("large").contains("over 65536 bytes"), "{}", error("large"));
    assert!(error("$(touch owned)").contains("invalid"), "{}", error("$(touch owned)"));
    assert_eq!(errors.len(), 7, "{errors:?}");
    assert!(errors.iter().all(|it| !it.name.contains(['\n', '\x1b'])), "{errors:?}");
    assert!(!test.engine.workspace("a").join("owned").exists());

    let made = make(&test, from_template("both")).await;
    assert_eq!(made.title.as_deref(), Some("of the repository"));
    assert_eq!((made.template.as_deref(), made.workers[0].name.as_str()), (Some("both"), "sleep"));
    let own = NewSession { tags: words(&["mine"]), ..from_template("only") };
    assert_eq!(make(&test, own).await.tags, ["mine"]);
    let name = shed("a");
    let new = async |template: &str| {
        problem(test.app.sessions().create(&test.admin, &name, from_template(template)).await)
    };
    let broken = new("broken").await;
    assert_eq!(broken.code, Code::InvalidRequest);
    assert!(broken.detail.contains("line 3"), "{broken:?}");
    let unknown = new("nothing").await;
    assert_eq!(unknown.code, Code::NotFound);
    assert!(unknown.detail.contains("both, broken"), "{unknown:?}");
    for hostile in ["../both", "$(touch owned)", "-rf", "*", "link"] {
        let code = new(hostile).await.code;
        assert!(matches!(code, Code::InvalidName | Code::NotFound), "{hostile}: {code:?}");
    }
    assert!(test.app.templates().check("title = 'x'").is_ok());
    assert_eq!(problem(test.app.templates().check("x")).code, Code::InvalidRequest);

    test.app.sheds().request(&test.admin, &shed("a"), Request::Stop).await.unwrap();
    let stopped = list().await;
    assert!(stopped.iter().all(|it| it.source == "server"), "{stopped:?}");
    assert_eq!(stopped.len(), 3);
    let status = test.app.sheds().get(&test.admin, &shed("a")).unwrap().status;
    assert_eq!(status, shed_api::ShedStatus::Stopped);
}

fn batch(op: BatchOp, ids: &[&Session]) -> Batch {
    Batch { ids: ids.iter().map(|it| it.id.clone()).collect(), op, ..Batch::default() }
}

async fn run(test: &TestApp, batch: Batch) -> Vec<BatchItem> {
    test.app.batches().run(&test.admin, batch).await.unwrap().items
}

fn code(item: &BatchItem) -> Option<Code> {
    item.problem.as_ref().map(|problem| problem.code)
}

fn effect(item: &BatchItem) -> &str {
    item.effect.as_deref().unwrap_or_else(|| panic!("{item:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_reports_each_session_and_a_dry_run_changes_nothing() {
    let test = TestApp::start().await;
    test.shed("a").await;
    repository(&test, "a").await;
    let one = make(&test, kept("one")).await;
    let risky = make(&test, tree("risky")).await;
    let clean = make(&test, tree("clean")).await;
    let directory = risky.directory.clone().unwrap();
    sh(&test, "a", &format!("echo new > {directory}/new; echo x >> {directory}/a")).await;
    let missing = Session { id: "0".repeat(32), ..Session::default() };
    let all = [&one, &risky, &missing, &clean];

    let dry = |op, ids: &[&Session]| Batch { dry_run: true, ..batch(op, ids) };
    let before = test.app.sessions().list(&test.admin, None).unwrap().sessions;
    let items = run(&test, dry(BatchOp::Delete, &all)).await;
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, all.map(|session| session.id.as_str()));
    assert_eq!(effect(&items[0]), "would end 1 running worker and delete it; its directory stays");
    assert_eq!(code(&items[1]), Some(Code::WorkWouldBeLost));
    let lost = &items[1].problem.as_ref().unwrap().detail;
    assert!(lost.contains("1 changed file, 1 new file"), "{lost}");
    assert_eq!(code(&items[2]), Some(Code::SessionNotFound));
    assert!(effect(&items[3]).contains("nothing would be lost"));
    let forced = Batch { force: true, ..dry(BatchOp::Delete, &[&risky]) };
    assert!(
        effect(&run(&test, forced).await[0]).contains("would move to the trash: 1 changed file")
    );
    let after = test.app.sessions().list(&test.admin, None).unwrap().sessions;
    let stable = |list: &[Session]| -> Vec<_> {
        list.iter().map(|it| (it.id.clone(), it.status, it.workers.clone())).collect()
    };
    assert_eq!(stable(&after), stable(&before));

    let items = run(&test, batch(BatchOp::Checkpoint, &all)).await;
    assert_eq!(code(&items[0]), Some(Code::InvalidRequest));
    assert_eq!(effect(&items[1]), "checkpoint 1 was created");
    assert_eq!(
        effect(&run(&test, batch(BatchOp::Checkpoint, &[&risky])).await[0]),
        "unchanged since checkpoint 1"
    );
    let input = Batch { text: Some("hello".to_owned()), ..batch(BatchOp::Input, &[&one, &clean]) };
    assert!(run(&test, input).await.iter().all(|item| effect(item) == "typed"));
    eventually("the text", async || {
        let (shed, session) = (shed("a"), session("clean"));
        let screen =
            test.app.sessions().screen(&test.admin, &shed, &session, None, false).await.unwrap();
        screen.contains("hello").then_some(())
    })
    .await;
    let tag = Batch { tags: words(&["x"]), ..batch(BatchOp::Tag, &[&one, &clean]) };
    assert_eq!(effect(&run(&test, tag.clone()).await[0]), "tagged");
    assert_eq!(effect(&run(&test, tag).await[0]), "has these tags already");

    // By what they are: those with the tag end, the other goes on.
    let filter = Some(BatchFilter { tag: Some("x".to_owned()), ..BatchFilter::default() });
    let end = Batch { filter, op: BatchOp::Terminate, ..Batch::default() };
    let items = run(&test, end.clone()).await;
    assert_eq!(items.iter().map(effect).collect::<Vec<_>>(), ["ended", "ended"]);
    assert!(run(&test, end).await.iter().all(|item| effect(item) == "has ended already"));
    let get =
        |name: &str| test.app.sessions().get(&test.admin, &shed("a"), &session(name)).unwrap();
    assert_eq!(get("one").status, SessionStatus::Ended);
    assert_eq!(get("risky").status, SessionStatus::Running);

    let items = run(&test, batch(BatchOp::Delete, &all)).await;
    assert_eq!(code(&items[1]), Some(Code::WorkWouldBeLost));
    assert_eq!((effect(&items[0]), effect(&items[3])), ("deleted", "deleted"));
    let left = test.app.sessions().list(&test.admin, None).unwrap().sessions;
    assert_eq!(left.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["risky"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_limited_to_its_callers_sheds() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let one = make(&test, kept("one")).await;
    let actor = Actor::Token("t".to_owned());
    let elsewhere = Person::holder(actor.clone(), Scope::Admin, vec!["b".to_owned()]);
    let reader = Person::holder(actor, Scope::Read, Vec::new());
    let delete = batch(BatchOp::Delete, &[&one]);
    let items = test.app.batches().run(&elsewhere, delete.clone()).await.unwrap().items;
    assert_eq!((code(&items[0]), &items[0].name), (Some(Code::SessionNotFound), &None));
    let all = Batch { ids: Vec::new(), filter: Some(BatchFilter::default()), ..delete.clone() };
    assert!(test.app.batches().run(&elsewhere, all).await.unwrap().items.is_empty());
    let filter = BatchFilter { shed: Some("a".to_owned()), ..BatchFilter::default() };
    let there = Batch { ids: Vec::new(), filter: Some(filter), ..delete.clone() };
    assert_eq!(problem(test.app.batches().run(&elsewhere, there).await).code, Code::ShedNotFound);
    assert_eq!(
        problem(test.app.batches().run(&reader, delete.clone()).await).code,
        Code::Forbidden
    );
    let dry = Batch { dry_run: true, ..delete };
    assert!(
        effect(&test.app.batches().run(&reader, dry).await.unwrap().items[0]).contains("would end")
    );
    // Nobody is hit by being called like another's id.
    make(&test, kept(&one.id)).await;
    let items = run(&test, batch(BatchOp::Terminate, &[&one])).await;
    assert_eq!(code(&items[0]), None);
    let both = test.app.sessions().list(&test.admin, None).unwrap().sessions;
    let running: Vec<&str> = both
        .iter()
        .filter(|it| it.status == SessionStatus::Running)
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(running, [one.id.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_is_restored_from_the_trash() {
    let test = TestApp::start().await;
    test.shed("a").await;
    repository(&test, "a").await;
    let name = shed("a");
    let made = make(&test, tree("lost")).await;
    let directory = made.directory.unwrap();
    let commit = format!("cd {directory} && echo two > a && git commit -qam second");
    sh(&test, "a", &commit).await;
    test.app.sessions().delete(&test.admin, &name, &session("lost"), true).await.unwrap();
    let trash = async || test.app.files().trash(&test.admin, &name).await.unwrap();
    let tip = trash().await.into_iter().find(|it| it.subject == "second").unwrap();
    assert!(tip.name.starts_with("refs/shed/trash/"), "{tip:?}");
    let request = |trashed: &str, branch: &str| RestoreTrash {
        name: trashed.to_owned(),
        branch: branch.to_owned(),
        repository: None,
    };
    let restore = async |trashed: &str, branch: &str| {
        test.app.files().restore_trash(&test.admin, &name, request(trashed, branch)).await
    };
    let gone = "refs/shed/trash/20200101/none";
    assert_eq!(problem(restore(gone, "back").await).code, Code::NotFound);
    for hostile in ["refs/heads/main", "refs/shed/../heads/main", "-x"] {
        assert_eq!(problem(restore(hostile, "back").await).code, Code::InvalidRequest);
    }
    for branch in ["-x", "a..b", ""] {
        assert_eq!(problem(restore(&tip.name, branch).await).code, Code::InvalidRequest);
    }
    assert_eq!(problem(restore(&tip.name, "main").await).code, Code::Conflict);
    restore(&tip.name, "back").await.unwrap();
    assert_eq!(sh(&test, "a", "git log -1 --format=%s back").await.stdout, "second\n");
    assert!(!trash().await.iter().any(|it| it.name == tip.name));
    let reader = Person::holder(Actor::Token("t".to_owned()), Scope::Read, Vec::new());
    assert!(test.app.files().trash(&reader, &name).await.is_ok());
    let again = request(&tip.name, "again");
    let refused = test.app.files().restore_trash(&reader, &name, again).await;
    assert_eq!(problem(refused).code, Code::Forbidden);
}
