//! Deleting sessions, and what that would lose.

use shed_api::Code;
use shed_api::git::Risk;
use shed_api::name::printable;
use shed_client::Client;

use crate::commands::each;
use crate::commands::target::Targets;
use crate::context::Context;
use crate::failure::Failure;
use crate::terminal;

/// How many files, and how many commits, are named.
const MAX_SHOWN: usize = 10;

/// Deletes each; the exit status.
pub(super) async fn run(client: &Client, targets: Targets, force: bool, context: &Context) -> u8 {
    let Targets { name, sessions } = targets;
    let delete = async |session: &str| {
        match client.delete_session(&name, session, force).await {
            Err(error) if error.code() == Some(Code::WorkWouldBeLost) => {
                let risk = client.session_risk(&name, session).await?;
                context.out.say(text(&risk).trim_end());
                if !terminal::is_interactive() {
                    return Err(Failure::from(error));
                }
                crate::commands::delete::ask(
                    &format!("delete session {name}/{session}?"),
                    context,
                )?;
                client.delete_session(&name, session, true).await?;
            }
            deleted => deleted?,
        }
        context.out.say(&format!("session {name}/{session} was deleted"));
        Ok(())
    };
    each(&sessions, context, delete).await
}

/// What would be lost, line by line.
fn text(risk: &Risk) -> String {
    let mut lines = Vec::new();
    let files = risk.dirty + risk.untracked;
    if files > 0 {
        lines.push(format!("{} not committed:", counted(files, "file is", "files are")));
        lines.extend(named(files, risk.files.iter().map(|file| printable(file))));
    }
    if risk.unpushed > 0 {
        lines.push(format!("{} nowhere else:", counted(risk.unpushed, "commit is", "commits are")));
        let commits = risk.commits.iter().map(|commit| {
            let id: String = commit.commit.chars().take(9).collect();
            format!("{id} {}", printable(&commit.subject))
        });
        lines.extend(named(risk.unpushed, commits));
    }
    lines.join("\n")
}

fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The first of `n` things, and how many there are beside.
fn named(n: u64, things: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = things.take(MAX_SHOWN).map(|line| format!("  {line}")).collect();
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
    fn what_would_be_lost_is_named_up_to_a_point() {
        let risk = Risk {
            dirty: 11,
            untracked: 1,
            files: (0..12).map(|n| format!("f{n}\x1b")).collect(),
            unpushed: 1,
            commits: vec![CommitLine {
                commit: "0123456789ab".to_owned(),
                subject: "s".to_owned(),
            }],
            merged: None,
        };
        let text = text(&risk);
        assert!(text.starts_with("12 files are not committed:\n  f0\u{fffd}\n"), "{text}");
        assert!(text.contains("  f9\u{fffd}\n  and 2 more\n"), "{text}");
        assert!(text.ends_with("\n1 commit is nowhere else:\n  012345678 s"), "{text}");
    }
}
