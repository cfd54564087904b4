//! Files that Git LFS keeps elsewhere. If they cannot be fetched, git checks out nothing: then the files stay the pointers that
//! the commits contain.

use super::command::Call;
use super::failure::Failure;

/// What a working tree lacks whose files are pointers.
pub(crate) const NOTE: &str = "files of Git LFS could not be fetched and are pointers; to fetch them, in the worktree: git lfs pull";

/// Settings that leave pointers as they are. The filter that writes pointers still works.
pub(crate) const POINTERS: [(&str, &str); 3] =
    [("filter.lfs.smudge", ""), ("filter.lfs.process", ""), ("filter.lfs.required", "false")];

/// Runs a call that checks files out, and once more without fetching files of Git LFS if they could not be fetched. Returns
/// whether it ran without them.
pub(crate) fn or_pointers(call: impl Fn() -> Call, what: &str) -> Result<bool, Failure> {
    let ended = call().ended()?;
    if ended.status.success() {
        return Ok(false);
    }
    // git names the filter that failed.
    let is_lfs = String::from_utf8_lossy(&ended.stderr).to_lowercase().contains("lfs");
    if !is_lfs || ended.is_interrupted() {
        return Err(ended.failure(what));
    }
    let number = POINTERS.len().to_string();
    let mut call = call().env("GIT_CONFIG_COUNT", &number);
    for (n, (key, value)) in POINTERS.into_iter().enumerate() {
        call = call.env(&format!("GIT_CONFIG_KEY_{n}"), key);
        call = call.env(&format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    call.done(what).map(|()| true)
}
