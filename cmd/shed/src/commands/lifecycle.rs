//! `shed start`, `stop`, `restart`, `pause` and `unpause`.

use clap_complete::ArgValueCandidates;
use shed_client::Effect;

use super::each::each;
use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;

// No doc comment: the subcommands have their own help.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sheds
    #[arg(required = true, value_name = "NAME", value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    names: Vec<String>,
}

/// An operation on sheds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    /// Its name in the API.
    name: &'static str,
    /// What is printed after the shed's name when it was carried out.
    done: &'static str,
    /// What is printed when the shed was in the requested state already.
    already: &'static str,
}

pub(crate) const START: Operation =
    Operation { name: "start", done: "started", already: "is already running" };
pub(crate) const STOP: Operation =
    Operation { name: "stop", done: "stopped", already: "is already stopped" };
pub(crate) const RESTART: Operation =
    Operation { name: "restart", done: "restarted", already: "is already running" };
pub(crate) const PAUSE: Operation =
    Operation { name: "pause", done: "paused", already: "is already paused" };
pub(crate) const UNPAUSE: Operation =
    Operation { name: "unpause", done: "unpaused", already: "is already running" };

pub(crate) async fn run(args: Args, operation: Operation, context: &Context) -> Outcome {
    let client = context.client()?;
    let mut sheds = Vec::new();
    let run = async |name: &str| {
        let (effect, shed) = client.shed_operation(name, operation.name).await?;
        let result = if effect == Effect::Unchanged { operation.already } else { operation.done };
        context.out.say(&format!("shed {name} {result}"));
        sheds.push(shed);
        Ok(())
    };
    let status = each(&args.names, context, run).await;
    context.out.data(&sheds, String::new)?;
    Ok(status)
}
