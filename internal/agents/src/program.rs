//! What is known about the programs of agents, whatever words start them.

use std::borrow::Cow;
use std::time::Duration;

/// The pause between text and Enter for a program that is not known. Some programs take an Enter that follows at once for
/// a part of the text; none needs longer than this.
const USUAL_SUBMIT_DELAY: Duration = Duration::from_millis(400);

/// What is known about the program of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Variables added to its environment, with `{conversation}` for the id.
    pub env: Vec<(String, String)>,
    /// The pause between text that is pasted and the Enter that submits it.
    pub submit_delay: Duration,
    /// The character that turns a prompt into a command of the shell when it is the first one.
    pub shell_mark: Option<char>,
    /// Where it records its conversations; `None` if that is not known.
    pub transcript: Option<Transcript>,
    /// Where it shows which conversation it is in. `None` if it does not: then the id is the one it was given.
    pub identity: Option<Identity>,
}

/// The files in which a program records a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The variable that moves the program's directory.
    pub variable: &'static str,
    /// The program's directory, below the home directory.
    pub home: &'static str,
    /// The directory below it in which the files are, at any depth.
    pub below: &'static str,
    /// Patterns of their names, as `find -name` takes them, with `{conversation}` for the id and `{short}` for its first
    /// eight characters.
    pub names: &'static str,
    /// What a file has in it once a prompt is recorded: a basic regular expression for one line.
    pub turn: &'static str,
}

