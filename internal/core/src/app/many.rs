//! What is done with several sessions, what they are made from, and what was deleted.

use shed_model::Rejection;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use shed_api::git::TrashEntry;
use shed_api::session::{Input, NewSession, PatchSession};
use shed_api::work::{
    Batch, BatchItem, BatchOp, BatchResult, NamedTemplate, Template, TemplateList,
};
use shed_api::worker::Restart;
use shed_api::{Code, Problem, Scope, SessionName, SessionRef, ShedName};
use shed_link::git::{Branch, GitDone, GitOp, ShedRef};

use super::App;
use super::sessions::Place;
use crate::box_link::BoxLink;
use crate::files::git::{git, unexpected};
use crate::housekeeping::leftover::{self, Repo};
use crate::output::collector::blocking;
use crate::session::templates::{self, Source};
use crate::session::view::WorkView;
use crate::{Error, Person};
use shed_model::session::Managed;
use shed_model::session::batch;
use shed_model::session::template;

/// What a batch is about: a session, or an id that means none this person may see.
enum Item {
    Session(ShedName, Arc<Managed>),
    Missing(String),
}

impl App {
    /// What sessions of a shed can be made from: the server's templates and, of a shed that runs, its repository's.
    pub async fn templates(&self, person: &Person, name: &ShedName) -> Result<TemplateList, Error> {
        let handle = self.keeper(person, name, Scope::Read, "to see templates")?;
        let link = {
            let view = handle.view.borrow();
            view.link.clone().filter(|_| view.can_be_entered())
        };
        self.listed_templates(link.as_ref(), None).await
    }

    /// Reads a template as it would be when a session is made from it. Errors name the line.
    pub fn check_template(&self, text: &str) -> Result<Template, Error> {
        templates::parse(&self.settings().sessions, text)
    }

    /// With a name, which must be a checked one, of the repository only that template.
    async fn listed_templates(
        &self,
        link: Option<&BoxLink>,
        only: Option<&str>,
    ) -> Result<TemplateList, Error> {
        let settings = &self.settings().sessions;
        let named = |source: Source, files: Vec<templates::File>| -> Vec<NamedTemplate> {
            files.into_iter().map(|file| templates::named(settings, source, file)).collect()
        };
        let repository = match link {
            Some(link) => leftover::templates(link, only).await?,
            None => Vec::new(),
        };
        let server = match settings.templates.clone() {
            Some(dir) => blocking(move || templates::of_server(&dir)).await?,
            None => Vec::new(),
        };
        Ok(templates::list(named(Source::Repository, repository), named(Source::Server, server)))
    }

    /// Fills in from its template what a request does not say.
    pub(crate) async fn with_its_template(
        &self,
        place: &Place,
        request: NewSession,
    ) -> Result<NewSession, Error> {
        let Some(name) = request.template.clone() else {
            return Ok(request);
        };
        name.parse::<SessionName>()?;
        let list = self.listed_templates(Some(&place.link), Some(&name)).await?;
        let template = match templates::choose(&list, &name) {
            // Who asked for one that is not there is told all there are.
            Err(Error::Rejected(Rejection::NotFound(_))) => {
                let all = self.listed_templates(Some(&place.link), None).await?;
                templates::choose(&all, &name)?
            }
            template => template?,
        };
        Ok(template::with_template(request, &template))
    }

    /// Does the same with several sessions, or says what it would do. No session keeps it from the others. It goes on when
    /// its caller goes away.
    pub async fn batch(&self, person: &Person, batch: Batch) -> Result<BatchResult, Error> {
        let needed = if batch.dry_run { Scope::Read } else { Scope::Drive };
        person.may(needed, "to change sessions")?;
        batch::check(&batch)?;
        let items = self.batch_items(person, &batch)?;
        let (app, person, stop) = (self.clone(), person.clone(), self.server.stop.clone());
        let work = async move {
            let one = |item: Item| app.batch_one(&person, &batch, item);
            let done = futures_util::stream::iter(items).map(one).buffered(batch::AT_ONCE);
            tokio::select! {
                items = done.collect() => Ok(BatchResult { items }),
                () = stop.cancelled() => Err(Error::ShuttingDown),
            }
        };
        self.server.tasks.spawn(work).await.map_err(|_| Error::ShuttingDown)?
    }

    /// The sessions a batch is about, each once, in the order asked for.
    fn batch_items(&self, person: &Person, batch: &Batch) -> Result<Vec<Item>, Error> {
        let mut seen = BTreeSet::new();
        let mut ids = batch.ids.clone();
        if let Some(filter) = &batch.filter {
            let shed = filter.shed.as_deref().map(str::parse::<ShedName>).transpose()?;
            let sessions = self.sessions(person, shed.as_ref())?.sessions;
            let fitting = sessions.into_iter().filter(|session| batch::fits(filter, session));
            ids = fitting.map(|session| session.id).collect();
            if ids.len() > batch::MAX_ITEMS {
                return Err(batch::too_many().into());
            }
        }
        ids.retain(|id| seen.insert(id.clone()));
        let item = |id: String| {
            let found = self.shed_of(person, &id).and_then(|shed| {
                let view = self.handle(&shed)?.work.view.borrow().clone();
                Some((shed, view.sessions.get(&id)?.clone()))
            });
            found.map_or(Item::Missing(id), |(shed, known)| Item::Session(shed, known))
        };
        Ok(ids.into_iter().map(item).collect())
    }

