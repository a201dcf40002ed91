#![no_main]
// A configuration file: refused with a reason, or one that reads back as itself.
libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(config) = lenscast::config::parse(text).map_err(drop).and_then(|raw| lenscast::config::Config::from_raw(raw).map_err(drop)) {
        let again = lenscast::config::parse(&config.to_toml()).expect("the effective configuration is TOML");
        let again = lenscast::config::Config::from_raw(again).expect("and can be run");
        assert_eq!(again.to_toml(), config.to_toml());
    }
});
