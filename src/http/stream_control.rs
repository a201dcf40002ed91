//! `/api/v1/streams/{stream}`: holds up a camera or stream at its source, and lets it go on. Its viewers stay connected, are
//! sent nothing meanwhile, and a key frame first afterwards.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::state_of_feed;
use super::resource;
use super::{App, Problem};
use crate::feed::Feed;

/// What is to be changed of a stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamChange {
    paused: bool,
}

const MAX_REQUEST_BYTES: usize = 1_024;

/// Routes below the server's root.
pub(super) fn routes() -> Router<Arc<App>> {
    let control = get(tell).put(change).options(async || StatusCode::OK);
    Router::new().route("/api/v1/streams/{stream}", control).layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
}

async fn tell(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(describe(&app.feed(&name)?)))
}

async fn change(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let feed = app.feed(&name)?;
    resource::require_type(&headers, "application/json")?;
    let body = resource::whole_within(body, MAX_REQUEST_BYTES)?;
    let change: StreamChange =
        serde_json::from_slice(&body).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    if !app.agent.set_paused(&feed, change.paused).await {
        return Err(Problem::new(StatusCode::CONFLICT, format!("camera {name:?} cannot be held up now")));
    }
    tracing::info!(stream = name, paused = change.paused, "a stream is held up or goes on");
    Ok(Json(describe(&feed)))
}

fn describe(feed: &Feed) -> Value {
    let mut description = state_of_feed(feed);
    description["name"] = json!(feed.name());
    description["kind"] = json!(feed.kind());
    description["paused"] = json!(feed.is_paused());
    description
}