    async fn batch_one(&self, person: &Person, batch: &Batch, item: Item) -> BatchItem {
        match item {
            Item::Missing(id) => {
                let detail = format!("no session {id:?}");
                let problem = Problem::new(Code::SessionNotFound, detail).hint("shed sessions");
                BatchItem { id, shed: None, name: None, effect: None, problem: Some(problem) }
            }
            Item::Session(shed, known) => {
                let done = if batch.dry_run {
                    self.batch_forecast(person, batch, &shed, &known).await
                } else {
                    self.batch_act(person, batch, &shed, &known).await
                };
                let (effect, problem) = match done {
                    Ok(effect) => (Some(effect), None),
                    Err(error) => (None, Some(error.problem())),
                };
                let (id, name) = (known.row.id.clone(), Some(known.row.name.clone()));
                BatchItem { id, shed: Some(shed.to_string()), name, effect, problem }
            }
        }
    }

    async fn batch_forecast(
        &self,
        person: &Person,
        batch: &Batch,
        shed: &ShedName,
        known: &Managed,
    ) -> Result<String, Error> {
        let status =
            self.keeper(person, shed, Scope::Read, "to see sessions")?.view.borrow().status();
        let risk = if batch::needs_risk(batch, known, status) {
            Some(self.session_risk(person, shed, &known.row.id.parse()?).await?)
        } else {
            None
        };
        Ok(batch::forecast(batch, known, status, risk.as_ref())?)
    }

    async fn batch_act(
        &self,
        person: &Person,
        batch: &Batch,
        shed: &ShedName,
        known: &Managed,
    ) -> Result<String, Error> {
        if let Some(already) = batch::already(batch, known) {
            return Ok(already.to_owned());
        }
        let session: SessionRef = known.row.id.parse()?;
        let done = match batch.op {
            BatchOp::Terminate => {
                self.terminate_session(person, shed, &session).await?;
                "ended"
            }
            BatchOp::Restart => {
                let restart = Restart { continues: batch.continues };
                self.restart_session(person, shed, &session, restart).await?;
                "restarted"
            }
            BatchOp::Delete => {
                self.delete_session(person, shed, &session, batch.force).await?;
                "deleted"
            }
            BatchOp::Freeze => {
                self.freeze_session(person, shed, &session, true).await?;
                "frozen"
            }
            BatchOp::Thaw => {
                self.freeze_session(person, shed, &session, false).await?;
                "goes on"
            }
            BatchOp::Checkpoint => {
                batch::needs_worktree(known)?;
                let made = self.checkpoint(person, shed, &session, "").await?;
                let n = made.checkpoint.n;
                return Ok(if made.unchanged {
                    format!("nothing differs from checkpoint {n}")
                } else {
                    format!("checkpoint {n} made")
                });
            }
            BatchOp::Input => {
                let input = Input { text: batch.text.clone(), keys: Vec::new(), enter: true };
                self.input(person, shed, &session, input).await?;
                "typed"
            }
            BatchOp::Tag => {
                let tags = Some(batch::all_tags(batch, known));
                let patch = PatchSession { tags, ..PatchSession::default() };
                self.patch_session(person, shed, &session, patch).await?;
                "tagged"
            }
        };
        Ok(done.to_owned())
    }

    /// What was deleted in a shed's repositories and can be brought back, by name.
    pub async fn trash(&self, person: &Person, name: &ShedName) -> Result<Vec<TrashEntry>, Error> {
        let place = self.enter_awake(person, name, Scope::Read, "to see the trash").await?;
        let mut entries = Vec::new();
        for repo in repositories(&place).await? {
            entries.extend(trash_of(&place.link, &repo).await?);
        }
        Ok(entries)
    }

    /// Makes a branch of something in the trash, and takes it out of there. `name` is the whole ref.
    pub async fn restore_trash(
        &self,
        person: &Person,
        name: &ShedName,
        trashed: &str,
        branch: &str,
    ) -> Result<(), Error> {
        let trashed = ShedRef::try_from(trashed.to_owned())?;
        let branch = Branch::try_from(branch.to_owned())?;
        let place = self.enter_awake(person, name, Scope::Drive, "to restore a branch").await?;
        for repo in repositories(&place).await? {
            let entries = trash_of(&place.link, &repo).await?;
            if entries.iter().any(|entry| entry.name == trashed.as_str()) {
                let op = GitOp::RestoreTrash { repo: repo.path, name: trashed, branch };
                return git(&place.link, &op).await.map(drop);
            }
        }
        Err(Error::Rejected(Rejection::NotFound(format!(
            "{:?} in the trash of shed {name:?}",
            trashed.as_str()
        ))))
    }
}

/// The repositories of a shed's sessions, and the one in its workspace.
pub(crate) async fn repositories(place: &Place) -> Result<Vec<Repo>, Error> {
    let work = place.handle.work.view.borrow().clone();
    leftover::repositories(&place.link, repository_dirs(&work)).await
}

fn repository_dirs(work: &WorkView) -> BTreeSet<String> {
    work.sessions.values().filter_map(|known| known.row.spec.repo.clone()).collect()
}

/// What is in the trash of a repository.
pub(crate) async fn trash_of(link: &BoxLink, repo: &Repo) -> Result<Vec<TrashEntry>, Error> {
    match git(link, &GitOp::Trash { repo: repo.path.clone() }).await?.0 {
        GitDone::Trash(entries) => Ok(entries),
        _ => Err(unexpected()),
    }
}
