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
use super::api::state_of;

/// Routes below the server's root. They need no token: without it they tell how cameras are, but not why, since reasons
/// name devices and files.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/livez", get(async || "ok\n")).route("/readyz", get(readyz))
}

/// Ready while at least one camera is live and the server is not stopping; a missing camera among others, or one whose encoder
/// makes nothing, is degraded, which is ready all the same.
async fn readyz(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let cameras = app.agent.cameras();
    let live = cameras.iter().filter(|camera| camera.is_healthy()).count();
    let ready = live > 0 && !app.agent.is_stopping();
    let status = match () {
        () if app.agent.is_stopping() => "stopping",
        () if live == cameras.len() => "ready",
        () if live > 0 => "degraded",
        () => "unready",
    };
    let trusted = is_authorized(&app, &headers);
    let states: serde_json::Map<_, _> = cameras
        .iter()
        .map(|camera| {
            let mut state = state_of(camera);
            if let (false, Some(fields)) = (trusted, state.as_object_mut()) {
                fields.remove("reason");
            }
            (camera.config().name.clone(), state)
        })
        .collect();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status, "cameras": states }))).into_response()
}
