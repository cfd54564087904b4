//! From what somebody asks for to the rows of a session and its first worker. Pure: no clock, no shed is asked.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use shed_api::SessionName;
use shed_api::session::{NewSession, SessionStatus, SessionType};
use shed_api::work::Template;
use shed_api::worker::{NewWorker, WorkerKind, WorkerStatus};
use shed_store::{SessionRow, SessionSpec, WorkerRow, WorkerSpec};

use crate::Error;
use crate::session::settings::SessionSettings;

/// The most bytes of a title.
pub(crate) const MAX_TITLE_BYTES: usize = 1024;
/// The most tags of a session, and the most bytes of one.
pub(crate) const MAX_TAGS: (usize, usize) = (32, 64);
/// The most bytes of a prompt: it travels as one word of a command line, of which Linux takes 128 KiB.
pub(crate) const MAX_PROMPT_BYTES: usize = 100 << 10;
/// The most bytes of a command's words together.
pub(crate) const MAX_COMMAND_BYTES: usize = 120 << 10;
/// The most bytes of an environment.
pub(crate) const MAX_ENV_BYTES: usize = 256 << 10;
/// The most workers of a session.
pub(crate) const MAX_WORKERS: usize = 64;
/// The most bytes of a name that is made from a title.
const MAX_SLUG_BYTES: usize = 24;
/// Where sessions begin in a shed that does not say.
pub(crate) const WORKSPACE: &str = "/workspace";

/// What the plan needs to know of what is there.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    /// The shed.
    pub(crate) shed: &'a str,
    /// Names that are taken.
    pub(crate) names: BTreeSet<String>,
    /// Port blocks that are taken.
    pub(crate) port_blocks: BTreeSet<u16>,
    /// Where worktrees are made.
    pub(crate) worktrees: &'a str,
    /// Where sessions begin when nothing else is said, and which repository is meant.
    pub(crate) workspace: &'a str,
    /// Now.
    pub(crate) now: DateTime<Utc>,
    /// The session whose worktree is shared.
    pub(crate) shared: Option<&'a SessionRow>,
}

/// A session before it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) session: SessionRow,
    pub(crate) worker: WorkerRow,
}

/// Fills in from a template what a request does not say.
pub(crate) fn with_template(mut request: NewSession, template: &Template) -> NewSession {
    fn or<T: Clone>(said: &mut Option<T>, template: Option<&T>) {
        if said.is_none() {
            *said = template.cloned();
        }
    }
    // What a request says excludes some of what a template may say: then only the request counts.
    if request.kind != Some(SessionType::Quick) && request.share.is_none() {
        if !request.existing_branch {
            or(&mut request.base, template.base.as_ref());
        }
        request.fetch |= template.fetch;
    }
    or(&mut request.kind, template.kind.as_ref());
    or(&mut request.title, template.title.as_ref());
    or(&mut request.auto_respond, template.auto_respond.as_ref());
    // An agent and a command exclude each other: who says one does not want the template's other.
    let has_own_command = !request.command.is_empty();
    if !has_own_command && request.agent.is_none() {
        request.agent.clone_from(&template.agent);
        request.command.clone_from(&template.command);
    }
    if !has_own_command {
        or(&mut request.model, template.model.as_ref());
    }
    if let Some(text) = template.prompt.as_ref().filter(|_| !has_own_command) {
        let own = request.prompt.take().unwrap_or_default();
        let both = if text.contains("{{prompt}}") {
            text.replace("{{prompt}}", &own)
        } else if own.is_empty() {
            text.clone()
        } else {
            format!("{text}\n\n{own}")
        };
        request.prompt = Some(both);
    }
    if request.tags.is_empty() {
        request.tags.clone_from(&template.tags);
    }
    for (said, template) in
        [(&mut request.setup, &template.setup), (&mut request.teardown, &template.teardown)]
    {
        if said.is_empty() {
            said.clone_from(template);
        }
    }
    for (key, value) in &template.env {
        request.env.entry(key.clone()).or_insert_with(|| value.clone());
    }
    request.limits.get_or_insert_with(|| template.limits.clone());
    request.confine |= template.confine;
    request.restart |= template.restart;
    request
}

