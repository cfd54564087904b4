//! Many sessions at once, what they are made from, and what is kept for them.

use axum::Json;
use axum::http::StatusCode;
use shed_api::Problem;
use shed_api::git::{RestoreTrash, TrashList};
use shed_api::work::{
    Batch, BatchResult, CheckTemplate, CleanOrphans, Gc, GcReport, OrphanList, Template,
    TemplateList,
};

use crate::extract::{Answer, Body, Door, OfShed, OptionalBody, Who};

/// Does the same with several sessions, or says what it would do. Each has an answer of its own. A dry run needs `read`.
#[utoipa::path(post, path = "/api/batch", tag = "many", request_body = Batch,
    responses((status = 200, body = BatchResult), (status = 400, body = Problem), (status = 413, body = Problem)))]
pub(crate) async fn batch(
    Door(state): Door,
    Who(person): Who,
    Body(request): Body<Batch>,
) -> Answer<Json<BatchResult>> {
    Ok(Json(state.app.batch(&person, request).await?))
}

/// What sessions of a shed can be made from: the server's templates and, of a shed that runs, its repository's.
#[utoipa::path(get, path = "/api/sheds/{n}/templates", tag = "many", params(("n" = String, Path)),
    responses((status = 200, body = TemplateList), (status = 404, body = Problem)))]
pub(crate) async fn templates(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<TemplateList>> {
    Ok(Json(state.app.templates(&person, &name).await?))
}

/// Reads a template's file as it would be read when a session is made from it. Refused with its line where it is none.
#[utoipa::path(post, path = "/api/templates/check", tag = "many", request_body = CheckTemplate,
    responses((status = 200, body = Template), (status = 400, body = Problem), (status = 413, body = Problem)))]
pub(crate) async fn check_template(
    Door(state): Door,
    Who(_): Who,
    Body(request): Body<CheckTemplate>,
) -> Answer<Json<Template>> {
    Ok(Json(state.app.check_template(&request.text)?))
}

/// Removes what is kept for sessions that are gone for long, and tells of every byte that is kept why. A dry run needs
/// `read`.
#[utoipa::path(post, path = "/api/sheds/{n}/gc", tag = "many", params(("n" = String, Path)), request_body = Gc,
    responses((status = 200, body = GcReport), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn gc(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    OptionalBody(request): OptionalBody<Gc>,
) -> Answer<Json<GcReport>> {
    Ok(Json(state.app.gc(&person, &name, request).await?))
}

/// What is in a shed and belongs to no session that is remembered.
#[utoipa::path(get, path = "/api/sheds/{n}/orphans", tag = "many", params(("n" = String, Path)),
    responses((status = 200, body = OrphanList), (status = 404, body = Problem)))]
pub(crate) async fn orphans(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<OrphanList>> {
    Ok(Json(state.app.orphans(&person, &name).await?))
}

/// Cleans the orphans that are named and no others; answers what is left. A worktree goes only if nothing in it would be
/// lost.
#[utoipa::path(post, path = "/api/sheds/{n}/orphans/clean", tag = "many", params(("n" = String, Path)),
    request_body = CleanOrphans,
    responses((status = 200, body = OrphanList), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn clean(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Body(request): Body<CleanOrphans>,
) -> Answer<Json<OrphanList>> {
    Ok(Json(state.app.clean_orphans(&person, &name, request.names).await?))
}

/// What was deleted in a shed's repositories and can be brought back.
#[utoipa::path(get, path = "/api/sheds/{n}/trash", tag = "many", params(("n" = String, Path)),
    responses((status = 200, body = TrashList), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn trash(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<TrashList>> {
    Ok(Json(TrashList { trash: state.app.trash(&person, &name).await? }))
}

/// Makes a branch of something in the trash, and takes it out of there.
#[utoipa::path(post, path = "/api/sheds/{n}/trash/restore", tag = "many", params(("n" = String, Path)),
    request_body = RestoreTrash,
    responses((status = 204), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(crate) async fn restore(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Body(request): Body<RestoreTrash>,
) -> Answer<StatusCode> {
    let RestoreTrash { name: trashed, branch } = request;
    state.app.restore_trash(&person, &name, &trashed, &branch).await?;
    Ok(StatusCode::NO_CONTENT)
}
