//! What viewers' connections carry, `/api/v1/viewers`: one estimate for each connection, whatever number of cameras goes over it,
//! and what each camera gets of it.
//!
//! | `GET` | |
//! |---|---|
//! | `/api/v1/viewers` | all of them, in the order in which they came |
//! | `/api/v1/viewers?thinnest=8` | those whose connections carry least, without their addresses: what a page shows |
//!
//! W3C's names (webrtc-stats, `candidate-pair` and `outbound-rtp`) where it has them; the README says which are ours. Bitrates
//! are bits, times seconds. A viewer that does not tell which packets have come has no `connection`.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use lenscast_media::Bitrate;
use lenscast_router::{ProducerId, TransportId};
use lenscast_transport::{LegMedia, LegReport, LegStats, SessionStats};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, Problem};
use crate::uplink::{PlannedStream, PlannedViewer};

/// Routes below the server's root.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/viewers", get(viewers))
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewersQuery {
    thinnest: Option<usize>,
}

/// The names of what is shown.
struct Names(Vec<(ProducerId, String)>);

async fn viewers(
    State(app): State<Arc<App>>,
    query: Result<Query<ViewersQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let stats = app.stats().await;
    let names = Names::of(&app);
    let mut shown: Vec<&SessionStats> = stats.sessions.iter().filter(|session| names.is_viewer(session)).collect();
    let count = shown.len();
    if let Some(thinnest) = query.thinnest {
        shown.retain(|session| session.leg.is_some());
        shown.sort_by_key(|session| (session.leg.as_ref().map(|leg| leg.estimate.target), session.id));
        shown.truncate(thinnest);
    }
    let planned = app.agent.uplink().planned();
    let viewers = shown.into_iter().map(|session| {
        let TransportId(id) = session.id;
        let connection = session.leg.as_ref().map(|leg| {
            let mut connection = connection(leg, planned.viewer(session.id), &names);
            connection["counted"] = json!(session.leg_stats.map(counted));
            connection
        });
        let mut viewer = json!({
            "id": id,
            "state": if session.connected.is_some() { "connected" } else { "connecting" },
            "ageSeconds": session.created.elapsed().as_secs_f64(),
            "connection": connection,
        });
        if query.thinnest.is_none() {
            viewer["remote"] = json!(session.remote.map(|remote| remote.to_string()));
        }
        viewer
    });
    let uplink = app.agent.uplink().config();
    Ok(Json(json!({
        "maxUplinkKbps": uplink.max.map(Bitrate::as_kbps),
        "startKbps": uplink.start.as_kbps(),
        "viewerCount": count,
        "viewers": viewers.collect::<Vec<_>>(),
    })))
}

/// What one session's own connection carries; nothing while that is not known.
pub(super) fn own_connection(app: &App, session: &SessionStats) -> Value {
    let planned = app.agent.uplink().planned();
    session.leg.as_ref().map_or(Value::Null, |leg| connection(leg, planned.viewer(session.id), &Names::of(app)))
}

fn connection(leg: &LegReport, planned: Option<&PlannedViewer>, names: &Names) -> Value {
    let bps = |bitrate: Bitrate| (bitrate != Bitrate::UNLIMITED).then(|| bitrate.as_bps());
    let estimate = &leg.estimate;
    let cameras = leg.media.iter().filter_map(|media| {
        let planned = planned.and_then(|planned| planned.media.get(&media.consumer));
        Some(camera(names.name(media.producer)?, media, planned))
    });
    json!({
        "availableOutgoingBitrate": estimate.target.as_bps(),
        "confirmed": leg.is_confirmed,
        "currentRoundTripTime": estimate.round_trip.map(|time| time.as_secs_f64()),
        "fractionLost": estimate.loss,
        "queueDelay": estimate.queue_delay.as_secs_f64(),
        "applicationLimited": estimate.application_limited,
        "pacingBitrate": bps(estimate.pacing),
        "sendBitrate": leg.sending.as_bps(),
        "pacerQueueDelay": leg.pacer_queue.as_secs_f64(),
        "uplinkLimit": planned.and_then(|planned| bps(planned.limit)),
        "wantedBitrate": planned.and_then(|planned| bps(planned.wanted)),
        "targetBitrate": planned.map(|planned| targets(planned).as_bps()),
        "cameras": cameras.collect::<Vec<_>>(),
    })
}

/// What has happened on a connection since it began.
fn counted(stats: LegStats) -> Value {
    json!({
        "feedbackReceived": stats.feedback_received,
        "feedbackMalformed": stats.feedback_malformed,
        "feedbackRefused": stats.feedback_refused,
        "probes": stats.probes,
        "overflows": stats.overflows,
        "packetsDropped": stats.packets_dropped,
    })
}

fn camera(name: &str, media: &LegMedia, planned: Option<&PlannedStream>) -> Value {
    let highest = |spatial: u8| (spatial != u8::MAX).then_some(spatial);
    json!({
        "name": name,
        "layer": media.layer,
        "paused": media.paused,
        "preferredLayer": highest(media.preferred.spatial),
        "targetBitrate": planned.map(|planned| planned.share.as_bps()),
        // Its connection carries too little for it.
        "held": planned.is_some_and(|planned| planned.layers.is_none()),
        "highestLayer": planned.and_then(|planned| planned.layers).and_then(|layers| highest(layers.spatial)),
    })
}

/// What a viewer's cameras are to take together, without headers.
pub(super) fn targets(planned: &PlannedViewer) -> Bitrate {
    let shares = planned.media.values().map(|stream| stream.share.as_bps());
    Bitrate::from_bps(shares.fold(0, u64::saturating_add))
}

impl Names {
    fn of(app: &App) -> Self {
        let feeds = app.agent.feeds();
        // The video's is the first: audio has a producer, but no layers.
        Self(feeds.iter().filter_map(|feed| Some((*feed.producers().first()?, feed.name()))).collect())
    }

    fn name(&self, producer: ProducerId) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == producer).map(|(_, name)| name.as_str())
    }

    fn is_viewer(&self, session: &SessionStats) -> bool {
        session.consumers.iter().any(|consumer| self.name(consumer.producer).is_some())
    }
}