/// Checks what a template says as if it were all that is said.
pub(crate) fn check_template(settings: &SessionSettings, template: &Template) -> Result<(), Error> {
    let both = template.agent.is_some() && !template.command.is_empty();
    if both {
        return Err(Error::Invalid("give an agent or a command, not both".to_owned()));
    }
    let request = with_template(NewSession::default(), template);
    check(&request)?;
    let needs_agent = request.prompt.is_some() || request.model.is_some();
    // Which agent gets the prompt, the request may say.
    let any = settings.agents.keys().next().cloned().filter(|_| needs_agent);
    let worker = NewWorker {
        agent: request.agent.or(any),
        model: request.model,
        prompt: request.prompt,
        command: request.command,
        env: request.env,
        ..NewWorker::default()
    };
    plan_worker(settings, &BTreeSet::new(), "", DateTime::UNIX_EPOCH, worker).map(drop)
}

/// Checks a request and settles everything about the session that can be settled without asking the shed.
pub(crate) fn plan(
    settings: &SessionSettings,
    known: &Known<'_>,
    request: NewSession,
) -> Result<Plan, Error> {
    check(&request)?;
    let kind = request.kind.unwrap_or(SessionType::Quick);
    let name = match &request.name {
        Some(name) => name.parse::<SessionName>()?.to_string(),
        None => free_name(&known.names, &slug(&request)),
    };
    let id = new_id();
    let worker = NewWorker {
        name: None,
        agent: request.agent,
        model: request.model,
        prompt: request.prompt,
        command: request.command,
        directory: None,
        env: std::collections::BTreeMap::new(),
        keep: request.keep.or((kind == SessionType::Worktree).then_some(true)),
        restart: request.restart,
    };
    let worker = plan_worker(settings, &BTreeSet::new(), &id, known.now, worker)?;
    let is_worktree = kind == SessionType::Worktree;
    let own_worktree = is_worktree && known.shared.is_none();
    let repo = is_worktree
        .then(|| request.directory.clone().unwrap_or_else(|| known.workspace.to_owned()));
    let directory = match (known.shared, is_worktree) {
        (Some(shared), _) => shared.spec.directory.clone(),
        (None, true) => format!("{}/{name}", known.worktrees),
        (None, false) => request.directory.clone().unwrap_or_else(|| known.workspace.to_owned()),
    };
    let branch = own_worktree.then(|| {
        request.branch.clone().unwrap_or_else(|| format!("{}{name}", settings.branch_prefix))
    });
    if let Some(branch) = &branch {
        check_branch(branch)?;
    }
    let set_up = request.setup.is_empty();
    let spec = SessionSpec {
        kind,
        title: request.title.filter(|title| !title.is_empty()),
        tags: request.tags,
        directory,
        repo: known.shared.map_or(repo, |shared| shared.spec.repo.clone()),
        branch: known.shared.map_or(branch, |shared| shared.spec.branch.clone()),
        made_branch: own_worktree && !request.existing_branch,
        base: known.shared.map_or(request.base, |shared| shared.spec.base.clone()),
        base_commit: known.shared.and_then(|shared| shared.spec.base_commit.clone()),
        existing_branch: request.existing_branch,
        fetch: request.fetch,
        from_checkpoint: None,
        placed: !own_worktree,
        set_up,
        shares: known.shared.map(|shared| shared.id.clone()),
        template: request.template,
        limits: request.limits.unwrap_or_default(),
        auto_respond: request.auto_respond,
        confine: request.confine,
        port_block: free_block(&known.port_blocks),
        env: request.env,
        setup: request.setup,
        teardown: request.teardown,
        closes: !worker.spec.keep && kind == SessionType::Quick,
        running_since: None,
        deletion: None,
    };
    let session = SessionRow {
        id,
        shed: known.shed.to_owned(),
        name,
        status: SessionStatus::Waiting,
        reason: None,
        created_at: known.now,
        status_since: known.now,
        spec,
    };
    Ok(Plan { session, worker })
}

