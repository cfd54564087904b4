//! Disk usage of containers and volumes. Engines measure for minutes and refuse a second query meanwhile, so requests that
//! come during a query share its answer.

use std::sync::{Arc, Mutex, PoisonError};

use shed_api::shed::DiskUse;
use shed_engine::EngineError;
use tokio::sync::watch;

use crate::Error;
use crate::server::Server;
use crate::shed::engine_watch::EngineState;

type Answer = Option<Result<Vec<DiskUse>, EngineError>>;

/// The query that runs, if one does. Clones are the same.
#[derive(Clone)]
pub(crate) struct DiskQuery {
    server: Arc<Server>,
    engine: watch::Receiver<EngineState>,
    /// Locked to be read or replaced.
    running: Arc<Mutex<Option<watch::Receiver<Answer>>>>,
}

impl DiskQuery {
    pub(crate) fn new(server: Arc<Server>, engine: watch::Receiver<EngineState>) -> Self {
        Self { server, engine, running: Arc::default() }
    }

    /// Begins a query, or waits for the one that runs.
    pub(crate) async fn ask(&self) -> Result<Vec<DiskUse>, Error> {
        let mut query = self.join();
        let answer = query.wait_for(Option::is_some).await;
        let answer = answer.map_err(|_| Error::ShuttingDown)?.clone();
        Ok(answer.ok_or(Error::ShuttingDown)??)
    }

    fn join(&self) -> watch::Receiver<Answer> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = |query: &watch::Receiver<Answer>| {
            query.borrow().is_none() && query.has_changed().is_ok()
        };
        if let Some(query) = running.as_ref().filter(|query| goes_on(query)) {
            return query.clone();
        }
        let (answer, query) = watch::channel(None);
        let (server, engine) = (Arc::clone(&self.server), self.engine.clone());
        // It goes on when its callers have gone: the engine would refuse the next one.
        self.server.tasks.spawn(async move {
            let measured = tokio::select! {
                measured = server.engine.disk() => measured,
                why = down(engine) => Err(EngineError::Unreachable(why)),
                () = server.stop.cancelled() => return,
            };
            answer.send_replace(Some(measured));
        });
        *running = Some(query.clone());
        query
    }
}

/// Waits until the engine does not answer; why. An engine that hangs never answers a query.
async fn down(mut engine: watch::Receiver<EngineState>) -> String {
    loop {
        if let EngineState::Down(why) = &*engine.borrow_and_update() {
            return why.clone();
        }
        if engine.changed().await.is_err() {
            // The watch ends with the server.
            std::future::pending::<()>().await;
        }
    }
}
