//! The rules that keep filtered sheds away from the host's listeners and from metadata addresses.
//!
//! They match the interface of the filtered network's bridge, in tables and chains of shed's own, named after the network.
//! They are installed with the first of the configured tools that succeeds, compared with what that tool listed after the
//! installation, and installed again when they differ. Why: `docs/decisions/0010-rules-for-the-network-of-sheds.md`.

mod rules;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex as StdMutex, PoisonError};

use tokio::sync::Mutex;

use self::rules::Family;

/// Bit of `CAP_NET_ADMIN` in the sets of `/proc/self/status`.
const CAP_NET_ADMIN: u32 = 12;
/// Directories of the tools, which the `PATH` of ordinary users lacks.
const SYSTEM_DIRS: &str = "/usr/sbin:/sbin";
/// What iptables waits for its lock, in seconds.
const LOCK_SECONDS: &str = "5";

/// A program that installs rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `nft`: one table for IPv4 and IPv6, whose connections are refused at once.
    Nft,
    /// `iptables` and `ip6tables`, with either backend: packets are dropped, and connections time out.
    Iptables,
}

impl std::fmt::Display for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables",
        })
    }
}

/// Whether filtered sheds are kept away from the host and from metadata addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// There is no network of filtered sheds, so there is nothing to protect.
    NoNetwork,
    /// The rules are installed, with this tool.
    Enforced(Tool),
    /// The rules are not installed, as far as this process knows.
    Missing(Gap),
}

/// Why rules are not installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// This process can neither install nor see rules.
    #[error("this process may not change firewall rules: it lacks the capability CAP_NET_ADMIN")]
    NoPrivilege,
    /// The engine uses another network namespace.
    #[error(
        "the bridge {bridge} of sheds is not in the network namespace of this process: the engine is rootless or on \
         another host"
    )]
    Elsewhere {
        /// The interface of the network.
        bridge: String,
    },
    /// They were not installed, or somebody removed them.
    #[error("the rules are not installed")]
    NotInstalled,
    /// What each tool complained of.
    #[error("{0}")]
    Failed(String),
}

/// The rules of one network.
#[derive(Debug)]
pub(crate) struct Firewall {
    /// Name of the table or chain: that of the network.
    name: String,
    tools: Vec<Tool>,
    /// What this process installed. Locked for a whole check, so that two do not install at once.
    state: Mutex<State>,
    /// What was logged last, so that it is logged once.
    logged: StdMutex<Option<Protection>>,
}

#[derive(Debug)]
enum State {
    /// An earlier process may have installed rules.
    Unknown,
    Removed,
    Installed {
        tool: Tool,
        bridge: String,
        /// What the tool lists.
        listed: String,
    },
}

impl Firewall {
    pub(crate) fn new(name: String, tools: Vec<Tool>) -> Self {
        Self { name, tools, state: Mutex::new(State::Unknown), logged: StdMutex::default() }
    }

    /// The rules as input of `nft -f`.
    pub(crate) fn nft_rules(&self, bridge: &str) -> String {
        rules::nft(&self.name, bridge)
    }

    /// Installs the rules unless they are there.
    pub(crate) async fn ensure(&self, bridge: &str) -> Protection {
        let protection = {
            let mut state = self.state.lock().await;
            self.ensure_locked(&mut state, bridge).await
        };
        self.log(&protection);
        protection
    }

    async fn ensure_locked(&self, state: &mut State, bridge: &str) -> Protection {
        if let State::Installed { tool, bridge: known, listed } = &*state
            && known == bridge
            && self.list(*tool).await.is_ok_and(|now| now == *listed)
        {
            return Protection::Enforced(*tool);
        }
        if let Err(gap) = may_install(bridge) {
            return Protection::Missing(gap);
        }
        // A tool that fails may have installed a part.
        *state = State::Unknown;
        let mut failures = Vec::new();
        for tool in &self.tools {
            match self.install(*tool, bridge).await {
                Ok(listed) => {
                    *state = State::Installed { tool: *tool, bridge: bridge.to_owned(), listed };
                    return Protection::Enforced(*tool);
                }
                Err(why) => failures.push(why.to_string()),
            }
        }
        Protection::Missing(Gap::Failed(failures.join("; ")))
    }

    /// Looks for the rules without installing them.
    pub(crate) async fn find(&self, bridge: &str) -> Protection {
        if let Err(gap) = may_install(bridge) {
            return Protection::Missing(gap);
        }
        for tool in &self.tools {
            if let Ok(listed) = self.list(*tool).await
                && rules::names_bridge(*tool, &listed, bridge, families().count())
            {
                return Protection::Enforced(*tool);
            }
        }
        Protection::Missing(Gap::NotInstalled)
    }

