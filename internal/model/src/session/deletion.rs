//! Whether a session's worktree may be removed, given what is in it.

use shed_api::ShedName;
use shed_api::git::Risk;

use crate::Rejection;
use crate::rejection::at_risk;

/// Why a worktree may not be removed; `None` if it may. Work that the trash can hold needs `force`. Work that it cannot hold,
/// and a lock that a person has set, prevent the removal in any case.
pub fn refusal(
    shed: &ShedName,
    session: &str,
    directory: &str,
    risk: &Risk,
    force: bool,
) -> Option<Rejection> {
    let (shed, session) = (shed.clone(), session.to_owned());
    let (directory, boxed) = (directory.to_owned(), Box::new(risk.clone()));
    if risk.n_unsaved > 0 {
        return Some(Rejection::Unsaved { shed, session, directory, risk: boxed });
    }
    if risk.locked {
        return Some(Rejection::Locked { shed, session, directory });
    }
    let needs_force = !at_risk(risk).is_empty();
    (needs_force && !force).then_some(Rejection::WorkAtRisk { shed, session, risk: boxed })
}

#[cfg(test)]
mod tests {
    use shed_api::git::Unsaved;

    use super::*;

    #[test]
    fn only_what_the_trash_can_hold_may_be_forced() {
        let unsaved = || {
            let (path, reason) = ("sub".to_owned(), "not readable".to_owned());
            Risk { n_unsaved: 1, unsaved: vec![Unsaved { path, reason }], ..Risk::default() }
        };
        let work = |risk: Risk| Risk { dirty: 1, ..risk };
        // (what is there, refused without force, refused with force)
        let cases = [
            (Risk::default(), "", ""),
            (work(Risk::default()), "uncommitted", ""),
            (Risk { untracked: 1, ..Risk::default() }, "uncommitted", ""),
            (Risk { unpushed: 1, ..Risk::default() }, "uncommitted", ""),
            (
                Risk { n_worktrees: 1, worktrees: vec!["/w/in".to_owned()], ..Risk::default() },
                "/w/in",
                "",
            ),
            (Risk { locked: true, ..Risk::default() }, "locked", "locked"),
            (work(Risk { locked: true, ..Risk::default() }), "locked", "locked"),
            (unsaved(), "\"sub\" (not readable)", "\"sub\" (not readable)"),
            (work(unsaved()), "\"sub\"", "\"sub\""),
            (Risk { locked: true, ..unsaved() }, "\"sub\"", "\"sub\""),
        ];
        for (risk, without, with) in cases {
            for (force, expected) in [(false, without), (true, with)] {
                let shed = "web".parse().unwrap();
                let refused = refusal(&shed, "fix", "/worktrees/fix", &risk, force);
                let text = refused.map(|refused| refused.to_string()).unwrap_or_default();
                assert_eq!(text.is_empty(), expected.is_empty(), "{force} {risk:?}: {text}");
                assert!(text.contains(expected), "{force} {risk:?}: {text}");
            }
        }
    }
}
