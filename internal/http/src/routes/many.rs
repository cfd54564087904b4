//! Batches, templates, garbage collection, orphans and trash.

use axum::Json;
use axum::http::StatusCode;
use shed_api::git::{RestoreTrash, TrashList};
use shed_api::work::{
    Batch, BatchResult, CheckTemplate, CleanOrphans, Gc, GcReport, OrphanList, Template,
    TemplateList,
};

use crate::extract::{Answer, Body, Door, OfShed, OptionalBody, Who};

/// Performs an operation on several sessions, or reports what it would do. Each session has a result of its own. A dry run
/// needs only scope read.
#[utoipa::path(post, path = "/api/batch", tag = "batches", operation_id = "batches_run", request_body = Batch,
    responses((status = 200, body = BatchResult)))]
pub(crate) async fn batch(
    Door(state): Door,
    Who(person): Who,
    Body(request): Body<Batch>,
) -> Answer<Json<BatchResult>> {
    Ok(Json(state.app.batches().run(&person, request).await?))
}

/// Lists the templates for sessions of a shed. They are the server's and, if the shed runs, those of its repository.
#[utoipa::path(get, path = "/api/sheds/{n}/templates", tag = "templates", operation_id = "templates_list", params(("n" = String, Path)),
    responses((status = 200, body = TemplateList)))]
pub(crate) async fn templates(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<TemplateList>> {
    Ok(Json(state.app.templates().list(&person, &name).await?))
}

/// Parses a template as it would be parsed when a session is created from it. If it is invalid, the problem has the line
/// number.
#[utoipa::path(post, path = "/api/templates/check", tag = "templates", operation_id = "templates_check", request_body = CheckTemplate,
    responses((status = 200, body = Template)))]
pub(crate) async fn check_template(
    Door(state): Door,
    Who(_): Who,
    Body(request): Body<CheckTemplate>,
) -> Answer<Json<Template>> {
    Ok(Json(state.app.templates().check(&request.text)?))
}

/// Removes old data of deleted sessions. The answer has all data that is kept for sessions, and why. A dry run needs only
/// scope read.
#[utoipa::path(post, path = "/api/sheds/{n}/gc", tag = "cleanup", operation_id = "cleanup_collect", params(("n" = String, Path)), request_body = Gc,
    responses((status = 200, body = GcReport)))]
pub(crate) async fn gc(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    OptionalBody(request): OptionalBody<Gc>,
) -> Answer<Json<GcReport>> {
    Ok(Json(state.app.housekeeping().gc(&person, &name, request).await?))
}

/// Lists what no managed session of a shed owns. An orphan is a tmux session, a worktree, a process or a record.
#[utoipa::path(get, path = "/api/sheds/{n}/orphans", tag = "cleanup", operation_id = "cleanup_orphans", params(("n" = String, Path)),
    responses((status = 200, body = OrphanList)))]
pub(crate) async fn orphans(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<OrphanList>> {
    Ok(Json(state.app.housekeeping().orphans(&person, &name).await?))
}

/// Removes the named orphans and returns those that are left. A worktree is removed only if it has no uncommitted or
/// unpushed work.
#[utoipa::path(post, path = "/api/sheds/{n}/orphans/clean", tag = "cleanup", operation_id = "cleanup_remove_orphans", params(("n" = String, Path)),
    request_body = CleanOrphans,
    responses((status = 200, body = OrphanList)))]
pub(crate) async fn clean(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Body(request): Body<CleanOrphans>,
) -> Answer<Json<OrphanList>> {
    Ok(Json(state.app.housekeeping().clean_orphans(&person, &name, request.names).await?))
}

/// Lists deleted branches and checkpoints of a shed's repositories that can be restored.
#[utoipa::path(get, path = "/api/sheds/{n}/trash", tag = "trash", operation_id = "trash_list", params(("n" = String, Path)),
    responses((status = 200, body = TrashList)))]
pub(crate) async fn trash(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<TrashList>> {
    Ok(Json(TrashList { trash: state.app.files().trash(&person, &name).await? }))
}

/// Creates a branch from an entry of the trash, and removes the entry.
#[utoipa::path(post, path = "/api/sheds/{n}/trash/restore", tag = "trash", operation_id = "trash_restore", params(("n" = String, Path)),
    request_body = RestoreTrash,
    responses((status = 204)))]
pub(crate) async fn restore(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Body(request): Body<RestoreTrash>,
) -> Answer<StatusCode> {
    state.app.files().restore_trash(&person, &name, request).await?;
    Ok(StatusCode::NO_CONTENT)
}
