//! Flags for what a session may use.

use shed_api::session::SessionLimits;
use shed_api::size::parse_size;

/// What a session may use; what is not given is not limited, or stays as it is.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Limits {
    /// Terminate it, with a checkpoint, when it has run for so long: 90s, 30m, 8h, 2d
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_runtime: Option<u64>,
    /// Keep no more than this of each worker's older output
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_output: Option<u64>,
    /// Leave larger files out of checkpoints
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_checkpoint_file: Option<u64>,
    /// Make a checkpoint so often while something changes
    #[arg(long, value_name = "MINUTES")]
    checkpoint_every: Option<u32>,
}

impl Limits {
    /// What was given, over what holds so far; `None` if nothing was.
    pub(crate) fn over(&self, known: &SessionLimits) -> Option<SessionLimits> {
        let Self { max_runtime, max_output, max_checkpoint_file, checkpoint_every } = *self;
        let limits = SessionLimits {
            runtime_seconds: max_runtime.or(known.runtime_seconds),
            output_bytes: max_output.or(known.output_bytes),
            checkpoint_file_bytes: max_checkpoint_file.or(known.checkpoint_file_bytes),
            checkpoint_minutes: checkpoint_every.or(known.checkpoint_minutes),
        };
        self.is_given().then_some(limits)
    }

    /// Whether anything was.
    pub(crate) fn is_given(&self) -> bool {
        let Self { max_runtime, max_output, max_checkpoint_file, checkpoint_every } = *self;
        max_runtime.or(max_output).or(max_checkpoint_file).is_some() || checkpoint_every.is_some()
    }
}

/// A time as people type it, in seconds.
fn seconds(given: &str) -> Result<u64, String> {
    let error =
        || format!("{given:?} is not a time: write a number with s, m, h or d, for example 8h");
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
    fn times_are_numbers_with_a_unit() {
        for (given, expected) in
            [("90", 90), ("90s", 90), ("30m", 1800), ("8h", 28_800), ("2d", 172_800)]
        {
            assert_eq!(seconds(given), Ok(expected), "{given}");
        }
        for given in ["", "h", "-1h", "1.5h", "1w", "1h30m", "99999999999999999999d"] {
            assert!(seconds(given).unwrap_err().contains("is not a time"), "{given}");
        }
    }

    #[test]
    fn what_is_given_goes_over_what_holds() {
        let known =
            SessionLimits { output_bytes: Some(1), runtime_seconds: Some(2), ..Default::default() };
        assert_eq!(Limits::default().over(&known), None);
        let given = Limits { max_runtime: Some(3), ..Limits::default() };
        assert_eq!(given.over(&known), Some(SessionLimits { runtime_seconds: Some(3), ..known }));
    }
}
