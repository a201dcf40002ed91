//! `/metrics` in Prometheus' text format (OpenMetrics). Made anew for each scrape from what is counted anyway, so that the
//! series of a viewer that is gone are gone too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lenscast_capture::SourceState;
use lenscast_media::sync::Mutex;
use lenscast_media::{Bitrate, HistogramSnapshot};
use lenscast_sender::{AllottedTrack, ShareState, TrackStats};
use lenscast_transport::{CloseCause, TransportStats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::App;
use super::allocation::state_name;
use crate::allocation::overhead_of;
use crate::camera::Camera;
use crate::stream::Stream;

/// Sessions that have ended, by cause.
#[derive(Debug, Default)]
pub(super) struct ClosedSessions(Mutex<BTreeMap<&'static str, u64>>);

impl ClosedSessions {
    pub(super) fn count(&self, cause: &CloseCause) {
        *self.0.lock().entry(cause.name()).or_default() += 1;
    }
}

/// Routes below the server's root.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let stats = app.agent.transport().stats().await;
    let mut page = Page::default();
    page.process(&app);
    for camera in app.agent.cameras() {
        page.camera(&camera);
    }
    for stream in app.agent.streams() {
        page.stream(&stream);
    }
    page.allocation(&app);
    page.transport(&app, &stats);
    let mut text = String::new();
    match encode(&mut text, &page.finish()) {
        Ok(()) => {
            const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, KIND)], text).into_response()
        }
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

