//! The log: standard error, which is the container's log for process 1 and its daemon.

/// Prints one line.
#[expect(clippy::print_stderr, reason = "process 1 has no other log than the container's")]
pub(crate) fn line(text: &str) {
    eprintln!("{text}");
}
