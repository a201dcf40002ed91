use crate::support::server::{CAMERA, Setup};
use toml::Table;

/// What `check-config --print-effective` makes of the setup.
fn effective(setup: Setup) -> Table {
    let found = setup.args(["check-config", "--print-effective"]).run();
    assert_eq!(found.code, Some(0), "{found:?}");
    found.out.parse().unwrap_or_else(|error| panic!("{error} in\n{}", found.out))
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default() {
    let level = |flag: Option<&str>, environment: Option<&str>, file: &str| {
        let config = format!("[log]\n{file}\n{CAMERA}");
        let mut setup = Setup::bare().file("lenscast.toml", &config).env("LENSCAST_CONFIG", "lenscast.toml");
        setup = environment.into_iter().fold(setup, |setup, value| setup.env("LENSCAST_LOG_LEVEL", value));
        let mut args = vec!["check-config", "--print-effective"];
        args.extend(flag.iter().flat_map(|value| ["--log-level", *value]));
        let found = setup.args(args).run();
        assert_eq!(found.code, Some(0), "{found:?}");
        found.out.parse::<Table>().unwrap()["log"]["level"].as_str().unwrap().to_owned()
    };
    assert_eq!(level(None, None, ""), "info");
    assert_eq!(level(None, None, "level = \"warn\""), "warn");
    assert_eq!(level(None, Some("debug"), "level = \"warn\""), "debug");
    assert_eq!(level(Some("trace"), Some("debug"), "level = \"warn\""), "trace");
}

#[test]
fn lists_from_the_environment_are_split_at_commas() {
    let listen = "127.0.0.1:1,[::1]:2";
    let table = effective(Setup::bare().env("LENSCAST_HTTP_LISTEN", listen));
    let found: Vec<_> =
        table["http"]["listen"].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
    assert_eq!(found, ["127.0.0.1:1", "[::1]:2"]);
}

#[test]
fn no_configuration_at_all_is_one_pattern_camera() {
    let table = effective(Setup::bare());
    let cameras = table["camera"].as_array().unwrap();
    assert_eq!(cameras.len(), 1);
    assert_eq!((cameras[0]["pattern"].as_bool(), cameras[0]["width"].as_integer()), (Some(true), Some(1_280)));
}

#[test]
fn the_effective_configuration_reads_back_as_itself() {
    let config = format!(
        "[http]\nchanges_per_minute = 7\ntoken_file = \"token\"\nallowed_origins = [\"https://example.org\"]\n\
         [webrtc]\nworkers = 2\nconsent_timeout_s = 9\n[bandwidth]\ntotal_kbps = 3000\nmax_uplink_kbps = 9000\nstart_kbps = 400\n\
         [[webrtc.ice_server]]\nurl = \"turn:example.org\"\nusername = \"u\"\ncredential_file = \"token\"\n\
         {CAMERA}[[camera]]\nname = \"clip\"\nfile = \"clip.mp4\"\ncodec = \"h264\"\n\
         layers = 3\ntemporal_layers = 2\ndegradation = \"disabled\"\nweight = 0.5\nmin_kbps = 50\nenforce_min = true\n\
         [[camera]]\nname = \"desk\"\ndevice = 0\nformat = \"mjpeg\"\n"
    );
    let setup = || Setup::bare().file("token", "s3cret").env("LENSCAST_CONFIG", "lenscast.toml");
    let first = effective(setup().file("lenscast.toml", &config));
    let second = effective(setup().file("lenscast.toml", &first.to_string()));
    assert_eq!(first, second);
    assert_eq!(first["http"]["changes_per_minute"].as_integer(), Some(7));
    assert!(!first.to_string().contains("s3cret"), "secrets stay in their files");
}

#[test]
fn the_schema_accepts_the_effective_configuration_and_refuses_what_is_wrong() {
    let printed = Setup::bare().args(["schema"]).run();
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let schema: serde_json::Value = serde_json::from_str(&printed.out).expect("it is JSON");
    jsonschema::meta::validate(&schema).expect("it is a schema by its own meta-schema");
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    let valid = |config: &str| {
        let table: Table = config.parse().expect("it is TOML");
        validator.is_valid(&serde_json::to_value(table).expect("TOML without dates is JSON"))
    };
    let rich = format!("{CAMERA}[[camera]]\nname = \"desk\"\ndevice = \"/dev/video0\"\n");
    let setup = Setup::bare().file("lenscast.toml", &rich).env("LENSCAST_CONFIG", "lenscast.toml");
    assert!(valid(&effective(setup).to_string()));
    assert!(valid("") && valid(&rich));
    for wrong in [
        "[http]\nlisten = 8080\n",
        "[webrtc]\nworkers = 0\n",
        "[webrtc]\nworker = 1\n",
        "[[camera]]\nfps = 1000\n",
        "[[camera]]\nweight = -1\n",
        "[[camera]]\nlayers = 4\n",
        "[bandwidth]\ntotal_kbps = 1\n",
        "[bandwidth]\nmax_uplink_kbps = 1\n",
        "[bandwidth]\nstart_kbps = 1000000\n",
        "x = 1\n",
    ] {
        assert!(!valid(wrong), "{wrong}");
    }
}

#[test]
fn what_is_wrong_is_named_by_key_value_and_what_is_legal_all_at_once() {
    let config = "[http]\nchanges_per_minute = 0\ntoken_file = \"nowhere\"\nallowed_origins = [\"example.org\"]\n\
                  [webrtc]\nworkers = 65\nconnect_timeout_s = 0\nconsent_timeout_s = 1\npublic_addresses = [\"me\"]\n\
                  listen = [\"0.0.0.0:1\", \"[::]:2\"]\n[log]\nlevel = \"lenscast=loud\"\n[bandwidth]\ntotal_kbps = 29\nmax_uplink_kbps = 400\nstart_kbps = 500\n\
                  [[camera]]\nname = \"a\"\npattern = true\nwidth = 641\nheight = 480\n\
                  [[camera]]\nname = \"a\"\npattern = true\nmax_kbps = 1\nweight = -1\nlayers = 4\ntemporal_layers = 0\ndegradation = \"slow\"\n[[camera]]\nname = \"b c\"\npattern = true\n";
    let found = Setup::bare().file("bad.toml", config).args(["check-config", "-c", "bad.toml"]).run();
    assert_eq!(found.code, Some(78));
    for expected in [
        "http.changes_per_minute = 0: must be 1 to 100000",
        "http.token_file = \"nowhere\": No such file",
        "http.allowed_origins = \"example.org\": must be \"*\", or as a browser sends it",
        "webrtc.workers = 65: must be 1 to 64",
        "webrtc.connect_timeout_s = 0: must be 1 to 300",
        "webrtc.consent_timeout_s = 1: must be 2 to 300",
        "webrtc.public_addresses = \"me\": must be IP addresses",
        "webrtc.listen: all addresses must have the same port, these have [1, 2]",
        "log.level = \"lenscast=loud\"",
        "camera \"a\": width, height = (641, 480): both must be even and 16 to 4096",
        "camera.name = \"a\": is there twice",
        "camera \"a\": max_kbps = 1: must be 10 to 100000",
        "camera \"a\": weight = -1.0: must be 0 to 1000000",
        "camera \"a\": layers = 4: must be 1 to 3",
        "camera \"a\": temporal_layers = 0: must be 1 to 3",
        "camera \"a\": degradation = \"slow\"",
        "bandwidth.total_kbps = 29: must be 30 to 10000000",
        "bandwidth.start_kbps = 500: must not exceed max_uplink_kbps, which is 400",
        "camera.name = \"b c\": must be 1 to 64 letters",
    ] {
        assert!(found.log.contains(expected), "{expected:?} is not in\n{}", found.log);
    }
    assert!(found.log.lines().all(|line| line.starts_with("lenscast: ")), "{}", found.log);
}

#[test]
fn an_unknown_key_and_a_wrong_kind_of_value_are_named_with_their_line() {
    for (config, expected) in [
        ("[http]\nport = 80\n", &["line 2", "unknown field `port`", "listen"][..]),
        ("[[camera]]\nname = \"a\"\nbitrate = \"2 Mbit\"\n", &["line 3", "unknown field `bitrate`", "max_kbps"]),
        ("[[camera]]\nname = \"a\"\nmax_kbps = \"2M\"\n", &["line 3", "invalid type", "2M"]),
        ("[[camera]]\nname = \"a\"\nfps = -5\n", &["line 3", "-5"]),
        ("[[camera]]\nname = \"a\"\nbitrate_kbps = 900\n", &["line 3", "bitrate_kbps is called max_kbps now"]),
        ("[webrtc\n", &["line 1"]),
    ] {
        let found = Setup::bare().file("bad.toml", config).args(["check-config", "-c", "bad.toml"]).run();
        assert_eq!(found.code, Some(78), "{found:?}");
        assert!(found.log.contains("bad.toml"), "{}", found.log);
        for part in expected {
            assert!(found.log.contains(part), "{part:?} is not in\n{}", found.log);
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let check = |setup: Setup, path: &str| setup.args(["check-config", "-c", path]).run();
    let directory = Setup::bare();
    std::fs::create_dir(directory.path().join("directory.toml")).unwrap();
    for (found, expected) in [
        (check(Setup::bare(), "missing.toml"), "cannot read missing.toml: No such file"),
        (check(directory, "directory.toml"), "cannot read directory.toml: Is a directory"),
        (
            check(Setup::bare().file("big.toml", &"# filler\n".repeat(200_000)), "big.toml"),
            "is larger than 1048576 bytes",
        ),
        (check(Setup::bare(), "/dev/zero"), "/dev/zero"),
    ] {
        assert_eq!(found.code, Some(78), "{found:?}");
        assert!(found.log.contains(expected), "{expected:?} is not in\n{}", found.log);
    }
    let binary = Setup::bare();
    std::fs::write(binary.path().join("binary.toml"), [0xFF, 0x00, 0xC3, 0x28]).unwrap();
    let found = check(binary, "binary.toml");
    assert_eq!(found.code, Some(78), "{found:?}");
    assert!(found.log.contains("binary.toml"), "{}", found.log);
}

#[test]
fn a_limit_that_is_too_small_is_warned_of_by_check_config_and_at_the_start() {
    let config = format!("[bandwidth]\ntotal_kbps = 300\n{CAMERA}min_kbps = 290\nenforce_min = true\n");
    let found = Setup::bare().file("small.toml", &config).args(["check-config", "-c", "small.toml"]).run();
    assert_eq!((found.code, found.out.as_str()), (Some(0), "ok: 1 camera(s)\n"));
    let lines: Vec<_> = found.log.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, part) in lines.iter().zip(["no camera can send with so little", "cameras with enforce_min take about 3"])
    {
        assert!(line.starts_with("lenscast: warning: bandwidth.total_kbps = 300: ") && line.contains(part), "{line}");
    }
    let server = Setup::new(&config).start();
    server.log.line_with("no camera can send with so little");
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    let found = Setup::bare().file("good.toml", CAMERA).args(["check-config", "-c", "good.toml"]).run();
    assert_eq!((found.code, found.out.as_str(), found.log.as_str()), (Some(0), "ok: 1 camera(s)\n", ""));
}
