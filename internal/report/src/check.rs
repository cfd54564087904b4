//! A doctor's check and what came of it.

use serde::Serialize;

use crate::table;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// It works, and somebody should know this.
    Warn,
    /// Something does not work.
    Fail,
}

/// A check and what came of it.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found, and a command that helps.
    pub detail: String,
}

/// A check that went so.
pub fn check(what: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Check {
    Check { what: what.into(), verdict, detail: detail.into() }
}

/// Whether anything does not work.
pub fn has_failed(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict == Verdict::Fail)
}

/// The checks as a table; what does not work stands out.
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
