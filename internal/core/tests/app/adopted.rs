//! Sessions that were made with tmux and adopted: they have windows and no workers.

use shed_api::session::{Pane, SessionStatus, Window};
use shed_api::worker::Restart;
use shed_model::shed::life::Request;
use shed_testing::{TestApp, eventually};

use crate::support::{session, sh, shed, words};

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_session_comes_back_with_its_windows_and_says_what_did_not() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let (name, hand) = (shed("a"), session("hand"));
    let made = "mkdir -p one two && tmux new-session -d -s hand -c $PWD/one && \
                tmux split-window -d -t =hand: -c $PWD/two && \
                tmux new-window -d -t =hand: -n log -c $PWD/two sleep 1000";
    assert_eq!(sh(&test, "a", made).await.exit, 0);
    let directories = |windows: &[Window]| {
        let of = |window: &Window| -> Vec<String> {
            let last = |pane: &Pane| pane.directory.rsplit('/').next().unwrap_or_default().into();
            window.panes.iter().map(last).collect()
        };
        windows.iter().map(of).collect::<Vec<_>>()
    };
    let expected = [words(&["one", "two"]), words(&["two"])];
    let complete = async |what: &str, reason: Option<&str>| {
        eventually(what, async || {
            let found =
                test.app.sessions().get(&test.admin, &name, &hand).map_err(|e| format!("{e}"))?;
            let is = found.status == SessionStatus::Running
                && found.reason.as_deref() == reason
                && directories(&found.windows) == expected;
            if is { Ok(found) } else { Err(format!("{found:?}")) }
        })
        .await
    };
    complete("the windows", None).await;
    let id = test.app.sessions().adopt(&test.admin, &name, &hand).await.unwrap().id;
    for request in [Request::Stop, Request::Start] {
        test.app.sheds().request(&test.admin, &name, request).await.unwrap();
    }
    let lost = "not restored: sleep in window 1";
    let back = complete("the windows again", Some(lost)).await;
    assert_eq!(back.id, id);

    let restarted =
        test.app.sessions().restart(&test.admin, &name, &hand, Restart::default()).await.unwrap();
    assert_eq!((restarted.status, restarted.reason), (SessionStatus::Running, None));
    complete("the windows after a restart", None).await;

    test.app.sessions().terminate(&test.admin, &name, &hand).await.unwrap();
    test.app.sessions().restart(&test.admin, &name, &hand, Restart::default()).await.unwrap();
    let shell = test.app.sessions().get(&test.admin, &name, &hand).unwrap();
    assert_eq!(
        (shell.status, directories(&shell.windows)),
        (SessionStatus::Running, vec![words(&["one"])])
    );
}
