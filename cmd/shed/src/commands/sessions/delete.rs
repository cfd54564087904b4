//! `shed sessions delete`.

use shed_api::Code;
use shed_api::git::Risk;
use shed_api::name::printable;
use shed_client::Client;

use crate::commands::each::each;
use crate::commands::target::Targets;
use crate::context::Context;
use crate::failure::Failure;
use crate::prompt::confirm;
use crate::terminal;
use shed_report::counted;

/// How many files, and how many commits, are listed.
const MAX_SHOWN: usize = 10;

/// Deletes each session; asks for confirmation where work would be lost. Returns the exit status.
pub(super) async fn run(client: &Client, targets: Targets, force: bool, context: &Context) -> u8 {
    let Targets { name, sessions } = targets;
    let delete = async |session: &str| {
        let deleted = match client.delete_session(&name, session, force).await {
            Err(error) if error.code() == Some(Code::WorkWouldBeLost) => {
                let risk = client.session_risk(&name, session).await?;
                context.out.say(text(&risk).trim_end());
                if !terminal::is_interactive() {
                    return Err(Failure::from(error));
                }
                let unattended = format!("shed sessions delete --force {name} {session}");
                confirm(&format!("delete session {name}/{session}?"), unattended, context.out)?;
                client.delete_session(&name, session, true).await?
            }
            deleted => deleted?,
        };
        context.out.say(&format!("session {name}/{session} was deleted"));
        for note in &deleted.notes {
            context.out.say(&format!("session {name}/{session}: {}", printable(note)));
        }
        Ok(())
    };
    each(&sessions, context, delete).await
}

/// The work that would be lost: uncommitted files, unpushed commits and other worktrees.
fn text(risk: &Risk) -> String {
    let mut lines = Vec::new();
    let files = risk.dirty + risk.untracked;
    if files > 0 {
        lines.push(format!("{}:", counted(files, "uncommitted file")));
        lines.extend(first(files, risk.files.iter().map(|file| printable(file))));
    }
    if risk.unpushed > 0 {
        lines.push(format!("{}:", counted(risk.unpushed, "unpushed commit")));
        let commits = risk.commits.iter().map(|commit| {
            let id: String = commit.commit.chars().take(9).collect();
            format!("{id} {}", printable(&commit.subject))
        });
        lines.extend(first(risk.unpushed, commits));
    }
    if risk.n_worktrees > 0 {
        lines.push(format!("{} inside it:", counted(risk.n_worktrees, "other worktree")));
        lines.extend(first(risk.n_worktrees, risk.worktrees.iter().map(|path| printable(path))));
    }
    lines.join("\n")
}

/// The first of `n` items, indented, and how many more there are.
fn first(n: u64, items: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = items.take(MAX_SHOWN).map(|line| format!("  {line}")).collect();
    let left = n.saturating_sub(lines.len() as u64);
    if left > 0 {
        lines.push(format!("  and {left} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use shed_api::git::CommitLine;

    use super::*;

    #[test]
    fn work_at_risk_is_listed_up_to_a_limit() {
        let risk = Risk {
            dirty: 11,
            untracked: 1,
            files: (0..12).map(|n| format!("f{n}\x1b")).collect(),
            unpushed: 1,
            commits: vec![CommitLine {
                commit: "0123456789ab".to_owned(),
                subject: "s".to_owned(),
            }],
            ..Risk::default()
        };
        let text = text(&risk);
        assert!(text.starts_with("12 uncommitted files:\n  f0\u{fffd}\n"), "{text}");
        assert!(text.contains("  f9\u{fffd}\n  and 2 more\n"), "{text}");
        assert!(text.ends_with("\n1 unpushed commit:\n  012345678 s"), "{text}");
    }
}
