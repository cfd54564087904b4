//! The document and a page that shows it. The page holds everything it needs: it works offline, and needs no token since
//! it tells nothing but what this version can do.

use std::sync::LazyLock;

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use shed_api::Code;

use crate::extract::Who;

/// Where the document goes in the page.
const PLACE: &str = "/*DOCUMENT*/null";
/// Where the problems go.
const CODES_PLACE: &str = "/*CODES*/null";
/// The page runs its own script and nothing else, and talks to nobody.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static JSON: LazyLock<String> = LazyLock::new(|| crate::document().to_json().unwrap_or_default());
/// `<` inside a script could end it.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = include_str!("docs.html").replace(PLACE, &JSON.replace('<', "\\u003c"));
    page.replace(CODES_PLACE, &codes().replace('<', "\\u003c"))
});

/// Every problem: the page has an anchor for each, which a problem's `type` points to.
fn codes() -> String {
    let codes = Code::ALL.iter().map(|code| {
        serde_json::json!({
            "code": code, "status": code.http_status(), "exit": code.exit_status(), "about": code.about(),
        })
    });
    codes.collect::<serde_json::Value>().to_string()
}

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
