//! How the bandwidth is shared, `/api/v1/allocation`: to read, to change, and to follow.
//!
//! | request | answer |
//! |---|---|
//! | `GET` | 200 |
//! | `PUT` what is to change: `{"version": 3, "totalKbps": 3000, "cameras": {"front": {"weight": 4}}}` | 200, as `GET` |
//! | `GET` of `/events` | server-sent events: `allocation`, with what `GET` says, at once and after each change |
//!
//! **Invariant.** A `PUT` is checked as a whole and changes all that it names or nothing. What it does not name stays.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use axum::{Json, Router};
use futures_core::Stream;
use lenscast_encoder::BITRATES;
use lenscast_media::{Bitrate, Resolution};
use lenscast_sender::{AllottedTrack, SetAllocationError, ShareChange, ShareState, WEIGHTS};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior};

use super::events::unbuffered;
use super::places::{NoPlace, Place};
use super::resource::{require_type, whole_within};
use super::{App, Problem};
use crate::allocation::{AllocateError, AllocationChange, overhead_of, shown};
use crate::camera::Camera;
use crate::config::{TOTAL_KBPS, needed};

const JSON: &str = "application/json";

/// All that the largest number of cameras needs takes half of it.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Streams of events at once: as many as there are viewers by default. Each holds a connection and is told of each change.
pub(super) const MAX_STREAMS: usize = 1_000;

/// Streams of events of one network: a few people's pages, all that there are of them behind a proxy.
pub(super) const MAX_STREAMS_OF_ONE: usize = 32;

/// How often a stream looks whether there is something to tell: so it tells at most ten times a second.
const PERIOD: Duration = Duration::from_millis(100);

/// When to try again, if there are too many streams or the server stops.
const RETRY: Duration = Duration::from_secs(5);

/// Routes below the server's root.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/allocation", get(show).put(change).options(async || StatusCode::OK))
        .route("/api/v1/allocation/events", get(events).options(async || StatusCode::OK))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

async fn show(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    describe(&app).map(Json)
}

async fn change(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    require_type(&headers, JSON)?;
    let body = whole_within(body, MAX_BODY_BYTES)?;
    let Object(request): Object<ChangeRequest> = serde_json::from_slice(&body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("cannot be read: {}", shown(&error.to_string())))
    })?;
    let change = request.checked().map_err(|problems| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, problems))?;
    app.agent.allocate(change, peer, caller(&headers)).await.map_err(|error| {
        let detail = error.to_string();
        match error {
            AllocateError::Refused(SetAllocationError::Conflict { current, .. }) => {
                Problem::new(StatusCode::CONFLICT, detail).version(current)
            }
            AllocateError::Refused(SetAllocationError::Closed(_)) => stopping(),
            // A camera was there and has just been ended by a reload.
            AllocateError::Refused(SetAllocationError::UnknownTrack(_)) => Problem::new(StatusCode::CONFLICT, detail),
            AllocateError::UnknownCamera { .. }
            | AllocateError::Share { .. }
            | AllocateError::NothingPositive
            | AllocateError::Refused(_) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            AllocateError::Encoder { .. } | AllocateError::Panicked => {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
        }
    })?;
    describe(&app).map(Json)
}

async fn events(State(app): State<Arc<App>>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Result<Response, Problem> {
    let place = app.allocation_streams.take(peer.ip()).map_err(|none| {
        let detail = match none {
            NoPlace::All(there) => format!("there are {there} streams of these events already: ask by GET"),
            NoPlace::OfThisNetwork(there) => {
                format!("your address has {there} streams of these events already: ask by GET")
            }
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY)
    })?;
    let mut interval = tokio::time::interval(PERIOD);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = AllocationEvents { app, interval, told: None, _place: place };
    Ok(unbuffered(Sse::new(events).keep_alive(KeepAlive::default())))
}

/// What holds now.
fn describe(app: &App) -> Result<Value, Problem> {
    let report = app.agent.allocation().map_err(|_| stopping())?;
    let cameras = app.agent.cameras();
    let described = cameras.iter().filter_map(|camera| {
        // Without it, the camera is just being ended.
        let allotted = report.tracks.iter().find(|allotted| allotted.track == camera.track().id())?;
        Some(describe_camera(camera, allotted))
    });
    Ok(json!({
        "version": report.version,
        "totalKbps": (report.limit != Bitrate::UNLIMITED).then(|| kbps(report.limit)),
        "overheadKbps": kbps(overhead_of(&report)),
        "audioKbps": kbps(report.audio),
        "cameras": described.collect::<Vec<_>>(),
    }))
}

fn describe_camera(camera: &Camera, allotted: &AllottedTrack) -> Value {
    let stats = camera.track().stats();
    let width = |size: Option<Resolution>| size.map(Resolution::width);
    let height = |size: Option<Resolution>| size.map(Resolution::height);
    let layers = stats.layers.iter().map(|layer| {
        json!({
            "targetKbps": kbps(layer.target_bitrate),
            "actualKbps": kbps(layer.bitrate),
            "framesPerSecond": layer.frames_per_second,
            "frameWidth": width(layer.resolution),
            "frameHeight": height(layer.resolution),
        })
    });
    json!({
        "name": camera.config().name,
        "weight": number(allotted.share.weight),
        "minKbps": kbps(allotted.share.min),
        "maxKbps": kbps(allotted.share.max),
        "enforceMin": allotted.share.enforced,
        // What its minimum takes with headers, if it were alone.
        "needsKbps": kbps(needed(allotted.share.min, camera.config().settings.framerate)),
        "targetKbps": kbps(allotted.target),
        "actualKbps": kbps(stats.bitrate),
        "state": state_name(allotted.state),
        "qualityLimitationReason": stats.quality_limitation.reason.as_str(),
        "framesPerSecond": stats.frames_per_second,
        "frameWidth": width(stats.resolution),
        "frameHeight": height(stats.resolution),
        "layers": layers.collect::<Vec<_>>(),
    })
}

pub(super) const fn state_name(state: ShareState) -> &'static str {
    match state {
        ShareState::Allocated => "allocated",
        ShareState::Paused => "paused",
        ShareState::Inactive => "inactive",
    }
}

