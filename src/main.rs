//! The `lenscast` binary: see the crate `lenscast`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use lenscast::cli::{Cli, Command, ConfigArgs};
use lenscast::config::{Config, RawConfig};
use lenscast::listing;
use lenscast::service::{self, EXIT_CONFIG, EXIT_RUNTIME, EXIT_USAGE};
use lenscast::simulate::{SimulateError, simulate};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => run(&cli.run.config),
        Some(Command::Run(args)) => run(&args.config),
        Some(Command::CheckConfig { config, print_effective }) => check_config(&config, print_effective),
        Some(Command::ListCameras { json }) => {
            let cameras = lenscast_capture::list_cameras();
            print(&if json { listing::to_json(&cameras) } else { listing::to_text(&cameras) })
        }
        Some(Command::Simulate(args)) => match simulate(&args) {
            Ok(text) => print(&text),
            Err(error @ SimulateError::UnknownCase(_)) => fail(&error, EXIT_USAGE),
            Err(error) => fail(&error, EXIT_RUNTIME),
        },
        Some(Command::Schema) => {
            let schema = schemars::schema_for!(RawConfig);
            print(&format!("{:#}\n", schema.as_value()))
        }
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lenscast", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

fn run(args: &ConfigArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, EXIT_RUNTIME),
    };
    let outcome = runtime.block_on(service::run(args));
    // Threads that do not come back (a driver that hangs) must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            error.exit_code()
        }
    }
}

fn check_config(args: &ConfigArgs, print_effective: bool) -> ExitCode {
    match Config::load(args.config.as_deref(), &args.overrides()) {
        Ok(config) => {
            for warning in config.warnings() {
                report(&format_args!("warning: {warning}"));
            }
            if print_effective {
                print(&config.to_toml())
            } else {
                let streams = match config.streams.len() {
                    0 => String::new(),
                    streams => format!(", {streams} stream(s)"),
                };
                print(&format!("ok: {} camera(s){streams}\n", config.cameras.len()))
            }
        }
        Err(error) => fail(&error, EXIT_CONFIG),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has seen enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error, EXIT_RUNTIME),
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    report(&error);
    ExitCode::from(code)
}

/// On standard error, whatever the log level: it is the last thing the user sees.
fn report(message: &dyn std::fmt::Display) {
    for line in message.to_string().lines() {
        let _ = writeln!(std::io::stderr(), "lenscast: {line}");
    }
}
