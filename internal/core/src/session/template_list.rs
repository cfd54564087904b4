//! The templates that sessions of a shed can be created from: the server's and its repository's.

use shed_api::SessionName;
use shed_api::git::ContainerPath;
use shed_api::name::printable;
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

/// The templates of the server, of the repository in the workspace, and of repositories in directories of the workspace.
pub(crate) async fn list(server: &Server, link: Option<&Link>) -> Result<TemplateList, Error> {
    let Some(link) = link else {
        return of(server, Vec::new()).await;
    };
    let mut repository = in_repository(server, link, leftover::workspace(link), None).await?;
    for directory in leftover::template_dirs(link).await? {
        let found = in_repository(server, link, &directory, None).await?;
        let with_directory =
            |template| NamedTemplate { directory: Some(printable(&directory)), ..template };
        repository.extend(found.into_iter().map(with_directory));
    }
    of(server, repository).await
}

/// The list with these templates of repositories.
async fn of(server: &Server, repository: Vec<NamedTemplate>) -> Result<TemplateList, Error> {
    let settings = &server.settings.sessions;
    let files = match settings.templates.clone() {
        Some(dir) => blocking(move || templates::of_server(&dir)).await?,
        None => Vec::new(),
    };
    let of_server =
        files.into_iter().map(|file| templates::named(settings, Source::Server, file)).collect();
    Ok(templates::list(repository, of_server))
}

/// The templates of the repository at `top`; `only`, a checked name, limits it to that one.
async fn in_repository(
    server: &Server,
    link: &Link,
    top: &str,
    only: Option<&str>,
) -> Result<Vec<NamedTemplate>, Error> {
    let settings = &server.settings.sessions;
    let files = leftover::templates(link, top, only).await?;
    let named = files.into_iter().map(|file| templates::named(settings, Source::Repository, file));
    Ok(named.collect())
}

/// The top of the repository in which a session of this directory works; the directory itself outside of repositories.
async fn top_of(link: &Link, directory: Option<&str>) -> String {
    let directory = directory.unwrap_or_else(|| leftover::workspace(link));
    let asked = async {
        let path = ContainerPath::try_from(directory.to_owned()).ok()?;
        leftover::facts(link, path).await.ok()?.toplevel
    };
    asked.await.unwrap_or_else(|| directory.to_owned())
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
    let link = &entered.link;
    let top = top_of(link, request.directory.as_deref()).await;
    let found = of(server, in_repository(server, link, &top, Some(&name)).await?).await?;
    let template = match templates::choose(&found, &name) {
        // The error names every template that exists.
        Err(Error::Rejected(Rejection::NotFound(_))) => {
            let all = list(server, Some(link)).await?;
            let elsewhere = all.templates.iter().find(|template| template.name == name);
            if let Some(directory) = elsewhere.and_then(|found| found.directory.as_ref()) {
                let shed = &entered.shed;
                return Err(Error::Rejected(Rejection::Invalid(format!(
                    "template {name:?} is of the repository in {directory}; to use it there: shed run {shed} --dir \
                     {directory} --template {name}"
                ))));
            }
            templates::choose(&all, &name)?
        }
        template => template?,
    };
    Ok(template::with_template(request, &template))
}
