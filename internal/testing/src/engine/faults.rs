//! Faults of the engine that a test asks for.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use shed_engine::EngineError;

use super::{ProcessContainer, ProcessEngine};

#[derive(Debug, Default)]
pub(super) struct Faults {
    stops_hang: AtomicBool,
}

impl Faults {
    pub(super) async fn before_stop(&self) {
        if self.stops_hang.load(Ordering::SeqCst) {
            std::future::pending().await
        }
    }
}

impl ProcessEngine {
    /// Whether a stop that begins from now on ends nothing and never returns.
    pub fn hang_stops(&self, hang: bool) {
        self.faults.stops_hang.store(hang, Ordering::SeqCst);
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
