//! A limit on the lines about each shed: a container can cause lines as often as it likes.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// How many lines about one shed are written in a minute.
const LINES_PER_MINUTE: u32 = 60;
/// A minute.
const MINUTE: Duration = Duration::from_secs(60);
/// The field by which a line says which shed it is about.
const SHED: &str = "shed";

/// Counts the lines about each shed in the current minute. Every line that a container can cause must have the field `shed`.
/// Debug lines, which are written only on request, are not limited.
#[derive(Debug, Clone, Default)]
pub(super) struct ShedLimit {
    n_lines: Arc<Mutex<HashMap<String, u32>>>,
}

impl ShedLimit {
    /// Whether one more line about the shed is written.
    fn admit(&self, shed: String) -> bool {
        let mut n_lines = self.n_lines.lock().unwrap_or_else(PoisonError::into_inner);
        let n_of_shed = n_lines.entry(shed).or_default();
        *n_of_shed = n_of_shed.saturating_add(1);
        *n_of_shed <= LINES_PER_MINUTE
    }

    /// Begins a new minute, and writes for each shed how many lines were left out in the last one.
    fn turn(&self) {
        let n_lines =
            std::mem::take(&mut *self.n_lines.lock().unwrap_or_else(PoisonError::into_inner));
        for (shed, n_of_shed) in n_lines {
            if let Some(n_more @ 1..) = n_of_shed.checked_sub(LINES_PER_MINUTE) {
                tracing::warn!(shed, "{n_more} more lines about this shed were not written");
            }
        }
    }

    /// Calls [`Self::turn`] every minute, for ever.
    pub(super) async fn run(self) {
        let mut minutes = tokio::time::interval(MINUTE);
        loop {
            minutes.tick().await;
            self.turn();
        }
    }
}

impl<S> Filter<S> for ShedLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::INFO
            || event.metadata().fields().field(SHED).is_none()
        {
            return true;
        }
        let mut shed = ShedField(String::new());
        event.record(&mut shed);
        self.admit(shed.0)
    }
}

/// The value of the field.
struct ShedField(String);

impl Visit for ShedField {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == SHED {
            // Writing to a string does not fail.
            write!(self.0, "{value:?}").ok();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == SHED {
            value.clone_into(&mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_shed_with_many_lines_gets_one_for_the_rest_and_others_are_written() {
        let (written, limit) = (Written::default(), ShedLimit::default());
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(limit.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let (loud, quiet) = ("loud", String::from("quiet"));
            for _ in 0..LINES_PER_MINUTE + 7 {
                tracing::warn!(shed = %loud, "flood");
            }
            tracing::warn!(shed = quiet, "once");
            tracing::warn!("about no shed");
            limit.turn();
            tracing::warn!(shed = %loud, "flood");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        assert_eq!(count("flood"), LINES_PER_MINUTE as usize + 1);
        assert_eq!((count("once"), count("about no shed")), (1, 1));
        assert_eq!(count("7 more lines about this shed"), 1, "{text}");
    }
}
