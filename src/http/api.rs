//! The API, `/api/v1`: cameras with their settings and statistics, and what a viewer's page needs to know of its session.
//! Statistics bear W3C's names (webrtc-stats) where it has them, and the README says which are ours; times are seconds,
//! latencies milliseconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use lenscast_capture::{SourceConfig, SourceState};
use lenscast_media::{Bitrate, Codec, HistogramSnapshot, Resolution};
use lenscast_router::TransportId;
use lenscast_sender::{Health, LayerStats, TrackState};
use lenscast_transport::{SessionConsumer, SessionStats, TransportStats};
use serde::Deserialize;
use serde_json::{Value, json};

use super::layer::{self, LayerView};
use super::resource::Protocol;
use super::{App, Problem, viewers};
use crate::camera::Camera;
use crate::config::StreamSource;
use crate::feed::Feed;
use crate::stream::{Stream, StreamLayer};

/// Routes below the server's root.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/cameras", get(cameras))
        .route("/api/v1/cameras/{name}", get(camera))
        .route("/api/v1/sessions/{secret}", get(session))
}

/// How much to tell of the cameras.
#[derive(Debug, Clone, Copy, Deserialize)]
struct CamerasQuery {
    #[serde(default)]
    viewers: ViewersDetail,
}

/// How much to tell of a camera's viewers.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ViewersDetail {
    /// Each with its statistics.
    #[default]
    List,
    /// How many they are. What a page asks for: a list that every viewer reads grows with their number's square, and who
    /// the others are is none of a viewer's business.
    Count,
}

async fn cameras(
    State(app): State<Arc<App>>,
    query: Result<Query<CamerasQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let stats = app.stats().await;
    let feeds = app.agent.feeds();
    let named = |producer| feeds.iter().any(|feed| feed.producers().contains(&producer));
    app.recent_latency.retain(named);
    let described = feeds.iter().map(|feed| {
        let mut description = describe(&app, feed, &stats);
        if let (ViewersDetail::Count, Value::Object(fields)) = (query.viewers, &mut description) {
            fields.remove("viewers");
        }
        description
    });
    Ok(Json(json!({ "cameras": described.collect::<Vec<_>>() })))
}

async fn camera(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let feed = app.feed(&name)?;
    let stats = app.stats().await;
    Ok(Json(describe(&app, &feed, &stats)))
}

/// What a viewer's page turns its frames' RTP timestamps into capture times with, and what we see of it.
async fn session(State(app): State<Arc<App>>, Path(secret): Path<String>) -> Result<Json<Value>, Problem> {
    let gone = || Problem::new(StatusCode::NOT_FOUND, "no such session");
    let session = app.sessions.find_any(&secret).ok_or_else(gone)?;
    let stats = app.agent.transport().session_stats(session.transport).await;
    let wall = app.agent.transport().wall_clock();
    let media = session.media.iter().enumerate().map(|(camera, medium)| {
        let mut consumers = stats.iter().flat_map(|stats| &stats.consumers);
        let consumer = consumers.find(|consumer| consumer.camera == Some(camera));
        let clock = consumer.and_then(|consumer| {
            let unix_ms = wall.unix_at(consumer.read_at).as_secs_f64() * 1e3;
            Some(json!({ "rtpTimestamp": consumer.rtp_clock?, "unixMs": unix_ms }))
        });
        json!({
            "mediaId": medium.mid,
            "camera": medium.stream,
            "layer": medium.preferred.map(|layers| layers.spatial),
            "paused": medium.paused,
            // Its source has ended, while others of the session go on.
            "ended": session.protocol == Protocol::Whep && stats.is_some() && consumer.is_none(),
            // The capture clock's reading at some instant, and the stream's RTP timestamp at that instant.
            "captureClock": clock,
            "stats": consumer.map(consumer_stats),
        })
    });
    let media: Vec<_> = media.collect();
    let state = if stats.as_ref().is_some_and(|stats| stats.connected.is_some()) { "connected" } else { "connecting" };
    let mut view = json!({
        "state": state,
        // The capture clock now: what a page needs to know how far its own is off.
        "nowUnixMs": wall.unix_at(Instant::now()).as_secs_f64() * 1e3,
        "connection": stats.as_ref().map_or(Value::Null, |stats| viewers::own_connection(&app, stats)),
    });
    // Of a session's only camera the same stands beside that.
    if let [only] = &media[..] {
        for key in ["camera", "layer", "captureClock", "stats"] {
            view[key] = only[key].clone();
        }
    }
    view["media"] = json!(media);
    Ok(Json(view))
}