/// Where a running program shows the id of its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// A file it holds open, whose path ends with this, the id and `.lock`.
    Lock(&'static str),
    /// A JSON file with `sessionId` and `procStart`, called after the process id, in this directory of the program's.
    StatusFile(&'static str),
}

impl Default for Program {
    fn default() -> Self {
        Self {
            env: Vec::new(),
            submit_delay: USUAL_SUBMIT_DELAY,
            shell_mark: None,
            transcript: None,
            identity: None,
        }
    }
}

impl Program {
    /// What is known about a program, by its path or name.
    pub fn of(command: &str) -> Self {
        let env = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        match command.rsplit('/').next().unwrap_or(command) {
            "claude" => Self {
                // Its agent view moves the conversation to a process of another id.
                env: env("CLAUDE_CODE_DISABLE_AGENT_VIEW", "1"),
                submit_delay: Duration::ZERO,
                shell_mark: Some('!'),
                transcript: Some(Transcript {
                    variable: "CLAUDE_CONFIG_DIR",
                    home: ".claude",
                    below: "projects",
                    names: "{conversation}.jsonl",
                    turn: "\"type\":\"user\"",
                }),
                identity: Some(Identity::StatusFile("sessions")),
            },
            "codex" => Self {
                shell_mark: Some('!'),
                transcript: Some(Transcript {
                    variable: "CODEX_HOME",
                    home: ".codex",
                    below: "sessions",
                    names: "rollout-*-{conversation}.jsonl",
                    // The second is that of versions before 0.169.
                    turn: "\"type\":\"\\(UserMessage\\|user_message\\)\"",
                }),
                identity: Some(Identity::Lock("/thread-writer-locks/")),
                ..Self::default()
            },
            "opencode" => Self {
                // It takes no id. A database of the worker's own has the worker's conversations only.
                env: env("OPENCODE_DB", "shed-{conversation}.db"),
                shell_mark: Some('!'),
                transcript: Some(Transcript {
                    variable: "XDG_DATA_HOME",
                    home: ".local/share",
                    below: "opencode",
                    names: "shed-{conversation}.db*",
                    turn: "\"role\":\"user\"",
                }),
                ..Self::default()
            },
            "gemini" => Self {
                shell_mark: Some('!'),
                transcript: Some(Transcript {
                    variable: "GEMINI_CLI_HOME",
                    home: ".",
                    below: ".gemini/tmp",
                    names: "session-*-{short}.jsonl",
                    // The first line has a message of the program's own, in a list.
                    turn: "^{\"id\":.*\"type\":\"user\"",
                }),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    /// A prompt as text: a leading space keeps the program from running it as a command of the shell.
    pub fn as_text<'a>(&self, prompt: &'a str) -> Cow<'a, str> {
        if self.shell_mark.is_some_and(|mark| prompt.starts_with(mark)) {
            format!(" {prompt}").into()
        } else {
            prompt.into()
        }
    }
}

impl Transcript {
    /// The program's directory. `dir` is the value of the variable, if it is set.
    pub fn root(&self, home: &str, dir: Option<&str>) -> String {
        dir.map_or_else(|| format!("{home}/{}", self.home), str::to_owned)
    }

    /// The command that prints the path of each file in which this conversation's first prompt is recorded. `None` if the id cannot be part of a file name.
    pub fn find(&self, home: &str, dir: Option<&str>, conversation: &str) -> Option<Vec<String>> {
        if !is_id(conversation) {
            return None;
        }
        let short = conversation.get(..8).unwrap_or(conversation);
        let name = self.names.replace("{conversation}", conversation).replace("{short}", short);
        let dir = format!("{}/{}", self.root(home, dir), self.below);
        let words =
            ["find", &dir, "-type", "f", "-name", &name, "-exec", "grep", "-lae", self.turn, "{}"];
        Some(words.into_iter().chain(["+"]).map(str::to_owned).collect())
    }
}

/// The length of an id that a program chose itself, a UUID.
const UUID_BYTES: usize = 36;
/// So much of a prompt is searched for, in bytes: enough to tell prompts apart.
const SEARCHED_BYTES: usize = 200;

impl Transcript {
    /// The command that prints the path of each file that was written since a time, in seconds since 1970, and has this prompt
    /// in it. For a conversation whose id was never seen.
    pub fn search(&self, home: &str, dir: Option<&str>, prompt: &str, since: i64) -> Vec<String> {
        let name = self.names.replace("{conversation}", "*").replace("{short}", "*");
        let dir = format!("{}/{}", self.root(home, dir), self.below);
        let since = format!("@{since}");
        let text = in_json(prompt);
        let words = [
            "find", &dir, "-type", "f", "-name", &name, "-newermt", &since, "-exec", "grep",
            "-laFe", &text, "{}", "+",
        ];
        words.map(str::to_owned).to_vec()
    }

    /// The ids of the files that [`Transcript::search`] printed.
    pub fn ids(&self, printed: &str) -> Vec<String> {
        let id = |path: &str| {
            let end = path.rsplit('/').next()?.rsplit_once('.')?.0;
            let id = end.get(end.len().checked_sub(UUID_BYTES)?..)?;
            is_id(id).then(|| id.to_owned())
        };
        printed.lines().filter_map(id).collect()
    }
}

/// The beginning of a text as it stands in a JSON string.
fn in_json(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.trim().chars() {
        let one = match c {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            // How programs write other control characters differs.
            c if c.is_control() => break,
            c => c.to_string(),
        };
        if quoted.len() + one.len() > SEARCHED_BYTES {
            break;
        }
        quoted += &one;
    }
    quoted
}

impl Identity {
    /// The command that prints what the processes with these ids show. `dir` is the program's directory.
    pub fn look(&self, dir: &str, pids: &[u32]) -> Vec<String> {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match self {
            Self::Lock(before) => {
                let mut argv = words(&["find"]);
                argv.extend(pids.iter().map(|pid| format!("/proc/{pid}/fd")));
                let path = format!("*{before}*.lock");
                argv.extend(words(&["-maxdepth", "1", "-lname", &path, "-printf", "%l\\n"]));
                argv
            }
            Self::StatusFile(below) => {
                let mut argv = words(&["grep", "-he", "sessionId", "--"]);
                argv.extend(pids.iter().map(|pid| format!("{dir}/{below}/{pid}.json")));
                argv
            }
        }
    }

    /// The ids in what [`Identity::look`] printed. `started` are the start times of the processes, in clock ticks since boot.
    pub fn read(&self, printed: &str, started: &[u64]) -> Vec<String> {
        let ids = printed.lines().filter_map(|line| match self {
            Self::Lock(before) => {
                let (_, name) = line.rsplit_once(before)?;
                name.strip_suffix(".lock").map(str::to_owned)
            }
            Self::StatusFile(_) => {
                // A file that a killed process left behind has another start time.
                let of = field(line, "procStart")?.parse().ok()?;
                started.contains(&of).then(|| field(line, "sessionId"))?
            }
        });
        let mut ids: Vec<String> = ids.filter(|id| is_id(id)).collect();
        ids.sort();
        ids.dedup();
        ids
    }
}

/// The value of a text or number in a flat JSON object of one line.
fn field(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
    let rest = rest.trim_start().trim_start_matches('"');
    let end = rest.find(['"', ',', '}'])?;
    Some(rest[..end].to_owned())
}

/// Whether a text can be the id of a conversation: it becomes an argument and a part of file names.
fn is_id(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (8..=64).contains(&text.len()) && text.chars().all(is_plain) && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_name_wherever_it_is() {
        assert_eq!(Program::of("/opt/bin/codex"), Program::of("codex"));
        assert_eq!(Program::of("mine"), Program::default());
        assert_eq!(Program::of("mine").as_text("!ls"), "!ls");
        assert_eq!(Program::of("codex").as_text("!ls"), " !ls");
        assert_eq!(Program::of("codex").as_text("ls!"), "ls!");
    }

    #[test]
    fn a_transcript_is_found_by_the_whole_id() {
        let transcript = Program::of("claude").transcript.unwrap();
        let argv = transcript.find("/home/dev", None, "0a1b2c3d-0001").unwrap().join(" ");
        assert_eq!(
            argv,
            "find /home/dev/.claude/projects -type f -name 0a1b2c3d-0001.jsonl -exec grep -lae \"type\":\"user\" {} +"
        );
        let moved = transcript.find("/home/dev", Some("/srv/c"), "0a1b2c3d-0001").unwrap();
        assert_eq!(moved[1], "/srv/c/projects");
        for bad in ["*", "../../../etc", "-rf-rf-rf", "a", ""] {
            assert_eq!(transcript.find("/home/dev", None, bad), None, "{bad:?}");
        }
        let gemini = Program::of("gemini").transcript.unwrap();
        assert_eq!(
            gemini.find("/h", None, "0a1b2c3d-0001").unwrap()[5],
            "session-*-0a1b2c3d.jsonl"
        );
    }

    #[test]
    fn a_conversation_whose_id_was_never_seen_is_found_by_its_prompt() {
        let codex = Program::of("codex").transcript.unwrap();
        let argv = codex.search("/h", None, " say \"a\\b\"\nand\tc", 5).join(" ");
        assert_eq!(
            argv,
            r#"find /h/.codex/sessions -type f -name rollout-*-*.jsonl -newermt @5 -exec grep -laFe say \"a\\b\"\nand\tc {} +"#
        );
        let printed = "/h/.codex/sessions/2026/rollout-2026-11-30T21-53-24-01a22e72-cb3d-7cd2-a47d-127e21aec550.jsonl\n/short.jsonl\n";
        assert_eq!(codex.ids(printed), ["01a22e72-cb3d-7cd2-a47d-127e21aec550"]);
        assert_eq!(in_json(&"é".repeat(500)).len(), SEARCHED_BYTES);
        assert_eq!(in_json("a\x07b"), "a");
    }

    #[test]
    fn codex_names_its_conversation_by_the_lock_it_holds() {
        let codex = Program::of("codex").identity.unwrap();
        assert_eq!(
            codex.look("/h/.codex", &[12, 13]).join(" "),
            "find /proc/12/fd /proc/13/fd -maxdepth 1 -lname */thread-writer-locks/*.lock -printf %l\\n"
        );
        let printed = "/h/.codex/thread-writer-locks/01a22e72-cb3d-7cd2.lock\n/h/.codex/thread-writer-locks/01a22e72-cb3d-7cd2.lock\n/x/other.lock\n/h/thread-writer-locks/--x--x--x.lock\n";
        assert_eq!(codex.read(printed, &[]), ["01a22e72-cb3d-7cd2"]);
    }

    #[test]
    fn claude_names_its_conversation_in_its_status_file() {
        let claude = Program::of("claude").identity.unwrap();
        assert_eq!(
            claude.look("/h/.claude", &[516]).join(" "),
            "grep -he sessionId -- /h/.claude/sessions/516.json"
        );
        let printed =
            r#"{"pid":516,"sessionId":"b0ff0000-1111","procStart":"63462","status":"busy"}"#;
        assert_eq!(claude.read(printed, &[1, 63462]), ["b0ff0000-1111"]);
        assert!(claude.read(printed, &[63461]).is_empty(), "left behind by a killed process");
        assert!(claude.read("{\"sessionId\":\"b0ff00", &[63462]).is_empty(), "half written");
    }
}
