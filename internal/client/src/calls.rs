//! Calls for the server, sheds, sessions and access.

use hyper::{Method, StatusCode};
use shed_api::Event;
use shed_api::access::{IssuedToken, Key, KeyList, NewKey, NewToken, TokenList};
use shed_api::server::{Health, HostKey, Info};
use shed_api::session::{
    DeletedSession, Input, NewSession, Output, PatchSession, Session, SessionList,
};
use shed_api::shed::{
    CreateShed, DiskUseList, PatchShed, RebuildShed, Shed, ShedList, Stats, StatsList,
};
use shed_api::stream::{ExecRequest, ExecResult};

use crate::request::segment;
use crate::{Client, ClientError};

/// No request body.
pub(crate) const NO_BODY: Option<&()> = None;

/// Whether an operation changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The operation was carried out.
    Changed,
    /// The shed was in the requested state already.
    Unchanged,
}

pub(crate) fn shed_path(shed: &str) -> String {
    format!("/api/sheds/{}", segment(shed))
}

pub(crate) fn session_path(shed: &str, session: &str) -> String {
    format!("{}/sessions/{}", shed_path(shed), segment(session))
}

impl Client {
    /// `GET /api/info`.
    pub async fn info(&self) -> Result<Info, ClientError> {
        self.get("/api/info").await
    }

    /// `GET /api/health/ready`; succeeds also when the server is not ready.
    pub async fn health(&self) -> Result<Health, ClientError> {
        let answer = self.exchange(Method::GET, "/api/health/ready", None, &[]).await?;
        match answer.status().as_u16() {
            200 | 503 => self.read_json(answer).await,
            _ => Err(self.read_problem(answer).await),
        }
    }

    /// `GET /api/ssh-host-key`.
    pub async fn host_key(&self) -> Result<HostKey, ClientError> {
        self.get("/api/ssh-host-key").await
    }

    /// `GET /api/events` as one page: at most 1,000 events with ids above `after`, oldest first; of one shed or of all.
    pub async fn event_page(
        &self,
        after: i64,
        shed: Option<&str>,
    ) -> Result<Vec<Event>, ClientError> {
        /// Body of the answer.
        #[derive(serde::Deserialize)]
        struct Page {
            events: Vec<Event>,
        }
        let shed = shed.map(|shed| format!("&shed={}", segment(shed))).unwrap_or_default();
        Ok(self.get::<Page>(&format!("/api/events?after={after}{shed}")).await?.events)
    }

    /// `GET /api/sheds`.
    pub async fn sheds(&self) -> Result<ShedList, ClientError> {
        self.get("/api/sheds").await
    }

    /// `GET /api/sheds/{n}`.
    pub async fn shed(&self, name: &str) -> Result<Shed, ClientError> {
        self.get(&shed_path(name)).await
    }

    /// `POST /api/sheds`: starts the creation; [`Client::progress`] follows it.
    pub async fn create(&self, request: &CreateShed) -> Result<Shed, ClientError> {
        self.send(Method::POST, "/api/sheds", request).await
    }

    /// `PATCH /api/sheds/{n}`.
    pub async fn patch(&self, name: &str, request: &PatchShed) -> Result<Shed, ClientError> {
        self.send(Method::PATCH, &shed_path(name), request).await
    }

    /// `POST /api/sheds/{n}/{verb}` for `start`, `stop`, `restart`, `pause`, `unpause`.
    pub async fn shed_operation(
        &self,
        name: &str,
        verb: &str,
    ) -> Result<(Effect, Shed), ClientError> {
        let answer = self.ask(Method::POST, &format!("{}/{verb}", shed_path(name)), None).await?;
        let unchanged = answer.headers().contains_key("x-shed-already");
        let effect = if unchanged { Effect::Unchanged } else { Effect::Changed };
        Ok((effect, self.read_json(answer).await?))
    }

    /// `POST /api/sheds/{n}/rebuild`.
    pub async fn rebuild(&self, name: &str, request: &RebuildShed) -> Result<Shed, ClientError> {
        self.send(Method::POST, &format!("{}/rebuild", shed_path(name)), request).await
    }

    /// `DELETE /api/sheds/{n}`; with `keep_volume` the volumes stay.
    pub async fn delete(&self, name: &str, keep_volume: bool) -> Result<(), ClientError> {
        let query = if keep_volume { "?keep_volume=true" } else { "" };
        self.send_only(Method::DELETE, &(shed_path(name) + query), NO_BODY).await
    }

