//! Terminals and commands in a shed, as streams.

use std::sync::Arc;

use shed_api::stream::{ConsoleOpen, ExecOpen, ExecRequest, ExecResult};
use shed_api::{SessionRef, ShedName};

use crate::access::Caller;
use crate::exec::{self, Attach, Exec, Started};
use crate::server::Server;
use crate::shed::registry::Registry;
use crate::{Error, Person};
use shed_guest::Stream;

/// The first words of a refusal.
const ACTION: &str = "to run commands";

/// Terminals and commands in all sheds.
#[derive(Clone)]
pub struct Streams {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
}

impl Streams {
    /// Attaches to a session, which is created if there is none and the request allows it.
    pub async fn attach(
        &self,
        person: &Person,
        name: &ShedName,
        session: &SessionRef,
        attach: Attach,
    ) -> Result<Stream, Error> {
        exec::attach::attach(&self.registry, person, name, session, attach).await
    }

    /// A login shell without tmux.
    pub async fn console(
        &self,
        person: &Person,
        name: &ShedName,
        open: ConsoleOpen,
    ) -> Result<Stream, Error> {
        exec::console(&self.registry, &Caller::drive(person, name, ACTION), open).await
    }

    /// What SSH asks for: a shell, a line for a shell, sftp.
    pub async fn ssh(&self, person: &Person, name: &ShedName, exec: Exec) -> Result<Stream, Error> {
        exec::ssh(&self.registry, &Caller::drive(person, name, ACTION), exec).await
    }

    /// Runs a command, in a session's window if one is named.
    pub async fn exec(
        &self,
        person: &Person,
        name: &ShedName,
        open: ExecOpen,
    ) -> Result<Started, Error> {
        let caller = Caller::drive(person, name, ACTION);
        exec::run(&self.server, &self.registry, &caller, open).await
    }

    /// Runs a command to its end and returns what it printed.
    pub async fn exec_to_end(
        &self,
        person: &Person,
        name: &ShedName,
        request: ExecRequest,
        stdin: Vec<u8>,
    ) -> Result<ExecResult, Error> {
        let caller = Caller::drive(person, name, ACTION);
        exec::run_to_end(&self.server, &self.registry, &caller, request, stdin).await
    }
}