/// The state of a camera or a stream and why, for `/readyz` and the API.
pub(super) fn state_of_feed(feed: &Feed) -> Value {
    match feed {
        Feed::Camera(camera) => state_of(camera),
        Feed::Stream(stream) => {
            let status = stream.status(Instant::now());
            let mut state = json!({ "state": status.state.name(), "sinceSeconds": status.since.as_secs_f64() });
            if let Some(reason) = status.reason {
                state["reason"] = json!(reason);
            }
            state
        }
    }
}

/// A camera's state and why, for `/readyz` and the API.
pub(super) fn state_of(camera: &Camera) -> Value {
    match camera.source_status().state {
        SourceState::Live { .. } if camera.is_paused() => {
            json!({ "state": "paused", "reason": "it is held up here" })
        }
        SourceState::Live { .. } => match camera.health() {
            Health::Failed(reason) => json!({ "state": "failed", "reason": reason }),
            Health::Stalled(silent) => {
                let reason = format!("no frame was encoded for {} s", silent.as_secs());
                json!({ "state": "stalled", "reason": reason, "sinceSeconds": silent.as_secs_f64() })
            }
            Health::Idle | Health::Starting | Health::Encoding => json!({ "state": "live" }),
        },
        SourceState::Degraded { reason, since } => {
            json!({ "state": "degraded", "reason": reason, "sinceSeconds": since.elapsed().as_secs_f64() })
        }
        SourceState::Stopped => json!({ "state": "stopped" }),
        _ => json!({ "state": "starting" }),
    }
}

fn describe(app: &App, feed: &Feed, stats: &TransportStats) -> Value {
    let name = feed.name();
    let viewers = viewers_of(feed, &stats.sessions);
    let mut description = state_of_feed(feed);
    let mut fields = match feed {
        Feed::Camera(camera) => describe_camera(app, camera),
        Feed::Stream(stream) => describe_stream(stream),
    };
    let common = json!({
        "name": name,
        "kind": feed.kind(),
        "live": feed.is_live(),
        "paused": feed.is_paused(),
        "whep": format!("/whep/{name}"),
        "codec": feed.codec().map(Codec::encoding_name),
        "layers": layer::views(feed).iter().map(layer_of).collect::<Vec<_>>(),
        "viewerCount": viewers.len(),
        "viewers": viewers,
        "timestamp": SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |unix| unix.as_secs_f64() * 1e3),
    });
    if let (Value::Object(into), Value::Object(fields), Value::Object(common)) = (&mut description, &mut fields, common)
    {
        into.extend(std::mem::take(fields));
        into.extend(common);
    }
    description
}

fn describe_camera(app: &App, camera: &Camera) -> Value {
    let total = camera.stages().named().map(|(name, histogram)| (name, histogram.snapshot()));
    let recent = app.recent_latency.read(camera.producer(), camera.stages(), Instant::now());
    json!({
        "source": source(&camera.config().source),
        "encoder": encoder(camera),
        "stats": camera_stats(camera),
        // Since the start, and in the last ten to twenty seconds.
        "latencyMs": latency(&total),
        "recentLatencyMs": latency(&recent),
    })
}

