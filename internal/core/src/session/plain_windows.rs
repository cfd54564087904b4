//! The windows of managed sessions that are no worker's: all windows of an adopted session, and windows that people opened
//! with tmux. They are opened again as shells; the programs in them are not started again.

use shed_tmux::argv;
use shed_tmux::listing::{SessionRow, WindowRow};
use shed_tmux::parse_listing;

use crate::Error;
use crate::session::env::SessionOpEnv;
use crate::session::layout::{directory_of, safe_name, split, tmux};
use crate::session::windows::{has_ours, session_env, tmux_in};

/// The foreground command of a window in which shed runs a command for a caller, as tmux names it.
const RUNNER: &str = "shed-init";
/// Shells: where one ran, a new one is the same.
const SHELLS: [&str; 8] = ["sh", "bash", "zsh", "fish", "dash", "ash", "ksh", "login"];

/// The result of opening windows again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reopened {
    /// How many windows are open again.
    pub(crate) n_windows: usize,
    /// What did not come back, in words.
    pub(crate) lost: Vec<String>,
}

/// These windows of a session with this mark in a stored listing; none if it is not in there.
pub(crate) fn stored(body: &str, mark: &str) -> Vec<WindowRow> {
    let listing = parse_listing(body).unwrap_or_default();
    let session = listing.sessions.into_iter().find(|session| session.mark == mark);
    session.as_ref().map(of).unwrap_or_default()
}

/// These windows of a listed session. A window in which shed runs a command for a caller ends with the command.
pub(crate) fn of(session: &SessionRow) -> Vec<WindowRow> {
    let is_plain = |window: &&WindowRow| {
        window.mark.is_empty() && !window.panes.iter().all(|pane| pane.command == RUNNER)
    };
    session.windows.iter().filter(is_plain).cloned().collect()
}

/// The programs in the windows that a shell does not replace, as `vim in window 2`.
fn programs(windows: &[WindowRow]) -> Vec<String> {
    let panes =
        windows.iter().flat_map(|window| window.panes.iter().map(move |pane| (window, pane)));
    let programs = panes
        .filter(|(_, pane)| !pane.dead && !SHELLS.contains(&pane.command.trim_start_matches('-')));
    programs.map(|(window, pane)| format!("{} in window {}", pane.command, window.index)).collect()
}

/// The reason of a session that runs without these.
pub(crate) fn reason(lost: &[String]) -> Option<String> {
    (!lost.is_empty()).then(|| format!("not restored: {}", lost.join("; ")))
}

/// Opens the windows again, in a new tmux session if the session has none.
pub(crate) async fn reopen(env: &SessionOpEnv, windows: &[WindowRow]) -> Result<Reopened, Error> {
    let link = env.link()?;
    let known = env.known()?;
    let mut reopened = Reopened { n_windows: 0, lost: programs(windows) };
    let mut current = None;
    for window in windows {
        let target = has_ours(env, &link, &known.row.name, &env.id).await?;
        let argv = if let Some(target) = &target {
            argv::shell_window(target, &safe_name(&window.name))
        } else {
            env.expect_session(&known.row.name).await;
            argv::marked_shell(&known.row.name, &env.id, &session_env(&env.shed, &known))
        };
        let opened = async {
            let id = tmux(&link, argv, directory_of(window)).await?.trim().to_owned();
            split(&link, window, &id).await.map(|()| id)
        };
        match opened.await {
            Ok(id) => {
                reopened.n_windows += 1;
                if window.active {
                    current = Some(id);
                }
            }
            Err(why) => reopened.lost.push(format!("window {}: {why}", window.index)),
        }
    }
    if let Some(window) = current {
        // It may have been closed a moment ago.
        tmux(&link, argv::select_window(&window), None).await.ok();
    }
    Ok(reopened)
}

/// Opens a shell in the session's directory, in a new tmux session.
pub(crate) async fn shell(env: &SessionOpEnv) -> Result<(), Error> {
    let (link, known) = (env.link()?, env.known()?);
    env.expect_session(&known.row.name).await;
    let argv = argv::marked_shell(&known.row.name, &env.id, &session_env(&env.shed, &known));
    tmux_in(env, &link, argv, Some(&known.row.spec.directory)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use shed_tmux::listing::PaneRow;

    use super::*;

    fn window(index: u32, mark: &str, commands: &[&str]) -> WindowRow {
        let pane = |command: &&str| PaneRow {
            id: 1,
            title: String::new(),
            active: true,
            command: (*command).to_owned(),
            directory: "/workspace".to_owned(),
            pid: 1,
            dead: false,
        };
        WindowRow {
            id: index,
            index,
            name: "w".to_owned(),
            active: index == 0,
            activity: 0,
            mark: mark.to_owned(),
            layout: String::new(),
            panes: commands.iter().map(pane).collect(),
        }
    }

    #[test]
    fn windows_without_a_worker_or_a_callers_command_are_kept() {
        let windows = vec![
            window(0, "", &["bash"]),
            window(1, "worker", &["shed-init"]),
            window(2, "", &["shed-init"]),
            window(3, "", &["-zsh", "vim"]),
        ];
        let session = SessionRow {
            id: 1,
            name: "s".to_owned(),
            created: 0,
            n_attached: 0,
            mark: "m".to_owned(),
            windows,
        };
        let kept = of(&session);
        assert_eq!(kept.iter().map(|window| window.index).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(programs(&kept), ["vim in window 3"]);
    }
}
