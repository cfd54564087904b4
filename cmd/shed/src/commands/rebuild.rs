//! `shed rebuild`.

use clap_complete::ArgValueCandidates;
use shed_api::shed::RebuildShed;

use super::completions::sheds;
use super::each;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;

/// Give sheds a new container on the same volumes
///
/// What is in /workspace, the home and /worktrees stays; the rest comes fresh from the image.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed rebuild web                       the same image, looked up again
  shed rebuild web --image shed-agents")]
pub(crate) struct Args {
    /// Sheds
    #[arg(required = true, value_name = "NAME", value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    names: Vec<String>,
    /// The new image
    #[arg(short, long)]
    image: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let request = RebuildShed { image: args.image };
    let rebuild = async |name: &str| {
        let shed = client.rebuild(name, &request).await?;
        context.out.say(&format!("shed {name} was rebuilt from {}", shed.image));
        context.out.data(&shed, String::new)
    };
    Ok(each(&args.names, context, rebuild).await)
}
