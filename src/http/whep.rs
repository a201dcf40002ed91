//! WHEP (draft-ietf-wish-whep, with the HTTP rules of WHIP, RFC 9725): one endpoint a camera, one resource a viewer.
//!
//! | request | answer |
//! |---|---|
//! | `POST /whep/{camera}` with an SDP offer | 201, SDP answer, `Location`, `ETag`, `Link` |
//! | the same with `?layer=N` | the spatial layer N, 0 for the smallest; without it the largest |
//! | `PATCH` the session, `If-Match: "etag"` | 204: candidates, which an ICE-lite server has no use for |
//! | `PATCH` the session, `If-Match: *`, a new user fragment | 200, SDP fragment, new `ETag`: ICE restart |
//! | `DELETE` the session | 200 |
//! | `GET`, `HEAD` | 204, 200 |
//! | `OPTIONS` | 200, `Accept-Post` |
//!
//! Errors are `application/problem+json` (RFC 9457).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lenscast_router::ProducerId;
use lenscast_transport::{CreateSessionError, MAX_OFFER_BYTES, PlayRequest, PlayedVideo, ViewerOffer};

use super::events;
use super::sdp_fragment::{MAX_FRAGMENT_BYTES, SdpFragment, restart_fragment};
use super::sessions::Session;
use super::{App, Problem};
use crate::camera::Camera;
use crate::config::IceServer;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// When to try again: a camera that is not live, and a server that is full or stops.
const RETRY_NOT_LIVE: Duration = Duration::from_secs(2);
const RETRY_OVERLOAD: Duration = Duration::from_secs(5);

/// Routes below the server's root.
pub(super) fn routes() -> Router<Arc<App>> {
    let endpoint = get(endpoint_get).head(endpoint_head).post(play).options(preflight);
    let session = get(session_get).head(session_head).patch(patch).delete(stop).options(preflight);
    Router::new()
        .route("/whep/{camera}", endpoint)
        .route("/whep/{camera}/{session}", session)
        .route("/whep/{camera}/{session}/events", events::subscribe_route())
        .route("/whep/{camera}/{session}/events/{subscription}", events::stream_route())
        // An offer that is too long gets its own answer further down.
        .layer(DefaultBodyLimit::max(MAX_OFFER_BYTES + 1))
}

async fn preflight() -> Response {
    ([(HeaderName::from_static("accept-post"), SDP), (HeaderName::from_static("accept-patch"), FRAGMENT)])
        .into_response()
}

async fn endpoint_get(State(app): State<Arc<App>>, Path(camera): Path<String>) -> Result<StatusCode, Problem> {
    app.camera(&camera)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn endpoint_head(State(app): State<Arc<App>>, Path(camera): Path<String>) -> Result<StatusCode, Problem> {
    app.camera(&camera)?;
    Ok(StatusCode::OK)
}

async fn session_get(State(app): State<Arc<App>>, Path(address): Path<(String, String)>) -> Result<Response, Problem> {
    let session = session(&app, &address)?;
    Ok((StatusCode::NO_CONTENT, [(header::ETAG, session.etag)]).into_response())
}

async fn session_head(State(app): State<Arc<App>>, Path(address): Path<(String, String)>) -> Result<Response, Problem> {
    let session = session(&app, &address)?;
    Ok((StatusCode::OK, [(header::ETAG, session.etag)]).into_response())
}

/// What of a camera a viewer wants: keys and values as text, for errors of our own.
type PlayQuery = Vec<(String, String)>;

/// The producer of the layer that is asked for: the largest if none is.
fn wanted_layer(camera: &Camera, query: Result<Query<PlayQuery>, QueryRejection>) -> Result<ProducerId, Problem> {
    let Query(query) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let mut layers = query.into_iter().filter(|(key, _)| key == "layer").map(|(_, text)| text);
    let Some(text) = layers.next() else { return Ok(camera.producer()) };
    if layers.next().is_some() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "layer is there twice, a viewer gets one"));
    }
    let layer = text.parse::<usize>().ok().and_then(|layer| camera.producers().get(layer));
    layer.copied().ok_or_else(|| {
        let (shown, name) = (text.chars().take(16).collect::<String>(), &camera.config().name);
        let largest = camera.producers().len() - 1;
        let legal = if largest == 0 { "must be 0".to_owned() } else { format!("must be 0 to {largest}") };
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("camera {name:?}: layer = {shown:?}: {legal}"))
    })
}