    /// Removes the rules of a network that is gone, once.
    pub(crate) async fn remove_installed(&self) {
        let mut state = self.state.lock().await;
        if matches!(*state, State::Removed) || !has_net_admin() {
            return;
        }
        match self.remove_all().await {
            Ok(()) => *state = State::Removed,
            Err(why) => tracing::debug!(%why, "the firewall rules of sheds could not be removed"),
        }
    }

    /// Removes the rules, whoever installed them.
    pub(crate) async fn remove(&self) -> Result<(), String> {
        if !has_net_admin() {
            return Err(Gap::NoPrivilege.to_string());
        }
        let mut state = self.state.lock().await;
        self.remove_all().await?;
        *state = State::Removed;
        Ok(())
    }

    async fn remove_all(&self) -> Result<(), String> {
        if self.list(Tool::Nft).await.is_ok() {
            run("nft", &["delete", "table", "inet", &self.name], String::new()).await?;
        }
        for family in families() {
            let saved = match run(family.save(), &["-t", "mangle"], String::new()).await {
                // A tool that is not there has installed nothing. Other failures may pass: the engine changes rules too.
                Err(Failed::NoTool(_)) => continue,
                saved => saved?,
            };
            if let Some(script) = rules::iptables_removal(&self.name, &saved) {
                restore(family, script).await?;
            }
        }
        Ok(())
    }

    /// Installs the rules with a tool, and returns what it lists then.
    async fn install(&self, tool: Tool, bridge: &str) -> Result<String, Failed> {
        match tool {
            Tool::Nft => {
                run("nft", &["-f", "-"], rules::nft(&self.name, bridge)).await?;
            }
            Tool::Iptables => {
                for family in families() {
                    let saved = run(family.save(), &["-t", "mangle"], String::new()).await?;
                    restore(family, rules::iptables(family, &self.name, bridge, &saved)).await?;
                }
            }
        }
        self.list(tool).await
    }

    /// The rules that are installed, as the tool prints them.
    async fn list(&self, tool: Tool) -> Result<String, Failed> {
        if tool == Tool::Nft {
            return run("nft", &["list", "table", "inet", &self.name], String::new()).await;
        }
        let mut lines = String::new();
        for family in families() {
            let saved = run(family.save(), &["-t", "mangle"], String::new()).await?;
            for line in rules::iptables_lines(&self.name, &saved) {
                lines.push_str(line);
                lines.push('\n');
            }
        }
        Ok(lines)
    }

    fn log(&self, protection: &Protection) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.as_ref() == Some(protection) {
            return;
        }
        match protection {
            Protection::Missing(gap) => tracing::warn!(
                network = %self.name, why = %gap,
                "no rules keep sheds from listeners of the host and metadata addresses; what to do: shed-server doctor"
            ),
            Protection::Enforced(tool) => {
                tracing::info!(network = %self.name, %tool, "installed firewall rules");
            }
            Protection::NoNetwork => {}
        }
        *logged = Some(protection.clone());
    }
}

/// Whether rules for a bridge can be installed from this process.
fn may_install(bridge: &str) -> Result<(), Gap> {
    if !Path::new("/sys/class/net").join(bridge).exists() {
        return Err(Gap::Elsewhere { bridge: bridge.to_owned() });
    }
    if has_net_admin() { Ok(()) } else { Err(Gap::NoPrivilege) }
}

fn has_net_admin() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set >> CAP_NET_ADMIN & 1 == 1)
}

/// The address families of this kernel.
fn families() -> impl Iterator<Item = Family> {
    let has_v6 = Path::new("/proc/net/if_inet6").exists();
    [Some(Family::V4), has_v6.then_some(Family::V6)].into_iter().flatten()
}

async fn restore(family: Family, script: String) -> Result<String, Failed> {
    run(family.restore(), &["-w", LOCK_SECONDS, "--noflush"], script).await
}

/// A tool did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// There is no such program.
    #[error("{0}: not installed")]
    NoTool(&'static str),
    /// Program, and the first line of its complaint.
    #[error("{0}: {1}")]
    Refused(&'static str, String),
}

impl From<Failed> for String {
    fn from(failed: Failed) -> Self {
        failed.to_string()
    }
}

/// Runs a tool and returns its output.
async fn run(program: &'static str, args: &[&str], input: String) -> Result<String, Failed> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let ran = tokio::task::spawn_blocking(move || run_blocking(program, &args, &input));
    ran.await.unwrap_or_else(|error| Err(Failed::Refused(program, error.to_string())))
}

fn run_blocking(program: &'static str, args: &[String], input: &str) -> Result<String, Failed> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Failed::NoTool(program),
        _ => Failed::Refused(program, error.to_string()),
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", format!("{path}:{SYSTEM_DIRS}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // The input is smaller than a pipe. A tool that ended without reading it says why.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = errors.lines().find(|line| !line.starts_with('#') && !line.trim().is_empty());
    let line = line.unwrap_or("failed without a message").trim();
    Err(Failed::Refused(program, line.to_owned()))
}
