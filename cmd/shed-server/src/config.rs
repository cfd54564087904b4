//! The configuration: a TOML file, read strictly. What is not known is refused with its line and the nearest name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shed_agents::Agent;
use shed_api::shed::{Limits, Mount, Network};
use shed_api::size::parse_size;
use shed_core::{Defaults, SessionSettings};
use shed_model::admission::Concurrency;

/// Where the configuration is when none is named.
pub(crate) const PATH: &str = "/etc/shed/server.toml";

/// The whole file. Everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The server's name, for people; by default the host's.
    pub(crate) name: Option<String>,
    /// Where the server keeps what it must not lose.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) http: Http,
    pub(crate) ssh: Ssh,
    pub(crate) engine: Engine,
    pub(crate) defaults: FileDefaults,
    pub(crate) mounts: Mounts,
    pub(crate) sessions: Sessions,
    /// `[agents.NAME]`: agents beside those shed knows, or instead of them.
    pub(crate) agents: BTreeMap<String, FileAgent>,
    pub(crate) log: Log,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// `ADDR:PORT`; beyond loopback only with a certificate.
    pub(crate) listen: Vec<SocketAddr>,
    /// The unix socket.
    pub(crate) socket: Option<PathBuf>,
    /// PEM; with it every TCP listener speaks TLS.
    pub(crate) certificate: Option<PathBuf>,
    /// PEM.
    pub(crate) key: Option<PathBuf>,
    /// Names by which the server may be addressed, beside its addresses and `localhost`.
    pub(crate) hosts: Vec<String>,
}

/// `[ssh]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ssh {
    /// `ADDR:PORT`.
    pub(crate) listen: Vec<SocketAddr>,
}

/// `[engine]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Engine {
    /// As in `DOCKER_HOST`.
    pub(crate) host: Option<String>,
    /// What names of containers and volumes begin with; `shed` by default.
    pub(crate) prefix: Option<String>,
    /// Labels for containers, volumes and the network, beside shed's own.
    pub(crate) labels: BTreeMap<String, String>,
}

/// `[defaults]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileDefaults {
    image: Option<String>,
    cpus: Option<f64>,
    memory: Option<String>,
    pids: Option<u32>,
    network: Option<Network>,
    env_file: Option<PathBuf>,
    mounts: Vec<String>,
}

/// `[mounts]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mounts {
    /// Directories under which sources of mounts may lie.
    pub(crate) allow: Vec<PathBuf>,
}

/// `[sessions]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sessions {
    /// How many run at once on the server; others wait for their turn. Unlimited by default.
    pub(crate) max_concurrent: Option<u32>,
    /// How many run at once in each shed.
    pub(crate) max_concurrent_per_shed: Option<u32>,
    /// What the branches of worktrees begin with; `shed/` by default.
    pub(crate) branch_prefix: Option<String>,
    /// A directory of templates, `NAME.toml`.
    pub(crate) templates: Option<PathBuf>,
    /// The most that is kept of each worker's output, compressed; `100M` by default.
    pub(crate) output: Option<String>,
    /// Files over this are left out of checkpoints; `10M` by default.
    pub(crate) checkpoint_file: Option<String>,
}

/// `[agents.NAME]`: words of a command line. `{model}`, `{prompt}` and `{conversation}` stand for what is known.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileAgent {
    command: Vec<String>,
    #[serde(default)]
    model: Vec<String>,
    #[serde(default)]
    prompt: Vec<String>,
    #[serde(default)]
    new: Vec<String>,
    #[serde(default)]
    resume: Vec<String>,
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `error`, `warn`, `info` (default), `debug`, `trace`, or `TARGET=LEVEL,…`.
    pub(crate) level: Option<String>,
    pub(crate) format: LogFormat,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            socket: None,
            certificate: None,
            key: None,
            hosts: Vec::new(),
        }
    }
}

impl Default for Ssh {
    fn default() -> Self {
        Self { listen: vec![SocketAddr::from(([127, 0, 0, 1], 2222))] }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}{}", .path.display(), .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub(crate) struct ConfigError {
    path: PathBuf,
    why: String,
    hint: Option<String>,
}

