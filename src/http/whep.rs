//! WHEP (draft-ietf-wish-whep, with the HTTP rules of WHIP, RFC 9725): one endpoint for each camera and stream, one resource a
//! viewer. A viewer of several cameras names them all, with commas between, and has one session for them: what it can receive
//! is then shared among them as one. The first video section of its offer is for the first name, and so on.
//!
//! | request | answer |
//! |---|---|
//! | `POST /whep/{name}` with an SDP offer | 201, SDP answer, `Location`, `ETag`, `Link` |
//! | the same with `?layer=N` | the spatial layer N at most, 0 for the smallest; without it the largest |
//! | `POST /whep/{name},{name}` | one session for all of them, or none |
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
use lenscast_transport::{CreateSessionError, MAX_CAMERAS, PlayRequest, PreferredLayers, ViewerOffer};

use super::resource::{self, Address, Protocol, RETRY_SOON};
use super::sessions::{NewMedium, NewSession, Session};
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

/// The cameras that an address names.
fn feeds(app: &App, names: &str) -> Result<Vec<Feed>, Problem> {
    let names: Vec<&str> = names.split(',').take(MAX_CAMERAS + 1).collect();
    let refused = |detail| Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    if names.len() > MAX_CAMERAS {
        return refused(format!("a session shows {MAX_CAMERAS} cameras at most"));
    }
    let feeds = names.iter().map(|name| app.feed(name)).collect::<Result<Vec<_>, _>>()?;
    match names.iter().enumerate().find(|(position, name)| names[..*position].contains(name)) {
        Some((_, twice)) => refused(format!("camera {twice:?} is there twice, a session shows each once")),
        None => Ok(feeds),
    }
}

async fn endpoint_get(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    feeds(&app, &name)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn endpoint_head(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    feeds(&app, &name)?;
    Ok(StatusCode::OK)
}

/// What of a camera a viewer wants: keys and values as text, for errors of our own.
type PlayQuery = Vec<(String, String)>;

/// The layer that is asked for of these cameras, if one is: of several, one by one after the session is made.
fn wanted_layers(
    feeds: &[Feed],
    query: Result<Query<PlayQuery>, QueryRejection>,
) -> Result<Option<PreferredLayers>, Problem> {
    let Query(query) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let mut layers = query.into_iter().filter(|(key, _)| key == "layer").map(|(_, text)| text);
    let Some(text) = layers.next() else { return Ok(None) };
    let refused = |detail| Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    let [feed] = feeds else {
        return refused("layer is for one camera: those of several are chosen at the session's /layer, by mediaId");
    };
    if layers.next().is_some() {
        return refused("layer is there twice, a viewer gets one");
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

/// What a viewer is to be shown of a camera. Not live is 409.
fn play_request(feed: &Feed, preferred: Option<PreferredLayers>) -> Result<PlayRequest, Problem> {
    let request = feed.play_request(preferred).filter(|_| feed.is_playable());
    request.ok_or_else(|| {
        let detail = format!("camera {:?} is not live", feed.name());
        Problem::new(StatusCode::CONFLICT, detail).retry_after(RETRY_SOON)
    })
}

/// A viewer offers to receive a camera or a stream, or several.
async fn play(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    query: Result<Query<PlayQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let feeds = feeds(&app, &name)?;
    let text = resource::offer_text(&app, &headers, body)?;
    let offer = ViewerOffer::parse_for(&text, feeds.len()).map_err(|error| resource::offer_problem(&error))?;
    let is_there = feeds.iter().all(|feed| feed.layers() > 0);
    let preferred = if is_there { wanted_layers(&feeds, query)? } else { None };
    let requests = feeds.iter().map(|feed| play_request(feed, preferred)).collect::<Result<Vec<_>, _>>()?;
    let created = app.agent.transport().create_session(&offer, &requests, resource::is_local(peer));
    let created = created.map_err(|error| match error {
        CreateSessionError::Codec { camera, .. } if requests.len() > 1 => {
            let detail = format!("camera {:?}: {error}", requests[camera].stream);
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
        CreateSessionError::Codec { .. } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        CreateSessionError::Full(_) => resource::full(error.to_string()),
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })?;
    let media = feeds.iter().zip(&requests).zip(offer.mids()).map(|((feed, request), mid)| NewMedium {
        stream: request.stream.clone(),
        mid: mid.to_owned(),
        producer: Some(request.video.producer),
        preferred,
        max_viewers: feed.max_viewers(),
    });
    let session = NewSession {
        protocol: Protocol::Whep,
        transport: created.id,
        name: &name,
        remote_ufrag: offer.ice_ufrag(),
        media: media.collect(),
    };
    let (secret, session) = match app.sessions.add(session) {
        Ok(added) => added,
        Err(full) => {
            resource::close(&app, created.id).await;
            return Err(resource::full(full.to_string()));
        }
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