/// A viewer offers to receive a camera.
async fn play(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    query: Result<Query<PlayQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let camera = app.camera(&name)?;
    let producer = wanted_layer(&camera, query)?;
    require_type(&headers, SDP)?;
    if app.agent.is_stopping() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping").retry_after(RETRY_OVERLOAD));
    }
    let body = whole(body)?;
    let text = std::str::from_utf8(&body).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "SDP must be UTF-8"))?;
    let offer = ViewerOffer::parse(text).map_err(|error| {
        let too_large = body.len() > MAX_OFFER_BYTES;
        let status = match () {
            () if too_large => StatusCode::PAYLOAD_TOO_LARGE,
            () if error.is_malformed() => StatusCode::BAD_REQUEST,
            () => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Problem::new(status, error.to_string())
    })?;
    if !camera.is_live() {
        let detail = format!("camera {name:?} is not live");
        return Err(Problem::new(StatusCode::CONFLICT, detail).retry_after(RETRY_NOT_LIVE));
    }
    let codec = camera.config().settings.backend.codec();
    let loopback = peer.ip().to_canonical().is_loopback();
    let created = app.agent.transport().create_session(
        &offer,
        &PlayRequest { stream: name.clone(), video: PlayedVideo { producer, codec, preferred: None }, audio: None },
        loopback,
    );
    let created = created.map_err(|error| match error {
        CreateSessionError::Codec { .. } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        CreateSessionError::Full(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(RETRY_OVERLOAD)
        }
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })?;
    let (secret, session) = app.sessions.add(created.id, &name, offer.ice_ufrag(), offer.mid());
    tracing::info!(camera = name, session = created.id.0, peer = %peer.ip(), "a viewer comes");

    let location = format!("/whep/{name}/{secret}");
    let mut response = (
        StatusCode::CREATED,
        [(header::CONTENT_TYPE, SDP.to_owned()), (header::LOCATION, location.clone()), (header::ETAG, session.etag)],
        created.answer,
    )
        .into_response();
    let links = app.ice_servers.iter().map(ice_server_link).chain([events::link(&location)]);
    for link in links {
        // What cannot stand in a header was refused with the configuration.
        response.headers_mut().extend(HeaderValue::from_str(&link).ok().map(|value| (header::LINK, value)));
    }
    response.headers_mut().insert(HeaderName::from_static("accept-patch"), HeaderValue::from_static(FRAGMENT));
    Ok(response)
}

/// A viewer leaves. `If-Match` is ignored.
async fn stop(State(app): State<Arc<App>>, Path(address): Path<(String, String)>) -> Result<StatusCode, Problem> {
    let session = session(&app, &address)?;
    let ended = app.agent.transport().close_session(session.transport).await;
    app.sessions.remove(session.transport);
    if ended { Ok(StatusCode::OK) } else { Err(gone()) }
}

/// A viewer tells of candidates or restarts ICE.
async fn patch(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(address): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let session = session(&app, &address)?;
    require_type(&headers, FRAGMENT)?;
    let Some(condition) = headers.get(header::IF_MATCH) else {
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "needs If-Match with the session's ETag, or *"));
    };
    let condition = condition.as_bytes().trim_ascii();
    // The asterisk is a list of its own (RFC 9110 §13.1.1); some clients put it in quotes.
    let any = matches!(condition, b"*" | b"\"*\"");
    if !any && condition != session.etag.as_bytes() {
        return Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "If-Match is not the session's ETag: ICE has restarted",
        ));
    }
    let body = whole(body)?;
    if body.len() > MAX_FRAGMENT_BYTES {
        let detail = format!("SDP fragment of {} bytes is larger than {MAX_FRAGMENT_BYTES}", body.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    let text = std::str::from_utf8(&body);
    let text = text.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "SDP fragment must be UTF-8"))?;
    let fragment =
        SdpFragment::parse(text).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    if fragment.ufrag == session.remote_ufrag {
        // Candidates: as an ICE-lite server, we learn the viewer's addresses from its checks.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if !any {
        let detail = "a new ice-ufrag is an ICE restart, which needs If-Match: *";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let loopback = peer.ip().to_canonical().is_loopback();
    let restart = app.agent.transport().restart_ice(session.transport, loopback).await;
    let restart = restart.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let restart = restart.ok_or_else(gone)?;
    let restarted = app.sessions.restarted(&address.1, &fragment.ufrag).ok_or_else(gone)?;
    let body = restart_fragment(&restart, &session.mid);
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, FRAGMENT.to_owned()), (header::ETAG, restarted.etag)], body)
        .into_response())
}

pub(super) fn session(app: &App, (camera, secret): &(String, String)) -> Result<Session, Problem> {
    let session = app.sessions.find(camera, secret).ok_or_else(gone)?;
    if app.agent.transport().has_session(session.transport) { Ok(session) } else { Err(gone()) }
}

/// A body that has come whole and is not longer than any can be.
pub(super) fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    whole_within(body, MAX_OFFER_BYTES)
}

/// A body that has come whole, where at most so many bytes are taken.
pub(super) fn whole_within(body: Result<Bytes, BytesRejection>, bytes: usize) -> Result<Bytes, Problem> {
    body.map_err(|error| match error.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(status, format!("the body is larger than {bytes} bytes"))
        }
        status => Problem::new(status, error.body_text()),
    })
}

fn gone() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such session")
}

/// The media type, without its parameters.
pub(super) fn require_type(headers: &HeaderMap, required: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(required) {
        return Ok(());
    }
    let shown: String = given.chars().take(64).collect();
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("Content-Type is {shown:?}, must be {required}")))
}

/// RFC 9725 §4.6.
fn ice_server_link(server: &IceServer) -> String {
    let credentials = server.credentials.as_ref().map(|(username, secret)| {
        let credential = secret.expose().replace('\\', "\\\\").replace('"', "\\\"");
        format!("; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\"")
    });
    format!("<{}>; rel=\"ice-server\"{}", server.url, credentials.unwrap_or_default())
}
