//! Coding agents: what words start one, which resume its conversation, and what is known about the programs. Pure.

mod program;

use std::collections::BTreeMap;

pub use program::{Identity, Program, Transcript};

/// How an agent is started. In `model`, `prompt`, `new` and `resume` the words `{model}`, `{prompt}` and `{conversation}`
/// stand for what is known, also as a part of a word; a group with a value that is not known is left out.
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
    /// What is known about the program.
    pub program: Program,
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
    /// Whether a new conversation has the id that shed chooses.
    pub fn takes_id(&self) -> bool {
        self.names_id(&self.new)
    }

    /// Whether it can resume the conversation with an id, and not only its latest one.
    pub fn resumes_by_id(&self) -> bool {
        self.names_id(&self.resume)
    }

    /// Whether these words, or the environment, have the id of the conversation in them.
    fn names_id(&self, words: &[String]) -> bool {
        let values = self.program.env.iter().map(|(_, value)| value);
        words.iter().chain(values).any(|word| word.contains("{conversation}"))
    }

    /// The words of one start. A prompt is only for a new conversation: the old one has had it. It is data: one that the
    /// program would run as a command of the shell is made text.
    pub fn argv(&self, start: Start<'_>) -> Vec<String> {
        let prompt =
            start.prompt.filter(|_| !start.continues).map(|text| self.program.as_text(text));
        let known = Known { prompt: prompt.as_deref(), ..Known::of(start) };
        let begin = if start.continues { &self.resume } else { &self.new };
        let mut argv = self.command.clone();
        for group in [begin, &self.model, &self.prompt] {
            let words: Option<Vec<String>> = group.iter().map(|word| known.fill(word)).collect();
            argv.extend(words.unwrap_or_default());
        }
        argv
    }

    /// The variables that the program is started with. Those with a value that is not known are left out.
    pub fn env(&self, start: Start<'_>) -> Vec<(String, String)> {
        let known = Known::of(start);
        let filled = |(name, value): &(String, String)| Some((name.clone(), known.fill(value)?));
        self.program.env.iter().filter_map(filled).collect()
    }
}

/// The values of the words in braces.
struct Known<'a> {
    model: Option<&'a str>,
    prompt: Option<&'a str>,
    conversation: Option<&'a str>,
}

impl<'a> Known<'a> {
    fn of(start: Start<'a>) -> Self {
        Self { model: start.model, prompt: start.prompt, conversation: start.conversation }
    }

    /// A word with its value; `None` if that is not known. A value is not searched for further words in braces.
    fn fill(&self, word: &str) -> Option<String> {
        let values = [
            ("{model}", self.model),
            ("{prompt}", self.prompt),
            ("{conversation}", self.conversation),
        ];
        for (name, value) in values {
            if let Some((before, after)) = word.split_once(name) {
                return Some(format!("{before}{}{after}", value?));
            }
        }
        Some(word.to_owned())
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
                program: Program::of(command[0]),
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
    // Its daemon would do the work in a process that outlives the window. Words after `resume` are its own, so that options
    // come behind it.
    let codex = agent(
        &["codex", "-c", "features.daemon_auto_start=false"],
        &["--model", "{model}"],
        &["--", "{prompt}"],
        &[],
        &["resume", "{conversation}"],
    );
    // These two take a word that begins with `-` as an option, unless it is a part of the option's own word.
    let opencode =
        agent(&["opencode"], &["--model={model}"], &["--prompt={prompt}"], &[], &["--continue"]);
    let gemini = agent(
        &["gemini"],
        &["--model={model}"],
        &["--prompt-interactive={prompt}"],
        &["--session-id", "{conversation}"],
        &["--resume", "{conversation}"],
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
        let codex = "codex -c features.daemon_auto_start=false";
        assert_eq!(line("codex", new), format!("{codex} --model opus -- -fix it"));
        assert_eq!(line("codex", again), format!("{codex} resume c1 --model opus"));
        assert_eq!(line("opencode", Start::default()), "opencode");
        assert_eq!(line("opencode", again), "opencode --continue --model=opus");
        assert_eq!(
            line("gemini", new),
            "gemini --session-id c1 --model=opus --prompt-interactive=-fix it"
        );
        assert_eq!(line("gemini", again), "gemini --resume c1 --model=opus");
    }

    #[test]
    fn a_prompt_that_begins_with_a_hyphen_is_no_option() {
        for (name, agent) in built_in() {
            let argv = agent.argv(Start { prompt: Some("--help"), ..Start::default() });
            let at = argv.iter().position(|word| word.contains("--help")).unwrap();
            let is_value = argv[at].ends_with("=--help") || argv[at - 1] == "--";
            assert!(is_value, "{name}: {argv:?}");
        }
    }

    #[test]
    fn a_prompt_is_never_a_command_of_the_shell() {
        for (name, agent) in built_in() {
            let argv = agent.argv(Start { prompt: Some("!rm -rf x"), ..Start::default() });
            assert!(argv.last().unwrap().ends_with(" !rm -rf x"), "{name}: {argv:?}");
        }
    }

    #[test]
    fn an_unknown_value_leaves_out_its_whole_group() {
        let resumed = Start { continues: true, ..Start::default() };
        assert_eq!(line("claude", resumed), "claude --permission-mode default");
        let prompt = Start { prompt: Some("{model}"), ..Start::default() };
        assert_eq!(line("codex", prompt), "codex -c features.daemon_auto_start=false -- {model}");
        assert_eq!(built_in()["opencode"].env(Start::default()), []);
    }

    #[test]
    fn all_of_them_resume_the_conversation_that_is_theirs() {
        let of = |what: fn(&Agent) -> bool| {
            let fitting = built_in().into_iter().filter(|(_, agent)| what(agent));
            fitting.map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(of(Agent::resumes_by_id), ["claude", "codex", "gemini", "opencode"]);
        assert_eq!(of(Agent::takes_id), ["claude", "gemini", "opencode"]);
        let start = Start { conversation: Some("c1"), ..Start::default() };
        let opencode = built_in()["opencode"].env(start);
        assert_eq!(opencode, [("OPENCODE_DB".to_owned(), "shed-c1.db".to_owned())]);
        let latest = Agent { resume: vec!["--last".to_owned()], ..Agent::default() };
        assert!(!latest.resumes_by_id() && !latest.takes_id());
    }
}
