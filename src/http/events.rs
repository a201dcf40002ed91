//! WHEP's server-sent events (draft-ietf-wish-whep §4.9.1): a viewer asks for kinds of events by a POST, and reads them
//! from the address it is given, until it sends a DELETE there.
//!
//! | event | when | data |
//! |---|---|---|
//! | `active`, `inactive` | the camera's pictures come, or cease to, or are held up | `{}` |
//! | `layers` | layers come or go, or change their size | see `layer.rs` |
//! | `viewercount` | the number of the camera's viewers changes | `{"viewercount": n}` |
//! | `reconnect` | the server stops: come again | `{}` |
//!
//! In a session of several cameras, the data of the first two and of `viewercount` have the `mediaId` of the camera's video
//! section and its `stream`; those of `layers` have the `mediaId` for key in any case. A camera that has ended in a session is
//! inactive there for good, whoever sends it next.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::time::Interval;

use super::layer::{self, LayerView};
use super::resource;
use super::sessions::{self, MAX_SUBSCRIPTIONS, Medium};
use super::{App, Problem, whep};

const KINDS: [&str; sessions::KINDS] = ["active", "inactive", "layers", "viewercount", "reconnect"];

/// How often a stream looks whether there is something to tell.
const PERIOD: Duration = Duration::from_millis(500);

pub(super) fn link(session: &str) -> String {
    let events = KINDS.join(",");
    format!("<{session}/events>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\"{events}\"")
}

pub(super) fn subscribe_route() -> MethodRouter<Arc<App>> {
    post(subscribe).options(async || StatusCode::OK)
}

pub(super) fn stream_route() -> MethodRouter<Arc<App>> {
    get(stream).delete(unsubscribe).options(async || StatusCode::OK)
}

