//! `shed-server firewall`.

use anyhow::bail;
use clap::Subcommand;
use shed_docker::{DockerEngine, Gap, Protection};

use crate::globals::Globals;
use crate::print::{print_text, say};
use crate::serve::engine_options;

/// Install the rules that keep sheds from this host's listeners and metadata addresses
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install the rules, as a server run by root does by itself; needs root
    Install,
    /// Remove the rules; a running server with the right to do so installs them again. Needs root
    Remove,
    /// Print the rules as input of `nft -f`, for an engine on another host
    Print,
}

/// Runs the command.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<u8> {
    let (config, data_dir) = globals.read()?;
    let Some(server_id) = data_dir.known_server_id()? else {
        bail!(
            "no server in {}; choose the data directory: --data-dir DIR",
            data_dir.path().display()
        );
    };
    let engine = DockerEngine::connect(engine_options(&config, &server_id));
    match args.command {
        Command::Install => match engine.install_firewall().await? {
            Protection::Enforced(_) | Protection::NoNetwork => {}
            Protection::Missing(gap) => bail!("{gap}; {}", remedy(&gap, globals)),
        },
        Command::Remove => engine.remove_firewall().await.map_err(anyhow::Error::msg)?,
        Command::Print => match engine.firewall_rules().await? {
            Some(rules) => print_text(&rules)?,
            None => say("no rules: there is no shed with a filtered network"),
        },
    }
    Ok(0)
}

/// What to do about missing rules: a command to paste.
pub(crate) fn remedy(gap: &Gap, globals: &Globals) -> String {
    match gap {
        Gap::NoPrivilege => format!("install them: sudo {}", globals.paste("firewall install")),
        Gap::NotInstalled => format!("install them: {}", globals.paste("firewall install")),
        Gap::Failed(_) => {
            format!(
                "install nft, then the rules: apt-get install nftables && {}",
                globals.paste("firewall install")
            )
        }
        Gap::Elsewhere { .. } => {
            let print = globals.paste("firewall print");
            format!(
                "install them where the engine is: {print} | ssh root@HOST nft -f -, or for a rootless engine: {print} | \
                 nsenter -U --preserve-credentials -n -t \"$(cat $XDG_RUNTIME_DIR/docker.pid)\" nft -f -"
            )
        }
    }
}