/// What is known of a stream that comes in, as `inbound-rtp` has it.
fn describe_stream(stream: &Stream) -> Value {
    let config = stream.config();
    let layers = stream.layers();
    let sum = |count: fn(&StreamLayer) -> u64| layers.iter().map(count).sum::<u64>();
    let fastest = layers.iter().map(|layer| layer.frames_per_second).fold(0.0, f64::max);
    let largest = layers.iter().rev().find_map(|layer| layer.counted.resolution);
    let source = match &config.source {
        StreamSource::Whip(_) => json!({ "kind": "whip", "whip": format!("/whip/{}", config.name) }),
        StreamSource::Rtp(rtp) => json!({ "kind": "rtp", "listen": rtp.listen.to_string() }),
        StreamSource::Pull(pull) => json!({ "kind": "pull", "url": pull.url, "stream": pull.stream }),
    };
    json!({
        "source": source,
        "stats": {
            "packetsReceived": sum(|layer| layer.counted.packets),
            "bytesReceived": sum(|layer| layer.counted.bytes),
            "framesReceived": sum(|layer| layer.counted.frames),
            "keyFramesReceived": sum(|layer| layer.counted.key_frames),
            "bitrate": sum(|layer| layer.bitrate.as_bps()),
            "framesPerSecond": fastest,
            "frameWidth": largest.map(Resolution::width),
            "frameHeight": largest.map(Resolution::height),
        },
    })
}

/// What can be asked for by `?layer=` and WHEP's layer selection.
fn layer_of(view: &LayerView) -> Value {
    json!({
        "id": view.id.to_string(),
        "active": view.active,
        "frameWidth": view.width,
        "frameHeight": view.height,
        "bitrate": view.bits_per_second,
    })
}

fn source(source: &SourceConfig) -> Value {
    match source {
        SourceConfig::Pattern { resolution, rate } => {
            json!({ "kind": "pattern", "resolution": resolution.to_string(), "fps": rate.as_f64() })
        }
        SourceConfig::File { path, .. } => json!({ "kind": "file", "file": path.display().to_string() }),
        SourceConfig::Camera(device) => json!({ "kind": "device", "device": device.selector.to_string() }),
    }
}

/// How a camera is encoded and what bounds it, as `outbound-rtp` has it, and each spatial layer with its own.
fn encoder(camera: &Camera) -> Value {
    let settings = &camera.config().settings;
    let (stats, health) = (camera.track().stats(), camera.health());
    let scalability = settings.temporal_layers.to_string();
    let limitation = &stats.quality_limitation;
    let layers = stats.layers.iter().enumerate().map(|(rid, layer)| encoder_layer(rid, layer, &scalability));
    json!({
        "backend": settings.backend.to_string(),
        "mimeType": format!("video/{}", settings.backend.codec()),
        "scalabilityMode": scalability,
        "health": match health {
            Health::Idle => "idle",
            Health::Starting => "starting",
            Health::Encoding => "encoding",
            Health::Stalled(_) => "stalled",
            Health::Failed(_) => "failed",
        },
        "targetBitrate": stats.target_bitrate.as_bps(),
        "bitrate": stats.bitrate.as_bps(),
        "framesPerSecond": stats.frames_per_second,
        "totalEncodeTime": stats.total_encode_time.as_secs_f64(),
        "qualityLimitationReason": limitation.reason.as_str(),
        "qualityLimitationDurations": {
            "none": limitation.none.as_secs_f64(),
            "cpu": limitation.cpu.as_secs_f64(),
            "bandwidth": limitation.bandwidth.as_secs_f64(),
            "other": limitation.other.as_secs_f64(),
        },
        "qualityLimitationResolutionChanges": limitation.resolution_changes,
        "layers": layers.collect::<Vec<_>>(),
    })
}

fn encoder_layer(rid: usize, layer: &LayerStats, scalability: &str) -> Value {
    json!({
        // As a simulcast stream is called (RFC 8851); 0 is the smallest, as in `?layer=`.
        "rid": rid.to_string(),
        "scalabilityMode": scalability,
        "active": layer.target_bitrate > Bitrate::ZERO,
        "targetBitrate": layer.target_bitrate.as_bps(),
        "bitrate": layer.bitrate.as_bps(),
        "framesPerSecond": layer.frames_per_second,
        "frameWidth": layer.resolution.map(Resolution::width),
        "frameHeight": layer.resolution.map(Resolution::height),
        "framesEncoded": layer.frames_encoded,
        "keyFramesEncoded": layer.key_frames_encoded,
        "framesDroppedByEncoder": layer.frames_dropped_by_encoder,
        "qpSum": layer.qp_sum,
        "bytesEncoded": layer.bytes_encoded,
    })
}

