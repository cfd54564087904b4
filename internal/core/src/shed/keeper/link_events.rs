//! Events of the link: that it is up or down, tmux's state, the end of detached commands.

use std::sync::Arc;
use std::time::Duration;

use shed_api::{Actor, EventKind, ShedStatus};
use shed_link::TmuxSnapshot;
use shed_model::NewEvent;

use super::Keeper;
use crate::session::table::{SessionChange, Table, changes};
use shed_guest::LinkEvent;

/// How long a new session is attributed to the person who asked for it.
pub(super) const EXPECTED_FOR: Duration = Duration::from_secs(10);

impl Keeper {
    pub(super) async fn handle_link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up(link) => {
                let boot = Some(link.hello().boot.clone());
                let is_new_run = self.boot != boot;
                self.boot = boot;
                self.show(|view| {
                    if is_new_run {
                        view.table = None;
                    }
                    view.link = Some(link);
                    view.table_is_old = true;
                });
                self.add_event(self.event(EventKind::LinkUp, Actor::Server)).await;
            }
            LinkEvent::Down(link) => {
                if self.view.borrow().link.as_ref() != Some(&link) {
                    return;
                }
                self.show(|view| view.link = None);
                if self.row.status == ShedStatus::Running && self.lane.running().is_none() {
                    self.add_event(self.event(EventKind::LinkDown, Actor::Server)).await;
                }
            }
            LinkEvent::TmuxSnapshot(link, snapshot) => {
                if self.view.borrow().link.as_ref() == Some(&link) {
                    self.take_snapshot(&snapshot).await;
                }
            }
            LinkEvent::DetachedEnded { tag, status } => {
                let exit = shed_api::stream::Exit::from(status);
                let tag: String = shed_api::name::printable(&tag).chars().take(64).collect();
                let note = match exit {
                    shed_api::stream::Exit::Code(code) => format!("{tag} exit {code}"),
                    shed_api::stream::Exit::Signal(name) => format!("{tag} signal {name}"),
                };
                let actor = Actor::Shed(self.name.clone());
                self.add_event(self.event(EventKind::ExecEnded, actor).note(note)).await;
            }
        }
    }

    async fn take_snapshot(&mut self, snapshot: &TmuxSnapshot) {
        let table = Table::read(&self.name, snapshot);
        let known = self.view.borrow().table.clone();
        let changed = match &known {
            Some(known) => changes(known.rows(), table.rows()),
            None if self.fresh => changes(&[], table.rows()),
            // After a start of the server, sessions that exist are not new.
            None => Vec::new(),
        };
        if !changed.is_empty() {
            let events = changed.into_iter().map(|change| self.session_event(change)).collect();
            if let Err(error) = self.server.store.add_events(events).await {
                tracing::error!(shed = %self.name, %error, "session events were not written");
            }
        }
        self.show(|view| {
            view.table = Some(Arc::new(table));
            view.table_is_old = false;
        });
    }

    fn session_event(&mut self, change: SessionChange) -> NewEvent {
        let (kind, session, note) = match change {
            SessionChange::Created(name) => (EventKind::SessionCreated, name, None),
            SessionChange::Closed(name) => (EventKind::SessionClosed, name, None),
            SessionChange::Renamed { from, to } => (EventKind::SessionRenamed, to, Some(from)),
        };
        let asked =
            self.expected.remove(&session).filter(|(_, since)| since.elapsed() < EXPECTED_FOR);
        let actor = asked.map_or_else(|| Actor::Shed(self.name.clone()), |(actor, _)| actor);
        let event = self.event(kind, actor).session(&session);
        match note {
            Some(note) => event.note(note),
            None => event,
        }
    }
}
