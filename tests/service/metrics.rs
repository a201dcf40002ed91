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

#[test]
fn shares_targets_and_what_bounds_the_quality_are_told_by_camera_and_layer() {
    let layers = CAMERA.replace("front", "back") + "layers = 2\nweight = 3\n";
    let server = Server::ready(&format!("[bandwidth]\ntotal_kbps = 400\n{CAMERA}{layers}"));
    let mut front = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut back = Client::play(&server.http, "/whep/back", Codec::Vp8);
    front.frame();
    back.frame();
    let metrics = server.metrics_until("the rates", |metrics| {
        let rate = |camera| metrics.value("lenscast_track_bits_per_second", &[("camera", camera)]);
        (rate("front") > Some(0.0) && rate("back") > Some(0.0)).then(|| server.metrics())
    });
    let of = |name: &str, camera: &str| metrics.value(name, &[("camera", camera)]);
    assert_eq!(metrics.value("lenscast_allocation_limit_bits_per_second", &[]), Some(400_000.0));
    assert!(metrics.value("lenscast_allocation_version", &[]) > Some(1.0));
    let overhead = metrics.value("lenscast_allocation_overhead_bits_per_second", &[]).unwrap();
    assert_eq!((of("lenscast_track_weight", "front"), of("lenscast_track_weight", "back")), (Some(1.0), Some(3.0)));
    assert_eq!(of("lenscast_track_min_bits_per_second", "front"), Some(30_000.0));
    assert_eq!(of("lenscast_track_max_bits_per_second", "front"), Some(600_000.0));
    for (state, expected) in [("allocated", 1.0), ("paused", 0.0), ("inactive", 0.0)] {
        let labels = [("camera", "front"), ("state", state)];
        assert_eq!(metrics.value("lenscast_track_allocation_state", &labels), Some(expected), "{state}");
    }
    let viewers: Vec<_> = metrics.series("lenscast_viewer_layer").collect();
    let layers_watched = viewers.iter().map(|(labels, layer)| (labels["camera"].as_str(), *layer));
    assert!(layers_watched.eq([("back", 1.0), ("front", 0.0)]), "{viewers:?}");
    let target = |camera| of("lenscast_track_target_bits_per_second", camera).unwrap();
    assert!(target("front") > 0.0 && target("front") + target("back") + overhead <= 400_000.0);
    let layer = |name: &str, camera, layer| metrics.value(name, &[("camera", camera), ("layer", layer)]);
    assert_eq!(layer("lenscast_layer_target_bits_per_second", "front", "0"), Some(target("front")));
    assert_eq!(layer("lenscast_layer_target_bits_per_second", "back", "0"), Some(0.0), "nobody watches the small one");
    assert_eq!(layer("lenscast_layer_target_bits_per_second", "back", "1"), Some(target("back")));
    assert!(layer("lenscast_layer_bits_per_second", "back", "1") > Some(0.0));
    for reason in ["none", "cpu", "bandwidth", "other"] {
        let labels = [("camera", "front"), ("reason", reason)];
        assert!(metrics.value("lenscast_track_quality_limitation_seconds_total", &labels) >= Some(0.0), "{reason}");
    }
    let limited = [("camera", "front"), ("reason", "bandwidth")];
    server.metrics_until("the limit to be what bounds it", |metrics| {
        (metrics.value("lenscast_track_quality_limitation_seconds_total", &limited)? > 0.0).then_some(())
    });
    for name in ["track_frames_dropped", "track_frames_dropped_by_adaptation", "track_encoders_built"] {
        assert!(of(&format!("lenscast_{name}_total"), "front").is_some(), "{name}");
    }
}
