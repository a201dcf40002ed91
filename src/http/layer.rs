//! WHEP's layer selection (draft-ietf-wish-whep §4.9.2, `urn:ietf:params:whep:ext:core:layer`): which of a stream's layers a
//! viewer is sent, changed while it plays.
//!
//! | request to the session's `/layer` | |
//! |---|---|
//! | `POST {"encodingId": "0"}` | that spatial layer at most, 0 for the smallest; lower ones where it cannot be had |
//! | `POST {"maxSpatialLayerId": 1, "maxTemporalLayerId": 0}` | at most these |
//! | `POST {}`, `POST null`, `DELETE` | the best there are |
//! | `POST {"paused": true}`, `POST {"paused": false}` | nothing of it for now, and again; ours. Its layers stay as they are |
//!
//! A `mediaId` is the name of a video section, and must be there if the session shows several cameras: in the body, or of
//! `DELETE` in the query. `spatialLayerId` and `temporalLayerId` mean the same as those with `max`: where a layer cannot be had,
//! a lower one is sent rather than nothing.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{MethodRouter, post};
use lenscast_media::{Bitrate, Resolution};
use lenscast_router::TransportId;
use lenscast_sender::LayerStats;
use lenscast_transport::{PreferredLayers, TransportServer};
use serde::Deserialize;
use serde_json::{Value, json};

use super::resource::{self, Address};
use super::sessions::{Asked, Session};
use super::{App, Problem, whep};
use crate::feed::Feed;

/// What a viewer asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct LayerRequest {
    media_id: Option<String>,
    encoding_id: Option<String>,
    spatial_layer_id: Option<u8>,
    temporal_layer_id: Option<u8>,
    max_spatial_layer_id: Option<u8>,
    max_temporal_layer_id: Option<u8>,
    paused: Option<bool>,
}

/// Of a `DELETE`, which has no body: keys and values as text, for errors of our own.
type ReleaseQuery = Vec<(String, String)>;

/// No codec of ours has more temporal layers than four.
const HIGHEST_TEMPORAL: u8 = 3;

pub(super) fn link(session: &str) -> String {
    format!("<{session}/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\"")
}

pub(super) fn route() -> MethodRouter<Arc<App>> {
    post(select).delete(release).options(async || StatusCode::OK)
}

async fn select(
    State(app): State<Arc<App>>,
    Path(address): Path<Address>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let session = whep::session(&app, &address)?;
    let body = resource::whole(body)?;
    let request: Option<LayerRequest> = if body.is_empty() {
        None
    } else {
        resource::require_type(&headers, "application/json")?;
        let malformed = |error: serde_json::Error| Problem::new(StatusCode::BAD_REQUEST, error.to_string());
        serde_json::from_slice(&body).map_err(malformed)?
    };
    let request = request.unwrap_or_default();
    let camera = camera_of(request.media_id.as_deref(), &session)?;
    let feed = app.feed(&session.media[camera].stream)?;
    let asked = asked(request, &feed)?;
    ask(&app, &session, camera, asked).await
}

async fn release(
    State(app): State<Arc<App>>,
    Path(address): Path<Address>,
    query: Result<Query<ReleaseQuery>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let session = whep::session(&app, &address)?;
    let Query(query) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let media_id = query.iter().find(|(key, _)| key == "mediaId").map(|(_, value)| value.as_str());
    let camera = camera_of(media_id, &session)?;
    ask(&app, &session, camera, Asked { preferred: Some(None), paused: None }).await
}

async fn ask(app: &App, session: &Session, camera: usize, asked: Asked) -> Result<StatusCode, Problem> {
    // Noted first: what a viewer says before it is connected takes effect once it is.
    app.sessions.ask(session.transport, camera, asked);
    let transport = app.agent.transport();
    if apply(transport, session.transport, camera, asked).await {
        return Ok(StatusCode::OK);
    }
    let is_running = transport.session_stats(session.transport).await.is_some();
    if !transport.has_session(session.transport) {
        Err(resource::gone())
    } else if is_running {
        let detail =
            format!("camera {:?} has ended in this session, another one can have it", session.media[camera].stream);
        Err(Problem::new(StatusCode::CONFLICT, detail))
    } else {
        Ok(StatusCode::OK)
    }
}

/// Has what a viewer asked for of one of its cameras done. False if the session or the camera has ended, or the viewer has not
/// been heard of.
pub(super) async fn apply(transport: &TransportServer, id: TransportId, camera: usize, asked: Asked) -> bool {
    if let Some(preferred) = asked.preferred
        && !transport.set_preferred_layers(id, camera, preferred).await
    {
        return false;
    }
    match asked.paused {
        Some(paused) => transport.set_paused(id, camera, paused).await,
        None => true,
    }
}

