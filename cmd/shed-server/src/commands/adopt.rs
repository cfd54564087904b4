//! `shed-server adopt`.

use anyhow::bail;
use shed_store::Store;

use super::say;
use crate::cli::Options;
use crate::place::is_server_id;

/// Take up the containers and volumes of a server whose data directory is lost
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  docker ps -a --filter label=shed=true --format '{{.Names}} {{.Label \"shed.server\"}}'
  shed-server adopt --server-id 0b8f6f0e-5b8e-4d38-8f0a-1f6f0f0a9d1c")]
pub(crate) struct Args {
    /// The id in the containers' label `shed.server`
    #[arg(long, value_name = "ID")]
    server_id: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, options: &Options) -> anyhow::Result<u8> {
    let id = &args.server_id;
    if !is_server_id(id) {
        bail!("{id:?} is no server id: it is the label `shed.server` of a container");
    }
    let (_, place) = options.read()?;
    place.make()?;
    let _lock = place.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let n_sheds = runtime.block_on(Store::open(place.dir())?.sheds())?.len();
    let known = place.known_server_id().ok().flatten();
    if n_sheds > 0 && known.as_ref().is_some_and(|known| known != id) {
        bail!(
            "{} belongs to another server with {n_sheds} sheds; name an empty one: --data-dir DIR",
            place.dir().display()
        );
    }
    place.set_server_id(id)?;
    say(&format!(
        "this is server {id} now; its sheds are taken up when it starts: shed-server serve"
    ));
    Ok(0)
}
