//! WHIP (RFC 9725): one endpoint for each stream that may be published here, one resource a publisher.
//!
//! | request | answer |
//! |---|---|
//! | `POST /whip/{stream}` with an SDP offer | 201, SDP answer, `Location`, `ETag`, `Link` |
//! | the same while somebody else publishes it | 409, `Retry-After` |
//! | anything else of a session | see `resource.rs` |
//!
//! A publisher that has been silent for a moment makes place for the next one: one that was cut off may come back at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use lenscast_transport::{CreatePublisherError, CreatedPublisher, PublishRequest, PublishedProducer, PublisherOffer};

use super::resource::{self, Protocol, RETRY_SOON};
use super::sessions::{NewMedium, NewSession};
use super::{App, Problem};
use crate::config::WhipConfig;
use crate::ingress::Tracks;
use crate::stream::Stream;

/// Routes below the server's root.
pub(super) fn routes() -> Router<Arc<App>> {
    let endpoint = get(endpoint_get).head(endpoint_head).post(publish).options(resource::preflight);
    Router::new()
        .route("/whip/{stream}", endpoint)
        .route("/whip/{stream}/{session}", resource::session_route())
        .layer(resource::body_limit())
        .layer(Extension(Protocol::Whip))
}

async fn endpoint_get(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    stream(&app, &name)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn endpoint_head(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    stream(&app, &name)?;
    Ok(StatusCode::OK)
}

fn stream(app: &App, name: &str) -> Result<Arc<Stream>, Problem> {
    let stream = app.agent.stream(name).filter(|stream| stream.config().whip().is_some());
    stream.ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        Problem::new(StatusCode::NOT_FOUND, format!("no stream that can be published is called {shown:?}"))
    })
}

/// Somebody offers to publish a stream.
async fn publish(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let stream = stream(&app, &name)?;
    let text = resource::offer_text(&app, &headers, body)?;
    let offer = PublisherOffer::parse(&text).map_err(|error| resource::offer_problem(&error))?;
    let config = stream.config();
    let whip = config.whip().expect("only streams that are published are found");
    let request = publish_request(&name, whip);
    let created = create(&app, &stream, &offer, &request, peer).await?;
    let tracks = tracks(&created)?;
    if !stream.begin(created.id, tracks, Instant::now()) {
        resource::close(&app, created.id).await;
        return Err(self::stream(&app, &name).err().unwrap_or_else(|| busy(&name)));
    }
    let session = NewSession {
        protocol: Protocol::Whip,
        transport: created.id,
        name: &name,
        remote_ufrag: offer.ice_ufrag(),
        media: vec![NewMedium {
            stream: name.clone(),
            mid: offer.mid().to_owned(),
            producer: None,
            preferred: None,
            max_viewers: None,
        }],
    };
    let (secret, session) = app.sessions.add(session).expect("there is no limit");
    app.forget_if_over(created.id);
    tracing::info!(stream = name, session = created.id.0, peer = %peer.ip(), codec = %tracks.codec, "a publisher comes");
    let location = format!("{}/{name}/{secret}", Protocol::Whip.path());
    Ok(resource::created(&app, &session, location, created.answer, Vec::new()))
}

fn publish_request(name: &str, whip: &WhipConfig) -> PublishRequest {
    PublishRequest { stream: name.to_owned(), codecs: whip.codecs.clone(), max_bitrate: whip.max }
}

/// Makes a session of the offer. Whoever publishes the stream already and has fallen silent makes place for it.
async fn create(
    app: &App,
    stream: &Stream,
    offer: &PublisherOffer,
    request: &PublishRequest,
    peer: SocketAddr,
) -> Result<CreatedPublisher, Problem> {
    if let Some(before) = stream.session() {
        if !stream.makes_place(Instant::now()) {
            return Err(busy(&request.stream));
        }
        // Nobody has to go for an offer that cannot be answered.
        request.accepts(offer).map_err(refused)?;
        tracing::info!(stream = request.stream, session = before.0, "a silent publisher makes place for another");
        resource::close(app, before).await;
        stream.end(before, None, Instant::now());
    }
    let created = app.agent.transport().create_publisher(offer, request, resource::is_local(peer));
    created.map_err(refused)
}

fn refused(error: CreatePublisherError) -> Problem {
    match error {
        CreatePublisherError::StreamBusy(name) => busy(&name),
        CreatePublisherError::Codec { .. } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        CreatePublisherError::Full(_) => resource::full(error.to_string()),
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn busy(name: &str) -> Problem {
    let detail = format!("stream {name:?} is being published by somebody else");
    Problem::new(StatusCode::CONFLICT, detail).retry_after(RETRY_SOON)
}

fn tracks(created: &CreatedPublisher) -> Result<Tracks, Problem> {
    let producers: &[PublishedProducer] = &created.producers;
    // What has no video is no offer that can be answered.
    Tracks::of(producers).ok_or_else(|| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "there is no video in it"))
}
