//! Ids of sessions, workers and conversations.

use shed_model::session::plan::Ids;
use uuid::Uuid;

/// A new id: 32 hexadecimal digits that grow with time.
pub(crate) fn new_id() -> String {
    Uuid::now_v7().simple().to_string()
}

/// Fresh ids for a plan.
pub(crate) fn fresh() -> Ids {
    Ids { session: new_id(), worker: new_id(), conversation: Uuid::new_v4().to_string() }
}
