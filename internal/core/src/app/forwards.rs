//! Connections into a shed and listeners in it.

use shed_api::ShedName;

use crate::access::Caller;
use crate::exec::forward::{self, Bind, Listening, Target};
use crate::shed::registry::Registry;
use crate::{Error, Person};
use shed_guest::Connection;

/// The first words of a refusal.
const ACTION: &str = "to forward connections";

/// Port forwarding of all sheds.
#[derive(Clone)]
pub struct Forwards {
    pub(crate) registry: Registry,
}

impl Forwards {
    /// Connects to something in a shed.
    pub async fn connect(
        &self,
        person: &Person,
        name: &ShedName,
        target: &Target,
    ) -> Result<Connection, Error> {
        let entered = self.registry.enter(&Caller::drive(person, name, ACTION)).await?;
        forward::connect(&entered, target).await
    }

    /// Listens in a shed.
    pub async fn listen(
        &self,
        person: &Person,
        name: &ShedName,
        bind: &Bind,
    ) -> Result<Listening, Error> {
        let entered = self.registry.enter(&Caller::drive(person, name, ACTION)).await?;
        forward::listen(&entered, bind).await
    }
}
