//! Ages and durations as people read them: `just now`, `5m ago`, `300ms`.

use chrono::{DateTime, Utc};

/// The age of a time: `just now` (below ten seconds), `59s ago`, `5m ago`, `2h ago`, `3d ago`.
pub(crate) fn ago(at: DateTime<Utc>) -> String {
    ago_from(at, Utc::now())
}

fn ago_from(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - at).num_seconds();
    match seconds {
        ..10 => "just now".to_owned(),
        10..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..86_400 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// A duration: `300ms`, `12s`, `5m`.
pub(crate) fn span_ms(ms: u64) -> String {
    match ms {
        ..1_000 => format!("{ms}ms"),
        1_000..120_000 => format!("{}s", ms / 1_000),
        _ => format!("{}m", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_durations_are_rounded_down() {
        let now = Utc::now();
        for (seconds, text) in [
            (-5, "just now"),
            (3, "just now"),
            (59, "59s ago"),
            (61, "1m ago"),
            (7_300, "2h ago"),
            (200_000, "2d ago"),
        ] {
            assert_eq!(ago_from(now - chrono::Duration::seconds(seconds), now), text);
        }
        assert_eq!(span_ms(999), "999ms");
        assert_eq!(span_ms(12_345), "12s");
    }
}
