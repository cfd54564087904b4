//! tmux's layout, stored so that unmanaged sessions are restored after an orderly stop, and reported as lost after any other.

use std::fmt::Write as _;
use std::time::Duration;

use shed_api::{Actor, EventKind, ShedName};
use shed_guest::tmux::{Command, TmuxFailure};
use shed_guest::{Error as GuestError, Link};
use shed_link::Refusal;
use shed_model::NewEvent;
use shed_model::session::LayoutRow;
use shed_tmux::argv::{self, Target};
use shed_tmux::listing::{SessionRow, WindowRow};
use shed_tmux::{Listing, parse_listing, watch};

use crate::server::Server;

/// How long a listing may take when the shed is about to stop.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// The part of a listing that does not change by itself: when it changes, the listing is stored.
pub(crate) fn structure(listing: &Listing) -> String {
    let mut text = String::new();
    for session in &listing.sessions {
        write!(text, "{}\0{}\0{}\0", session.id, session.name, session.mark).ok();
        for window in &session.windows {
            let WindowRow { id, index, name, mark, layout, panes, .. } = window;
            // A window without a mark is named after its running command, which changes.
            let name = if mark.is_empty() { "" } else { name.as_str() };
            write!(text, "{id}\0{index}\0{name}\0{mark}\0{layout}\0{}\0", panes.len()).ok();
        }
    }
    text
}

/// [`structure`] of a listing's text; empty if the text cannot be parsed.
pub(crate) fn structure_of(body: &str) -> String {
    parse_listing(body).map(|listing| structure(&listing)).unwrap_or_default()
}

/// Reads tmux's current state; `None` if that fails.
pub(crate) async fn read(link: &Link) -> Option<String> {
    let listed = Command::new(watch::list_argv()).run(link);
    let text = tokio::time::timeout(READ_LIMIT, listed).await.ok()?.ok()?;
    parse_listing(&text).is_ok().then_some(text)
}

/// Restores unmanaged sessions from a complete layout; else records them as lost.
pub(crate) async fn restore(server: &Server, shed: &ShedName, link: &Link, layout: &LayoutRow) {
    let Ok(listing) = parse_listing(&layout.body) else {
        return;
    };
    for session in &listing.sessions {
        // The keeper restores managed sessions.
        if !session.mark.is_empty() {
            continue;
        }
        let lost = if layout.orderly {
            restore_one(link, session).await.err()
        } else {
            Some("the shed was not stopped in an orderly way".to_owned())
        };
        if let Some(why) = lost {
            let event = NewEvent::new(server.clock.now(), EventKind::SessionLost, Actor::Server);
            let event = event.shed(shed.as_str()).session(&session.name).note(why);
            if let Err(error) = server.store.add_events(vec![event]).await {
                tracing::error!(%shed, %error, "the loss of a session was not written");
            }
        }
    }
}

async fn restore_one(link: &Link, session: &SessionRow) -> Result<(), String> {
    // Names of unmanaged sessions may contain formats that tmux would execute; such a session is not restored.
    if session.name.parse::<shed_api::SessionName>().is_err() {
        return Err("its name may contain a tmux format".to_owned());
    }
    let target = Target::Name(session.name.clone());
    let mut current = None;
    for (n, window) in session.windows.iter().enumerate() {
        let directory = directory_of(window);
        let id = if n == 0 {
            tmux(link, argv::new_session(&session.name, &[], &[]), directory).await?;
            let first = tmux(link, argv::active_window(&target), None).await?;
            first.trim().to_owned()
        } else {
            let made = argv::shell_window(&target, &safe_name(&window.name));
            tmux(link, made, directory).await?.trim().to_owned()
        };
        split(link, window, &id).await?;
        if window.active {
            current = Some(id);
        }
    }
    if let Some(window) = current {
        tmux(link, argv::select_window(&window), None).await.ok();
    }
    Ok(())
}

/// Where the first pane of a window opens again.
pub(crate) fn directory_of(window: &WindowRow) -> Option<String> {
    window.panes.first().map(|pane| pane.directory.clone())
}

/// Gives a window that was opened again the panes that it had.
pub(crate) async fn split(link: &Link, window: &WindowRow, id: &str) -> Result<(), String> {
    for pane in window.panes.iter().skip(1) {
        tmux(link, argv::split_window(id), Some(pane.directory.clone())).await?;
    }
    if window.panes.len() > 1 {
        // A layout for another number of panes is refused, and the panes are there anyway.
        tmux(link, argv::select_layout(id, &window.layout), None).await.ok();
    }
    Ok(())
}

/// A window's name without tmux formats.
pub(crate) fn safe_name(name: &str) -> String {
    let name = shed_api::name::printable(name).replace('#', "");
    if name.is_empty() { "shell".to_owned() } else { name }
}

/// Runs a tmux command that opens something in a directory.
pub(crate) async fn tmux(
    link: &Link,
    argv: Vec<String>,
    directory: Option<String>,
) -> Result<String, String> {
    let command = Command::new(argv);
    let ran = match command.clone().directory(directory.as_deref()).run(link).await {
        // A directory that is gone: the window opens where windows open.
        Err(TmuxFailure::Guest(GuestError::Refused(Refusal::NoDirectory { .. }))) => {
            command.run(link).await
        }
        ran => ran,
    };
    ran.map_err(|failure| failure.to_string())
}
