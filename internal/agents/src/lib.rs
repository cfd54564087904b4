//! Coding agents: what words start one, and which resume its conversation. Pure.

use std::collections::BTreeMap;

/// How an agent is started. In `model`, `prompt`, `new` and `resume` the words `{model}`, `{prompt}` and `{conversation}`
/// stand for what is known; a group whose word is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// The program and the words that are always there.
    pub command: Vec<String>,
    /// Added when a model is asked for.
    pub model: Vec<String>,
    /// Added when there is a first prompt. Last.
    pub prompt: Vec<String>,
    /// Added for a new conversation.
    pub new: Vec<String>,
    /// Added instead when a conversation is resumed.
    pub resume: Vec<String>,
}

/// The values that an agent's words are filled with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start<'a> {
    /// The model, in the agent's own spelling; its default when absent.
    pub model: Option<&'a str>,
    /// What the agent is asked first; `None` to start without a prompt.
    pub prompt: Option<&'a str>,
    /// The conversation's id, for agents that accept one.
    pub conversation: Option<&'a str>,
    /// Resume the conversation instead of starting one.
    pub continues: bool,
}

impl Agent {
    /// Whether it can resume the conversation it was given the id of, and not only its latest one.
    pub fn resumes_by_id(&self) -> bool {
        self.resume.iter().any(|word| word == "{conversation}")
    }

    /// The words of one start. A prompt is only for a new conversation: the old one has had it.
    pub fn argv(&self, start: Start<'_>) -> Vec<String> {
        let known: BTreeMap<&str, Option<&str>> = BTreeMap::from([
            ("{model}", start.model),
            ("{prompt}", start.prompt.filter(|_| !start.continues)),
            ("{conversation}", start.conversation),
        ]);
        let begin = if start.continues { &self.resume } else { &self.new };
        let mut argv = self.command.clone();
        for group in [begin, &self.model, &self.prompt] {
            let words: Option<Vec<String>> = group
                .iter()
                .map(|word| match known.get(word.as_str()) {
                    Some(value) => value.map(str::to_owned),
                    None => Some(word.clone()),
                })
                .collect();
            argv.extend(words.unwrap_or_default());
        }
        argv
    }
}

/// The agents shed knows by itself; a server's configuration adds to them. Options as of Claude Code 2.1, Codex 0.169,
/// `OpenCode` 1.18 and Gemini 0.61.
pub fn built_in() -> BTreeMap<String, Agent> {
    let agent =
        |command: &[&str], model: &[&str], prompt: &[&str], new: &[&str], resume: &[&str]| {
            let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
            Agent {
                command: words(command),
                model: words(model),
                prompt: words(prompt),
                new: words(new),
                resume: words(resume),
            }
        };
    // Without a mode of its own choosing Claude Code asks a classifier that gateways do not have.
    let claude = agent(
        &["claude", "--permission-mode", "default"],
        &["--model", "{model}"],
        &["--", "{prompt}"],
        &["--session-id", "{conversation}"],
        &["--resume", "{conversation}"],
    );
    // Words after `resume` are its own, so that options come behind it.
    let codex =
        agent(&["codex"], &["--model", "{model}"], &["--", "{prompt}"], &[], &["resume", "--last"]);
    let opencode = agent(
        &["opencode"],
        &["--model", "{model}"],
        &["--prompt", "{prompt}"],
        &[],
        &["--continue"],
    );
    let gemini = agent(
        &["gemini"],
        &["--model", "{model}"],
        &["--prompt-interactive", "{prompt}"],
        &[],
        &["--resume"],
    );
    let named = [("claude", claude), ("codex", codex), ("opencode", opencode), ("gemini", gemini)];
    named.into_iter().map(|(name, agent)| (name.to_owned(), agent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(agent: &str, start: Start<'_>) -> String {
        built_in()[agent].argv(start).join(" ")
    }

    #[test]
    fn a_conversation_begins_with_a_prompt_and_goes_on_without() {
        let new = Start {
            model: Some("opus"),
            prompt: Some("-fix it"),
            conversation: Some("c1"),
            continues: false,
        };
        assert_eq!(
            line("claude", new),
            "claude --permission-mode default --session-id c1 --model opus -- -fix it"
        );
        let again = Start { continues: true, ..new };
        assert_eq!(
            line("claude", again),
            "claude --permission-mode default --resume c1 --model opus"
        );
        assert_eq!(line("codex", again), "codex resume --last --model opus");
        assert_eq!(line("opencode", Start::default()), "opencode");
        assert_eq!(line("opencode", again), "opencode --continue --model opus");
        assert_eq!(line("gemini", new), "gemini --model opus --prompt-interactive -fix it");
        assert_eq!(line("gemini", again), "gemini --resume --model opus");
    }

    #[test]
    fn an_unknown_value_leaves_out_its_whole_group() {
        let resumed = Start { continues: true, ..Start::default() };
        assert_eq!(line("claude", resumed), "claude --permission-mode default");
        assert_eq!(line("codex", Start { prompt: Some("x"), ..Start::default() }), "codex -- x");
    }

    #[test]
    fn only_an_id_says_which_conversation_is_resumed() {
        let by_id = built_in().into_iter().filter(|(_, agent)| agent.resumes_by_id());
        assert_eq!(by_id.map(|(name, _)| name).collect::<Vec<_>>(), ["claude"]);
    }
}
