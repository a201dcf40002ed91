//! `POST /api/v1/pipes`: another lenscast asks for a stream of this one, to serve it to viewers of its own. The answer holds the
//! keys of the connection that it then makes, so it must not be read by others.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use lenscast_transport::CreatePipeError;

use super::access::{Door, opens, unauthorized};
use super::resource::{self, RETRY_OVERLOAD, RETRY_SOON};
use super::{App, Problem};
use crate::pipe_message::{self, PipeRequest};

/// A name of 64 letters and some JSON around it.
const MAX_REQUEST_BYTES: usize = 1_024;

/// Routes below the server's root.
pub(super) fn routes() -> Router<Arc<App>> {
    let pipes = post(create).options(async || StatusCode::OK);
    Router::new().route("/api/v1/pipes", pipes).layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
}

async fn create(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    // Whoever may watch one stream may fetch that one; whether others are there is told to nobody else.
    let wanted = resource::require_type(&headers, "application/json")
        .and_then(|()| resource::whole_within(body, MAX_REQUEST_BYTES))
        .and_then(|body| {
            let read: Result<PipeRequest, _> = serde_json::from_slice(&body);
            read.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
        });
    let name = wanted.as_ref().ok().map(|wanted| wanted.stream.as_str());
    if !opens(&app, Door::Play, name, &headers) {
        return Err(unauthorized());
    }
    let name = wanted?.stream;
    if app.agent.is_stopping() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping").retry_after(RETRY_OVERLOAD));
    }
    let feed = app.feed(&name)?;
    let not_live =
        || Problem::new(StatusCode::CONFLICT, format!("camera {name:?} is not live")).retry_after(RETRY_SOON);
    if !feed.is_playable() {
        return Err(not_live());
    }
    let created = app.agent.transport().create_pipe_source(&feed.producers(), resource::is_local(peer)).await;
    let offer = created.map_err(|error| match error {
        CreatePipeError::Full(_) => resource::full(error.to_string()),
        CreatePipeError::Producers(_) | CreatePipeError::UnknownProducer(_) => not_live(),
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })?;
    if !app.sessions.add_pipe(offer.session, &name, feed.max_viewers()) {
        resource::close(&app, offer.session).await;
        let most = feed.max_viewers().unwrap_or_default();
        return Err(resource::full(format!("camera {name:?} has its {most} viewers")));
    }
    app.forget_if_over(offer.session);
    tracing::info!(stream = name, session = offer.session.0, peer = %peer.ip(), "another lenscast fetches a stream");
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(pipe_message::offer(&offer))).into_response())
}
