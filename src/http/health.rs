//! `/livez`: the process answers. `/readyz`: it can serve, with each camera's state.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::App;
use super::access::is_authorized;
use super::api::state_of_feed;

/// Routes below the server's root. They need no token: without it they tell how cameras are, but not why, since reasons
/// name devices and files.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/livez", get(async || "ok\n")).route("/readyz", get(readyz))
}

/// Ready while at least one camera is live and the server is not stopping; a missing camera among others, or one whose encoder
/// makes nothing, is degraded, which is ready all the same. A relay without cameras is ready; a stream that nobody sends is told,
/// and no fault.
async fn readyz(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let cameras = app.agent.cameras();
    let live = cameras.iter().filter(|camera| camera.is_healthy()).count();
    let some = live > 0 || cameras.is_empty();
    let ready = some && !app.agent.is_stopping();
    let status = match () {
        () if app.agent.is_stopping() => "stopping",
        () if live == cameras.len() => "ready",
        () if some => "degraded",
        () => "unready",
    };
    let trusted = is_authorized(&app, &headers);
    let states: serde_json::Map<_, _> = app
        .agent
        .feeds()
        .iter()
        .map(|feed| {
            let mut state = state_of_feed(feed);
            if let (false, Some(fields)) = (trusted, state.as_object_mut()) {
                fields.remove("reason");
            }
            (feed.name(), state)
        })
        .collect();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status, "cameras": states }))).into_response()
}