type Labels = Vec<(&'static str, String)>;

/// Families in the order in which they are first used.
#[derive(Default)]
struct Page {
    registry: Registry,
    counters: BTreeMap<&'static str, Family<Labels, Counter>>,
    seconds: BTreeMap<&'static str, Family<Labels, Counter<f64, std::sync::atomic::AtomicU64>>>,
    gauges: BTreeMap<&'static str, Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>>,
    stages: Stages,
}

impl Page {
    fn finish(mut self) -> Registry {
        self.registry.register_collector(Box::new(self.stages));
        self.registry
    }

    fn counter(&mut self, name: &'static str, help: &'static str, labels: &Labels, value: u64) {
        let family = self.counters.entry(name).or_insert_with(|| {
            let family = Family::default();
            self.registry.register(format!("lenscast_{name}"), help, family.clone());
            family
        });
        family.get_or_create(labels).inc_by(value);
    }

    /// A counter of seconds.
    fn seconds(&mut self, name: &'static str, help: &'static str, labels: &Labels, value: Duration) {
        let family = self.seconds.entry(name).or_insert_with(|| {
            let family = Family::default();
            self.registry.register(format!("lenscast_{name}"), help, family.clone());
            family
        });
        family.get_or_create(labels).inc_by(value.as_secs_f64());
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, labels: &Labels, value: f64) {
        let family = self.gauges.entry(name).or_insert_with(|| {
            let family = Family::default();
            self.registry.register(format!("lenscast_{name}"), help, family.clone());
            family
        });
        family.get_or_create(labels).set(value);
    }

    fn process(&mut self, app: &App) {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        self.gauge("build_info", "Always 1; the version is a label", &version, 1.0);
        let uptime = app.agent.started().elapsed().as_secs_f64();
        self.gauge("uptime_seconds", "Time since the start", &vec![], uptime);
    }

    fn camera(&mut self, camera: &Camera) {
        let name = camera.config().name.clone();
        let labels: Labels = vec![("camera", name.clone())];
        let status = camera.source_status();
        let track = camera.track().stats();
        let healthy = f64::from(u8::from(camera.is_healthy()));
        self.gauge(
            "camera_live",
            "1 while the camera's pictures come, and are encoded if somebody wants them",
            &labels,
            healthy,
        );
        let paused = f64::from(u8::from(camera.is_paused()));
        self.gauge("camera_paused", "1 while the camera is held up here", &labels, paused);
        if let SourceState::Live { frames_per_second, .. } = status.state {
            self.gauge(
                "camera_frames_per_second",
                "Frames a second that the source delivers",
                &labels,
                frames_per_second,
            );
        }
        let source = status.counters;
        for (name, help, value) in [
            ("camera_frames", "Frames that the source delivered", source.frames),
            ("camera_frames_corrupt", "Frames that could not be decoded or had the wrong size", source.corrupt),
            (
                "camera_frames_missed",
                "Frames that the source lost: a device's gaps, or a paced source that was late",
                source.missed,
            ),
            ("camera_frames_evicted", "Frames displaced by a newer one before they were encoded", source.evicted),
            ("camera_stalls", "Times that frames ceased to come without an error", source.stalls),
            ("camera_reconnects", "Times that frames came again", source.reconnects),
            ("track_frames_encoded", "Frames that came out of the encoder", track.frames_encoded),
            ("track_key_frames_encoded", "Key frames among them", track.key_frames_encoded),
            ("track_frames_dropped", "Frames that the encoder's rate control dropped", track.frames_dropped_by_encoder),
            (
                "track_frames_dropped_by_adaptation",
                "Frames left out to keep to the frame rate that the track has stepped down to",
                track.frames_dropped_by_adaptation,
            ),
            ("track_frames_unwanted", "Frames that went by while nobody watched", track.frames_unwanted),
            ("track_frames_failed", "Frames lost to an encoder that failed", track.frames_failed),
            ("track_encoders_built", "Encoders built", track.encoders_built),
            (
                "track_bursts_refused",
                "Frames that did not reach a router thread because it was behind",
                track.bursts_refused,
            ),
            ("track_packets", "RTP packets cut", track.packets),
            ("track_encoded_bytes", "Bytes of bitstream", track.bytes_encoded),
        ] {
            self.counter(name, help, &labels, value);
        }
        self.rates(&name, &track);
        self.stages.0.extend(
            camera.stages().named().into_iter().map(|(stage, histogram)| (name.clone(), stage, histogram.snapshot())),
        );
    }

    /// What a track aims at, makes, and is bounded by.
    fn stream(&mut self, stream: &Stream) {
        let (name, kind) = (stream.name(), stream.config().kind());
        let labels: Labels = vec![("camera", name.clone()), ("kind", kind.to_owned())];
        let live = f64::from(u8::from(stream.is_live(Instant::now())));
        self.gauge("stream_live", "1 while somebody sends the stream and pictures come", &labels, live);
        let paused = f64::from(u8::from(stream.is_paused()));
        self.gauge("stream_paused", "1 while the stream is held up, here or at its origin", &labels, paused);
        for (index, layer) in stream.layers().iter().enumerate() {
            let labels: Labels = vec![("camera", name.clone()), ("layer", index.to_string())];
            for (name, help, value) in [
                ("stream_packets", "RTP packets of the stream's video received from its sender", layer.counted.packets),
                ("stream_bytes", "Their payload bytes", layer.counted.bytes),
                ("stream_frames", "Frames of the stream's video received from its sender", layer.counted.frames),
                ("stream_key_frames", "Key frames among them", layer.counted.key_frames),
            ] {
                self.counter(name, help, &labels, value);
            }
            let help = "Payload bits that came lately";
            self.gauge("stream_bits_per_second", help, &labels, layer.bitrate.as_bps() as f64);
        }
    }

    fn rates(&mut self, camera: &str, track: &TrackStats) {
        let labels: Labels = vec![("camera", camera.to_owned())];
        let bps = |bitrate: Bitrate| bitrate.as_bps() as f64;
        let target = bps(track.target_bitrate);
        self.gauge("track_target_bits_per_second", "What the encoders aim at together", &labels, target);
        let help = "What the encoders make together, lately";
        self.gauge("track_bits_per_second", help, &labels, bps(track.bitrate));
        for (index, layer) in track.layers.iter().enumerate() {
            let labels: Labels = vec![("camera", camera.to_owned()), ("layer", index.to_string())];
            let help = "What the encoder of a spatial layer aims at, 0 for the smallest layer";
            self.gauge("layer_target_bits_per_second", help, &labels, bps(layer.target_bitrate));
            let help = "What the encoder of a spatial layer makes, lately";
            self.gauge("layer_bits_per_second", help, &labels, bps(layer.bitrate));
        }
        let limitation = &track.quality_limitation;
        for (reason, spent) in [
            ("none", limitation.none),
            ("cpu", limitation.cpu),
            ("bandwidth", limitation.bandwidth),
            ("other", limitation.other),
        ] {
            let labels: Labels = vec![("camera", camera.to_owned()), ("reason", reason.to_owned())];
            let help = "Time that somebody wanted the camera, by what bounded its quality";
            self.seconds("track_quality_limitation_seconds", help, &labels, spent);
        }
        let help = "Times that the encoded size changed for what bounds the quality";
        self.counter("track_resolution_changes", help, &labels, limitation.resolution_changes);
    }

    /// How the bandwidth is shared.
    fn allocation(&mut self, app: &App) {
        // Once it has stopped there is none.
        let Ok(report) = app.agent.allocation() else { return };
        let none = vec![];
        let help = "Version of the allocation: counts changes by people, and cameras that came and went";
        self.gauge("allocation_version", help, &none, report.version as f64);
        let overhead = overhead_of(&report).as_bps() as f64;
        let help = "Set aside for headers and retransmissions; 0 while there is no limit";
        self.gauge("allocation_overhead_bits_per_second", help, &none, overhead);
        if report.limit != Bitrate::UNLIMITED {
            let help = "What all cameras together may take; not there without a limit";
            self.gauge("allocation_limit_bits_per_second", help, &none, report.limit.as_bps() as f64);
        }
        for camera in app.agent.cameras() {
            let allotted = report.tracks.iter().find(|allotted| allotted.track == camera.track().id());
            // Without it, the camera is just being ended.
            let Some(AllottedTrack { share, state, .. }) = allotted else { continue };
            let name = &camera.config().name;
            for each in [ShareState::Allocated, ShareState::Paused, ShareState::Inactive] {
                let labels = vec![("camera", name.clone()), ("state", state_name(each).to_owned())];
                let help =
                    "1 for what the allocation makes of the camera: allocated, paused for want of bandwidth, inactive";
                self.gauge("track_allocation_state", help, &labels, f64::from(u8::from(each == *state)));
            }
            let labels: Labels = vec![("camera", name.clone())];
            self.gauge("track_weight", "Its part of the bandwidth in relation to the others'", &labels, share.weight);
            let help = "Below this the camera pauses";
            self.gauge("track_min_bits_per_second", help, &labels, share.min.as_bps() as f64);
            let help = "The camera gets no more than this";
            self.gauge("track_max_bits_per_second", help, &labels, share.max.as_bps() as f64);
        }
    }

    fn transport(&mut self, app: &App, stats: &TransportStats) {
        let none = vec![];
        let pending = stats.pending_sessions as f64;
        self.gauge("sessions_pending", "Sessions whose viewer has not been heard of", &none, pending);
        let connected = stats.sessions.iter().filter(|session| session.connected.is_some()).count() as f64;
        self.gauge("sessions_connected", "Sessions whose viewer is connected", &none, connected);
        for (cause, count) in app.closed.0.lock().iter() {
            let labels = vec![("cause", (*cause).to_owned())];
            self.counter("sessions_closed", "Sessions that have ended", &labels, *count);
        }
        for (index, worker) in stats.workers.iter().enumerate() {
            let labels: Labels = vec![("worker", index.to_string())];
            let sockets = worker.sockets;
            for (name, help, value) in [
                ("udp_received", "Datagrams received", sockets.received),
                ("udp_sent", "Datagrams sent", sockets.sent),
                ("udp_send_calls", "System calls that sent them", sockets.send_calls),
                (
                    "udp_send_would_block",
                    "Datagrams not sent because there was no room for too long",
                    sockets.send_would_block,
                ),
                ("udp_send_errors", "Datagrams not sent for another reason", sockets.send_errors),
            ] {
                self.counter(name, help, &labels, value);
            }
            let segments = sockets.max_segments as f64;
            self.gauge("udp_max_segments", "Datagrams that one system call can send", &labels, segments);
            for (kind, count) in worker.objects.named() {
                let labels = vec![("worker", index.to_string()), ("kind", kind.to_owned())];
                let help = "What each worker has, by kind: sessions, producers, mirrors of other workers' producers";
                self.gauge("worker_objects", help, &labels, count as f64);
            }
            for (reason, count) in worker.dropped.named() {
                let labels = vec![("worker", index.to_string()), ("reason", reason.to_owned())];
                self.counter("udp_dropped", "Datagrams that came in and were dropped", &labels, count);
            }
        }
        for (reason, count) in
            [("refused", stats.pipes.refused), ("no_room", stats.pipes.bursts_refused), ("unsent", stats.pipes.unsent)]
        {
            let help = "Dropped of streams from other machines: datagrams refused or unsent, and frames without room";
            self.counter("pipe_dropped", help, &vec![("reason", reason.to_owned())], count);
        }
        self.viewers(app, stats);
        self.connections(app, stats);
    }

    /// What each viewer's connection carries: one for all its cameras. As many series as there may be viewers.
    fn connections(&mut self, app: &App, stats: &TransportStats) {
        if let Some(max) = app.agent.uplink().config().max {
            let help = "What all viewers together may take; not there without a limit";
            self.gauge("uplink_limit_bits_per_second", help, &vec![], max.as_bps() as f64);
        }
        let planned = app.agent.uplink().planned();
        let mut all = 0;
        for (session, leg) in stats.sessions.iter().filter_map(|session| Some((session, session.leg.as_ref()?))) {
            let labels: Labels = vec![("session", session.id.0.to_string())];
            let estimate = &leg.estimate;
            all += leg.sending.as_bps();
            let planned = planned.viewer(session.id);
            for (name, help, value) in [
                (
                    "leg_estimate_bits_per_second",
                    "What a viewer's connection is found to carry, headers included",
                    estimate.target.as_bps() as f64,
                ),
                (
                    "leg_confirmed",
                    "1 once that has been found out, 0 at its start",
                    f64::from(u8::from(leg.is_confirmed)),
                ),
                ("leg_pacing_bits_per_second", "How fast its packets leave", estimate.pacing.as_bps() as f64),
                ("leg_sent_bits_per_second", "What was sent in the last second", leg.sending.as_bps() as f64),
                ("leg_loss", "The part of the packets that does not arrive, 0 to 1", estimate.loss),
                (
                    "leg_queue_delay_seconds",
                    "How much longer packets take than the fastest: what waits in the path's queues",
                    estimate.queue_delay.as_secs_f64(),
                ),
                (
                    "leg_pacer_queue_seconds",
                    "How long the last of the packets that wait here takes to leave",
                    leg.pacer_queue.as_secs_f64(),
                ),
                (
                    "leg_application_limited",
                    "1 while less is sent than might be",
                    f64::from(u8::from(estimate.application_limited)),
                ),
            ] {
                self.gauge(name, help, &labels, value);
            }
            if let Some(time) = estimate.round_trip {
                let help = "From sending a packet to hearing of it";
                self.gauge("leg_round_trip_seconds", help, &labels, time.as_secs_f64());
            }
            if let Some(planned) = planned {
                let help = "What its cameras are to take together, without headers";
                let target = super::viewers::targets(planned).as_bps() as f64;
                self.gauge("leg_target_bits_per_second", help, &labels, target);
                if planned.limit != Bitrate::UNLIMITED {
                    let help = "Its part of the uplink; not there without a limit";
                    self.gauge("leg_limit_bits_per_second", help, &labels, planned.limit.as_bps() as f64);
                }
            }
        }
        self.connections_counted(stats);
        all += planned.uncontrolled.as_bps();
        let help = "What was sent in the last second to all viewers whose connections are measured, and if there is a limit \
                    to all others too";
        self.gauge("uplink_sent_bits_per_second", help, &vec![], all as f64);
    }

    /// What has happened on each viewer's connection since it began.
    fn connections_counted(&mut self, stats: &TransportStats) {
        for (session, counted) in stats.sessions.iter().filter_map(|session| Some((session, session.leg_stats?))) {
            let labels: Labels = vec![("session", session.id.0.to_string())];
            for (name, help, value) in [
                ("leg_feedback_received", "Messages that told which packets have come", counted.feedback_received),
                ("leg_feedback_malformed", "Those that could not be read", counted.feedback_malformed),
                (
                    "leg_feedback_refused",
                    "Those that told of more packets than there can have been",
                    counted.feedback_refused,
                ),
                ("leg_probes", "Probes that were begun", counted.probes),
                (
                    "leg_overflows",
                    "Times that there was no room for a packet to wait, or that it would have had to wait for too long",
                    counted.overflows,
                ),
                (
                    "leg_packets_dropped",
                    "Packets dropped for that; videos went on with a key frame",
                    counted.packets_dropped,
                ),
            ] {
                self.counter(name, help, &labels, value);
            }
        }
    }

    fn viewers(&mut self, app: &App, stats: &TransportStats) {
        let feeds = app.agent.feeds();
        for session in &stats.sessions {
            for consumer in &session.consumers {
                let Some(feed) = feeds.iter().find(|feed| feed.producers().contains(&consumer.producer)) else {
                    continue;
                };
                let kind = if feed.producers().first() == Some(&consumer.producer) { "video" } else { "audio" };
                let labels: Labels =
                    vec![("camera", feed.name()), ("kind", kind.to_owned()), ("session", session.id.0.to_string())];
                // No label: it changes while the viewer's counters go on.
                if let Some(layer) = consumer.layer.filter(|_| kind == "video") {
                    let help = "The spatial layer that is sent now, 0 for the smallest; not there while none is";
                    self.gauge("viewer_layer", help, &labels, f64::from(layer));
                }
                let stats = &consumer.stats;
                for (name, help, value) in [
                    ("viewer_packets_sent", "RTP packets sent, without retransmissions", stats.packets_sent),
                    ("viewer_bytes_sent", "Their payload bytes", stats.bytes_sent),
                    ("viewer_packets_retransmitted", "RTP packets sent again", stats.retransmitted_packets_sent),
                    (
                        "viewer_retransmissions_refused",
                        "Packets asked for and not sent again",
                        stats.retransmissions_refused,
                    ),
                    ("viewer_nacks", "NACK messages received", stats.nack_count),
                    ("viewer_plis", "Picture loss indications received", stats.pli_count),
                    ("viewer_firs", "Full intra requests received", stats.fir_count),
                    ("viewer_frames_dropped", "Frames dropped while waiting for a key frame", stats.frames_dropped),
                ] {
                    self.counter(name, help, &labels, value);
                }
                if let Some(lost) = stats.fraction_lost {
                    self.gauge("viewer_fraction_lost", "Share of packets lost by the last report", &labels, lost);
                }
                if let Some(time) = stats.round_trip_time {
                    let help = "Round-trip time by the last report";
                    self.gauge("viewer_round_trip_seconds", help, &labels, time.as_secs_f64());
                }
                if let Some(jitter) = stats.jitter {
                    let help = "Interarrival jitter by the last report";
                    self.gauge("viewer_jitter_seconds", help, &labels, jitter.as_secs_f64());
                }
            }
        }
    }
}

/// Each camera's stages, as one family of histograms.
#[derive(Debug, Default)]
struct Stages(Vec<(String, &'static str, HistogramSnapshot)>);

impl Collector for Stages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Where the time of sent frames went, stage by stage";
        let mut family =
            encoder.encode_descriptor("lenscast_stage", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (camera, stage, snapshot) in &self.0 {
            let labels = [("camera", camera.as_str()), ("stage", *stage)];
            let metric = StageHistogram(snapshot);
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

struct StageHistogram<'a>(&'a HistogramSnapshot);

impl EncodeMetric for StageHistogram<'_> {
    fn encode(&self, mut encoder: prometheus_client::encoding::MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let mut buckets: Vec<(f64, u64)> =
            self.0.octaves().map(|(bound, count)| (bound.as_secs_f64(), count)).collect();
        let counted: u64 = buckets.iter().map(|(_, count)| count).sum();
        buckets.push((f64::INFINITY, self.0.count() - counted));
        encoder.encode_histogram::<Labels>(self.0.sum().as_secs_f64(), self.0.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