fn kbps(bitrate: Bitrate) -> Value {
    number(bitrate.as_bps() as f64 / 1e3)
}

/// A number, written without a point if it is whole.
fn number(value: f64) -> Value {
    // Beyond that not every whole number can be told from its neighbours.
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

fn stopping() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping").retry_after(RETRY)
}

/// What the caller says that it is: the page's origin, or the program.
fn caller(headers: &HeaderMap) -> String {
    let said = headers.get(header::ORIGIN).or_else(|| headers.get(header::USER_AGENT));
    said.map_or_else(|| "unknown".to_owned(), |said| shown(&said.as_bytes().escape_ascii().to_string()))
}

/// What a `PUT` says. Values are looked at one by one, so that each that is wrong is named.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChangeRequest {
    #[serde(default, deserialize_with = "present")]
    version: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    total_kbps: Option<Value>,
    #[serde(default)]
    cameras: CameraChanges,
}

#[derive(Debug, Default)]
struct CameraChanges(BTreeMap<String, CameraChange>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CameraChange {
    #[serde(default, deserialize_with = "present")]
    weight: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    min_kbps: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    max_kbps: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    enforce_min: Option<Value>,
}

/// A structure that is written as an object, and not as an array of its members' values, which is read otherwise.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// Tells `null` from what is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for CameraChanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;

        impl<'de> Visitor<'de> for ByName {
            type Value = CameraChanges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a camera's name for each of its keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CameraChanges, A::Error> {
                let mut changes = BTreeMap::new();
                while let Some((name, Object(change))) = map.next_entry::<String, Object<CameraChange>>()? {
                    let name_again = format!("camera {:?} is there twice", shown(&name));
                    if changes.insert(name, change).is_some() {
                        return Err(A::Error::custom(name_again));
                    }
                }
                Ok(CameraChanges(changes))
            }
        }

        deserializer.deserialize_map(ByName)
    }
}

impl ChangeRequest {
    /// What can be asked for. Else everything that is wrong.
    fn checked(self) -> Result<AllocationChange, String> {
        let mut problems = Vec::new();
        let expected_version = self.version.and_then(|version| {
            let number = version.as_u64();
            if number.is_none() {
                problems.push(format!("version = {}: must be one that was answered", shown(&version.to_string())));
            }
            number
        });
        let limit = match self.total_kbps {
            Some(Value::Null) => Some(Bitrate::UNLIMITED),
            Some(total) => {
                let (least, most) = (*TOTAL_KBPS.start() as f64, *TOTAL_KBPS.end() as f64);
                let total = within(&total, least, most);
                total.map(bitrate).map_err(|problem| problems.push(format!("totalKbps = {problem}, or null"))).ok()
            }
            None => None,
        };
        let shares = self.cameras.0.into_iter().map(|(name, change)| {
            let mut field = |field: &str, value: Option<Value>, (least, most): (f64, f64)| {
                let value = within(&value?, least, most);
                value.map_err(|problem| problems.push(format!("camera {:?}: {field} = {problem}", shown(&name)))).ok()
            };
            let bounds = (BITRATES.start().as_kbps() as f64, BITRATES.end().as_kbps() as f64);
            let weight = field("weight", change.weight, (*WEIGHTS.start(), *WEIGHTS.end()));
            let min = field("minKbps", change.min_kbps, bounds).map(bitrate);
            let max = field("maxKbps", change.max_kbps, bounds).map(bitrate);
            let enforced = change.enforce_min.and_then(|value| {
                if !value.is_boolean() {
                    let (name, value) = (shown(&name), shown(&value.to_string()));
                    problems.push(format!("camera {name:?}: enforceMin = {value}: must be true or false"));
                }
                value.as_bool()
            });
            let change = ShareChange { weight, min, max, enforced };
            (name, change)
        });
        let change = AllocationChange { expected_version, limit, shares: shares.collect() };
        if problems.is_empty() { Ok(change) } else { Err(problems.join("\n")) }
    }
}

/// The number, or itself and what is legal.
fn within(value: &Value, least: f64, most: f64) -> Result<f64, String> {
    let number = value.as_f64().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{}: must be {least} to {most}", shown(&value.to_string())))
}

fn bitrate(kbps: f64) -> Bitrate {
    Bitrate::from_bps((kbps * 1e3).round() as u64)
}

/// Tells one listener how the bandwidth is shared. Ends when the server stops.
struct AllocationEvents {
    app: Arc<App>,
    interval: Interval,
    /// What [`crate::agent::Agent::allocation_changes`] said when it was last told.
    told: Option<(u64, u64)>,
    _place: Place,
}

impl Stream for AllocationEvents {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            std::task::ready!(self.interval.poll_tick(context));
            if self.app.agent.is_stopping() {
                return Poll::Ready(None);
            }
            // Before what is told, so that what changes meanwhile is told the next time.
            let changes = self.app.agent.allocation_changes();
            if self.told.replace(changes) == Some(changes) {
                continue;
            }
            let Ok(allocation) = describe(&self.app) else { return Poll::Ready(None) };
            return Poll::Ready(Some(Ok(Event::default().event("allocation").data(allocation.to_string()))));
        }
    }
}
