//! Agents and their conversations, with stand-ins that record as the programs do.

use std::collections::BTreeMap;
use std::path::Path;

use shed_api::Code;
use shed_api::session::{Input, NewSession};
use shed_api::worker::{NewWorker, Restart, Worker, WorkerStatus};
use shed_model::shed::life::Request;
use shed_testing::{TestApp, eventually};

use crate::support::{kept, problem, session, sh, shed, words};

/// Fails as Claude Code does for an id that is used, and for one without a conversation.
const CLAUDE: &str = r#"dir=$CLAUDE_CONFIG_DIR/projects/p; mkdir -p "$dir"
while [ $# -gt 0 ]; do case $1 in
  --session-id) id=$2; shift; [ ! -e "$dir/$id.jsonl" ] || { echo in use; exit 1; };;
  --resume) id=$2; shift; [ -e "$dir/$id.jsonl" ] || { echo no conversation; exit 1; };;
  --) prompt=$2; shift;;
esac; shift; done
say() { echo "$id $1" >> "$CLAUDE_CONFIG_DIR/sent"; echo '{"type":"user"}' >> "$dir/$id.jsonl"; }
[ -z "$prompt" ] || say "$prompt"
echo "in $id"
while read -r line; do say "$line"; done
"#;

/// Takes no id, and holds the lock of its conversation open as Codex does.
const CODEX: &str = r#"dir=$CODEX_HOME/sessions/2026; mkdir -p "$dir" "$CODEX_HOME/thread-writer-locks"
id=$(cat /proc/sys/kernel/random/uuid)
while [ $# -gt 0 ]; do case $1 in
  resume) id=$2; shift; [ -e "$dir/rollout-1-$id.jsonl" ] || { echo no conversation; exit 1; };;
  --) prompt=$2; shift;;
esac; shift; done
exec 9> "$CODEX_HOME/thread-writer-locks/$id.lock"
say() { echo "$id $1" >> "$CODEX_HOME/sent"; echo '{"type":"user_message"}' >> "$dir/rollout-1-$id.jsonl"; }
[ -z "$prompt" ] || say "$prompt"
echo "in $id"
while read -r line; do say "$line"; done
"#;

struct Agents {
    test: TestApp,
    dir: tempfile::TempDir,
}

impl Agents {
    async fn start() -> Self {
        let test = TestApp::start_with(|settings| {
            for (name, script) in [("claude", CLAUDE), ("codex", CODEX)] {
                let agent = settings.sessions.agents.get_mut(name).unwrap();
                agent.command = words(&["sh", "-c", script, name]);
            }
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        test.shed("a").await;
        Self { test, dir }
    }

    fn env(&self) -> BTreeMap<String, String> {
        let dir = self.dir.path().to_str().unwrap().to_owned();
        ["CLAUDE_CONFIG_DIR", "CODEX_HOME"].map(|name| (name.to_owned(), dir.clone())).into()
    }

    async fn run(&self, agent: &str, prompt: Option<&str>) -> Worker {
        let request = NewSession {
            name: Some("work".to_owned()),
            agent: Some(agent.to_owned()),
            prompt: prompt.map(str::to_owned),
            env: self.env(),
            ..NewSession::default()
        };
        let made = self.test.app.sessions().create(&self.test.admin, &shed("a"), request).await;
        made.unwrap().workers.remove(0)
    }

    fn worker(&self, name: &str) -> Worker {
        let (name, work) = (name.to_owned(), session("work"));
        self.test.app.workers().get(&self.test.admin, &shed("a"), &work, &name).unwrap()
    }

    /// The conversations and prompts that were sent.
    fn sent(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.dir.path().join("sent")).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(id, prompt)| (id.to_owned(), prompt.to_owned())).collect()
    }

    async fn sent_when(&self, n: usize) -> Vec<(String, String)> {
        eventually("the prompts", async || {
            let sent = self.sent();
            if sent.len() >= n { Ok(sent) } else { Err(format!("{sent:?}")) }
        })
        .await
    }

    /// The id of a worker's conversation, when shed knows it.
    async fn conversation(&self, worker: &str) -> String {
        eventually("its conversation", async || self.worker(worker).conversation).await
    }

    async fn restart(&self, worker: &str, continues: bool) -> Result<Worker, shed_core::Error> {
        let (name, work, restart) = (shed("a"), session("work"), Restart { continues });
        self.test.app.workers().restart(&self.test.admin, &name, &work, worker, restart).await
    }

    async fn submit(&self, text: &str) {
        let input = Input { text: Some(text.to_owned()), enter: true, ..Input::default() };
        let sessions = self.test.app.sessions();
        sessions.input(&self.test.admin, &shed("a"), &session("work"), input).await.unwrap();
    }

    async fn stop_and_start(&self) {
        for request in [Request::Stop, Request::Start] {
            self.test.app.sheds().request(&self.test.admin, &shed("a"), request).await.unwrap();
        }
    }

    async fn runs(&self, worker: &str, epoch: u64) -> Worker {
        eventually("the worker runs", async || {
            let row = self.worker(worker);
            let runs = row.epoch == epoch && row.status == WorkerStatus::Running;
            if runs { Ok(row) } else { Err(format!("{row:?}")) }
        })
        .await
    }
}

fn prompts(sent: &[(String, String)]) -> Vec<&str> {
    sent.iter().map(|(_, prompt)| prompt.as_str()).collect()
}

