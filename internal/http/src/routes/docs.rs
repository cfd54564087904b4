//! The document and a page that shows it. The page holds everything it needs: it works offline, and needs no token since
//! it tells nothing but what this version can do.

use std::sync::LazyLock;

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;

use crate::extract::Who;

/// Where the document goes in the page.
const PLACE: &str = "/*DOCUMENT*/null";
/// The page runs its own script and nothing else, and talks to nobody.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static JSON: LazyLock<String> = LazyLock::new(|| crate::document().to_json().unwrap_or_default());
/// `<` inside a script could end it.
static PAGE: LazyLock<String> =
    LazyLock::new(|| include_str!("docs.html").replace(PLACE, &JSON.replace('<', "\\u003c")));

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "server",
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(crate) async fn document(_: Who) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], JSON.as_str())
}

/// This document as a page. Needs no token.
#[utoipa::path(get, path = "/api/docs", tag = "server", security(()),
    responses((status = 200, body = String, content_type = "text/html")))]
pub(crate) async fn page() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY)];
    (headers, PAGE.as_str())
}
