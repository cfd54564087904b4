//! Options for the limits of a session.

use shed_api::session::SessionLimits;
use shed_api::size::parse_size;

// Limits of a session; those not given are unlimited, or unchanged. No doc comment: clap would print it as help.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Limits {
    /// Terminate the session after this time, with a checkpoint: 90s, 30m, 8h, 2d
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_runtime: Option<u64>,
    /// Keep at most this much output per worker: 512K, 10M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_output: Option<u64>,
    /// Skip larger files in checkpoints: 512K, 10M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_checkpoint_file: Option<u64>,
    /// Create a checkpoint every MINUTES minutes while files change
    #[arg(long, value_name = "MINUTES")]
    checkpoint_every: Option<u32>,
}

impl Limits {
    /// `current` with the given limits replaced; `None` if none is given.
    pub(crate) fn over(&self, current: &SessionLimits) -> Option<SessionLimits> {
        let Self { max_runtime, max_output, max_checkpoint_file, checkpoint_every } = *self;
        let limits = SessionLimits {
            runtime_seconds: max_runtime.or(current.runtime_seconds),
            output_bytes: max_output.or(current.output_bytes),
            checkpoint_file_bytes: max_checkpoint_file.or(current.checkpoint_file_bytes),
            checkpoint_minutes: checkpoint_every.or(current.checkpoint_minutes),
        };
        self.is_given().then_some(limits)
    }

    /// Whether any limit is given.
    pub(crate) fn is_given(&self) -> bool {
        let Self { max_runtime, max_output, max_checkpoint_file, checkpoint_every } = *self;
        max_runtime.or(max_output).or(max_checkpoint_file).is_some() || checkpoint_every.is_some()
    }
}

/// Parses a duration such as `90s`, `30m`, `8h` or `2d`, in seconds.
fn seconds(given: &str) -> Result<u64, String> {
    let error = || {
        format!("invalid duration {given:?}; expected a number with s, m, h or d, for example 8h")
    };
    let end = given.find(|c: char| !c.is_ascii_digit()).unwrap_or(given.len());
    let (number, unit) = given.split_at(end);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(error()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_with_a_unit() {
        for (given, expected) in
            [("90", 90), ("90s", 90), ("30m", 1800), ("8h", 28_800), ("2d", 172_800)]
        {
            assert_eq!(seconds(given), Ok(expected), "{given}");
        }
        for given in ["", "h", "-1h", "1.5h", "1w", "1h30m", "99999999999999999999d"] {
            assert!(seconds(given).unwrap_err().contains("invalid duration"), "{given}");
        }
    }

    #[test]
    fn given_limits_replace_current_ones() {
        let current =
            SessionLimits { output_bytes: Some(1), runtime_seconds: Some(2), ..Default::default() };
        assert_eq!(Limits::default().over(&current), None);
        let given = Limits { max_runtime: Some(3), ..Limits::default() };
        assert_eq!(
            given.over(&current),
            Some(SessionLimits { runtime_seconds: Some(3), ..current })
        );
    }
}