/// A worker of a session that has workers of these names.
pub(crate) fn plan_worker(
    settings: &SessionSettings,
    names: &BTreeSet<String>,
    session: &str,
    now: DateTime<Utc>,
    request: NewWorker,
) -> Result<WorkerRow, Error> {
    check_worker(&request)?;
    if names.len() >= MAX_WORKERS {
        return Err(Error::TooLarge(format!("a session has at most {MAX_WORKERS} workers")));
    }
    let kind = if request.agent.is_some() { WorkerKind::Agent } else { WorkerKind::Terminal };
    let wanted = match (&request.name, &request.agent, request.command.first()) {
        (Some(name), _, _) => name.parse::<SessionName>()?.to_string(),
        (None, Some(agent), _) => free_name(names, agent),
        (None, None, Some(word)) => {
            let base = word.rsplit('/').next().unwrap_or(word);
            free_name(names, &slugify(base).unwrap_or_else(|| "command".to_owned()))
        }
        (None, None, None) => free_name(names, "shell"),
    };
    if let Some(agent) = &request.agent
        && !settings.agents.contains_key(agent)
    {
        let known: Vec<&str> = settings.agents.keys().map(String::as_str).collect();
        let text = format!("no agent {agent:?} is known; there are {}", known.join(", "));
        return Err(Error::Invalid(text));
    }
    Ok(WorkerRow {
        id: new_id(),
        session: session.to_owned(),
        name: wanted,
        status: WorkerStatus::Starting,
        epoch: 0,
        exit: None,
        reason: None,
        created_at: now,
        started_at: None,
        ended_at: None,
        spec: WorkerSpec {
            kind,
            // Agents that take an id of ours get one; for the others it names nothing.
            conversation: request.agent.as_ref().map(|_| uuid::Uuid::new_v4().to_string()),
            agent: request.agent,
            model: request.model,
            prompt: request.prompt,
            keep: request.keep.unwrap_or(kind == WorkerKind::Agent),
            command: request.command,
            directory: request.directory,
            env: request.env,
            restart: request.restart,
            hook: false,
        },
    })
}

/// A new id: 32 hexadecimal digits, growing with time.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

fn check(request: &NewSession) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Invalid(text.to_owned()));
    let is_worktree = request.kind == Some(SessionType::Worktree);
    if !is_worktree
        && (request.branch.is_some()
            || request.base.is_some()
            || request.existing_branch
            || request.fetch)
    {
        return invalid("branch, base and fetch are for a session of type worktree");
    }
    if request.share.is_some()
        && (request.branch.is_some() || request.base.is_some() || request.directory.is_some())
    {
        return invalid("who shares a worktree has its branch, base and directory");
    }
    if request.existing_branch && (request.branch.is_none() || request.base.is_some()) {
        return invalid("existing_branch needs branch, and excludes base");
    }
    if let Some(title) = &request.title {
        check_title(title)?;
    }
    check_tags(&request.tags)?;
    for words in [&request.setup, &request.teardown] {
        check_command(words)?;
    }
    check_env(&request.env)?;
    check_directory(request.directory.as_deref())
}

fn check_worker(request: &NewWorker) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Invalid(text.to_owned()));
    if request.agent.is_some() && !request.command.is_empty() {
        return invalid("give an agent or a command, not both");
    }
    if request.agent.is_none() && (request.prompt.is_some() || request.model.is_some()) {
        return invalid("a prompt and a model are for an agent: say which");
    }
    if let Some(prompt) = &request.prompt {
        if prompt.len() > MAX_PROMPT_BYTES {
            return Err(Error::TooLarge(format!("the prompt is over {MAX_PROMPT_BYTES} bytes")));
        }
        if prompt.contains('\0') {
            return invalid("the prompt has a NUL byte in it");
        }
    }
    check_command(&request.command)?;
    check_env(&request.env)?;
    check_directory(request.directory.as_deref())
}

pub(crate) fn check_title(title: &str) -> Result<(), Error> {
    if title.len() > MAX_TITLE_BYTES {
        return Err(Error::TooLarge(format!("the title is over {MAX_TITLE_BYTES} bytes")));
    }
    if title.chars().any(char::is_control) {
        return Err(Error::Invalid("the title has a control character in it".to_owned()));
    }
    Ok(())
}

pub(crate) fn check_tags(tags: &[String]) -> Result<(), Error> {
    let (most, bytes) = MAX_TAGS;
    if tags.len() > most {
        return Err(Error::TooLarge(format!("more than {most} tags")));
    }
    let bad = |tag: &&String| {
        tag.is_empty() || tag.len() > bytes || tag.contains(|c: char| c.is_control() || c == ',')
    };
    match tags.iter().find(bad) {
        Some(tag) => Err(Error::Invalid(format!(
            "{tag:?} is no tag: 1 to {bytes} bytes without commas and control characters"
        ))),
        None => Ok(()),
    }
}

