//! `shed rebuild`.

use clap_complete::ArgValueCandidates;
use shed_api::shed::RebuildShed;

use super::each::each;
use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;

/// Replace the containers of sheds and keep their volumes
///
/// Files in /workspace, /worktrees and the home directory stay; everything else is reset to the image.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed rebuild web                       use the newest version of the same image
  shed rebuild web --image shed-agents")]
pub(crate) struct Args {
    /// Sheds
    #[arg(required = true, value_name = "NAME", value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    names: Vec<String>,
    /// New image (default: the same)
    #[arg(short, long)]
    image: Option<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let request = RebuildShed { image: args.image };
    let rebuild = async |name: &str| {
        let before = client.shed(name).await?.image;
        let shed = client.rebuild(name, &request).await?;
        let image = &shed.image;
        context.out.say(&format!("shed {name} was rebuilt from {image}"));
        if *image != before {
            context.out.say(&format!(
                "shed {name}: the home directory keeps its files from {before}; those that {image} has there are not used"
            ));
        }
        context.out.data(&shed, String::new)
    };
    Ok(each(&args.names, context, rebuild).await)
}
