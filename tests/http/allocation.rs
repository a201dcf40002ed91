use std::collections::BTreeSet;
use std::time::Duration;

use lenscast_media::Codec;
use serde_json::{Value, json};

use crate::JSON;
use crate::support::client::Client;
use crate::support::event_stream::EventStream;
use crate::support::http::{Http, Reply};
use crate::support::server::{CAMERA, Server, Setup};
use crate::support::wait::until;

const PATH: &str = "/api/v1/allocation";
const EVENTS: &str = "/api/v1/allocation/events";

fn two_cameras(head: &str) -> String {
    format!("{head}{CAMERA}{}", CAMERA.replace("front", "back"))
}

fn put(http: &Http, body: &str) -> Reply {
    http.call("PUT", PATH, &[JSON], body)
}

fn allocation(http: &Http) -> Value {
    let reply = http.get(PATH);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// What is told of one camera.
fn camera<'a>(allocation: &'a Value, name: &str) -> &'a Value {
    let cameras = allocation["cameras"].as_array().expect("there is a list of cameras");
    cameras.iter().find(|camera| camera["name"] == name).unwrap_or_else(|| panic!("{name} is not in {allocation}"))
}

/// The names of an object's members.
fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().map(String::as_str).collect()
}

/// The claims and the limit: what a change that is refused must leave as it is.
fn claims(allocation: &Value) -> Value {
    let cameras = allocation["cameras"].as_array().expect("there is a list of cameras").iter();
    let cameras: Vec<_> =
        cameras.map(|camera| json!([camera["name"], camera["weight"], camera["minKbps"], camera["maxKbps"]])).collect();
    json!([allocation["version"], allocation["totalKbps"], cameras])
}

#[test]
fn the_allocation_is_told_with_each_camera_in_the_configurations_order() {
    let server = Server::ready(&two_cameras("[bandwidth]\ntotal_kbps = 900\n"));
    let told = allocation(&server.http);
    assert_eq!(members(&told), BTreeSet::from(["version", "totalKbps", "overheadKbps", "audioKbps", "cameras"]));
    assert_eq!((&told["totalKbps"], &told["audioKbps"]), (&json!(900), &json!(0)));
    assert!(told["version"].as_u64() > Some(0));
    let names: Vec<_> = told["cameras"].as_array().unwrap().iter().map(|camera| &camera["name"]).collect();
    assert_eq!(names, ["front", "back"]);
    let front = camera(&told, "front");
    let both = ["targetKbps", "actualKbps", "framesPerSecond", "frameWidth", "frameHeight"];
    let own = ["name", "weight", "minKbps", "maxKbps", "enforceMin", "needsKbps"];
    let rest = ["state", "qualityLimitationReason", "layers"];
    assert_eq!(members(front), both.into_iter().chain(own).chain(rest).collect());
    assert_eq!(members(&front["layers"][0]), BTreeSet::from(both));
    assert_eq!(
        [&front["weight"], &front["minKbps"], &front["maxKbps"], &front["targetKbps"], &front["state"]],
        [&json!(1), &json!(30), &json!(600), &json!(0), &json!("inactive")],
        "nobody watches it"
    );

    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let told = until("the encoder's rate to be known", || {
        client.frame();
        let told = allocation(&server.http);
        (camera(&told, "front")["actualKbps"].as_f64() > Some(0.0)).then_some(told)
    });
    let front = camera(&told, "front");
    assert_eq!(
        (&front["state"], &front["targetKbps"]),
        (&json!("allocated"), &json!(600)),
        "it alone gets what it can use"
    );
    assert_eq!((&front["frameWidth"], &front["frameHeight"]), (&json!(320), &json!(240)));
    assert_eq!((&front["layers"][0]["frameWidth"], &front["layers"][0]["targetKbps"]), (&json!(320), &json!(600)));
    assert!(told["overheadKbps"].as_f64() > Some(0.0), "headers count");
}

