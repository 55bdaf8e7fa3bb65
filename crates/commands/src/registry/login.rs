//! `docker login`.

use std::io::{self, BufRead as _, Read as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::credentials::{self, Auth, HUB_KEY, key};
use crate::cli::{Cli, print, println, say_error, stdin_is_terminal};
use crate::command::{Args, Command, Flag};
use crate::config_file::ConfigFile;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] [SERVER]",
    short: "Authenticate to a registry",
    long: Some("Authenticate to a registry.\nDefaults to Docker Hub if no server is specified."),
    aliases: &[],
    args: Args::Max(1),
    flags: &[
        Flag::string("password", "Password or Personal Access Token (PAT)").short('p'),
        Flag::bool(
            "password-stdin",
            "Take the Password or Personal Access Token (PAT) from stdin",
        ),
        Flag::string("username", "Username").short('u'),
    ],
    interspersed: true,
    run,
};

/// The longest password read from standard input, in bytes.
const PASSWORD_MAX: u64 = 1 << 20;

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let server = m
        .args
        .first()
        .map_or_else(|| HUB_KEY.to_owned(), |server| key(server));
    let mut auth = Auth {
        username: m.str("username").to_owned(),
        password: m.str("password").to_owned(),
        ..Auth::default()
    };
    if m.given("password") {
        if m.bool("password-stdin") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        say_error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if m.bool("password-stdin") {
        if auth.username.is_empty() {
            return Err(Failure::new(
                "Must provide --username with --password-stdin",
            ));
        }
        let mut text = String::new();
        io::stdin().take(PASSWORD_MAX).read_to_string(&mut text)?;
        text.trim_end_matches(['\n', '\r'])
            .clone_into(&mut auth.password);
    }
    let client = cli.client()?;
    let check = |auth: &Auth| cli.block_on(client.post("/auth", Some(auth.json(&server))));
    let mut config = ConfigFile::load(&cli.config_directory())?;
    if auth.username.is_empty() && auth.password.is_empty() {
        let known = credentials::get(&config, &server)?;
        if !known.is_empty() {
            let who = match known.username.as_str() {
                "" => String::new(),
                username => format!(" [Username: {username}]"),
            };
            let name = &cli.name;
            say_error(&format!(
                "Authenticating with existing credentials...{who}\n\n Info -> To login with a different account, run '{name} logout' followed by '{name} login'\n\n"
            ));
            if let Ok(answer) = check(&known) {
                return Ok(println(
                    answer["Status"].as_str().unwrap_or("Login Succeeded"),
                )?);
            }
            say_error("Login did not succeed, error: the registry refused the stored credentials");
        }
    }
    prompt(&mut auth)?;
    let answer = check(&auth)?;
    if let Some(token) = answer["IdentityToken"]
        .as_str()
        .filter(|token| !token.is_empty())
    {
        auth.password.clear();
        token.clone_into(&mut auth.identity_token);
    }
    if credentials::store(&mut config, &server, &auth)? {
        say_error(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            config.path().display()
        ));
    }
    Ok(println(
        answer["Status"]
            .as_str()
            .filter(|status| !status.is_empty())
            .unwrap_or("Login Succeeded"),
    )?)
}

/// Asks for what is missing.
fn prompt(auth: &mut Auth) -> Outcome {
    if !auth.username.is_empty() && !auth.password.is_empty() {
        return Ok(());
    }
    if !stdin_is_terminal() {
        return Err(Failure::new(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    if auth.username.is_empty() {
        print("Username: ")?;
        auth.username = read_line()?;
        if auth.username.is_empty() {
            return Err(Failure::new("Error: Non-null Username Required"));
        }
    }
    print("Password: ")?;
    auth.password = without_echo(read_line)?;
    println("")?;
    if auth.password.is_empty() {
        return Err(Failure::new("Error: Password Required"));
    }
    Ok(())
}

fn read_line() -> Outcome<String> {
    let mut line = String::new();
    io::stdin().lock().take(PASSWORD_MAX).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Runs `read` while the terminal does not show what is typed.
fn without_echo<T>(read: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let stdin = rustix::stdio::stdin();
    let saved = tcgetattr(stdin).map_err(io::Error::from)?;
    let mut silent = saved.clone();
    silent.local_modes &= !LocalModes::ECHO;
    tcsetattr(stdin, OptionalActions::Now, &silent).map_err(io::Error::from)?;
    let result = read();
    tcsetattr(stdin, OptionalActions::Now, &saved).map_err(io::Error::from)?;
    result
}
