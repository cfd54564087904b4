//! One operation on several things: all are tried, and the first failure gives the exit status.

use shed_api::name::printable;
use shed_api::session::Session;
use shed_client::ClientError;

use super::target::Targets;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Runs `act` for each name, prints failures, and returns the first failure's status, or 0.
pub(crate) async fn each(
    names: &[String],
    context: &Context,
    mut act: impl AsyncFnMut(&str) -> Result<(), Failure>,
) -> u8 {
    let mut status = 0;
    for name in names {
        if let Err(failure) = act(name).await {
            context.out.failure(&failure);
            status = if status == 0 { failure.status } else { status };
        }
    }
    status
}

/// Runs `operation` on each session, says for each that it `done`, and prints the sessions as they are afterwards.
pub(crate) async fn each_session(
    targets: Targets,
    done: &str,
    context: &Context,
    operation: impl AsyncFn(&str, &str) -> Result<Session, ClientError>,
) -> Outcome {
    let Targets { name, sessions } = targets;
    let mut after = Vec::new();
    let one = async |session: &str| {
        let changed = operation(&name, session).await?;
        context.out.say(&format!("session {name}/{session} {done}"));
        say_rest(&changed, context);
        after.push(changed);
        Ok(())
    };
    let status = each(&sessions, context, one).await;
    context.out.data(&after, String::new)?;
    Ok(status)
}

/// Says what an operation on a session left out.
pub(crate) fn say_rest(session: &Session, context: &Context) {
    for note in session.reason.iter().chain(&session.notes) {
        context.out.say(&format!(
            "session {}/{}: {}",
            session.shed_name,
            session.name,
            printable(note)
        ));
    }
}
