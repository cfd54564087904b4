//! `shed-server adopt`.

use anyhow::bail;
use shed_store::Store;

use crate::data_dir::is_server_id;
use crate::globals::Globals;
use crate::print::say;

/// Adopt the containers and volumes of a server whose data directory is lost
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  docker ps -a --filter label=shed=true --format '{{.Names}} {{.Label \"shed.server\"}}'
  shed-server adopt --server-id 0b8f6f0e-5b8e-4d38-8f0a-1f6f0f0a9d1c")]
pub(crate) struct Args {
    /// Server id: the label `shed.server` of the containers
    #[arg(long, value_name = "ID")]
    server_id: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<u8> {
    let id = &args.server_id;
    if !is_server_id(id) {
        bail!("invalid server id {id:?}; expected the label `shed.server` of a container");
    }
    let (_, data_dir) = globals.read()?;
    data_dir.create()?;
    let _lock = data_dir.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let n_sheds = runtime.block_on(Store::open(data_dir.path())?.sheds())?.len();
    let known = data_dir.known_server_id().ok().flatten();
    if n_sheds > 0 && known.as_ref().is_some_and(|known| known != id) {
        bail!(
            "{} belongs to another server with {n_sheds} sheds; choose an empty data directory: \
             --data-dir DIR",
            data_dir.path().display()
        );
    }
    data_dir.set_server_id(id)?;
    say(&format!(
        "{} has the server id {id} now; the server adopts the sheds when it starts: {}",
        data_dir.path().display(),
        globals.paste("serve")
    ));
    Ok(0)
}