fn check_command(words: &[String]) -> Result<(), Error> {
    if words.first().is_some_and(String::is_empty) {
        return Err(Error::Invalid("the command is empty".to_owned()));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Error::Invalid("a word of the command has a NUL byte in it".to_owned()));
    }
    if words.iter().map(String::len).sum::<usize>() > MAX_COMMAND_BYTES {
        return Err(Error::TooLarge(format!("the command is over {MAX_COMMAND_BYTES} bytes")));
    }
    Ok(())
}

fn check_env(env: &std::collections::BTreeMap<String, String>) -> Result<(), Error> {
    let n_bytes: usize = env.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    if n_bytes > MAX_ENV_BYTES {
        return Err(Error::TooLarge(format!("the environment is over {MAX_ENV_BYTES} bytes")));
    }
    let bad = |(key, value): &(&String, &String)| {
        key.is_empty() || key.contains(['=', '\0']) || value.contains('\0')
    };
    match env.iter().find(bad) {
        Some((key, _)) => Err(Error::Invalid(format!("{key:?} is no variable"))),
        None => Ok(()),
    }
}

fn check_directory(directory: Option<&str>) -> Result<(), Error> {
    if directory.is_some_and(|dir| !dir.starts_with('/') || dir.contains('\0')) {
        return Err(Error::Invalid("the directory must be an absolute path".to_owned()));
    }
    Ok(())
}

/// The rules of `git check-ref-format --branch`, as far as they protect: nothing that looks like an option, leaves the
/// directory of refs or means something to git.
pub(crate) fn check_branch(branch: &str) -> Result<(), Error> {
    let bad_char =
        |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let bad_part = |part: &str| {
        part.is_empty()
            || part.starts_with('.')
            || part.ends_with('.')
            || std::path::Path::new(part).extension().is_some_and(|end| end == "lock")
    };
    let bad = branch.is_empty()
        || branch.len() > 200
        || branch.starts_with('-')
        || branch == "@"
        || branch.contains("..")
        || branch.contains("@{")
        || branch.contains(bad_char)
        || branch.split('/').any(bad_part);
    if bad {
        return Err(Error::Invalid(format!("{branch:?} is no name of a branch")));
    }
    Ok(())
}

/// What a name is made from when none is given.
fn slug(request: &NewSession) -> String {
    let texts = [&request.title, &request.prompt, &request.branch, &request.agent];
    let words = request.command.first().map(|word| word.rsplit('/').next().unwrap_or(word));
    let found = texts.into_iter().flatten().map(String::as_str).chain(words).find_map(slugify);
    found.unwrap_or_else(|| "session".to_owned())
}

/// Lower-case letters, digits and `-`; `None` of a text that has nothing of it.
fn slugify(text: &str) -> Option<String> {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= MAX_SLUG_BYTES {
            break;
        }
    }
    let slug = slug.trim_end_matches('-').to_owned();
    (!slug.is_empty()).then_some(slug)
}

/// The name, or the name with the first number that makes it free.
fn free_name(taken: &BTreeSet<String>, name: &str) -> String {
    if !taken.contains(name) {
        return name.to_owned();
    }
    // Of one more number than there are names, one is free.
    let mut numbered = (2..=taken.len() + 2).map(|n| format!("{name}-{n}"));
    numbered.find(|name| !taken.contains(name)).unwrap_or_else(new_id)
}

