//! Options that every command has: they select the server.

use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError};
use crate::data_dir::DataDir;
use crate::paste;

/// Options that every command has.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Globals {
    /// Configuration file [default: /etc/shed/server.toml, if it exists]
    #[arg(
        long,
        global = true,
        env = "SHED_SERVER_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Data directory [default: /var/lib/shed for root, else ~/.local/share/shed]
    #[arg(
        long,
        global = true,
        env = "SHED_SERVER_DATA",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
}

impl Globals {
    /// Reads the configuration file.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref())
    }

    /// Reads the configuration and finds the data directory that it and the options select.
    pub(crate) fn read(&self) -> anyhow::Result<(Config, DataDir)> {
        let config = self.config()?;
        let data_dir = DataDir::find(self.data_dir.as_deref(), config.data_dir.as_deref())?;
        Ok((config, data_dir))
    }

    /// A command line to paste: `command` for the server that these options select.
    pub(crate) fn paste(&self, command: &str) -> String {
        let mut line = format!("{} {command}", paste::program());
        for (option, path) in [("--config", &self.config), ("--data-dir", &self.data_dir)] {
            if let Some(path) = path {
                line = format!("{line} {option} {}", quoted(path));
            }
        }
        line
    }
}

fn quoted(path: &Path) -> String {
    // The reader's shell has a working directory of its own.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    paste::quote(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_to_paste_selects_the_same_server() {
        let globals = Globals {
            config: Some(PathBuf::from("/etc/my shed.toml")),
            data_dir: Some(PathBuf::from("/srv/shed")),
            json: false,
        };
        let line = globals.paste("key list");
        let options = " key list --config '/etc/my shed.toml' --data-dir /srv/shed";
        assert!(line.ends_with(options), "{line}");
        assert!(Globals::default().paste("key list").ends_with(" key list"));
    }
}
