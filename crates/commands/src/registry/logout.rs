//! `docker logout`.

use super::credentials::{self, HUB_KEY, key};
use crate::cli::{Cli, println};
use crate::command::{Args, Command};
use crate::config_file::ConfigFile;
use crate::matches::Matches;
use crate::outcome::Outcome;

pub(crate) static COMMAND: Command = Command {
    usage: "[SERVER]",
    short: "Log out from a registry",
    long: Some(
        "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    ),
    aliases: &[],
    args: Args::Max(1),
    flags: &[],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let server = m
        .args
        .first()
        .map_or_else(|| HUB_KEY.to_owned(), |server| key(server));
    let mut config = ConfigFile::load(&cli.config_directory())?;
    println(&format!("Removing login credentials for {server}"))?;
    credentials::erase(&mut config, &server)
}
