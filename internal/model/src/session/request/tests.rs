//! What requests for sessions and workers may say.

use super::*;

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
    let sharing = || NewSession { share: Some("other".to_owned()), ..worktree() };
    let good = [
        NewSession::default(),
        worktree(),
        sharing(),
        NewSession {
            branch: Some("b".to_owned()),
            base: Some("main".to_owned()),
            fetch: true,
            ..worktree()
        },
        NewSession { branch: Some("b".to_owned()), existing_branch: true, ..worktree() },
        NewSession { directory: Some("/workspace/x".to_owned()), ..NewSession::default() },
    ];
    for request in good {
        assert_eq!(check(&request), Ok(()), "{request:?}");
    }
    let bad = [
        NewSession { branch: Some("b".to_owned()), ..NewSession::default() },
        NewSession { base: Some("b".to_owned()), ..NewSession::default() },
        NewSession { fetch: true, ..NewSession::default() },
        NewSession { branch: Some("b".to_owned()), existing_branch: true, ..NewSession::default() },
        NewSession { existing_branch: true, ..NewSession::default() },
        NewSession { kind: Some(SessionType::Quick), fetch: true, ..NewSession::default() },
        NewSession { branch: Some("b".to_owned()), ..sharing() },
        NewSession { base: Some("b".to_owned()), ..sharing() },
        NewSession { directory: Some("/x".to_owned()), ..sharing() },
        NewSession { existing_branch: true, ..worktree() },
        NewSession {
            branch: Some("b".to_owned()),
            base: Some("c".to_owned()),
            existing_branch: true,
            ..worktree()
        },
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
    let agent = NewWorker { agent: Some("claude".to_owned()), ..NewWorker::default() };
    let good = [
        NewWorker::default(),
        NewWorker { prompt: Some("p".to_owned()), model: Some("m".to_owned()), ..agent.clone() },
        NewWorker { command: vec!["ls".to_owned(), String::new()], ..NewWorker::default() },
    ];
    for request in good {
        assert_eq!(check_worker(&request), Ok(()), "{request:?}");
    }
    let bad = [
        NewWorker { command: vec!["ls".to_owned()], ..agent.clone() },
        NewWorker { prompt: Some("p".to_owned()), ..NewWorker::default() },
        NewWorker { model: Some("m".to_owned()), ..NewWorker::default() },
        NewWorker { prompt: Some("a\0".to_owned()), ..agent.clone() },
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
        let result = check_worker(&NewWorker {
            directory: Some(directory.to_owned()),
            ..NewWorker::default()
        });
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
    assert!(is_invalid(&check(&NewSession {
        title: Some("\n".to_owned()),
        ..NewSession::default()
    })));
}

#[test]
fn rejections_name_the_value_and_the_rule() {
    let text = |result: Result<(), Rejection>| result.unwrap_err().to_string();
    let title = text(check_title("a\tb"));
    assert_eq!(title, "invalid title \"a\\tb\"; expected text without control characters");
    let directory = text(check_directory(Some("a")));
    assert_eq!(directory, "invalid directory \"a\"; expected an absolute path without NUL bytes");
    let long = text(check_title(&"t".repeat(1025)));
    assert_eq!(long, "invalid title of 1025 bytes; expected at most 1024");
}