impl Config {
    /// Reads `path`; without one, what is at the usual place, or nothing.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, must) = path.map_or((Path::new(PATH), false), |path| (path, true));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|(why, hint)| ConfigError {
                path: path.to_owned(),
                why,
                hint,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must => {
                Ok(Self::default())
            }
            Err(error) => {
                Err(ConfigError { path: path.to_owned(), why: error.to_string(), hint: None })
            }
        }
    }

    fn parse(text: &str) -> Result<Self, (String, Option<String>)> {
        let config: Self = shed_toml::parse(text).map_err(|error| (error.to_string(), None))?;
        if config.http.certificate.is_some() != config.http.key.is_some() {
            return Err((
                "[http] certificate and key belong together; one is missing".to_owned(),
                None,
            ));
        }
        if let Some(path) = config.mounts.allow.iter().find(|path| !path.is_absolute()) {
            return Err((format!("[mounts] allow: {} is not absolute", path.display()), None));
        }
        Ok(config)
    }

    /// What holds for sessions; output is kept in `output_dir`.
    pub(crate) fn sessions(&self, output_dir: PathBuf) -> Result<SessionSettings, String> {
        let file = &self.sessions;
        let usual = SessionSettings::default();
        let size = |name: &str, given: &Option<String>, usual: u64| match given {
            None => Ok(usual),
            Some(text) => parse_size(text).map_err(|error| format!("[sessions] {name}: {error}")),
        };
        let mut agents = usual.agents;
        for (name, agent) in &self.agents {
            if name.parse::<shed_api::SessionName>().is_err() || agent.command.is_empty() {
                return Err(format!("[agents.{name}]: a plain name and a command are needed"));
            }
            let FileAgent { command, model, prompt, new, resume } = agent.clone();
            agents.insert(name.clone(), Agent { command, model, prompt, new, resume });
        }
        Ok(SessionSettings {
            concurrency: Concurrency {
                server: file.max_concurrent,
                shed: file.max_concurrent_per_shed,
            },
            branch_prefix: file.branch_prefix.clone().unwrap_or(usual.branch_prefix),
            agents,
            templates: file.templates.clone(),
            output_dir,
            output_bytes: size("output", &file.output, usual.output_bytes)?,
            checkpoint_file_bytes: size(
                "checkpoint_file",
                &file.checkpoint_file,
                usual.checkpoint_file_bytes,
            )?,
        })
    }

    /// What a shed gets when nothing else is said.
    pub(crate) fn defaults(&self) -> Result<Defaults, String> {
        let file = &self.defaults;
        let usual = Defaults::default();
        let memory = file.memory.as_deref().map(parse_size).transpose();
        let memory_bytes = memory.map_err(|error| format!("[defaults] memory: {error}"))?;
        let mut env = BTreeMap::new();
        if let Some(path) = &file.env_file {
            let failed = |why: String| format!("[defaults] env_file {}: {why}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
            let pairs = shed_api::read_env(&text)
                .map_err(|line| failed(format!("line {line} is not of the form K=V")))?;
            env.extend(pairs);
        }
        let mounts = file.mounts.iter().map(|text| text.parse::<Mount>());
        let mounts = mounts.collect::<Result<_, _>>();
        Ok(Defaults {
            image: file.image.clone().unwrap_or(usual.image),
            limits: Limits {
                cpus: file.cpus.unwrap_or(usual.limits.cpus),
                memory_bytes: memory_bytes.unwrap_or(usual.limits.memory_bytes),
                pids: file.pids.unwrap_or(usual.limits.pids),
            },
            network: file.network.unwrap_or(usual.network),
            env,
            mounts: mounts.map_err(|error| format!("[defaults] mounts: {error}"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let (why, hint) = Config::parse(text).unwrap_err();
        format!("{why}; {}", hint.unwrap_or_default())
    }

    #[test]
    fn nothing_and_everything_are_read() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        let text = r#"
            name = "forge"
            data_dir = "/srv/shed"
            [http]
            listen = ["127.0.0.1:0", "[::1]:8080"]
            socket = "/run/x.sock"
            certificate = "/etc/c.pem"
            key = "/etc/k.pem"
            hosts = ["forge.example.org"]
            [ssh]
            listen = ["0.0.0.0:2222"]
            [engine]
            host = "unix:///run/docker.sock"
            prefix = "box"
            labels = { team = "forge" }
            [defaults]
            image = "debian:12"
            cpus = 1.5
            memory = "2G"
            pids = 100
            network = "none"
            mounts = ["/srv/cache:/cache:ro"]
            [mounts]
            allow = ["/srv"]
            [log]
            level = "debug"
            format = "json"
        "#;
        let config = Config::parse(text).unwrap();
        let defaults = config.defaults().unwrap();
        assert_eq!(defaults.limits.memory_bytes, 2 << 30);
        assert_eq!(defaults.network, Network::None);
        assert!(defaults.mounts[0].read_only);
        assert_eq!(config.http.listen.len(), 2);
    }

    #[test]
    fn an_unknown_name_is_refused_with_its_line_and_the_nearest() {
        let text = refused("name = \"x\"\n\n[http]\nlistn = []\n");
        assert!(text.contains("line 4") && text.contains("did you mean `listen`?"), "{text}");
        let text = refused("[htttp]\n");
        assert!(text.contains("line 1") && text.contains("`http`"), "{text}");
        // Nothing is near: no guess.
        assert!(!refused("quuxquuxquux = 1\n").contains("did you mean"));
    }

    #[test]
    fn a_truncated_file_and_values_of_the_wrong_kind_are_refused_with_their_line() {
        assert!(refused("[http]\nlisten = [\"127.0.0.1:80").contains("line 2"));
        assert!(refused("[http]\nlisten = [\"nowhere\"]\n").contains("line 2"));
        assert!(refused("[log]\nformat = \"xml\"\n").contains("line 2"));
        assert!(refused("[http]\ncertificate = \"/c\"\n").contains("belong together"));
        assert!(refused("[mounts]\nallow = [\"here\"]\n").contains("not absolute"));
    }
}