async fn subscribe(
    State(app): State<Arc<App>>,
    Path(address): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    whep::session(&app, &address)?;
    let body = resource::whole(body)?;
    let wanted: Vec<String> = if body.is_empty() {
        KINDS.map(str::to_owned).to_vec()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, format!("must be a JSON array of event names: {error}"))
        })?
    };
    let kinds = KINDS.map(|kind| wanted.iter().any(|wanted| wanted == kind));
    if kinds == [false; KINDS.len()] {
        let detail = format!("none of the events is one of {}", KINDS.join(", "));
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let (camera, session) = address;
    let Some(name) = app.sessions.subscribe(&session, kinds) else {
        let detail = format!("a session has {MAX_SUBSCRIPTIONS} subscriptions at most: end one by DELETE");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    };
    let location = format!("/whep/{camera}/{session}/events/{name}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

async fn unsubscribe(
    State(app): State<Arc<App>>,
    Path((camera, session, name)): Path<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    let address = (camera, session);
    whep::session(&app, &address)?;
    if app.sessions.unsubscribe(&address.1, number(&name)?) { Ok(StatusCode::OK) } else { Err(no_subscription()) }
}

async fn stream(
    State(app): State<Arc<App>>,
    Path((camera, session, name)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    let address = (camera, session);
    whep::session(&app, &address)?;
    let subscription = number(&name)?;
    let opened = app.sessions.open_events(&address.1, subscription).ok_or_else(no_subscription)?;
    let interval = tokio::time::interval(PERIOD);
    let (told, stopping) = (Vec::new(), false);
    let events = CameraEvents { app, address, subscription, opened, interval, told, stopping };
    Ok(unbuffered(Sse::new(events).keep_alive(KeepAlive::default())))
}

/// The answer, so that a proxy passes on each event at once: nginx holds back answers else until it has some kilobytes
/// (`X-Accel-Buffering`, ngx_http_proxy_module).
pub(super) fn unbuffered(events: impl IntoResponse) -> Response {
    ([(HeaderName::from_static("x-accel-buffering"), "no")], events).into_response()
}

fn number(name: &str) -> Result<u32, Problem> {
    name.parse().map_err(|_| no_subscription())
}

fn no_subscription() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such subscription")
}

/// What one viewer is told of its cameras. Ends with its session, or its subscription.
struct CameraEvents {
    app: Arc<App>,
    address: (String, String),
    subscription: u32,
    /// Of the streams of this subscription, which: only the newest goes on.
    opened: u32,
    interval: Interval,
    /// By camera.
    told: Vec<Told>,
    /// That has been told.
    stopping: bool,
}

/// What has been told of a camera.
#[derive(Default)]
struct Told {
    live: Option<bool>,
    layers: Option<Vec<LayerView>>,
    viewers: Option<usize>,
}

/// The kinds of events that a camera has.
#[derive(Clone, Copy)]
struct Wanted {
    active: bool,
    inactive: bool,
    layers: bool,
    viewercount: bool,
}

impl CameraEvents {
    /// The next thing that has not been told; `None` if the session or the subscription is gone.
    fn news(&mut self) -> Option<Option<Event>> {
        let kinds = self.app.sessions.subscription(&self.address.1, self.subscription, self.opened)?;
        let [active, inactive, layers, viewercount, reconnect] = kinds;
        // First, since the end of the session follows at once.
        let stopping = self.app.agent.is_stopping();
        if stopping && !std::mem::replace(&mut self.stopping, true) && reconnect {
            return Some(Some(event("reconnect", &json!({}))));
        }
        let session = whep::session(&self.app, &self.address).ok()?;
        // The only camera of a session takes its events with it.
        if session.media.len() == 1 && self.app.agent.feed(&session.media[0].stream).is_none() {
            return None;
        }
        self.told.resize_with(session.media.len(), Told::default);
        let wanted = Wanted { active, inactive, layers, viewercount };
        let is_one_of_several = session.media.len() > 1;
        let mut media = session.media.iter().zip(&mut self.told);
        Some(media.find_map(|(medium, told)| told.news(&self.app, medium, is_one_of_several, wanted)))
    }
}

impl Told {
    /// The next thing that has not been told of a camera.
    fn news(&mut self, app: &App, medium: &Medium, is_one_of_several: bool, wanted: Wanted) -> Option<Event> {
        let data = |fields: Value| {
            let mut data =
                if is_one_of_several { json!({ "mediaId": medium.mid, "stream": medium.stream }) } else { json!({}) };
            if let (Value::Object(data), Value::Object(fields)) = (&mut data, fields) {
                data.extend(fields);
            }
            data
        };
        // What somebody else sends under the name is not in this session.
        let feed = app.agent.feed(&medium.stream);
        let feed = feed.filter(|feed| !is_one_of_several || feed.producers().first() == medium.producer.as_ref());
        let live = feed.as_ref().is_some_and(|feed| feed.is_live() && !feed.is_paused());
        let is_wanted = if live { wanted.active } else { wanted.inactive };
        if self.live.replace(live) != Some(live) && is_wanted {
            return Some(event(if live { "active" } else { "inactive" }, &data(json!({}))));
        }
        let views = feed.filter(|_| wanted.layers).map(|feed| layer::views(&feed));
        if let Some(views) = views.filter(|views| !same_layers(self.layers.as_deref(), views)) {
            let data = layer::event_data(&medium.mid, &views);
            self.layers = Some(views);
            return Some(event("layers", &data));
        }
        let viewers = app.sessions.viewers_of(&medium.stream);
        if self.viewers.replace(viewers) != Some(viewers) && wanted.viewercount {
            return Some(event("viewercount", &data(json!({ "viewercount": viewers }))));
        }
        None
    }
}

/// True if there is nothing new to tell of the layers. Their bitrate is told with the rest, and is no reason by itself.
fn same_layers(told: Option<&[LayerView]>, now: &[LayerView]) -> bool {
    let shape = |view: &LayerView| (view.active, view.width, view.height);
    told.is_some_and(|told| told.iter().map(shape).eq(now.iter().map(shape)))
}

fn event(kind: &str, data: &serde_json::Value) -> Event {
    Event::default().event(kind).data(data.to_string())
}

impl Stream for CameraEvents {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.news() {
                None => return Poll::Ready(None),
                Some(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Some(None) => {}
            }
            std::task::ready!(self.interval.poll_tick(context));
        }
    }
}
