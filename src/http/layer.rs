//! WHEP's layer selection (draft-ietf-wish-whep §4.9.2, `urn:ietf:params:whep:ext:core:layer`): which of a stream's layers a
//! viewer is sent, changed while it plays.
//!
//! | request to the session's `/layer` | |
//! |---|---|
//! | `POST {"encodingId": "0"}` | that spatial layer at most, 0 for the smallest; lower ones where it cannot be had |
//! | `POST {"maxSpatialLayerId": 1, "maxTemporalLayerId": 0}` | at most these |
//! | `POST {}`, `POST null`, `DELETE` | the best there are |
//!
//! A `mediaId` must be the video's. `spatialLayerId` and `temporalLayerId` mean the same as those with `max`: where a layer
//! cannot be had, a lower one is sent rather than nothing.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{MethodRouter, post};
use lenscast_media::{Bitrate, Resolution};
use lenscast_sender::LayerStats;
use lenscast_transport::PreferredLayers;
use serde::Deserialize;
use serde_json::{Value, json};

use super::resource::{self, Address};
use super::sessions::Session;
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
}

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
    let feed = app.feed(&session.stream)?;
    let preferred = preferred(request.unwrap_or_default(), &session, &feed)?;
    prefer(&app, &session, preferred).await
}

async fn release(State(app): State<Arc<App>>, Path(address): Path<Address>) -> Result<StatusCode, Problem> {
    let session = whep::session(&app, &address)?;
    prefer(&app, &session, None).await
}

async fn prefer(app: &App, session: &Session, preferred: Option<PreferredLayers>) -> Result<StatusCode, Problem> {
    // Noted first: what a viewer says before it is connected takes effect once it is.
    app.sessions.prefer(session.transport, preferred);
    let transport = app.agent.transport();
    if transport.set_preferred_layers(session.transport, preferred).await || transport.has_session(session.transport) {
        Ok(StatusCode::OK)
    } else {
        Err(resource::gone())
    }
}

fn preferred(request: LayerRequest, session: &Session, feed: &Feed) -> Result<Option<PreferredLayers>, Problem> {
    let problem = |detail: String| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    if let Some(media) = request.media_id.filter(|media| *media != session.mid) {
        let shown: String = media.chars().take(32).collect();
        return problem(format!("mediaId = {shown:?}: must be {:?}, the video's", session.mid));
    }
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
    if spatial.is_none() && temporal.is_none() {
        return Ok(None);
    }
    Ok(Some(PreferredLayers {
        spatial: spatial.unwrap_or(highest).min(highest),
        temporal: temporal.map(|temporal| temporal.min(HIGHEST_TEMPORAL)),
    }))
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
