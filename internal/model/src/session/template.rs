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
        return Err(Rejection::Invalid("give an agent or a command, not both".to_owned()));
    }
    let request = with_template(NewSession::default(), template);
    check(&request)?;
    let needs_agent = request.prompt.is_some() || request.model.is_some();
    // The request may name the agent that gets the prompt.
    let any = rules.agents.first().cloned().filter(|_| needs_agent);
    let worker = NewWorker {
        agent: request.agent.or(any),
        model: request.model,
        prompt: request.prompt,
        command: request.command,
        env: request.env,
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
}
