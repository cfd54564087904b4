//! `shed start`, `stop`, `restart`, `pause`, `unpause`: one word each, for several sheds.

use clap_complete::ArgValueCandidates;
use shed_client::Wished;

use super::completions::sheds;
use super::each;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;

/// Which sheds
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sheds
    #[arg(required = true, value_name = "NAME", value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    names: Vec<String>,
}

/// A word of the API and what is said when it is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verb {
    path: &'static str,
    done: &'static str,
    already: &'static str,
}

/// `start`.
pub(crate) const START: Verb = Verb { path: "start", done: "started", already: "already runs" };
/// `stop`.
pub(crate) const STOP: Verb =
    Verb { path: "stop", done: "stopped", already: "was stopped already" };
/// `restart`.
pub(crate) const RESTART: Verb =
    Verb { path: "restart", done: "restarted", already: "already runs" };
/// `pause`.
pub(crate) const PAUSE: Verb =
    Verb { path: "pause", done: "paused", already: "was paused already" };
/// `unpause`.
pub(crate) const UNPAUSE: Verb =
    Verb { path: "unpause", done: "unpaused", already: "already runs" };

/// Runs the command.
pub(crate) async fn run(args: Args, verb: Verb, context: &Context) -> Outcome {
    let client = context.client()?;
    let mut done = Vec::new();
    let wish = async |name: &str| {
        let (wished, shed) = client.wish(name, verb.path).await?;
        let words = if wished == Wished::Already { verb.already } else { verb.done };
        context.out.say(&format!("shed {name} {words}"));
        done.push(shed);
        Ok(())
    };
    let status = each(&args.names, context, wish).await;
    context.out.data(&done, String::new)?;
    Ok(status)
}
