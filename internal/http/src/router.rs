//! The table of all routes, grouped by subject.

use std::sync::Weak;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse as _;
use shed_api::Code;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::alias::alias;
use crate::extract::{Refused, Who};
use crate::guard::guard;
use crate::routes::{
    access, docs, exec, health, many, previews, sessions, sheds, streams, tree, worker_ws, workers,
};
use crate::{State, openapi};

/// The largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The largest body of `POST …/exec`, which may contain input, in bytes.
const MAX_EXEC_BODY_BYTES: usize = 24 << 20;

/// All routes with their documentation.
pub(crate) fn documented() -> OpenApiRouter<Weak<State>> {
    docs::files(OpenApiRouter::with_openapi(openapi::skeleton()))
        // Without a token.
        .routes(routes!(health::live))
        .routes(routes!(docs::page))
        // The server.
        .routes(routes!(health::info))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(health::ssh_host_key))
        .routes(routes!(health::events))
        .routes(routes!(docs::document))
        // Sheds.
        .routes(routes!(sheds::list, sheds::create))
        .routes(routes!(sheds::show, sheds::patch, sheds::delete))
        .routes(routes!(sheds::start))
        .routes(routes!(sheds::stop))
        .routes(routes!(sheds::restart))
        .routes(routes!(sheds::pause))
        .routes(routes!(sheds::unpause))
        .routes(routes!(sheds::rebuild))
        .routes(routes!(sheds::progress))
        .routes(routes!(sheds::logs))
        .routes(routes!(sheds::stats))
        .routes(routes!(sheds::all_stats))
        .routes(routes!(sheds::disk))
        // Sessions.
        .routes(routes!(sessions::all))
        .routes(routes!(sessions::watch))
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::show, sessions::patch, sessions::delete))
        .routes(routes!(sessions::input))
        .routes(routes!(sessions::output))
        .routes(routes!(sessions::terminate))
        .routes(routes!(sessions::restart))
        .routes(routes!(sessions::freeze))
        .routes(routes!(sessions::thaw))
        .routes(routes!(sessions::adopt))
        .routes(routes!(sessions::risk))
        // Workers and their output.
        .routes(routes!(workers::list, workers::add))
        .routes(routes!(workers::show, workers::remove))
        .routes(routes!(workers::restart))
        .routes(routes!(workers::output))
        .routes(routes!(workers::cast))
        .routes(routes!(workers::search))
        .routes(routes!(previews::previews))
        // Files of a session.
        .routes(routes!(tree::diff))
        .routes(routes!(tree::numbers))
        .routes(routes!(tree::watch_numbers))
        .routes(routes!(tree::checkpoints, tree::checkpoint))
        .routes(routes!(tree::show))
        .routes(routes!(tree::restore))
        .routes(routes!(tree::fork))
        // Several sessions at once, and cleanup.
        .routes(routes!(many::batch))
        .routes(routes!(many::templates))
        .routes(routes!(many::check_template))
        .routes(routes!(many::gc))
        .routes(routes!(many::orphans))
        .routes(routes!(many::clean))
        .routes(routes!(many::trash))
        .routes(routes!(many::restore))
        // Commands and streams.
        .merge(
            OpenApiRouter::new()
                .routes(routes!(exec::to_end))
                .layer(DefaultBodyLimit::max(MAX_EXEC_BODY_BYTES)),
        )
        .routes(routes!(streams::exec))
        .routes(routes!(streams::attach))
        .routes(routes!(streams::console))
        .routes(routes!(streams::forward))
        .routes(routes!(streams::lend))
        .routes(routes!(worker_ws::worker))
        // Access.
        .routes(routes!(access::keys, access::add_key))
        .routes(routes!(access::remove_key))
        .routes(routes!(access::tokens, access::add_token))
        .routes(routes!(access::remove_token))
}

/// All routes behind the guard and the aliases. These wrap the router, since they must run before a route is chosen.
pub(crate) fn router(state: Weak<State>) -> Router {
    let (routes, _) = documented().split_for_parts();
    let routes = routes
        .fallback(async |_: Who| {
            Refused::new(Code::RouteNotFound, "no such route; see /api/docs").into_response()
        })
        .method_not_allowed_fallback(async |_: Who| {
            let text = "this route does not support the method; see /api/docs";
            Refused::new(Code::MethodNotAllowed, text).into_response()
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state.clone());
    Router::new()
        .fallback_service(routes)
        .layer(from_fn_with_state(state.clone(), alias))
        .layer(from_fn_with_state(state, guard))
}
