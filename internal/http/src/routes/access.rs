//! SSH keys and API tokens.

use axum::Json;
use axum::http::StatusCode;
use shed_api::access::{IssuedToken, Key, KeyList, NewKey, NewToken, TokenList};

use crate::extract::{Answer, Body, Door, OfId, Who};

/// Lists the SSH keys that may log in. Needs scope admin.
#[utoipa::path(get, path = "/api/keys", tag = "keys", operation_id = "keys_list",
    responses((status = 200, body = KeyList)))]
pub(crate) async fn keys(Door(state): Door, Who(person): Who) -> Answer<Json<KeyList>> {
    Ok(Json(state.app.access().keys(&person).await?))
}

/// Adds an SSH key that may log in. Needs scope admin.
#[utoipa::path(post, path = "/api/keys", tag = "keys", operation_id = "keys_add", request_body = NewKey,
    responses((status = 201, body = Key)))]
pub(crate) async fn add_key(
    Door(state): Door,
    Who(person): Who,
    Body(request): Body<NewKey>,
) -> Answer<(StatusCode, Json<Key>)> {
    Ok((StatusCode::CREATED, Json(state.app.access().add_key(&person, request).await?)))
}

/// Removes an SSH key. Its open connections are not ended. Needs scope admin.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "keys", operation_id = "keys_remove", params(("id" = String, Path)),
    responses((status = 204)))]
pub(crate) async fn remove_key(
    Door(state): Door,
    Who(person): Who,
    OfId(id): OfId,
) -> Answer<StatusCode> {
    state.app.access().remove_key(&person, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the API tokens, without their secrets. Needs scope admin.
#[utoipa::path(get, path = "/api/tokens", tag = "tokens", operation_id = "tokens_list",
    responses((status = 200, body = TokenList)))]
pub(crate) async fn tokens(Door(state): Door, Who(person): Who) -> Answer<Json<TokenList>> {
    Ok(Json(state.app.access().tokens(&person).await?))
}

/// Creates an API token and returns its secret, which is shown only once. Needs scope admin.
#[utoipa::path(post, path = "/api/tokens", tag = "tokens", operation_id = "tokens_create", request_body = NewToken,
    responses((status = 201, body = IssuedToken)))]
pub(crate) async fn add_token(
    Door(state): Door,
    Who(person): Who,
    Body(request): Body<NewToken>,
) -> Answer<(StatusCode, Json<IssuedToken>)> {
    Ok((StatusCode::CREATED, Json(state.app.access().add_token(&person, request).await?)))
}

/// Revokes an API token; it is refused from the next request on. Needs scope admin.
#[utoipa::path(delete, path = "/api/tokens/{id}", tag = "tokens", operation_id = "tokens_remove", params(("id" = String, Path)),
    responses((status = 204)))]
pub(crate) async fn remove_token(
    Door(state): Door,
    Who(person): Who,
    OfId(id): OfId,
) -> Answer<StatusCode> {
    state.app.access().remove_token(&person, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
