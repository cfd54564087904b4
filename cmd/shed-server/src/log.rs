//! The server's log, on stderr.

mod limit;

use std::str::FromStr as _;

use anyhow::Context as _;
use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

use limit::ShedLimit;

/// Starts logging. Call it once. The result is a task to be spawned: it reports lines that a limit left out.
pub(crate) fn start(config: &Log) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let level = config.level.as_deref().unwrap_or("info");
    let filter =
        Targets::from_str(level).with_context(|| format!("invalid [log] level {level:?}"))?;
    // russh logs every packet and every failed login; we log logins ourselves.
    let filter = if level.contains("russh") {
        filter
    } else {
        filter.with_target("russh", tracing::Level::ERROR)
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let layer = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let limit = ShedLimit::default();
    let filter = filter.and(limit.clone());
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(limit.run())
}
