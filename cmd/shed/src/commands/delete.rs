//! `shed delete`.

use std::io::{BufRead as _, IsTerminal as _};

use clap_complete::ArgValueCandidates;

use super::completions::sheds;
use super::each;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;

/// Delete sheds, with everything on their volumes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed delete web
  shed delete web --keep-volume          a later `shed create web` takes the volumes up again
  shed delete -f web api")]
pub(crate) struct Args {
    /// Sheds
    #[arg(required = true, value_name = "NAME", value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    names: Vec<String>,
    /// Leave the volumes
    #[arg(long)]
    keep_volume: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let delete = async |name: &str| {
        let shed = client.shed(name).await?;
        if !args.force {
            let what = if args.keep_volume { "its container" } else { "everything in it" };
            let sessions = match shed.session_count {
                0 => String::new(),
                1 => ", with a session".to_owned(),
                n => format!(", with {n} sessions"),
            };
            ask(&format!("delete shed {name} ({}{sessions}) and {what}?", shed.status), context)?;
        }
        client.delete(name, args.keep_volume).await?;
        context.out.say(&format!("shed {name} was deleted"));
        Ok(())
    };
    Ok(each(&args.names, context, delete).await)
}

/// Passes if the person says yes. Nobody to ask is a no.
pub(crate) fn ask(question: &str, context: &Context) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is nobody to ask").hint("the same with --force"));
    }
    context.out.say(&format!("{question} [y/N]"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Failure::io("standard input"))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new("nothing was done"))
    }
}
