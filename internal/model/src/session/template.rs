//! Templates: a request for a session gets from its template what it does not say itself.

use std::collections::BTreeSet;

use chrono::DateTime;
use shed_api::session::{NewSession, SessionType};
use shed_api::work::Template;
use shed_api::worker::NewWorker;

use super::plan::{Ids, Rules, plan_worker};
use super::request::check;
use crate::Rejection;

/// Fills in from a template what a request leaves out.
pub fn with_template(mut request: NewSession, template: &Template) -> NewSession {
    fn or<T: Clone>(given: &mut Option<T>, template: Option<&T>) {
        if given.is_none() {
            *given = template.cloned();
        }
    }
    // Some of a request's options exclude some of a template's: then only the request counts.
    if request.kind != Some(SessionType::Quick) && request.share.is_none() {
        if !request.existing_branch {
            or(&mut request.base, template.base.as_ref());
        }
        request.fetch |= template.fetch;
    }
    or(&mut request.kind, template.kind.as_ref());
    or(&mut request.title, template.title.as_ref());
    or(&mut request.auto_respond, template.auto_respond.as_ref());
    // An agent and a command exclude each other: a request with one does not want the template's other.
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
    for (given, template) in
        [(&mut request.setup, &template.setup), (&mut request.teardown, &template.teardown)]
    {
        if given.is_empty() {
            given.clone_from(template);
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

/// Checks a template as if it were the whole request.
pub fn check_template(rules: &Rules, template: &Template) -> Result<(), Rejection> {
    let both = template.agent.is_some() && !template.command.is_empty();
    if both {
        return Err(Rejection::Invalid(
            "invalid template; expected an agent or a command, not both".to_owned(),
        ));
    }
    let request = with_template(NewSession::default(), template);
    check(&request)?;
    let needs_agent = request.prompt.is_some() || request.model.is_some();
    // The request may name the agent that gets the prompt.
    let any = rules.agents.keys().next().cloned().filter(|_| needs_agent);
    let worker = NewWorker {
        agent: request.agent.or(any),
        model: request.model,
        prompt: request.prompt,
        command: request.command,
        ..NewWorker::default()
    };
    plan_worker(rules, &BTreeSet::new(), Ids::default(), "", DateTime::UNIX_EPOCH, worker).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_fills_in_what_the_request_leaves_out() {
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
        let existing = NewSession { existing_branch: true, ..NewSession::default() };
        assert_eq!(with_template(existing, &from).base, None);
        assert_eq!(with_template(NewSession::default(), &from).base.as_deref(), Some("main"));
    }

    #[test]
    fn what_a_request_says_wins() {
        let some = |text: &str| Some(text.to_owned());
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let template = Template {
            title: some("t"),
            agent: some("claude"),
            model: some("m"),
            tags: words(&["t"]),
            setup: words(&["s"]),
            teardown: words(&["d"]),
            env: [("A".to_owned(), "t".to_owned()), ("B".to_owned(), "t".to_owned())].into(),
            confine: true,
            restart: true,
            fetch: true,
            base: some("main"),
            limits: shed_api::session::SessionLimits {
                runtime_seconds: Some(1),
                ..Default::default()
            },
            ..Template::default()
        };
        let filled = with_template(NewSession::default(), &template);
        assert_eq!((filled.title.as_deref(), filled.model.as_deref()), (Some("t"), Some("m")));
        assert_eq!(
            (filled.agent.as_deref(), filled.base.as_deref()),
            (Some("claude"), Some("main"))
        );
        assert_eq!(
            (&filled.tags, &filled.setup, &filled.teardown),
            (&words(&["t"]), &words(&["s"]), &words(&["d"]))
        );
        assert!(filled.confine && filled.restart && filled.fetch);
        assert_eq!(filled.limits.map(|limits| limits.runtime_seconds), Some(Some(1)));
        let said = NewSession {
            title: some("r"),
            agent: some("codex"),
            model: some("n"),
            base: some("dev"),
            tags: words(&["r"]),
            setup: words(&["x"]),
            teardown: words(&["y"]),
            env: [("A".to_owned(), "r".to_owned())].into(),
            limits: Some(shed_api::session::SessionLimits::default()),
            ..NewSession::default()
        };
        let filled = with_template(said.clone(), &template);
        assert_eq!((filled.env["A"].as_str(), filled.env["B"].as_str()), ("r", "t"));
        let own = NewSession {
            env: filled.env.clone(),
            fetch: true,
            confine: true,
            restart: true,
            ..said
        };
        assert_eq!(filled, own);
        let shares = NewSession { share: some("other"), ..NewSession::default() };
        let filled = with_template(shares, &template);
        assert_eq!((filled.base, filled.fetch), (None, false), "it has the other's branch");
        let command = NewSession { command: words(&["ls"]), ..NewSession::default() };
        let filled = with_template(command, &template);
        assert_eq!((filled.agent, filled.model), (None, None));
        let commands = Template { command: words(&["make"]), ..Template::default() };
        assert_eq!(with_template(NewSession::default(), &commands).command, ["make"]);
    }

    #[test]
    fn a_prompt_goes_behind_a_templates() {
        let template = Template { prompt: Some("Review".to_owned()), ..Template::default() };
        let prompt = |own: Option<&str>| {
            let request = NewSession { prompt: own.map(str::to_owned), ..NewSession::default() };
            with_template(request, &template).prompt
        };
        assert_eq!(prompt(None).as_deref(), Some("Review"));
        assert_eq!(prompt(Some("x")).as_deref(), Some("Review\n\nx"));
    }

    #[test]
    fn a_template_is_checked_as_a_whole_request() {
        let can = crate::conversation::Abilities { takes_id: true, resumes_by_id: true };
        let rules = Rules { agents: [("claude".to_owned(), can)].into(), ..Rules::default() };
        let some = |text: &str| Some(text.to_owned());
        let good = [
            Template::default(),
            Template { prompt: some("p"), ..Template::default() },
            Template { model: some("m"), ..Template::default() },
            Template { agent: some("claude"), ..Template::default() },
        ];
        for template in good {
            assert_eq!(check_template(&rules, &template), Ok(()), "{template:?}");
        }
        let bad = [
            Template { agent: some("nobody"), ..Template::default() },
            Template {
                agent: some("claude"),
                command: vec!["ls".to_owned()],
                ..Template::default()
            },
            Template { prompt: some("a\0"), ..Template::default() },
            Template { base: some("main"), ..Template::default() },
            Template { env: [("A=".to_owned(), String::new())].into(), ..Template::default() },
            Template { command: vec![String::new()], ..Template::default() },
        ];
        for template in bad {
            assert!(check_template(&rules, &template).is_err(), "{template:?}");
        }
        let nobody = Rules::default();
        let prompt = Template { prompt: some("p"), ..Template::default() };
        let model = Template { model: some("m"), ..Template::default() };
        for template in [prompt, model] {
            assert!(check_template(&nobody, &template).is_err(), "no agent for {template:?}");
        }
    }
}
