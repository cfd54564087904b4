//! `shed df`.

use shed_api::size::show_size;

use crate::context::Context;
use crate::failure::Outcome;
use shed_report::table;

/// Show the disk space of sheds and kept volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context) -> Outcome {
    let list = context.client()?.disk().await?;
    context.out.data(&list, || {
        let rows = list.disk.iter().map(|row| {
            let note = if row.kept { "kept" } else { "" };
            vec![row.name.clone(), row.what.clone(), show_size(row.n_bytes), note.to_owned()]
        });
        table(&["SHED", "WHAT", "SIZE", "NOTE"], rows.collect())
    })?;
    Ok(0)
}
