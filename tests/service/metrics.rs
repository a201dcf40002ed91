use lenscast_media::Codec;

use crate::support::client::Client;
use crate::support::server::{CAMERA, Server};

#[test]
fn the_page_of_metrics_is_openmetrics_and_has_every_camera_and_stage() {
    let server = Server::ready(&format!("{CAMERA}{}", CAMERA.replace("front", "back")));
    let reply = server.http.get("/metrics");
    assert_eq!(reply.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let metrics = server.metrics();
    for camera in ["front", "back"] {
        assert_eq!(metrics.value("lenscast_camera_live", &[("camera", camera)]), Some(1.0));
        for stage in ["capture", "queue", "encode", "send", "ready_to_sent", "capture_to_sent"] {
            let labels = [("camera", camera), ("stage", stage)];
            assert!(metrics.value("lenscast_stage_seconds_count", &labels).is_some(), "{camera} {stage}");
        }
    }
    assert!(metrics.value("lenscast_uptime_seconds", &[]).is_some_and(|seconds| seconds > 0.0));
}

#[test]
fn a_histogram_counts_up_to_its_count() {
    let server = Server::ready(CAMERA);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    for _ in 0..5 {
        client.frame();
    }
    let metrics = server.metrics();
    let labels = [("camera", "front"), ("stage", "encode")];
    let count = metrics.value("lenscast_stage_seconds_count", &labels).unwrap();
    assert!(count >= 5.0, "{count}");
    let mut buckets: Vec<(f64, f64)> = metrics
        .series("lenscast_stage_seconds_bucket")
        .filter(|(labels, _)| labels["stage"] == "encode")
        .map(|(labels, value)| (labels["le"].parse().expect("a bound is a number"), value))
        .collect();
    buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    assert!(buckets.is_sorted_by(|(_, before), (_, after)| before <= after), "cumulative: {buckets:?}");
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)));
    let sum = metrics.value("lenscast_stage_seconds_sum", &labels).unwrap();
    assert!(sum > 0.0 && sum < count * 10.0, "{sum} s for {count} frames");
}

#[test]
fn the_series_of_a_viewer_that_is_gone_are_gone_too() {
    let server = Server::ready(CAMERA);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    client.frame();
    let metrics = server.metrics();
    assert_eq!(metrics.connected(), 1.0);
    let names = metrics.names_with("session");
    assert!(names.contains("lenscast_viewer_packets_sent_total") && names.len() >= 8, "{names:?}");
    assert_eq!(client.delete().status, 200);
    let metrics = server.metrics();
    assert_eq!((metrics.connected(), metrics.names_with("session").len()), (0.0, 0));
    server.metrics_until("the cause", |metrics| (metrics.closed("requested") == 1.0).then_some(()));
}
