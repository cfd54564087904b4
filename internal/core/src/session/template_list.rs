//! The templates that sessions of a shed can be created from: the server's and its repository's.

use shed_api::SessionName;
use shed_api::session::NewSession;
use shed_api::work::{NamedTemplate, TemplateList};
use shed_model::Rejection;
use shed_model::session::template;

use crate::Error;
use crate::housekeeping::leftover;
use crate::output::collector::blocking;
use crate::server::Server;
use crate::session::templates::{self, Source};
use crate::shed::entered::Entered;
use shed_guest::Link;

/// The list. `only`, a checked name, limits it to that template of the repository.
pub(crate) async fn list(
    server: &Server,
    link: Option<&Link>,
    only: Option<&str>,
) -> Result<TemplateList, Error> {
    let settings = &server.settings.sessions;
    let named = |source: Source, files: Vec<templates::File>| -> Vec<NamedTemplate> {
        files.into_iter().map(|file| templates::named(settings, source, file)).collect()
    };
    let repository = match link {
        Some(link) => leftover::templates(link, only).await?,
        None => Vec::new(),
    };
    let of_server = match settings.templates.clone() {
        Some(dir) => blocking(move || templates::of_server(&dir)).await?,
        None => Vec::new(),
    };
    Ok(templates::list(named(Source::Repository, repository), named(Source::Server, of_server)))
}

/// Fills in from its template what a request leaves out.
pub(crate) async fn fill_in(
    server: &Server,
    entered: &Entered,
    request: NewSession,
) -> Result<NewSession, Error> {
    let Some(name) = request.template.clone() else {
        return Ok(request);
    };
    name.parse::<SessionName>()?;
    let found = list(server, Some(&entered.link), Some(&name)).await?;
    let template = match templates::choose(&found, &name) {
        // The error names every template that exists.
        Err(Error::Rejected(Rejection::NotFound(_))) => {
            let all = list(server, Some(&entered.link), None).await?;
            templates::choose(&all, &name)?
        }
        template => template?,
    };
    Ok(template::with_template(request, &template))
}
