//! The OpenAPI document and a page that shows it. The page is self-contained, so it works offline, and it needs no token,
//! since it describes only this version of the server.

use std::sync::LazyLock;

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use shed_api::Code;

use crate::extract::Who;

/// Placeholder of the document in the page.
const DOCUMENT_PLACEHOLDER: &str = "/*DOCUMENT*/null";
/// Placeholder of the problem codes in the page.
const CODES_PLACEHOLDER: &str = "/*CODES*/null";
/// The page may run its own inline script and nothing else, and may send no requests.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static JSON: LazyLock<String> = LazyLock::new(|| crate::document().to_json().unwrap_or_default());
/// The page with its data. `<` is escaped, since it could end the script.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let document = JSON.replace('<', "\\u003c");
    let page = include_str!("docs.html").replace(DOCUMENT_PLACEHOLDER, &document);
    page.replace(CODES_PLACEHOLDER, &codes().replace('<', "\\u003c"))
});

/// All problem codes. The page has an anchor for each, to which the `type` of a problem points.
fn codes() -> String {
    let codes = Code::ALL.iter().map(|code| {
        serde_json::json!({
            "code": code, "status": code.http_status(), "exit": code.exit_status(), "about": code.about(),
        })
    });
    codes.collect::<serde_json::Value>().to_string()
}

/// Returns this document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "server",
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(crate) async fn document(_: Who) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], JSON.as_str())
}

/// Returns this document as an HTML page. Needs no token.
#[utoipa::path(get, path = "/api/docs", tag = "server", security(()),
    responses((status = 200, body = String, content_type = "text/html")))]
pub(crate) async fn page() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY)];
    (headers, PAGE.as_str())
}
