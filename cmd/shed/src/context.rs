//! What every command needs: the printer, the configuration, and the selected server.

use std::time::Duration;

use shed_api::problem::exit;
use shed_client::{Address, Client};

use crate::config::{Config, Files, LOCAL, local_socket};
use crate::failure::Failure;
use crate::globals::Globals;
use crate::output::Out;

/// How long one of several servers may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The printer, the configuration, and the selected server.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) out: Out,
    pub(crate) files: Files,
    pub(crate) config: Config,
    /// Name or address given by `--server` or `$SHED_SERVER`.
    selected: Option<String>,
}

/// A server with the name that the configuration or the command line gives it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) client: Client,
}

impl Context {
    /// Reads the configuration.
    pub(crate) fn new(globals: &Globals, out: Out) -> Result<Self, Failure> {
        let files = Files::find()?;
        let config = files.read()?;
        Ok(Self { out, files, config, selected: globals.server.clone() })
    }

    /// A client of the selected server.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(self.server()?.client)
    }

    /// Whether `--server` or `$SHED_SERVER` selects a server.
    pub(crate) fn is_selected(&self) -> bool {
        self.selected.is_some()
    }

    /// The selected server, else the default server, else the local one.
    pub(crate) fn server(&self) -> Result<Named, Failure> {
        match self.selected.as_deref().or(self.config.default_server.as_deref()) {
            None => Ok(self.local()),
            Some(name) => self.named(name),
        }
    }

    fn local(&self) -> Named {
        Named { name: LOCAL.to_owned(), client: self.client_of(local_socket(), None) }
    }

    fn client_of(&self, address: Address, token: Option<String>) -> Client {
        let token =
            token.or_else(|| std::env::var("SHED_TOKEN").ok().filter(|token| !token.is_empty()));
        Client::new(address).with_token(token).with_ssh(self.files.ssh_options())
    }

    /// The server with this configured name or address.
    pub(crate) fn named(&self, name: &str) -> Result<Named, Failure> {
        if let Some(server) = self.config.servers.get(name) {
            let address = server
                .address
                .parse()
                .map_err(|error| Failure::usage(format!("server {name:?}: {error}")))?;
            return Ok(Named {
                name: name.to_owned(),
                client: self.client_of(address, server.token.clone()),
            });
        }
        if name == LOCAL {
            return Ok(self.local());
        }
        if name.contains(':') {
            let address =
                name.parse::<Address>().map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(Named { name: name.to_owned(), client: self.client_of(address, None) });
        }
        Err(unknown_server(name))
    }

    /// The local server if its socket exists, and all configured servers. Without any, the selected one.
    pub(crate) fn all_servers(&self) -> Result<Vec<Named>, Failure> {
        let mut servers: Vec<Named> = Vec::new();
        if let (false, Address::Unix(path)) =
            (self.config.servers.contains_key(LOCAL), local_socket())
            && path.exists()
        {
            servers.push(self.local());
        }
        for name in self.config.servers.keys() {
            servers.push(self.named(name)?);
        }
        if servers.is_empty() {
            servers.push(self.server()?);
        }
        Ok(servers)
    }

    /// Asks all servers concurrently, each within [`ANSWER_LIMIT`]. Answers come in the order of the servers.
    pub(crate) async fn ask_all<T: Send + 'static, F>(
        servers: &[Named],
        ask: impl Fn(Client) -> F,
    ) -> Vec<Result<T, Failure>>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let asked =
            servers.iter().map(async |server| server.in_time(ask(server.client.clone())).await);
        futures_util::future::join_all(asked).await
    }
}

impl Named {
    /// Waits for an answer of this server for at most [`ANSWER_LIMIT`].
    pub(crate) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::time::timeout(ANSWER_LIMIT, answer).await.unwrap_or_else(|_| {
            let seconds = ANSWER_LIMIT.as_secs();
            let text = format!("server {} did not answer within {seconds} seconds", self.name);
            Err(Failure::new(text).with_status(exit::UNREACHABLE))
        })
    }
}

/// No server of this name is configured.
pub(crate) fn unknown_server(name: &str) -> Failure {
    Failure::not_found(format!("server {name:?} is not configured")).hint("shed server list")
}
