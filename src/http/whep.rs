//! WHEP (draft-ietf-wish-whep, with the HTTP rules of WHIP, RFC 9725): one endpoint for each camera and stream, one resource a
//! viewer.
//!
//! | request | answer |
//! |---|---|
//! | `POST /whep/{name}` with an SDP offer | 201, SDP answer, `Location`, `ETag`, `Link` |
//! | the same with `?layer=N` | the spatial layer N at most, 0 for the smallest; without it the largest |
//! | `POST`, `DELETE` the session's `/layer` | the same while it plays, see `layer.rs` |
//! | `POST` the session's `/events` | server-sent events, see `events.rs` |
//! | anything else of a session | see `resource.rs` |

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use lenscast_transport::{CreateSessionError, PreferredLayers, ViewerOffer};

use super::resource::{self, Address, Protocol, RETRY_SOON};
use super::sessions::{NewSession, Session};
use super::{App, Problem, events, layer};
use crate::feed::Feed;

/// Routes below the server's root.
pub(super) fn routes() -> Router<Arc<App>> {
    let endpoint = get(endpoint_get).head(endpoint_head).post(play).options(resource::preflight);
    Router::new()
        .route("/whep/{stream}", endpoint)
        .route("/whep/{stream}/{session}", resource::session_route())
        .route("/whep/{stream}/{session}/layer", layer::route())
        .route("/whep/{stream}/{session}/events", events::subscribe_route())
        .route("/whep/{stream}/{session}/events/{subscription}", events::stream_route())
        .layer(resource::body_limit())
        .layer(Extension(Protocol::Whep))
}

async fn endpoint_get(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    app.feed(&name)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn endpoint_head(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    app.feed(&name)?;
    Ok(StatusCode::OK)
}

/// What of a camera a viewer wants: keys and values as text, for errors of our own.
type PlayQuery = Vec<(String, String)>;

/// The layer that is asked for, if one is.
fn wanted_layers(
    feed: &Feed,
    query: Result<Query<PlayQuery>, QueryRejection>,
) -> Result<Option<PreferredLayers>, Problem> {
    let Query(query) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let mut layers = query.into_iter().filter(|(key, _)| key == "layer").map(|(_, text)| text);
    let Some(text) = layers.next() else { return Ok(None) };
    if layers.next().is_some() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "layer is there twice, a viewer gets one"));
    }
    // What nobody sends has none, and is refused for that.
    let largest = feed.layers().saturating_sub(1);
    let layer = text.parse::<u8>().ok().filter(|layer| usize::from(*layer) <= largest);
    let layer = layer.ok_or_else(|| {
        let (shown, name) = (text.chars().take(16).collect::<String>(), feed.name());
        let legal = if largest == 0 { "must be 0".to_owned() } else { format!("must be 0 to {largest}") };
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("camera {name:?}: layer = {shown:?}: {legal}"))
    })?;
    Ok(Some(PreferredLayers { spatial: layer, temporal: None }))
}

/// A viewer offers to receive a camera or a stream.
async fn play(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    query: Result<Query<PlayQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let feed = app.feed(&name)?;
    let text = resource::offer_text(&app, &headers, body)?;
    let offer = ViewerOffer::parse(&text).map_err(|error| resource::offer_problem(&error))?;
    let not_live = || {
        let detail = format!("camera {name:?} is not live");
        Problem::new(StatusCode::CONFLICT, detail).retry_after(RETRY_SOON)
    };
    let is_there = feed.layers() > 0;
    let preferred = if is_there { wanted_layers(&feed, query)? } else { None };
    if !feed.is_playable() {
        return Err(not_live());
    }
    let request = feed.play_request(preferred).ok_or_else(not_live)?;
    let created = app.agent.transport().create_session(&offer, &request, resource::is_local(peer));
    let created = created.map_err(|error| match error {
        CreateSessionError::Codec { .. } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        CreateSessionError::Full(_) => resource::full(error.to_string()),
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })?;
    let session = NewSession {
        protocol: Protocol::Whep,
        transport: created.id,
        stream: &name,
        remote_ufrag: offer.ice_ufrag(),
        mid: offer.mid(),
        preferred,
    };
    let Some((secret, session)) = app.sessions.add(session, feed.max_viewers()) else {
        resource::close(&app, created.id).await;
        let most = feed.max_viewers().unwrap_or_default();
        return Err(resource::full(format!("camera {name:?} has its {most} viewers")));
    };
    app.forget_if_over(created.id);
    tracing::info!(camera = name, session = created.id.0, peer = %peer.ip(), "a viewer comes");
    let location = format!("{}/{name}/{secret}", Protocol::Whep.path());
    let links = vec![events::link(&location), layer::link(&location)];
    Ok(resource::created(&app, &session, location, created.answer, links))
}

/// A viewer's session.
pub(super) fn session(app: &App, address: &Address) -> Result<Session, Problem> {
    resource::session(app, Protocol::Whep, address)
}