async fn comes_back(agent: &str) {
    let agents = Agents::start().await;
    agents.run(agent, Some("!first")).await;
    let first = agents.sent_when(1).await.remove(0);
    assert_eq!(first.1, " !first", "it is text, not a command");
    assert_eq!(agents.conversation(agent).await, first.0);
    agents.stop_and_start().await;
    agents.runs(agent, 2).await;
    agents.submit("second").await;
    let sent = agents.sent_when(2).await;
    assert_eq!(prompts(&sent), [" !first", "second"]);
    assert_eq!(sent[0].0, sent[1].0, "the same conversation");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_takes_an_id_comes_back_and_gets_no_prompt_twice() {
    comes_back("claude").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_shows_its_id_comes_back_and_gets_no_prompt_twice() {
    comes_back("codex").await;
}

async fn restarts(agent: &str) {
    let agents = Agents::start().await;
    agents.run(agent, Some("first")).await;
    let first = agents.sent_when(1).await.remove(0).0;
    assert_eq!(agents.conversation(agent).await, first);
    // A worker that a person restarts begins anew, and goes on if they say so.
    agents.restart(agent, false).await.unwrap();
    agents.submit("second").await;
    let second = agents.sent_when(2).await.remove(1).0;
    assert_ne!(second, first, "another conversation");
    let known = async || (agents.worker(agent).conversation == Some(second.clone())).then_some(());
    eventually("the new conversation", known).await;
    agents.restart(agent, true).await.unwrap();
    agents.submit("third").await;
    let sent = agents.sent_when(3).await;
    assert_eq!(sent[2].0, second, "the worker's own conversation");
    assert_eq!(prompts(&sent), ["first", "second", "third"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_takes_an_id_begins_anew_or_goes_on() {
    restarts("claude").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_shows_its_id_begins_anew_or_goes_on() {
    restarts("codex").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_had_a_turn_starts_again() {
    let agents = Agents::start().await;
    agents.run("claude", None).await;
    agents.stop_and_start().await;
    agents.runs("claude", 2).await;
    agents.restart("claude", true).await.unwrap();
    agents.submit("hello").await;
    assert_eq!(prompts(&agents.sent_when(1).await), ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_in_one_directory_keep_their_own_conversations() {
    let agents = Agents::start().await;
    agents.run("codex", Some("one")).await;
    let second = NewWorker {
        agent: Some("codex".to_owned()),
        prompt: Some("two".to_owned()),
        env: agents.env(),
        ..NewWorker::default()
    };
    let workers = agents.test.app.workers();
    workers.add(&agents.test.admin, &shed("a"), &session("work"), second).await.unwrap();
    let sent = agents.sent_when(2).await;
    let of = |prompt: &str| sent.iter().find(|(_, sent)| sent == prompt).unwrap().0.clone();
    assert_eq!(agents.conversation("codex").await, of("one"));
    assert_eq!(agents.conversation("codex-2").await, of("two"));
    agents.stop_and_start().await;
    for (worker, prompt) in [("codex", "one"), ("codex-2", "two")] {
        let back = agents.runs(worker, 2).await;
        assert_eq!(back.conversation, Some(of(prompt)));
    }
    assert_eq!(agents.sent().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_fails_at_once_is_an_error() {
    let agents = Agents::start().await;
    let file: &Path = &agents.dir.path().join("ran");
    let script = format!("test -e {0} && exit 3; touch {0}; exec sleep 1000", file.display());
    let request = kept("work", &["sh", "-c", &script]);
    agents.test.app.sessions().create(&agents.test.admin, &shed("a"), request).await.unwrap();
    eventually("its first start", async || file.exists().then_some(())).await;
    let refused = problem(agents.restart("sh", false).await);
    assert!(refused.detail.contains("ended at once: exit 3"), "{}", refused.detail);
    let sessions = agents.test.app.sessions();
    let (name, work) = (shed("a"), session("work"));
    let again = sessions.restart(&agents.test.admin, &name, &work, Restart::default()).await;
    assert_eq!(problem(again).code, Code::ExecFailed);
    // What is typed at a command that has ended is not lost without a word.
    let input = Input { text: Some("x".to_owned()), enter: true, ..Input::default() };
    let refused = problem(sessions.input(&agents.test.admin, &name, &work, input).await);
    assert_eq!(refused.code, Code::Busy);
    assert!(refused.detail.contains("has ended"), "{}", refused.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_of_several_lines_is_one_paste_and_nobody_types_into_it() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let script = "stty -echo -icrnl; printf '\\033[?2004h'; echo ready; exec cat -v";
    let request = kept("work", &["sh", "-c", script]);
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
    let screen = async || {
        let (name, work) = (shed("a"), session("work"));
        test.app.sessions().screen(&test.admin, &name, &work, Some(100), false).await.unwrap()
    };
    eventually("its start", async || screen().await.contains("ready").then_some(())).await;
    let submit = async |text: &str| {
        let input = Input { text: Some(text.to_owned()), enter: true, ..Input::default() };
        let (name, work) = (shed("a"), session("work"));
        test.app.sessions().input(&test.admin, &name, &work, input).await.unwrap();
    };
    tokio::join!(submit("one\ntwo\x1b[201~"), submit("three\nfour"));
    sh(&test, "a", "tmux send-keys -t =work: C-j").await;
    eventually("both", async || {
        let shown = screen().await.replace('\n', "");
        let whole = |text: &str| shown.contains(&format!("^[[200~{text}^[[201~^M"));
        if whole("one^Mtwo[201~") && whole("three^Mfour") { Ok(()) } else { Err(shown) }
    })
    .await;
}
