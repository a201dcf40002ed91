//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{Overrides, RawLogFormat};
use crate::simulate::SimulateArgs;

/// A camera server: each camera captured once, encoded once, watched by any number of browsers.
#[derive(Debug, Parser)]
#[command(name = "lenscast", version, about, max_term_width = 100)]
// What stands before a command would else be forgotten.
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do. Without it: run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// For `run`, when no command is given.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the cameras of a configuration, or a test pattern without one.
    Run(RunArgs),
    /// Check a configuration and say everything that is wrong with it.
    CheckConfig {
        /// Where the configuration comes from.
        #[command(flatten)]
        config: ConfigArgs,
        /// Print the configuration with all defaults filled in.
        #[arg(long)]
        print_effective: bool,
    },
    /// List the cameras of this machine with what they can deliver.
    ListCameras {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Try congestion controllers in a simulated network: the cases of RFC 8867 and more.
    Simulate(SimulateArgs),
    /// Print the JSON schema of the configuration.
    Schema,
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// How to run.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Where the configuration comes from. A flag wins over the environment, that over the file, that over the default.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file, TOML
    #[arg(short, long, value_name = "FILE", env = "LENSCAST_CONFIG")]
    pub config: Option<PathBuf>,
    /// TCP addresses of page, WHEP and API [http.listen]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LENSCAST_HTTP_LISTEN", value_delimiter = ',')]
    pub http_listen: Option<Vec<String>>,
    /// UDP addresses of media [webrtc.listen]
    #[arg(long, value_name = "ADDRESS:PORT", env = "LENSCAST_WEBRTC_LISTEN", value_delimiter = ',')]
    pub webrtc_listen: Option<Vec<String>>,
    /// Addresses under which a NAT makes this machine known [webrtc.public_addresses]
    #[arg(long, value_name = "ADDRESS", env = "LENSCAST_PUBLIC_ADDRESSES", value_delimiter = ',')]
    pub public_addresses: Option<Vec<String>>,
    /// Log filter, such as "info" or "warn,lenscast_transport=debug" [log.level]
    #[arg(long, value_name = "FILTER", env = "LENSCAST_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// How a log line is written [log.format]
    #[arg(long, value_name = "FORMAT", env = "LENSCAST_LOG_FORMAT", value_enum)]
    pub log_format: Option<RawLogFormat>,
}

impl ConfigArgs {
    /// What flags and environment say.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            http_listen: self.http_listen.clone(),
            webrtc_listen: self.webrtc_listen.clone(),
            public_addresses: self.public_addresses.clone(),
            log_level: self.log_level.clone(),
            log_format: self.log_format,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_what_happens_without_a_command() {
        let cli = Cli::parse_from(["lenscast", "--config", "x.toml", "--http-listen", "127.0.0.1:1,[::1]:1"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.run.config.config, Some(PathBuf::from("x.toml")));
        assert_eq!(cli.run.config.overrides().http_listen.unwrap().len(), 2);
        let before = Cli::try_parse_from(["lenscast", "-c", "x.toml", "check-config"]).unwrap_err();
        assert_eq!(before.exit_code(), 2, "a flag before a command is not passed over in silence: {before}");
        let cli = Cli::parse_from(["lenscast", "run", "-c", "x.toml"]);
        assert!(matches!(cli.command, Some(Command::Run(RunArgs { config })) if config.config.is_some()));
    }
}
