//! Faults of the engine that a test asks for.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use shed_api::shed::DiskUse;
use shed_engine::EngineError;
use tokio::sync::watch;

use super::{ProcessContainer, ProcessEngine};

#[derive(Debug, Default)]
pub(super) struct Faults {
    stops_hang: AtomicBool,
    /// Whether no query is answered.
    hangs: watch::Sender<bool>,
    n_disk_queries: AtomicUsize,
}

impl Faults {
    pub(super) async fn before_stop(&self) {
        if self.stops_hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn ping(&self) -> Result<(), EngineError> {
        // Its sender lives as long as the engine.
        self.hangs.subscribe().wait_for(|hangs| !hangs).await.map(drop).ok();
        Ok(())
    }

    pub(super) async fn disk(&self) -> Result<Vec<DiskUse>, EngineError> {
        self.n_disk_queries.fetch_add(1, Ordering::SeqCst);
        self.ping().await.map(|()| Vec::new())
    }
}

impl ProcessEngine {
    /// Whether a stop that begins from now on ends nothing and never returns.
    pub fn hang_stops(&self, hang: bool) {
        self.faults.stops_hang.store(hang, Ordering::SeqCst);
    }

    /// Whether the engine is described, answers pings and measures disk usage only after this ends.
    pub fn hang(&self, hangs: bool) {
        self.faults.hangs.send_replace(hangs);
    }

    /// How often disk usage was queried.
    pub fn n_disk_queries(&self) -> usize {
        self.faults.n_disk_queries.load(Ordering::SeqCst)
    }

    pub(super) async fn described(&self) -> Result<String, EngineError> {
        self.faults.ping().await?;
        self.up().map(|()| "plain processes".to_owned())
    }

    /// Lets every start of a shed's container fail, as Docker's starts do after it was killed while it started this
    /// container. A container that is created again starts.
    pub fn break_start(&self, shed: &str) {
        let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = containers.iter_mut().find(|(name, _)| name.as_str() == shed);
        known.expect("a container").1.cannot_start = true;
    }
}

pub(super) fn check_start(known: &ProcessContainer) -> Result<(), EngineError> {
    if known.cannot_start {
        return Err(EngineError::Failed("task: already exists".to_owned()));
    }
    Ok(())
}