#[test]
fn a_change_takes_effect_at_once_is_answered_with_what_holds_and_leaves_the_rest() {
    let server = Server::ready(&two_cameras("[bandwidth]\ntotal_kbps = 400\n"));
    let mut front = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut back = Client::play(&server.http, "/whep/back", Codec::Vp8);
    let first = front.frame();
    back.frame();
    let targets = |told: &Value| ["front", "back"].map(|name| camera(told, name)["targetKbps"].as_f64().unwrap());
    let equal = until("both to be encoded", || {
        let told = targets(&allocation(&server.http));
        told.iter().all(|target| *target > 0.0).then_some(told)
    });
    assert_eq!(equal[0], equal[1], "equal weights");

    let before = allocation(&server.http);
    let reply = put(&server.http, r#"{"cameras":{"front":{"weight":3}}}"#);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{reply:?}");
    let told = reply.json();
    assert_eq!(told["version"].as_u64(), before["version"].as_u64().map(|version| version + 1));
    let [more, less] = targets(&told);
    assert!((more / less - 3.0).abs() < 0.01, "{more} and {less}");
    assert!(more + less + told["overheadKbps"].as_f64().unwrap() <= 400.0, "{told}");
    assert_eq!(claims(&told)[2], json!([["front", 3, 30, 600], ["back", 1, 30, 600]]));
    let layer = until("the encoder's target", || {
        let told = allocation(&server.http);
        let layer = camera(&told, "front")["layers"][0]["targetKbps"].as_f64();
        (layer == Some(more)).then_some(layer)
    });
    assert!(layer.is_some());
    // The stream goes on where it was, with the encoder that it had.
    let later = (0..15).map(|_| front.frame()).last().unwrap();
    assert!(later.first > first.first);
    assert_eq!(server.metrics().value("lenscast_track_encoders_built_total", &[("camera", "front")]), Some(1.0));

    let reply = put(&server.http, r#"{"totalKbps":null,"cameras":{"front":{"minKbps":50.5,"maxKbps":500}}}"#);
    let told = reply.json();
    assert_eq!((reply.status, &told["totalKbps"]), (200, &Value::Null));
    assert_eq!(claims(&told)[2], json!([["front", 3, 50.5, 500], ["back", 1, 30, 600]]));
    assert_eq!(targets(&told), [500.0, 600.0], "without a limit each gets its maximum");
    assert_eq!(told["overheadKbps"], 0, "and nothing is set aside");
}

#[test]
fn a_change_of_nothing_is_200_and_makes_no_version_no_event_and_no_log_line() {
    let server = Server::ready(&two_cameras("[bandwidth]\ntotal_kbps = 900\n"));
    let events = EventStream::open(&server.http, EVENTS, &[]);
    let next = || serde_json::from_str::<Value>(&events.until("allocation")).expect("the data is JSON");
    let before = next();
    let version = &before["version"];
    for body in [
        "{}".to_owned(),
        r#"{"cameras":{}}"#.to_owned(),
        r#"{"cameras":{"front":{}}}"#.to_owned(),
        r#"{"totalKbps":900,"cameras":{"front":{"weight":1,"minKbps":30,"maxKbps":600,"enforceMin":false}}}"#
            .to_owned(),
        format!("{{\"version\":{version},\"totalKbps\":900}}"),
    ] {
        let reply = put(&server.http, &body);
        assert_eq!((reply.status, claims(&reply.json())), (200, claims(&before)), "{body}");
    }
    assert_eq!(put(&server.http, r#"{"version":1000}"#).status, 409, "a version that is not there is one all the same");
    assert_eq!(put(&server.http, r#"{"cameras":{"gate":{}}}"#).status, 422, "and so is a camera");
    assert_eq!(put(&server.http, r#"{"cameras":{"front":{"weight":2}}}"#).status, 200);
    let next = next();
    assert_eq!(camera(&next, "front")["weight"], 2, "it is the next event");
    assert_eq!(next["version"].as_u64(), version.as_u64().map(|version| version + 1));
    assert_eq!(server.log.text().matches("of the bandwidth has changed").count(), 1);
}

#[test]
fn a_minimum_that_is_enforced_holds_where_another_camera_pauses() {
    let server = Server::ready(&two_cameras(""));
    let mut front = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut back = Client::play(&server.http, "/whep/back", Codec::Vp8);
    front.frame();
    back.frame();
    let state = |told: &Value, name: &str| camera(told, name)["state"].as_str().unwrap().to_owned();
    // Alone, back would have more weight.
    let body =
        r#"{"totalKbps":300,"cameras":{"front":{"minKbps":200,"enforceMin":true},"back":{"minKbps":200,"weight":2}}}"#;
    let told = put(&server.http, body).json();
    assert_eq!(
        (&camera(&told, "front")["enforceMin"], &camera(&told, "back")["enforceMin"]),
        (&json!(true), &json!(false))
    );
    assert_eq!((state(&told, "front"), state(&told, "back")), ("allocated".to_owned(), "paused".to_owned()), "{told}");
    let told = put(&server.http, r#"{"cameras":{"front":{"enforceMin":false}}}"#).json();
    assert_eq!((state(&told, "front"), state(&told, "back")), ("paused".to_owned(), "allocated".to_owned()), "{told}");
    assert!(server.log.text().contains("enforceMin true -> false"));
}

#[test]
fn a_camera_sends_with_what_it_needs_and_pauses_with_less() {
    let server = Server::ready(CAMERA);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    client.frame();
    let needs = camera(&allocation(&server.http), "front")["needsKbps"].as_u64().expect("whole kilobits");
    assert!(needs > 30, "{needs}: headers come on top of the minimum");
    let state = |total: u64| {
        let told = put(&server.http, &format!("{{\"totalKbps\":{total}}}")).json();
        camera(&told, "front")["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(needs - 1), "paused");
    assert_eq!(state(needs * 2), "allocated");
    assert_eq!(state(needs), "allocated");
}

#[test]
fn a_camera_of_weight_0_is_inactive_and_comes_back() {
    let server = Server::ready(&two_cameras(""));
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    client.frame();
    let told = put(&server.http, r#"{"cameras":{"front":{"weight":0}}}"#).json();
    assert_eq!(
        (&camera(&told, "front")["state"], &camera(&told, "front")["targetKbps"]),
        (&json!("inactive"), &json!(0))
    );
    let sent = || server.metrics().sum_where("lenscast_viewer_packets_sent_total", "camera", "front");
    // What was under way.
    until("the packets to cease", || {
        let before = sent();
        std::thread::sleep(Duration::from_millis(200));
        (sent() == before).then_some(())
    });
    let before = sent();
    while client.frame_within(Duration::from_millis(100)).is_some() {}
    assert!(client.frame_within(Duration::from_secs(1)).is_none(), "fifteen frames were captured");
    assert_eq!(sent(), before, "and none was sent");
    let told = put(&server.http, r#"{"cameras":{"front":{"weight":2}}}"#).json();
    assert_eq!(camera(&told, "front")["state"], "allocated");
    // What was under way when it ceased, and then a picture that needs nothing before it.
    until("a key frame", || client.frame().key_frame.then_some(()));
}

#[test]
fn of_two_changes_that_go_by_the_same_version_the_later_is_409_with_the_version_there_is() {
    let server = Server::ready(&two_cameras(""));
    let version = allocation(&server.http)["version"].as_u64().unwrap();
    let body = |weight: u32| format!("{{\"version\":{version},\"cameras\":{{\"front\":{{\"weight\":{weight}}}}}}}");
    let clients = [2, 3].map(|weight| {
        let (http, body) = (server.http.clone(), body(weight));
        std::thread::spawn(move || (weight, put(&http, &body)))
    });
    let replies = clients.map(|client| client.join().unwrap());
    let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|(_, reply)| reply.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 1), "{replies:?}");
    let (weight, reply) = won[0];
    assert_eq!(reply.json()["version"], version + 1);
    let (_, refused) = lost[0];
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["version"], version + 1, "to go by the next time");
    assert!(refused.problem().contains(&format!("since version {version}")), "{refused:?}");
    let told = allocation(&server.http);
    assert_eq!((&camera(&told, "front")["weight"], &told["version"]), (&json!(weight), &json!(version + 1)));
    assert_eq!(put(&server.http, &body(9).replace(&format!(":{version},"), &format!(":{},", version + 1))).status, 200);
}

#[test]
fn values_that_cannot_be_are_422_by_camera_field_value_and_range_and_change_nothing() {
    let server = Server::ready(&two_cameras("[bandwidth]\ntotal_kbps = 900\n"));
    let before = claims(&allocation(&server.http));
    let long_name = format!("{{\"cameras\":{{\"{}\":{{}}}}}}", "x".repeat(10_000));
    for (body, expected) in [
        (r#"{"totalKbps":29}"#, &["totalKbps = 29: must be 30 to 10000000, or null"][..]),
        (r#"{"totalKbps":1e300}"#, &["totalKbps = 1e+300: must be 30 to 10000000"]),
        (r#"{"totalKbps":"900"}"#, &["totalKbps = \"900\": must be 30 to 10000000"]),
        (r#"{"version":-1}"#, &["version = -1: must be"]),
        (r#"{"version":1.5}"#, &["version = 1.5: must be"]),
        (r#"{"version":null}"#, &["version = null: must be"]),
        (r#"{"cameras":{"front":{"weight":-0.1}}}"#, &["camera \"front\": weight = -0.1: must be 0 to 1000000"]),
        (r#"{"cameras":{"front":{"weight":1000001}}}"#, &["weight = 1000001: must be 0 to 1000000"]),
        (r#"{"cameras":{"front":{"weight":1e308}}}"#, &["weight = 1e+308: must be 0 to 1000000"]),
        (r#"{"cameras":{"front":{"weight":null}}}"#, &["weight = null: must be 0 to 1000000"]),
        (r#"{"cameras":{"front":{"weight":"NaN"}}}"#, &["weight = \"NaN\": must be 0 to 1000000"]),
        (r#"{"cameras":{"front":{"weight":true}}}"#, &["weight = true: must be 0 to 1000000"]),
        (r#"{"cameras":{"front":{"weight":[1]}}}"#, &["weight = [1]: must be 0 to 1000000"]),
        (r#"{"cameras":{"front":{"minKbps":9.9}}}"#, &["minKbps = 9.9: must be 10 to 100000"]),
        (r#"{"cameras":{"front":{"maxKbps":100001}}}"#, &["maxKbps = 100001: must be 10 to 100000"]),
        (r#"{"cameras":{"front":{"maxKbps":18446744073709551615}}}"#, &["maxKbps = 18446744073709551615: must be"]),
        (
            r#"{"cameras":{"front":{"minKbps":601}}}"#,
            &["\"front\"", "minKbps = 601", "not exceed maxKbps, which is 600"],
        ),
        (r#"{"cameras":{"front":{"maxKbps":20}}}"#, &["\"front\"", "minKbps = 30", "not exceed maxKbps, which is 20"]),
        (r#"{"cameras":{"gate":{"weight":1}}}"#, &["no camera is called \"gate\"; there are front, back"]),
        (
            r#"{"cameras":{"front":{"weight":0},"back":{"weight":0}}}"#,
            &["weight: all cameras would be at 0, at least one must be above 0"],
        ),
        (r#"{"cameras":{"front":{"enforceMin":1}}}"#, &["camera \"front\": enforceMin = 1: must be true or false"]),
        (r#"{"cameras":{"front":{"enforceMin":null}}}"#, &["enforceMin = null: must be true or false"]),
        (&long_name, &["no camera is called \"xxx", "there are front, back"]),
        // All that is wrong at once, and nothing of what is not.
        (
            r#"{"totalKbps":1,"cameras":{"front":{"weight":5,"minKbps":1},"back":{"weight":-1,"maxKbps":500}}}"#,
            &["totalKbps = 1:", "camera \"front\": minKbps = 1:", "camera \"back\": weight = -1:"],
        ),
        (r#"{"totalKbps":800,"cameras":{"front":{"weight":5},"gate":{}}}"#, &["\"gate\""]),
        (r#"{"totalKbps":800,"cameras":{"front":{"weight":5},"back":{"minKbps":700}}}"#, &["\"back\"", "700"]),
    ] {
        let reply = put(&server.http, body);
        assert_eq!(reply.status, 422, "{body}: {reply:?}");
        let problem = reply.problem();
        assert!(expected.iter().all(|part| problem.contains(part)) && problem.len() < 250, "{body}: {problem}");
        assert_eq!(claims(&allocation(&server.http)), before, "{body}");
    }
}

#[test]
fn what_cannot_be_read_is_400_and_changes_nothing() {
    let server = Server::ready(&two_cameras(""));
    let before = claims(&allocation(&server.http));
    let deep = format!("{{\"version\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000));
    let long = format!("{{\"{}\":1}}", "x".repeat(10_000));
    for (body, expected) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("null", "an object"),
        ("[]", "an object"),
        ("[3, 900]", "an object"),
        (r#"{"cameras":{"front":{"weight":5}}} x"#, "trailing"),
        (r#"{"cameras":{"front":{"weight":NaN}}}"#, "line 1"),
        (r#"{"cameras":{"front":{"weight":1e400}}}"#, "out of range"),
        (r#"{"cameras":{"front":{"weight":-Infinity}}}"#, "line 1"),
        (r#"{"cameras":{"front":5}}"#, "an object"),
        (r#"{"cameras":{"front":[5]}}"#, "an object"),
        (r#"{"cameras":["front"]}"#, "a camera's name"),
        (r#"{"cameras":null}"#, "a camera's name"),
        (r#"{"total_kbps":900}"#, "unknown field `total_kbps`"),
        (r#"{"cameras":{"front":{"weigth":5}}}"#, "unknown field `weigth`"),
        (r#"{"cameras":{"front":{"state":"paused"}}}"#, "unknown field `state`"),
        (r#"{"totalKbps":900,"totalKbps":800}"#, "duplicate field `totalKbps`"),
        (r#"{"cameras":{},"cameras":{}}"#, "duplicate field `cameras`"),
        (r#"{"cameras":{"front":{"weight":5,"weight":6}}}"#, "duplicate field `weight`"),
        (r#"{"cameras":{"front":{"weight":5},"front":{"minKbps":50}}}"#, "\"front\" is there twice"),
        (&deep, "recursion limit"),
        (&long, "unknown field"),
    ] {
        let reply = put(&server.http, body);
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        let problem = reply.problem();
        assert!(problem.contains(expected) && problem.len() < 200, "{body}: {problem}");
    }
    assert_eq!(claims(&allocation(&server.http)), before);
}

#[test]
fn another_content_type_is_415_and_a_huge_body_413() {
    let server = Server::ready(CAMERA);
    let body = r#"{"cameras":{"front":{"weight":5}}}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"] {
        let reply = server.http.call("PUT", PATH, &[("Content-Type", kind)], body);
        assert_eq!(reply.status, 415, "{kind:?}: {reply:?}");
        assert!(reply.problem().contains("must be application/json"));
    }
    let reply = put(&server.http, &" ".repeat(64 * 1024 + 1));
    assert_eq!(reply.status, 413, "{}", reply.status);
    assert!(reply.problem().contains("larger than 65536 bytes"));
    assert_eq!(camera(&allocation(&server.http), "front")["weight"], 1);
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(server.http.call("PUT", PATH, &[("Content-Type", kind)], body).status, 200, "{kind}");
    }
}

#[test]
fn a_change_needs_the_token_and_counts_as_one_and_is_open_to_allowed_origins_only() {
    let config = format!("[http]\ntoken_file = \"token\"\nchanges_per_minute = 3\n{CAMERA}");
    let server = Setup::new(&config).file("token", "right").ready();
    let body = r#"{"cameras":{"front":{"weight":5}}}"#;
    let call = |method: &str, path: &str, token: &str| {
        let headers = [JSON, ("Authorization", &*format!("Bearer {token}"))];
        server.http.call(method, path, &headers, if method == "PUT" { body } else { "" }).status
    };
    assert_eq!(call("PUT", PATH, "wrong"), 401);
    assert_eq!([call("PUT", PATH, "right"), call("PUT", PATH, "right")], [200; 2]);
    assert_eq!(call("PUT", PATH, "right"), 429, "the guess and two changes were three");
    assert_eq!(call("GET", PATH, "right"), 200, "asking is free");
    // What lost its permission is refused, whatever it had before.
    assert_eq!([call("GET", PATH, "old"), call("GET", EVENTS, "old")], [429; 2]);
    for path in [PATH, EVENTS] {
        let preflight = [("Origin", "https://any.example"), ("Access-Control-Request-Method", "PUT")];
        let reply = server.http.call("OPTIONS", path, &preflight, "");
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.header("access-control-allow-methods").unwrap().contains("PUT"));
    }

    let server = Server::ready(CAMERA);
    let preflight = [("Origin", "https://any.example"), ("Access-Control-Request-Method", "PUT")];
    let reply = server.http.call("OPTIONS", PATH, &preflight, "");
    assert_eq!(reply.header("access-control-allow-origin"), None, "without a token no other page may change anything");
    let reply = server.http.call("DELETE", PATH, &[], "");
    assert_eq!(reply.status, 405, "{reply:?}");
}

#[test]
fn events_tell_the_allocation_at_once_and_after_each_change() {
    let server = Server::ready(&two_cameras(""));
    let events = EventStream::open(&server.http, EVENTS, &[]);
    let next = || serde_json::from_str::<Value>(&events.until("allocation")).expect("the data is JSON");
    let first = next();
    assert_eq!(first, allocation(&server.http), "the same as GET says");
    // Somebody asks for it by a PUT: a new version.
    assert_eq!(put(&server.http, r#"{"cameras":{"back":{"weight":4}}}"#).status, 200);
    let changed = next();
    assert_eq!(changed["version"].as_u64(), first["version"].as_u64().map(|version| version + 1));
    assert_eq!(camera(&changed, "back")["weight"], 4);
    // Somebody watches: the same version, another target.
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    client.frame();
    until("the target", || (camera(&next(), "front")["targetKbps"] == 600).then_some(()));
    // The file says something else.
    let config = two_cameras("").replacen("fps = 15\n", "fps = 15\nmax_kbps = 500\n", 1);
    let reload = |config: &str| {
        std::fs::write(server.path("lenscast.toml"), config).unwrap();
        server.signal(rustix::process::Signal::HUP);
    };
    reload(&config);
    until("the maximum", || (camera(&next(), "front")["maxKbps"] == 500).then_some(()));
    // A camera comes, and goes.
    let cameras = || next()["cameras"].as_array().map(Vec::len);
    reload(&format!("{config}{}", CAMERA.replace("front", "gate")));
    until("the third camera", || (cameras() == Some(3)).then_some(()));
    reload(&config);
    until("it to go", || (cameras() == Some(2)).then_some(()));
}

#[test]
fn events_end_when_the_server_stops_are_not_held_back_by_a_proxy_and_are_bounded_for_each_address() {
    let mut server = Server::ready(CAMERA);
    let events = EventStream::open(&server.http, EVENTS, &[]);
    events.until("allocation");
    let many: Vec<_> = (1..32)
        .map(|_| {
            let stream = server.http.stream(EVENTS, &[], crate::support::wait::BOUND).expect("it is answered");
            assert_eq!(stream.status(), 200);
            let header = |name: &str| stream.headers().get(name).and_then(|value| value.to_str().ok());
            assert_eq!((header("x-accel-buffering"), header("cache-control")), (Some("no"), Some("no-cache")));
            stream
        })
        .collect();
    let reply = server.http.get(EVENTS);
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.header("retry-after").is_some() && reply.problem().contains("your address has 32 streams"));
    drop(many);
    until("a place", || {
        let stream = server.http.stream(EVENTS, &[], crate::support::wait::BOUND).expect("it is answered");
        (stream.status() == 200).then_some(())
    });
    server.signal(rustix::process::Signal::TERM);
    while events.next().is_some() {}
    assert!(server.wait().success());
}

#[test]
fn a_change_is_logged_with_who_asked_and_from_what_to_what() {
    let server = Server::ready(&two_cameras(""));
    let page = [JSON, ("Origin", "https://console.example"), ("User-Agent", "Firefox")];
    let body = r#"{"totalKbps":900,"cameras":{"front":{"weight":4,"maxKbps":550},"back":{"weight":1}}}"#;
    let version = server.http.call("PUT", PATH, &page, body).json()["version"].clone();
    let line = server.log.line_with("a share of the bandwidth has changed");
    for part in ["127.0.0.1:", "https://console.example", "front", "weight 1 -> 4, maxKbps 600 -> 550"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(line.contains(&format!("version={version}")), "{line}");
    assert!(server.log.line_with("the limit of the bandwidth has changed").contains("totalKbps none -> 900"));

    let hostile = format!("evil\tagent {}", "x".repeat(5_000));
    let reply =
        server.http.call("PUT", PATH, &[JSON, ("User-Agent", &hostile)], r#"{"cameras":{"back":{"weight":2}}}"#);
    assert_eq!(reply.status, 200);
    let line = server.log.line_with("weight 1 -> 2");
    assert!(line.contains("evil") && line.len() < 500 && !line.contains('\t'), "{line}");
    let log = server.log.text();
    assert_eq!(
        log.matches("a share of the bandwidth has changed").count(),
        2,
        "what stays as it is is not told: {log}"
    );
}
