//! What can be read: lists from memory, events from the store, and what only the engine knows.

use std::sync::Arc;

use shed_api::server::{Health, Info};
use shed_api::session::{SessionList, Warning};
use shed_api::shed::{DiskUseList, Shed, ShedList, Stats, StatsList};
use shed_api::{Event, Scope, ShedName, ShedStatus};
use shed_model::Rejection;
use tokio::sync::watch;

use super::{App, EngineState};
use crate::box_link::BoxLink;
use crate::session::list::{self, Rows};
use crate::shed::view::View;
use crate::{Error, Person};
use shed_engine::EngineError;

/// How long one look lasts, in seconds: whoever looks on renews it sooner.
const LOOK_SECONDS: u32 = 5;
/// The most lines of a log at once.
const MAX_LOG_LINES: u32 = 10_000;

impl App {
    /// What this server is, to somebody with a credential.
    pub fn info(&self, person: &Person, ssh_port: Option<u16>, http_port: Option<u16>) -> Info {
        let settings = self.settings();
        let engine = match self.engine_state() {
            EngineState::Up(words) => words,
            EngineState::Down(why) => format!("down: {why}"),
            EngineState::Unknown => "not looked at yet".to_owned(),
        };
        Info {
            name: settings.name.clone(),
            server_id: settings.server_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ssh_port,
            http_port,
            engine,
            scope: person.scope,
            features: Vec::new(),
        }
    }

    /// Whether the server can do all it is for.
    pub fn health(&self) -> Health {
        let mut missing = Vec::new();
        match self.engine_state() {
            EngineState::Up(_) => {}
            EngineState::Down(why) => missing.push(format!("engine: {why}")),
            EngineState::Unknown => missing.push("engine: not looked at yet".to_owned()),
        }
        if self.stopping().is_cancelled() {
            missing.push("the server is going away".to_owned());
        }
        Health { ready: missing.is_empty(), missing }
    }

    fn views(&self, person: &Person) -> Vec<(ShedName, View)> {
        let handles = self.handles().into_iter().filter(|(name, _)| person.sees(name.as_str()));
        handles.map(|(name, handle)| (name, handle.view.borrow().clone())).collect()
    }

    /// Every shed the person may see, by name.
    pub fn sheds(&self, person: &Person) -> ShedList {
        let views = self.views(person);
        ShedList { sheds: views.iter().map(|(_, view)| view.to_api()).collect() }
    }

    /// One shed.
    pub fn shed(&self, person: &Person, name: &ShedName) -> Result<Shed, Error> {
        let handle = self.keeper(person, name, Scope::Read, "to see a shed")?;
        let view = handle.view.borrow().clone();
        Ok(view.to_api())
    }

    /// The sessions of one shed, or of all the person may see. Read from memory; no shed is asked.
    pub fn sessions(&self, person: &Person, name: Option<&ShedName>) -> Result<SessionList, Error> {
        let (lists, warnings) = self.listed(person, name)?;
        let sessions = lists.iter().flat_map(|rows| rows.sessions.iter().cloned()).collect();
        Ok(SessionList { sessions, warnings })
    }

    /// The same as JSON. Sheds in which nothing changed since the last time cost a copy of its text.
    pub fn sessions_json(&self, person: &Person, name: Option<&ShedName>) -> Result<String, Error> {
        let (lists, warnings) = self.listed(person, name)?;
        Ok(list::to_json(&lists, &warnings))
    }

    fn listed(
        &self,
        person: &Person,
        name: Option<&ShedName>,
    ) -> Result<(Vec<Arc<Rows>>, Vec<Warning>), Error> {
        let views = match name {
            None => {
                self.lists.retain(|name| self.handle(name).is_some());
                self.views(person)
            }
            Some(name) => {
                let handle = self.keeper(person, name, Scope::Read, "to see sessions")?;
                let view = handle.view.borrow().clone();
                vec![(name.clone(), view)]
            }
        };
        let now = self.server.clock.now();
        let lists = views.iter().map(|(name, view)| self.joined(name, view)).collect();
        let warnings = views.iter().filter_map(|(_, view)| {
            // In a list of all, a shed that is stopped on purpose is no news.
            let quiet = name.is_none() && matches!(view.status(), ShedStatus::Stopped);
            view.warning(now).filter(|_| !quiet)
        });
        Ok((lists, warnings.collect()))
    }