/// The place among the session's cameras of the one that is meant.
fn camera_of(media_id: Option<&str>, session: &Session) -> Result<usize, Problem> {
    let problem = |detail: String| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    let legal = || match &session.media[..] {
        [only] => format!("must be {:?}, the video's", only.mid),
        several => {
            let mids: Vec<_> = several.iter().map(|medium| format!("{:?}", medium.mid)).collect();
            format!("must be one of {}, the videos'", mids.join(", "))
        }
    };
    let Some(media_id) = media_id else {
        return if session.media.len() == 1 { Ok(0) } else { problem(format!("mediaId is not there: {}", legal())) };
    };
    match session.media.iter().position(|medium| medium.mid == media_id) {
        Some(camera) => Ok(camera),
        None => {
            let shown: String = media_id.chars().take(32).collect();
            problem(format!("mediaId = {shown:?}: {}", legal()))
        }
    }
}

fn asked(request: LayerRequest, feed: &Feed) -> Result<Asked, Problem> {
    let problem = |detail: String| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    let highest = u8::try_from(feed.layers().saturating_sub(1)).unwrap_or(u8::MAX);
    let encoding = match request.encoding_id {
        None => None,
        Some(text) => match text.parse::<u8>().ok().filter(|layer| *layer <= highest) {
            Some(layer) => Some(layer),
            None => {
                let shown: String = text.chars().take(32).collect();
                return problem(format!("encodingId = {shown:?}: must be \"0\" to \"{highest}\""));
            }
        },
    };
    let spatial = [encoding, request.spatial_layer_id, request.max_spatial_layer_id].into_iter().flatten().min();
    let temporal = [request.temporal_layer_id, request.max_temporal_layer_id].into_iter().flatten().min();
    let preferred = (spatial.is_some() || temporal.is_some()).then(|| PreferredLayers {
        spatial: spatial.unwrap_or(highest).min(highest),
        temporal: temporal.map(|temporal| temporal.min(HIGHEST_TEMPORAL)),
    });
    // Whoever says nothing of layers wants the best, unless it is about something else.
    let is_about_layers = preferred.is_some() || request.paused.is_none();
    Ok(Asked { preferred: is_about_layers.then_some(preferred), paused: request.paused })
}

/// One spatial layer as the event and the API tell it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LayerView {
    /// What a viewer asks for it by.
    pub(super) id: usize,
    pub(super) active: bool,
    pub(super) width: Option<u32>,
    pub(super) height: Option<u32>,
    pub(super) bits_per_second: u64,
}

/// The spatial layers of a feed, the smallest first.
pub(super) fn views(feed: &Feed) -> Vec<LayerView> {
    let view = |id, active, size: Option<Resolution>, bitrate: Bitrate| LayerView {
        id,
        active,
        width: size.map(Resolution::width),
        height: size.map(Resolution::height),
        bits_per_second: bitrate.as_bps(),
    };
    match feed {
        Feed::Camera(camera) => {
            let layers = camera.track().stats().layers;
            let active = |layer: &LayerStats| layer.target_bitrate > Bitrate::ZERO;
            let layers = layers.iter().enumerate();
            layers.map(|(id, layer)| view(id, active(layer), layer.resolution, layer.bitrate)).collect()
        }
        Feed::Stream(stream) => {
            let layers = stream.layers();
            let layers = layers.iter().enumerate();
            layers.map(|(id, layer)| view(id, layer.counted.sending, layer.counted.resolution, layer.bitrate)).collect()
        }
    }
}

/// The data of the event `layers`: by the video's `mid`, what can be asked for.
pub(super) fn event_data(mid: &str, views: &[LayerView]) -> Value {
    let entry = |view: &LayerView| {
        json!({
            "id": view.id.to_string(),
            "simulcastIdx": view.id,
            "bitrate": view.bits_per_second,
            "width": view.width,
            "height": view.height,
        })
    };
    let layer = |view: &LayerView| {
        let mut layer = entry(view);
        layer["encodingId"] = json!(view.id.to_string());
        layer
    };
    json!({
        mid: {
            "active": views.iter().filter(|view| view.active).map(entry).collect::<Vec<_>>(),
            "inactive": views.iter().filter(|view| !view.active).map(entry).collect::<Vec<_>>(),
            "layers": views.iter().filter(|view| view.active).map(layer).collect::<Vec<_>>(),
        }
    })
}
