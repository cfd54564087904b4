//! Checks of `doctor` and their results.

use serde::Serialize;

use crate::table;

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is wrong.
    Pass,
    /// It works, with a limitation that `detail` explains.
    Warn,
    /// It does not work; `detail` says why and how to fix it.
    Fail,
}

/// A check with its result.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was checked, for example `server local`.
    pub what: String,
    /// In JSON `pass`, `warn` or `fail`.
    pub verdict: Verdict,
    /// The finding, and a command that fixes it.
    pub detail: String,
}

/// A check with its result.
pub fn check(what: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Check {
    Check { what: what.into(), verdict, detail: detail.into() }
}

/// Whether any check failed.
pub fn has_failed(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict == Verdict::Fail)
}

/// Formats the checks as a table; failures are in capitals.
pub fn show(checks: &[Check]) -> String {
    let rows = checks.iter().map(|check| {
        let verdict = match check.verdict {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        vec![verdict.to_owned(), check.what.clone(), check.detail.clone()]
    });
    table(&["", "CHECK", "DETAIL"], rows.collect())
}
