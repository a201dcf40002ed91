//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, RawLogFormat};

/// `rtc-dtls` warns of each TLS extension that it does not know, and browsers send three of them, several times each.
const QUIET: &str = "rtc_dtls=error";

/// Writes log lines to standard error from now on. `RUST_LOG` wins over the configuration.
///
/// Does nothing if somebody has set up logging already.
pub fn start(config: &LogConfig) {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let from_environment = from_environment.map(EnvFilter::try_new).transpose();
    let (filter, unreadable) = match from_environment {
        Ok(filter) => (filter, None),
        Err(error) => (None, Some(error)),
    };
    // The configuration's own was checked when it was read; what it says of a target wins over what is said here.
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("{QUIET},{}", config.filter)));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that there is a subscriber already, as in tests.
    let _ = match config.format {
        RawLogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        RawLogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Some(error) = unreadable {
        tracing::warn!(%error, "RUST_LOG cannot be read, the configuration's filter is used");
    }
}
