//! What WHIP and WHEP have in common (RFC 9725 §4): an offer is posted, and the session that comes of it is a resource of its
//! own, to be patched and deleted.
//!
//! | request | answer |
//! |---|---|
//! | `PATCH` the session, `If-Match: "etag"` | 204: candidates, which an ICE-lite server has no use for |
//! | `PATCH` the session, `If-Match: *`, a new user fragment | 200, SDP fragment, new `ETag`: ICE restart |
//! | `DELETE` the session | 200 |
//! | `GET`, `HEAD` | 204, 200 |
//! | `OPTIONS` | 200, `Accept-Post`, `Accept-Patch` |
//!
//! Errors are `application/problem+json` (RFC 9457).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Extension, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use lenscast_router::TransportId;
use lenscast_transport::{MAX_OFFER_BYTES, OfferError};

use super::sdp_fragment::{MAX_FRAGMENT_BYTES, SdpFragment, restart_fragment};
use super::sessions::Session;
use super::{App, Problem};
use crate::config::IceServer;

/// Which way media go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// To a viewer.
    Whep,
    /// From a publisher.
    Whip,
}

impl Protocol {
    /// Where its addresses begin.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Whep => "/whep",
            Self::Whip => "/whip",
        }
    }
}

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// When to try again: what is not live, or busy, and a server that is full or stops.
pub(super) const RETRY_SOON: Duration = Duration::from_secs(2);
pub(super) const RETRY_OVERLOAD: Duration = Duration::from_secs(5);

/// A session's address: the stream's name, and the secret.
pub(super) type Address = (String, String);

/// What a session's address does. The route brings an [`Extension`] with its [`Protocol`].
pub(super) fn session_route() -> MethodRouter<Arc<App>> {
    get(session_get).head(session_head).patch(patch).delete(stop).options(preflight)
}

/// An offer that is too long gets its own answer from [`offer_text`].
pub(super) fn body_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_OFFER_BYTES + 1)
}

pub(super) async fn preflight() -> Response {
    ([(HeaderName::from_static("accept-post"), SDP), (HeaderName::from_static("accept-patch"), FRAGMENT)])
        .into_response()
}

/// The text of an offer, if it can be one and the server takes any.
pub(super) fn offer_text(
    app: &App,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<String, Problem> {
    require_type(headers, SDP)?;
    if app.agent.is_stopping() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping").retry_after(RETRY_OVERLOAD));
    }
    let body = whole(body)?;
    let text = std::str::from_utf8(&body).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "SDP must be UTF-8"))?;
    Ok(text.to_owned())
}

/// Why an offer is not taken.
pub(super) fn offer_problem(error: &OfferError) -> Problem {
    let status = match error {
        OfferError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        error if error.is_malformed() => StatusCode::BAD_REQUEST,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, error.to_string())
}

/// As many sessions as there may be.
pub(super) fn full(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_OVERLOAD)
}

/// The answer to an offer that was taken: the session that now is at `location`.
pub(super) fn created(app: &App, session: &Session, location: String, answer: String, links: Vec<String>) -> Response {
    let mut response = (
        StatusCode::CREATED,
        [(header::CONTENT_TYPE, SDP.to_owned()), (header::LOCATION, location), (header::ETAG, session.etag.clone())],
        answer,
    )
        .into_response();
    for link in app.ice_servers.iter().map(ice_server_link).chain(links) {
        // What cannot stand in a header was refused with the configuration.
        response.headers_mut().extend(HeaderValue::from_str(&link).ok().map(|value| (header::LINK, value)));
    }
    response.headers_mut().insert(HeaderName::from_static("accept-patch"), HeaderValue::from_static(FRAGMENT));
    response
}

/// Ends a session that has no address yet, or none any more.
pub(super) async fn close(app: &App, transport: TransportId) -> bool {
    let ended = app.agent.transport().close_session(transport).await;
    app.sessions.remove(transport);
    // At once: the event that tells of it comes later, and whoever asks next must find the place free.
    app.agent.end_sender(transport, "its sender has left");
    ended
}

async fn session_get(
    State(app): State<Arc<App>>,
    Extension(protocol): Extension<Protocol>,
    Path(address): Path<Address>,
) -> Result<Response, Problem> {
    let session = session(&app, protocol, &address)?;
    Ok((StatusCode::NO_CONTENT, [(header::ETAG, session.etag)]).into_response())
}

async fn session_head(
    State(app): State<Arc<App>>,
    Extension(protocol): Extension<Protocol>,
    Path(address): Path<Address>,
) -> Result<Response, Problem> {
    let session = session(&app, protocol, &address)?;
    Ok((StatusCode::OK, [(header::ETAG, session.etag)]).into_response())
}

/// The peer leaves. `If-Match` is ignored.
async fn stop(
    State(app): State<Arc<App>>,
    Extension(protocol): Extension<Protocol>,
    Path(address): Path<Address>,
) -> Result<StatusCode, Problem> {
    let session = session(&app, protocol, &address)?;
    if close(&app, session.transport).await { Ok(StatusCode::OK) } else { Err(gone()) }
}

/// The peer tells of candidates or restarts ICE.
async fn patch(
    State(app): State<Arc<App>>,
    Extension(protocol): Extension<Protocol>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(address): Path<Address>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let session = session(&app, protocol, &address)?;
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
        // Candidates: as an ICE-lite server, we learn the peer's addresses from its checks.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if !any {
        let detail = "a new ice-ufrag is an ICE restart, which needs If-Match: *";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let restart = app.agent.transport().restart_ice(session.transport, is_local(peer)).await;
    let restart = restart.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let restart = restart.ok_or_else(gone)?;
    let restarted = app.sessions.restarted(&address.1, &fragment.ufrag).ok_or_else(gone)?;
    let body = restart_fragment(&restart, session.mid());
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, FRAGMENT.to_owned()), (header::ETAG, restarted.etag)], body)
        .into_response())
}

/// The session at this address, if it has not ended.
pub(super) fn session(app: &App, protocol: Protocol, (stream, secret): &Address) -> Result<Session, Problem> {
    let session = app.sessions.find(protocol, stream, secret).ok_or_else(gone)?;
    if app.agent.transport().has_session(session.transport) { Ok(session) } else { Err(gone()) }
}

/// True if the peer is on this machine.
pub(super) fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
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

pub(super) fn gone() -> Problem {
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