    /// The sessions of a shed: what tmux lists, joined with the managed ones.
    pub(crate) fn joined(&self, name: &ShedName, view: &View) -> Arc<Rows> {
        let work = self.handle(name).map(|handle| handle.work.view.borrow().clone());
        let sources = (view.status(), work.unwrap_or_default(), view.table.clone());
        let now = self.server.clock.now();
        self.lists.rows(name, sources, &self.resources.logs, now)
    }

    /// Moves whenever any shed's status, link or sessions do.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.server.bell.subscribe()
    }

    /// Somebody looks at foreground commands and activity: the sheds they may see read them for five seconds.
    pub fn look(&self, person: &Person) {
        for (_, view) in self.views(person) {
            if view.status() == ShedStatus::Running {
                view.link.iter().for_each(|link| BoxLink::look(link, LOOK_SECONDS));
            }
        }
    }

    /// Events after `after`, oldest first, at most a thousand. Somebody confined to some sheds sees theirs.
    pub async fn events(
        &self,
        person: &Person,
        after: i64,
        shed: Option<&ShedName>,
    ) -> Result<Vec<Event>, Error> {
        person.may(Scope::Read, "to see events")?;
        if let Some(name) = shed
            && !person.sees(name.as_str())
        {
            return Err(Error::NoShed(name.clone()));
        }
        let events = self.server.store.events(after, shed.map(ToString::to_string)).await?;
        let visible = |event: &Event| match &event.shed {
            Some(shed) => person.sees(shed),
            None => person.sheds.is_none(),
        };
        // The last id moves on also when nothing is visible, so that a confined reader does not read for ever.
        let last = events.last().map(|event| event.id);
        let mut seen: Vec<Event> = events.into_iter().filter(visible).collect();
        if seen.is_empty()
            && let Some(last) = last
            && last > after
        {
            seen = Box::pin(self.events(person, last, shed)).await?;
        }
        Ok(seen)
    }

    /// Rings when there are new events; the value is the newest id.
    pub fn event_bell(&self) -> watch::Receiver<i64> {
        self.server.store.bell()
    }

    /// The last lines a shed's first process printed.
    pub async fn logs(
        &self,
        person: &Person,
        name: &ShedName,
        n_lines: u32,
    ) -> Result<String, Error> {
        self.keeper(person, name, Scope::Read, "to see a log")?;
        match self.server.engine.logs(name, n_lines.min(MAX_LOG_LINES)).await {
            Err(EngineError::NoBox(_)) => Ok(String::new()),
            logs => Ok(logs?),
        }
    }

    /// What one running shed uses now.
    pub async fn stats(&self, person: &Person, name: &ShedName) -> Result<Stats, Error> {
        let handle = self.keeper(person, name, Scope::Read, "to see what a shed uses")?;
        let status = handle.view.borrow().status();
        if status != ShedStatus::Running {
            return Err(Error::Rejected(Rejection::NotRunning { shed: name.clone(), status }));
        }
        Ok(self.server.engine.stats(name).await?)
    }

    /// What all running sheds use now, asked at once.
    pub async fn all_stats(&self, person: &Person) -> Result<StatsList, Error> {
        let views = self.views(person);
        let running = views.iter().filter(|(_, view)| view.status() == ShedStatus::Running);
        let asked = running.map(|(name, _)| self.server.engine.stats(name));
        let answers = futures_util::future::join_all(asked).await;
        let mut stats = Vec::new();
        for answer in answers {
            match answer {
                Ok(one) => stats.push(one),
                // It ended while it was asked.
                Err(EngineError::NoBox(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(StatsList { stats })
    }

    /// What sheds and kept volumes occupy on disk.
    pub async fn disk(&self, person: &Person) -> Result<DiskUseList, Error> {
        person.may(Scope::Read, "to see what is on disk")?;
        let mut disk = self.server.engine.disk().await?;
        disk.retain(|row| person.sees(&row.name));
        let known: Vec<ShedName> = self.handles().into_iter().map(|(name, _)| name).collect();
        for row in &mut disk {
            row.kept = !known.iter().any(|name| name.as_str() == row.name);
        }
        disk.sort_by(|a, b| (&a.name, &a.what).cmp(&(&b.name, &b.what)));
        Ok(DiskUseList { disk })
    }
}