/// The first block of ports nobody has; none when all are given away.
pub(crate) fn free_block(taken: &BTreeSet<u16>) -> Option<u16> {
    (0..SessionSettings::PORT_BLOCKS).find(|block| !taken.contains(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &[&str]) -> Known<'static> {
        Known {
            shed: "a",
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            port_blocks: BTreeSet::from([0, 2]),
            worktrees: "/worktrees",
            workspace: WORKSPACE,
            now: DateTime::from_timestamp(5, 0).unwrap(),
            shared: None,
        }
    }

    fn planned(names: &[&str], request: NewSession) -> Result<Plan, Error> {
        plan(&SessionSettings::default(), &known(names), request)
    }

    #[test]
    fn a_bare_request_is_a_shell_that_closes() {
        let Plan { session, worker } =
            planned(&[], NewSession { name: Some("x".to_owned()), ..NewSession::default() })
                .unwrap();
        assert_eq!((session.name.as_str(), session.spec.directory.as_str()), ("x", "/workspace"));
        assert!(session.spec.closes && session.spec.placed && session.spec.set_up);
        assert_eq!(session.spec.port_block, Some(1));
        assert_eq!((worker.name.as_str(), worker.spec.keep), ("shell", false));
    }

    #[test]
    fn a_worktree_has_a_place_and_a_branch_of_its_own() {
        let request = NewSession {
            kind: Some(SessionType::Worktree),
            title: Some("Fix: the 日本 login! #(id)".to_owned()),
            agent: Some("claude".to_owned()),
            ..NewSession::default()
        };
        let Plan { session, worker } = planned(&["fix-the-login-id"], request).unwrap();
        assert_eq!(session.name, "fix-the-login-id-2");
        assert_eq!(session.spec.directory, "/worktrees/fix-the-login-id-2");
        assert_eq!(session.spec.branch.as_deref(), Some("shed/fix-the-login-id-2"));
        assert!(session.spec.made_branch && !session.spec.placed && !session.spec.closes);
        assert!(worker.spec.keep && worker.spec.conversation.is_some());
        let japanese = NewSession { title: Some("日本語".to_owned()), ..NewSession::default() };
        assert_eq!(planned(&[], japanese).unwrap().session.name, "session");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let some = |text: &str| Some(text.to_owned());
        let bad = [
            NewSession { name: some("#(id)"), ..NewSession::default() },
            NewSession { branch: some("x"), ..NewSession::default() },
            NewSession { prompt: some("x"), ..NewSession::default() },
            NewSession { agent: some("nobody"), ..NewSession::default() },
            NewSession { directory: some("here"), ..NewSession::default() },
            NewSession { title: some("a\x1b"), ..NewSession::default() },
            NewSession { tags: vec!["a,b".to_owned()], ..NewSession::default() },
            NewSession { command: vec![String::new()], ..NewSession::default() },
            NewSession {
                agent: some("claude"),
                command: vec!["x".to_owned()],
                ..NewSession::default()
            },
        ];
        for request in bad {
            assert!(planned(&[], request.clone()).is_err(), "{request:?}");
        }
        for branch in
            ["", "-x", "a..b", "../x", "a b", "x.lock", "a//b", "/a", "a/", "@", "a@{1}", "é\u{7}"]
        {
            let kind = Some(SessionType::Worktree);
            let request = NewSession { kind, branch: some(branch), ..NewSession::default() };
            assert!(planned(&[], request).is_err(), "{branch:?}");
        }
        for branch in ["a", "shed/x", "#(id)", "fix-1.2", "日本"] {
            assert!(check_branch(branch).is_ok(), "{branch:?}");
        }
    }

    #[test]
    fn a_template_fills_in_what_is_not_said() {
        let template = Template {
            kind: Some(SessionType::Worktree),
            agent: Some("claude".to_owned()),
            prompt: Some("Review {{prompt}} well".to_owned()),
            setup: vec!["make".to_owned()],
            ..Template::default()
        };
        let said = NewSession { prompt: Some("main".to_owned()), ..NewSession::default() };
        let filled = with_template(said, &template);
        assert_eq!(filled.prompt.as_deref(), Some("Review main well"));
        assert_eq!(filled.kind, Some(SessionType::Worktree));
        assert_eq!(filled.setup, ["make"]);
        let command = NewSession { command: vec!["ls".to_owned()], ..NewSession::default() };
        let filled = with_template(command, &template);
        assert_eq!((filled.agent, filled.prompt), (None, None));
        let from = Template { base: Some("main".to_owned()), fetch: true, ..template };
        let quick = NewSession { kind: Some(SessionType::Quick), ..NewSession::default() };
        let filled = with_template(quick, &from);
        assert_eq!(
            (filled.kind, filled.base, filled.fetch),
            (Some(SessionType::Quick), None, false)
        );
        let taken_up = NewSession { existing_branch: true, ..NewSession::default() };
        assert_eq!(with_template(taken_up, &from).base, None);
        assert_eq!(with_template(NewSession::default(), &from).base.as_deref(), Some("main"));
    }
}
