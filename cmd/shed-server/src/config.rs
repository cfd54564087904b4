//! The configuration: a TOML file. Unknown keys are errors.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shed_agents::Agent;
use shed_api::shed::{Limits, Mount, Network};
use shed_api::size::parse_size;
use shed_core::{Defaults, SessionSettings};
use shed_model::admission::Concurrency;

/// The file that is read when the command line names none.
pub(crate) const DEFAULT_PATH: &str = "/etc/shed/server.toml";

/// The file. Every key is optional.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Display name of the server; the host name when absent.
    pub(crate) name: Option<String>,
    /// The data directory. `--data-dir` takes precedence.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) http: Http,
    pub(crate) ssh: Ssh,
    pub(crate) engine: Engine,
    pub(crate) defaults: FileDefaults,
    pub(crate) mounts: Mounts,
    pub(crate) images: Images,
    pub(crate) sessions: Sessions,
    /// Agents by name. They add to the built-in agents and replace those of the same name.
    pub(crate) agents: BTreeMap<String, FileAgent>,
    pub(crate) log: Log,
}

/// `[http]`: the listeners of the API.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// TCP addresses. Addresses other than loopback need a certificate.
    pub(crate) listen: Vec<SocketAddr>,
    /// Path of the unix socket; see `paths::User::socket` for the default.
    pub(crate) socket: Option<PathBuf>,
    /// PEM file with the certificate chain. With it every TCP listener uses TLS.
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    pub(crate) key: Option<PathBuf>,
    /// Host names that requests may name in `Host`, besides `localhost` and IP addresses.
    pub(crate) hosts: Vec<String>,
}

/// `[ssh]`: the SSH listeners.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ssh {
    /// TCP addresses.
    pub(crate) listen: Vec<SocketAddr>,
}

/// `[engine]`: the container engine.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Engine {
    /// Address in the form of `DOCKER_HOST`, which it overrides.
    pub(crate) host: Option<String>,
    /// Prefix of the names of containers and volumes; `shed` when absent.
    pub(crate) prefix: Option<String>,
    /// Labels for containers, volumes and the network, in addition to shed's own.
    pub(crate) labels: BTreeMap<String, String>,
}

/// `[defaults]`: used for what a request to create a shed leaves out. Forms as in [`Config::defaults`].
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

/// `[mounts]`: which host directories may be mounted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mounts {
    /// Absolute paths; sources of mounts must be in one of them. Empty: no mounts.
    pub(crate) allow: Vec<PathBuf>,
}

/// `[images]`: which images sheds may have.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Images {
    /// Patterns with `*` for any characters. Empty: all images.
    pub(crate) allow: Vec<String>,
}

/// `[sessions]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sessions {
    /// How many sessions may run at the same time on the server; further ones are queued. Unlimited when absent.
    pub(crate) max_concurrent: Option<u32>,
    /// The same for each shed.
    pub(crate) max_concurrent_per_shed: Option<u32>,
    /// Prefix of branches that shed creates for worktrees; `shed/` when absent.
    pub(crate) branch_prefix: Option<String>,
    /// Directory of session templates, `NAME.toml`.
    pub(crate) templates: Option<PathBuf>,
    /// Size limit of the compressed output log of each worker; `100M` when absent.
    pub(crate) output: Option<String>,
    /// Size limit of the stored output of all workers together; no limit when absent.
    pub(crate) output_total: Option<String>,
    /// Larger files are left out of checkpoints; `10M` when absent.
    pub(crate) checkpoint_file: Option<String>,
}

/// `[agents.NAME]`: a command line and the arguments added to it. `{model}`, `{prompt}` and `{conversation}` in them are
/// replaced by the values of the session.
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

/// `[log]`: the server's own log, on stderr.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `error`, `warn`, `info` (default), `debug`, `trace`, or `TARGET=LEVEL,…`.
    pub(crate) level: Option<String>,
    pub(crate) format: LogFormat,
}

/// Format of a log line.
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

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read, or is not TOML with the known keys.
    #[error(transparent)]
    File(#[from] shed_toml::FileError),
    /// Values contradict each other or are out of range.
    #[error("{why} in {}", .path.display())]
    Values {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong, with the key.
        why: String,
    },
}

