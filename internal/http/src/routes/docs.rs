//! The document and a page that shows it. The page holds everything it needs: it works offline, and needs no token since
//! it tells nothing but what this version can do.

use std::sync::{Arc, Weak};

use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse as _;
use axum::routing::get;
use utoipa::openapi::OpenApi;

use crate::State;
use crate::extract::Who;

const PAGE: &str = include_str!("docs.html");
/// Where the document goes in the page.
const PLACE: &str = "/*DOCUMENT*/null";
/// The page runs its own script and nothing else, and talks to nobody.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// `/api/openapi.json` and `/api/docs`.
pub(crate) fn router(document: &OpenApi) -> Router<Weak<State>> {
    let json: Arc<str> = document.to_json().unwrap_or_default().into();
    // `</` inside a script would end it.
    let page: Arc<str> = PAGE.replace(PLACE, &json.replace("</", "<\\/")).into();
    Router::new()
        .route(
            "/api/openapi.json",
            get(move |_: Who| {
                let json = Arc::clone(&json);
                async move { ([(CONTENT_TYPE, "application/json")], json.to_string()).into_response() }
            }),
        )
        .route(
            "/api/docs",
            get(move || {
                let page = Arc::clone(&page);
                async move {
                    let headers =
                        [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY)];
                    (headers, page.to_string()).into_response()
                }
            }),
        )
}
