//! Templates: what sessions can be created from.

use std::sync::Arc;

use shed_api::ShedName;
use shed_api::work::{Template, TemplateList};

use crate::access::Caller;
use crate::server::Server;
use crate::session::{template_list, templates};
use crate::shed::registry::Registry;
use crate::{Error, Person};

/// The templates of the server and of all sheds' repositories.
#[derive(Clone)]
pub struct Templates {
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
}

impl Templates {
    /// The server's templates and, of a shed that runs, its repository's.
    pub async fn list(&self, person: &Person, name: &ShedName) -> Result<TemplateList, Error> {
        let handle = self.registry.keeper(&Caller::read(person, name, "to see templates"))?;
        let link = {
            let view = handle.view.borrow();
            view.link.clone().filter(|_| view.can_be_entered())
        };
        template_list::list(&self.server, link.as_ref()).await
    }

    /// Reads a template as it is read when a session is created from it. Errors name the line.
    pub fn check(&self, text: &str) -> Result<Template, Error> {
        templates::parse(&self.server.settings.sessions, text)
    }
}
