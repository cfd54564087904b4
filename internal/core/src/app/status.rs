//! The server itself: what it is and whether it works.

use std::sync::Arc;

use shed_api::server::{Health, Info};
use tokio::sync::watch;

use crate::Person;
use crate::housekeeping::disk_space;
use crate::server::Server;
use crate::shed::engine_watch::EngineState;

/// The server's own state.
#[derive(Clone)]
pub struct Status {
    pub(crate) server: Arc<Server>,
    pub(crate) engine: watch::Receiver<EngineState>,
}

impl Status {
    /// What this server is, for a caller with a credential.
    pub fn info(&self, person: &Person, ssh_port: Option<u16>, http_port: Option<u16>) -> Info {
        let settings = &self.server.settings;
        let engine = match &*self.engine.borrow() {
            EngineState::Up(description) => description.clone(),
            EngineState::Down(why) => format!("down: {why}"),
            EngineState::Unknown => "not checked yet".to_owned(),
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

    /// Whether the server can do everything it is for, and what is missing.
    pub fn health(&self) -> Health {
        let mut missing = Vec::new();
        match &*self.engine.borrow() {
            EngineState::Up(_) => {}
            EngineState::Down(why) => missing.push(format!("engine: {why}")),
            EngineState::Unknown => missing.push("engine: not checked yet".to_owned()),
        }
        missing.extend(disk_space::full(&self.server.settings.sessions.output_dir));
        if self.server.door_stop.is_cancelled() {
            missing.push("the server is shutting down".to_owned());
        }
        Health { ready: missing.is_empty(), missing }
    }

    /// Waits until the engine was asked once, so that sheds are shown as they are from then on.
    pub async fn settled(&self) {
        let mut state = self.engine.clone();
        // The watch ends with the server.
        state.wait_for(|state| *state != EngineState::Unknown).await.ok();
    }
}
