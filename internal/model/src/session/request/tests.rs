//! What requests for sessions and workers may say.

use super::*;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn worktree() -> NewSession {
    NewSession { kind: Some(SessionType::Worktree), ..NewSession::default() }
}

fn is_too_large(result: &Result<(), Rejection>) -> bool {
    matches!(result, Err(Rejection::TooLarge(_)))
}

fn is_invalid(result: &Result<(), Rejection>) -> bool {
    matches!(result, Err(Rejection::Invalid(_)))
}

#[test]
fn options_of_worktrees_need_a_worktree_of_their_own() {
    let sharing = || NewSession { share: some("other"), ..worktree() };
    let good = [
        NewSession::default(),
        worktree(),
        sharing(),
        NewSession { branch: some("b"), base: some("main"), fetch: true, ..worktree() },
        NewSession { branch: some("b"), existing_branch: true, ..worktree() },
        NewSession { directory: some("/workspace/x"), ..NewSession::default() },
    ];
    for request in good {
        assert_eq!(check(&request), Ok(()), "{request:?}");
    }
    let bad = [
        NewSession { branch: some("b"), ..NewSession::default() },
        NewSession { base: some("b"), ..NewSession::default() },
        NewSession { fetch: true, ..NewSession::default() },
        NewSession { branch: some("b"), existing_branch: true, ..NewSession::default() },
        NewSession { existing_branch: true, ..NewSession::default() },
        NewSession { kind: Some(SessionType::Quick), fetch: true, ..NewSession::default() },
        NewSession { branch: some("b"), ..sharing() },
        NewSession { base: some("b"), ..sharing() },
        NewSession { directory: some("/x"), ..sharing() },
        NewSession { existing_branch: true, ..worktree() },
        NewSession { branch: some("b"), base: some("c"), existing_branch: true, ..worktree() },
        NewSession { setup: vec![String::new()], ..NewSession::default() },
        NewSession { teardown: vec![String::new()], ..NewSession::default() },
        NewSession { env: [("A=".to_owned(), String::new())].into(), ..NewSession::default() },
        NewSession { tags: vec![String::new()], ..NewSession::default() },
    ];
    for request in bad {
        assert!(is_invalid(&check(&request)), "{request:?}");
    }
}

#[test]
fn agents_and_commands_exclude_each_other() {
    let agent = NewWorker { agent: some("claude"), ..NewWorker::default() };
    let good = [
        NewWorker::default(),
        NewWorker { prompt: some("p"), model: some("m"), ..agent.clone() },
        NewWorker { command: vec!["ls".to_owned(), String::new()], ..NewWorker::default() },
    ];
    for request in good {
        assert_eq!(check_worker(&request), Ok(()), "{request:?}");
    }
    let bad = [
        NewWorker { command: vec!["ls".to_owned()], ..agent.clone() },
        NewWorker { prompt: some("p"), ..NewWorker::default() },
        NewWorker { model: some("m"), ..NewWorker::default() },
        NewWorker { prompt: some("a\0"), ..agent.clone() },
        NewWorker { command: vec!["ls".to_owned(), "a\0".to_owned()], ..NewWorker::default() },
        NewWorker { env: [(String::new(), String::new())].into(), ..NewWorker::default() },
    ];
    for request in bad {
        assert!(is_invalid(&check_worker(&request)), "{request:?}");
    }
    let prompt = |n| NewWorker { prompt: Some("p".repeat(n)), ..agent.clone() };
    assert_eq!(check_worker(&prompt(102_400)), Ok(()));
    assert!(is_too_large(&check_worker(&prompt(102_401))));
}

#[test]
fn directories_are_absolute() {
    for (directory, good) in
        [("/", true), ("/a b", true), ("a", false), ("", false), ("/\0", false)]
    {
        let result =
            check_worker(&NewWorker { directory: some(directory), ..NewWorker::default() });
        assert_eq!(result.is_ok(), good, "{directory:?}");
        assert_eq!(is_invalid(&result), !good, "{directory:?}");
    }
}

#[test]
fn texts_have_limits() {
    assert_eq!(check_title(&"t".repeat(1024)), Ok(()));
    assert!(is_too_large(&check_title(&"t".repeat(1025))));
    assert!(is_invalid(&check_title("a\tb")));
    let command = |n| vec!["c".to_owned(), "x".repeat(n)];
    assert_eq!(check_command(&command(122_879)), Ok(()));
    assert!(is_too_large(&check_command(&command(122_880))));
    assert!(is_invalid(&check(&NewSession { title: some("\n"), ..NewSession::default() })));
}