/// What a source and an encoder did, as `media-source` and `outbound-rtp` have it.
fn camera_stats(camera: &Camera) -> Value {
    let status = camera.source_status();
    let track = camera.track().stats();
    let (width, height) = track.resolution.map_or((None, None), |size| (Some(size.width()), Some(size.height())));
    let frames_per_second = match status.state {
        SourceState::Live { frames_per_second, .. } => Some(frames_per_second),
        _ => None,
    };
    let source_size = match status.state {
        SourceState::Live { resolution, .. } => Some(resolution.to_string()),
        _ => None,
    };
    json!({
        "frames": status.counters.frames,
        "framesPerSecond": frames_per_second,
        "sourceResolution": source_size,
        "framesCorrupt": status.counters.corrupt,
        "framesMissed": status.counters.missed,
        "framesEvicted": status.counters.evicted,
        "stalls": status.counters.stalls,
        "reconnects": status.counters.reconnects,
        "frameWidth": width,
        "frameHeight": height,
        "framesEncoded": track.frames_encoded,
        "keyFramesEncoded": track.key_frames_encoded,
        "framesDroppedByEncoder": track.frames_dropped_by_encoder,
        "framesDroppedByAdaptation": track.frames_dropped_by_adaptation,
        "framesUnwanted": track.frames_unwanted,
        "framesFailed": track.frames_failed,
        "encodersBuilt": track.encoders_built,
        "burstsRefused": track.bursts_refused,
        "qpSum": track.qp_sum,
        "totalEncodeTime": track.total_encode_time.as_secs_f64(),
        "bytesEncoded": track.bytes_encoded,
        "packetsEncoded": track.packets,
        "active": track.state == TrackState::Active,
    })
}

fn latency(stages: &[(&str, HistogramSnapshot)]) -> Value {
    let millis = |snapshot: &HistogramSnapshot, q| snapshot.quantile(q).map(|span| span.as_secs_f64() * 1e3);
    let stages = stages.iter().map(|(name, snapshot)| {
        (*name, json!({ "p50": millis(snapshot, 0.5), "p95": millis(snapshot, 0.95), "count": snapshot.count() }))
    });
    json!(stages.collect::<BTreeMap<_, _>>())
}

fn viewers_of(feed: &Feed, sessions: &[SessionStats]) -> Vec<Value> {
    let producers = feed.producers();
    // Its audio is no viewer of its own.
    let is_video = |consumer: &SessionConsumer| producers.first() == Some(&consumer.producer);
    let all = sessions.iter().flat_map(|session| session.consumers.iter().map(move |consumer| (session, consumer)));
    all.filter(|(_, consumer)| is_video(consumer)).map(|(session, consumer)| viewer(session, consumer)).collect()
}

fn viewer(session: &SessionStats, consumer: &SessionConsumer) -> Value {
    let TransportId(id) = session.id;
    json!({
        "id": id,
        "state": if session.connected.is_some() { "connected" } else { "connecting" },
        "remote": session.remote.map(|remote| remote.to_string()),
        "srtp": session.profile.map(|profile| format!("{profile:?}")),
        "layer": consumer.layer,
        "ageSeconds": session.created.elapsed().as_secs_f64(),
        "stats": consumer_stats(consumer),
    })
}

/// What one viewer was sent and reports, as `outbound-rtp` and `remote-inbound-rtp` have it.
fn consumer_stats(consumer: &SessionConsumer) -> Value {
    let stats = &consumer.stats;
    json!({
        "packetsSent": stats.packets_sent,
        "bytesSent": stats.bytes_sent,
        "framesSent": stats.frames_sent,
        "retransmittedPacketsSent": stats.retransmitted_packets_sent,
        "retransmittedBytesSent": stats.retransmitted_bytes_sent,
        "retransmissionsRefused": stats.retransmissions_refused,
        "nackCount": stats.nack_count,
        "pliCount": stats.pli_count,
        "firCount": stats.fir_count,
        "framesDropped": stats.frames_dropped,
        "fractionLost": stats.fraction_lost,
        "packetsLost": stats.packets_lost,
        "jitter": stats.jitter.map(|jitter| jitter.as_secs_f64()),
        "roundTripTime": stats.round_trip_time.map(|time| time.as_secs_f64()),
    })
}
