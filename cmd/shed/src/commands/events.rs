//! `shed events`.

use clap_complete::ArgValueCandidates;
use shed_api::Event;

use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::pager::Paging;

/// Show past events and follow new ones
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed events                            follow new events
  shed events --after 0 --shed web       all events of a shed, then new ones
  shed events --no-follow --json         the whole log, one JSON object per line")]
pub(crate) struct Args {
    /// Show events after this id (default: only new ones)
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    /// Show only events of this shed
    #[arg(long, value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    shed: Option<String>,
    /// Print the log, from its beginning or after --after, and exit
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    paging: Paging,
}

/// Runs the command; ends with Ctrl-C or with the server.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    if args.no_follow {
        args.paging.begin(context.out);
        return print_log(&client, args.after.unwrap_or(0), args.shed.as_deref(), context).await;
    }
    let after = match args.after {
        Some(after) => after,
        None => newest(&client).await?,
    };
    let mut events = client.events(after, args.shed.as_deref()).await?;
    while let Some(event) = events.next().await? {
        print(&event, context)?;
    }
    Ok(0)
}

fn print(event: &Event, context: &Context) -> Result<(), Failure> {
    if context.out.is_json() {
        let line = serde_json::to_string(event).unwrap_or_default();
        context.out.line(&line)
    } else {
        context.out.line(&text(event))
    }
}

/// Prints the whole log after an event, page by page.
async fn print_log(
    client: &shed_client::Client,
    mut after: i64,
    shed: Option<&str>,
    context: &Context,
) -> Outcome {
    loop {
        let page = client.event_page(after, shed).await?;
        let Some(last) = page.last() else {
            return Ok(0);
        };
        after = last.id;
        for event in &page {
            print(event, context)?;
        }
    }
}

/// Id of the newest event; 0 when the log is empty.
async fn newest(client: &shed_client::Client) -> Result<i64, Failure> {
    let mut after = 0;
    loop {
        let page = client.event_page(after, None).await?;
        match page.last() {
            Some(last) => after = last.id,
            None => return Ok(after),
        }
    }
}

fn text(event: &Event) -> String {
    let mut fields = vec![
        event.id.to_string(),
        event.at.format("%Y-%m-%d %H:%M:%S").to_string(),
        event.kind.as_str().to_owned(),
    ];
    fields.extend(event.shed.clone());
    fields.extend(event.session.clone());
    fields.extend(event.status.map(|status| status.to_string()));
    fields.extend(event.note.as_deref().map(shed_api::name::printable));
    fields.push(format!("({})", shed_api::name::printable(&event.actor)));
    fields.join("  ")
}