    /// `GET /api/sheds/{n}/logs`.
    pub async fn logs(&self, name: &str, n_lines: Option<u32>) -> Result<String, ClientError> {
        let query = n_lines.map(|n| format!("?lines={n}")).unwrap_or_default();
        let answer =
            self.ask(Method::GET, &format!("{}/logs{query}", shed_path(name)), None).await?;
        Ok(String::from_utf8_lossy(&self.read_bytes(answer).await?).into_owned())
    }

    /// `GET /api/sheds/{n}/stats`.
    pub async fn stats(&self, name: &str) -> Result<Stats, ClientError> {
        self.get(&format!("{}/stats", shed_path(name))).await
    }

    /// `GET /api/stats`.
    pub async fn all_stats(&self) -> Result<StatsList, ClientError> {
        self.get("/api/stats").await
    }

    /// `GET /api/df`.
    pub async fn disk(&self) -> Result<DiskUseList, ClientError> {
        self.get("/api/df").await
    }

    /// `GET /api/sessions`.
    pub async fn all_sessions(&self) -> Result<SessionList, ClientError> {
        self.get("/api/sessions").await
    }

    /// `GET /api/sheds/{n}/sessions`.
    pub async fn sessions(&self, shed: &str) -> Result<SessionList, ClientError> {
        self.get(&format!("{}/sessions", shed_path(shed))).await
    }

    /// `GET /api/sheds/{n}/sessions/{s}`.
    pub async fn session(&self, shed: &str, session: &str) -> Result<Session, ClientError> {
        self.get(&session_path(shed, session)).await
    }

    /// `POST /api/sheds/{n}/sessions`.
    pub async fn new_session(
        &self,
        shed: &str,
        request: &NewSession,
    ) -> Result<Session, ClientError> {
        self.send(Method::POST, &format!("{}/sessions", shed_path(shed)), request).await
    }

    /// `PATCH /api/sheds/{n}/sessions/{s}`.
    pub async fn patch_session(
        &self,
        shed: &str,
        session: &str,
        request: &PatchSession,
    ) -> Result<Session, ClientError> {
        self.send(Method::PATCH, &session_path(shed, session), request).await
    }

    /// `DELETE /api/sheds/{n}/sessions/{s}`; with `force` even if uncommitted or unpushed work would be lost.
    pub async fn delete_session(
        &self,
        shed: &str,
        session: &str,
        force: bool,
    ) -> Result<DeletedSession, ClientError> {
        let query = if force { "?force=true" } else { "" };
        let answer = self.ask(Method::DELETE, &(session_path(shed, session) + query), None).await?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(DeletedSession::default());
        }
        self.read_json(answer).await
    }

    /// `POST …/sessions/{s}/input`.
    pub async fn input(&self, shed: &str, session: &str, input: &Input) -> Result<(), ClientError> {
        let path = format!("{}/input", session_path(shed, session));
        self.send_only(Method::POST, &path, Some(input)).await
    }

    /// `GET …/sessions/{s}/output`.
    pub async fn output(
        &self,
        shed: &str,
        session: &str,
        lines: Option<u32>,
        ansi: bool,
    ) -> Result<Output, ClientError> {
        let lines = lines.map(|n| format!("&lines={n}")).unwrap_or_default();
        self.get(&format!("{}/output?ansi={ansi}{lines}", session_path(shed, session))).await
    }

    /// `POST /api/sheds/{n}/exec`: runs a command and waits until it exits.
    pub async fn exec(&self, shed: &str, request: &ExecRequest) -> Result<ExecResult, ClientError> {
        self.send(Method::POST, &format!("{}/exec", shed_path(shed)), request).await
    }

    /// `GET /api/keys`.
    pub async fn keys(&self) -> Result<KeyList, ClientError> {
        self.get("/api/keys").await
    }

    /// `POST /api/keys`.
    pub async fn add_key(&self, request: &NewKey) -> Result<Key, ClientError> {
        self.send(Method::POST, "/api/keys", request).await
    }

    /// `DELETE /api/keys/{id}`.
    pub async fn remove_key(&self, id: &str) -> Result<(), ClientError> {
        self.send_only(Method::DELETE, &format!("/api/keys/{}", segment(id)), NO_BODY).await
    }

    /// `GET /api/tokens`.
    pub async fn tokens(&self) -> Result<TokenList, ClientError> {
        self.get("/api/tokens").await
    }

    /// `POST /api/tokens`.
    pub async fn add_token(&self, request: &NewToken) -> Result<IssuedToken, ClientError> {
        self.send(Method::POST, "/api/tokens", request).await
    }

    /// `DELETE /api/tokens/{id}`.
    pub async fn remove_token(&self, id: &str) -> Result<(), ClientError> {
        self.send_only(Method::DELETE, &format!("/api/tokens/{}", segment(id)), NO_BODY).await
    }
}
