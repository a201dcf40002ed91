//! Who may use the server: CORS for browsers (RFC 9725 §4.7.1 asks for it), a bearer token if there is one (RFC 6750),
//! and a limit on how often.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::{App, Problem};
use crate::config::AllowedOrigins;

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

/// Asks for the token, if there is one. A preflight carries none and needs none.
pub(super) async fn authenticate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS || is_authorized(&app, request.headers()) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::UNAUTHORIZED, "needs the header Authorization: Bearer with the right token")
        .authenticate()
        .into_response()
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

/// Limits what changes something, and guesses at the token.
pub(super) async fn limit_changes(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let changes = matches!(*request.method(), Method::POST | Method::PATCH | Method::DELETE | Method::PUT);
    let guesses = request.method() != Method::OPTIONS && !is_authorized(&app, request.headers());
    if (changes || guesses)
        && let Err(wait) = app.limiter.check(peer.ip())
    {
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address")
            .retry_after(wait)
            .into_response();
    }
    next.run(request).await
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let given = value.and_then(|value| value.split_first_chunk::<7>());
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.trim_ascii().ct_eq(token.as_bytes()))
    })
}
