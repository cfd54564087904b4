//! The limit over the output of all workers. Above it, the output that ended first is removed; never that of a worker that
//! may still print.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shed_api::ShedName;
use tokio::time::MissedTickBehavior;

use crate::Error;
use crate::housekeeping::log_dirs::{self, LogDir};
use crate::output::collector::blocking;
use crate::output::logs::Logs;
use crate::server::Server;
use crate::session::view::WorkView;
use crate::shed::registry::Registry;

/// How often all output is measured.
const PERIOD: Duration = Duration::from_secs(60);

/// A worker's log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    shed: ShedName,
    log: LogDir,
    /// Whether its worker has ended, or has no row any more.
    has_ended: bool,
}

/// Enforces the limit. Ends with the server.
pub(crate) async fn enforce(server: Arc<Server>, registry: Registry, logs: Logs, limit: u64) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = server.stop.cancelled() => return,
        }
        if let Err(error) = enforce_once(&server, &registry, &logs, limit).await {
            tracing::warn!(%error, "the limit over all output was not enforced");
        }
    }
}

async fn enforce_once(
    server: &Server,
    registry: &Registry,
    logs: &Logs,
    limit: u64,
) -> Result<(), Error> {
    let mut held = Vec::new();
    for (shed, handle) in registry.handles() {
        let dir = logs.shed_dir(shed.as_str());
        // What exists is read first and the rows after: what has no row then is nobody's.
        let found = blocking(move || Ok(log_dirs::list(&dir))).await?;
        let ids = server.store.session_ids(shed.to_string()).await?;
        let work = handle.work.view.borrow().clone();
        held.extend(found.into_iter().map(|log| {
            let has_ended = has_ended(&work, &ids.workers, &log.name);
            Held { shed: shed.clone(), log, has_ended }
        }));
    }
    for Held { shed, log, .. } in excess(held, limit) {
        let is_used = registry.get(&shed).is_some_and(|handle| {
            let work = handle.work.view.borrow().clone();
            !has_ended(&work, &BTreeSet::new(), &log.name)
        });
        if is_used {
            // It was started again meanwhile.
            continue;
        }
        tracing::info!(%shed, worker = %log.name, bytes = log.bytes, "output was removed: the limit over all output was exceeded");
        let logs = logs.clone();
        blocking(move || logs.remove(shed.as_str(), &log.name)).await?;
    }
    Ok(())
}

/// Whether a worker prints nothing more. `ids` are all workers with a row, also with one that cannot be read.
fn has_ended(work: &WorkView, ids: &BTreeSet<String>, worker: &str) -> bool {
    let of = |known: &&Arc<shed_model::session::Managed>| {
        known.workers.iter().any(|row| row.id == worker)
    };
    match work.sessions.values().find(of) {
        Some(known) => {
            let row = &known.row;
            !row.is_up() && !row.is_changing() && known.workers.iter().all(|row| !row.is_alive())
        }
        None => !ids.contains(worker),
    }
}

/// What is removed, the oldest first.
fn excess(mut held: Vec<Held>, limit: u64) -> Vec<Held> {
    let mut total: u64 = held.iter().map(|it| it.log.bytes).sum();
    held.retain(|it| it.has_ended);
    held.sort_by(|a, b| (a.log.modified, &a.log.name).cmp(&(b.log.modified, &b.log.name)));
    let goes = |it: &Held| {
        let is_over = total > limit;
        total = total.saturating_sub(it.log.bytes);
        is_over
    };
    let n_removed = held.iter().map(goes).take_while(|goes| *goes).count();
    held.truncate(n_removed);
    held
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn the_oldest_output_of_ended_workers_is_removed_until_the_rest_fits() {
        let held = |name: &str, bytes: u64, at: i64, has_ended: bool| Held {
            shed: "a".parse().unwrap(),
            log: LogDir {
                name: name.to_owned(),
                bytes,
                modified: DateTime::from_timestamp(at, 0).unwrap(),
            },
            has_ended,
        };
        let all = vec![
            held("new", 10, 9, true),
            held("running", 50, 1, false),
            held("old", 10, 2, true),
            held("older", 10, 1, true),
        ];
        let removed = |limit: u64| -> Vec<String> {
            excess(all.clone(), limit).into_iter().map(|it| it.log.name).collect()
        };
        assert_eq!(removed(80), Vec::<String>::new());
        assert_eq!(removed(79), ["older"]);
        assert_eq!(removed(60), ["older", "old"]);
        assert_eq!(removed(0), ["older", "old", "new"]);
    }
}
