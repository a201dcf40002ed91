//! Who may use the server: CORS for browsers (RFC 9725 §4.7.1 asks for it), a bearer token if there is one (RFC 6750),
//! and a limit on how often.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lenscast_transport::MAX_CAMERAS;
use subtle::ConstantTimeEq;

use super::{App, Problem};
use crate::config::{AllowedOrigins, Secret};

const ALLOWED_HEADERS: &str = "Authorization, Content-Type, If-Match";
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
const EXPOSED_HEADERS: &str = "Location, ETag, Link, Retry-After, Accept-Patch";

/// A request that takes longer has been given up, or is meant to hold a connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Adds the CORS headers to every answer.
pub(super) async fn cors(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = next.run(request).await;
    if is_preflight && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        // A browser goes on only if this is a success; what the address has no answer of its own to is answered here.
        response = StatusCode::NO_CONTENT.into_response();
    }
    let allowed = match (&app.http.allowed_origins, origin) {
        (AllowedOrigins::Any, _) => Some(HeaderValue::from_static("*")),
        (AllowedOrigins::Only(origins), Some(origin)) => {
            origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then_some(origin)
        }
        (AllowedOrigins::Only(_), None) => None,
    };
    let headers = response.headers_mut();
    if let AllowedOrigins::Only(_) = app.http.allowed_origins {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(allowed) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(ALLOWED_METHODS));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
    response
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// All cameras, streams and figures: what `http.token_file` is for.
    All,
    /// To play one stream: its `play_token_file` too.
    Play,
    /// To publish one stream: its own `token_file`, where it has one, and then nothing else.
    Publish,
    /// To hold up one stream: `http.token_file` or that of its publisher.
    Control,
}

/// Asks for a token that opens the door, if there is one; a preflight carries none and needs none. Limits what changes
/// something, and guesses at tokens.
pub(super) async fn guard(
    State((app, door)): State<(Arc<App>, Door)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    let asks = request.method() != Method::OPTIONS;
    let stream = path.iter().find(|(name, _)| *name == "stream").map(|(_, value)| value);
    let is_open = opens(&app, door, stream, request.headers());
    let changes = matches!(*request.method(), Method::POST | Method::PATCH | Method::DELETE | Method::PUT);
    if (changes || (asks && !is_open))
        && let Err(wait) = app.limiter.check(peer.ip())
    {
        return too_many(wait).into_response();
    }
    if asks && !is_open {
        return unauthorized().into_response();
    }
    next.run(request).await
}

/// Limits what changes something, for routes that look at the token themselves.
pub(super) async fn limit_changes(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::OPTIONS
        && let Err(wait) = app.limiter.check(peer.ip())
    {
        return too_many(wait).into_response();
    }
    next.run(request).await
}

/// What whoever asks too often is told.
fn too_many(wait: Duration) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address").retry_after(wait)
}

/// What whoever brings no token, or the wrong one, is told.
pub(super) fn unauthorized() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "needs the header Authorization: Bearer with the right token").authenticate()
}

/// True if the request may pass, which it may without a token where none is asked for. Whoever plays several streams needs
/// what opens each.
pub(super) fn opens(app: &App, door: Door, stream: Option<&str>, headers: &HeaderMap) -> bool {
    match stream.filter(|_| door == Door::Play) {
        // Of more than one session can show, nothing is shown.
        Some(names) => {
            names.split(',').take(MAX_CAMERAS).fold(true, |open, name| opens_one(app, door, Some(name), headers) & open)
        }
        None => opens_one(app, door, stream, headers),
    }
}

fn opens_one(app: &App, door: Door, stream: Option<&str>, headers: &HeaderMap) -> bool {
    let all = app.http.token.clone();
    let publish = || stream.and_then(|name| app.agent.stream(name)?.config().whip()?.token.clone());
    let play = || stream.and_then(|name| app.agent.feed(name)?.play_token());
    let asked: Vec<Secret> = match door {
        Door::All => all.into_iter().collect(),
        Door::Play => all.into_iter().chain(play()).collect(),
        Door::Publish => publish().or(all).into_iter().collect(),
        Door::Control => all.into_iter().chain(publish()).collect(),
    };
    // Each is compared, so that the time tells nothing of which fits.
    let fits = asked.iter().fold(false, |fits, token| has_token(headers, token.expose()) | fits);
    asked.is_empty() || fits
}

/// True with the right token, and without one if none is asked for.
pub(super) fn is_authorized(app: &App, headers: &HeaderMap) -> bool {
    app.http.token.as_ref().is_none_or(|token| has_token(headers, token.expose()))
}

/// Cuts off a request that does not arrive, or is not answered, in time. What an answer streams may take as long as it
/// likes.
pub(super) async fn limit_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!("the request took longer than {} s", REQUEST_TIMEOUT.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
    })
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let given = value.and_then(|value| value.split_first_chunk::<7>());
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.trim_ascii().ct_eq(token.as_bytes()))
    })
}