impl Config {
    /// Reads `path`. Without one it reads the default file; defaults apply if that does not exist.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let config: Self = match (shed_toml::read(path.unwrap_or(DEFAULT_PATH.as_ref())), path) {
            (Err(error), None) if error.is_not_found() => return Ok(Self::default()),
            (read, _) => read?,
        };
        config.check().map_err(|why| ConfigError::Values {
            path: path.unwrap_or(DEFAULT_PATH.as_ref()).to_owned(),
            why,
        })?;
        Ok(config)
    }

    /// Checks rules between keys, which a key's type cannot express.
    fn check(&self) -> Result<(), String> {
        match (&self.http.certificate, &self.http.key) {
            (Some(_), None) => return Err("[http] has a certificate and no key".to_owned()),
            (None, Some(_)) => return Err("[http] has a key and no certificate".to_owned()),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if let Some(path) = self.mounts.allow.iter().find(|path| !path.is_absolute()) {
            return Err(format!(
                "invalid path {:?} in [mounts] allow; expected an absolute path",
                path.display()
            ));
        }
        Ok(())
    }

    /// Settings of sessions. Output logs go to `output_dir`. The error names table and key.
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
                return Err(format!(
                    "invalid [agents.{name}]; expected a name of letters, digits, . _ and -, and a command"
                ));
            }
            let FileAgent { command, model, prompt, new, resume } = agent.clone();
            let program = shed_agents::Program::of(&command[0]);
            agents.insert(name.clone(), Agent { command, model, prompt, new, resume, program });
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
            output_total_bytes: match &file.output_total {
                None => usual.output_total_bytes,
                given => Some(size("output_total", given, 0)?),
            },
            checkpoint_file_bytes: size(
                "checkpoint_file",
                &file.checkpoint_file,
                usual.checkpoint_file_bytes,
            )?,
        })
    }

    /// Values for what a request to create a shed leaves out. Sizes are numbers with K, M, G or T, mounts `SRC:DST[:ro]`. Reads
    /// `env_file`. The error names table and key.
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
                .map_err(|line| failed(format!("invalid line {line}; expected NAME=VALUE")))?;
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

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_and_all_keys_are_read() {
        assert_eq!(load("").unwrap(), Config::default());
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
        let config = load(text).unwrap();
        let defaults = config.defaults().unwrap();
        assert_eq!(defaults.limits.memory_bytes, 2 << 30);
        assert_eq!(defaults.network, Network::None);
        assert!(defaults.mounts[0].read_only);
        assert_eq!(config.http.listen.len(), 2);
    }

    #[test]
    fn a_mistake_is_refused_with_its_position() {
        for (text, expected) in [
            (
                "name = \"x\"\n\n[http]\nlistn = []\n",
                "server.toml line 4, column 1; did you mean `listen`?",
            ),
            ("[htttp]\n", "line 1, column 2; did you mean `http`?"),
            ("[http]\nlisten = [\"127.0.0.1:80", "line 2"),
            ("[http]\nlisten = [\"nowhere\"]\n", "line 2"),
            ("[log]\nformat = \"xml\"\n", "line 2"),
            ("[http]\ncertificate = \"/c\"\n", "[http] has a certificate and no key in /"),
            ("[mounts]\nallow = [\"here\"]\n", "invalid path \"here\" in [mounts] allow"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_named_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let error = Config::load(Some(&dir.path().join("none.toml"))).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /"), "{error}");
    }

    #[test]
    fn sessions_and_agents_are_converted() {
        let text = "[sessions]\nmax_concurrent = 2\noutput = '1M'\noutput_total = '2G'\n[agents.mine]\ncommand = ['me']\n";
        let sessions = load(text).unwrap().sessions(PathBuf::from("/o")).unwrap();
        assert_eq!((sessions.concurrency.server, sessions.output_bytes), (Some(2), 1 << 20));
        assert_eq!(sessions.output_total_bytes, Some(2 << 30));
        assert_eq!(sessions.agents["mine"].command, ["me"]);
        assert!(sessions.agents.len() > 1, "the built-in agents are gone");
        for (text, expected) in [
            ("[sessions]\noutput = 'much'\n", "[sessions] output: "),
            ("[sessions]\noutput_total = '-'\n", "[sessions] output_total: "),
            ("[agents.mine]\ncommand = []\n", "invalid [agents.mine]; "),
        ] {
            let error = load(text).unwrap().sessions(PathBuf::new()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
