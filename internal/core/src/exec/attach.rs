//! Attaching to a session, which is created if there is none.

use shed_api::{Scope, SessionRef, ShedName};
use shed_link::{Program, Spawn, User};
use shed_model::Rejection;
use shed_tmux::argv::{self, Join};

use crate::access::Caller;
use crate::exec::Attach;
use crate::exec::read_only;
use crate::exec::spawn::{env_value, joining_env, session_env, tty_io, with_locale};
use crate::shed::entered::no_session;
use crate::shed::registry::Registry;
use crate::{Error, Person};
use shed_guest::Stream;

/// Attaches to a session, making it if need be.
pub(crate) async fn attach(
    registry: &Registry,
    person: &Person,
    name: &ShedName,
    session: &SessionRef,
    attach: Attach,
) -> Result<Stream, Error> {
    let open = &attach.open;
    let read_only = open.read_only || person.scope == Scope::Read;
    if open.new && (open.existing || read_only) {
        return Err(Error::Rejected(Rejection::Invalid(
            "a new session cannot be attached to read-only".to_owned(),
        )));
    }
    let needed = if open.detach_others { Scope::Drive } else { Scope::Read };
    let caller = Caller { person, shed: name, needs: needed, action: "to detach others" };
    let entered = registry.enter(&caller).await?;
    entered.needs_tmux()?;
    let known = entered.known(session).is_some();
    let exists = known || entered.exists(session).await?;
    let join = match session {
        _ if read_only => Join::ReadOnly,
        _ if exists || open.existing => Join::Existing,
        SessionRef::Id(_) => Join::Existing,
        SessionRef::Name(_) => Join::CreateOrAttach,
    };
    let creates = join == Join::CreateOrAttach;
    let session_env =
        if creates { session_env(&entered.link, &attach.open).await? } else { Vec::new() };
    if let (true, SessionRef::Name(name)) = (open.new, session) {
        // tmux itself refuses a second one: of two callers only one makes it.
        if known {
            let (shed, session) = (entered.shed.clone(), name.to_string());
            return Err(Error::SessionExists { shed, session });
        }
        entered.make(name, &session_env, person).await?;
    } else if !exists && !creates {
        return Err(no_session(name, session));
    } else if !exists {
        entered.expect(session, person).await;
    }
    let join = if open.new { Join::Existing } else { join };
    let (mut env, locale) = with_locale(joining_env(&attach.open));
    if !read_only {
        env.extend(attach.connection);
    }
    let true_colour = argv::has_true_colour(&open.tty.term, env_value(&env, "COLORTERM"));
    let target = entered.target(session).await?;
    let argv = argv::attach(&target, join, open.detach_others, true_colour, &session_env);
    let spawn = Spawn {
        program: Program::Argv(argv),
        env,
        locale,
        directory: None,
        user: User::Dev,
        io: tty_io(&open.tty),
        detached: None,
        worker: None,
    };
    if !read_only {
        let started = entered.link.start(spawn).await;
        return started.map_err(|error| entered.no_tmux(error.into()));
    }
    // Before the client itself, whose size must not count for a moment.
    let companion = read_only::companion(&entered, &open.tty).await?;
    let started = entered.link.start(spawn).await;
    let mut running = started.map_err(|error| entered.no_tmux(error.into()))?;
    // tmux ignores keys of a read-only client; the server does not even pass them.
    running.input = None;
    Ok(read_only::with_companion(running, companion))
}
