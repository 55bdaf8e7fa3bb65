//! What every command works with: the settings in front of the command, the configuration file,
//! the connection to the engine and the two output streams.

use std::cell::OnceCell;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

use tokio::runtime::Runtime;
use wharf_client::{Client, Host, Settings, TlsSettings};

use crate::Hooks;
use crate::command::Flag;
use crate::config_file::{ConfigFile, default_directory};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

/// The flags in front of the command; defaults that depend on the environment are in
/// [`Cli::global_default`].
pub(crate) static GLOBAL_FLAGS: &[Flag] = &[
    Flag::string("config", "Location of client config files"),
    Flag::string(
        "context",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"docker context use\")",
    )
    .short('c'),
    Flag::bool("debug", "Enable debug mode").short('D'),
    Flag::list("host", "Daemon socket to connect to").short('H'),
    Flag::string("log-level", "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")")
        .short('l')
        .default("info"),
    Flag::bool("tls", "Use TLS; implied by --tlsverify"),
    Flag::string("tlscacert", "Trust certs signed only by this CA"),
    Flag::string("tlscert", "Path to TLS certificate file"),
    Flag::string("tlskey", "Path to TLS key file"),
    Flag::bool("tlsverify", "Use TLS and verify the remote"),
    Flag::bool("version", "Print version information and quit").short('v'),
];

/// The running command line.
pub(crate) struct Cli {
    /// The name it was called by: `wharf` or `docker`.
    pub(crate) name: String,
    pub(crate) hooks: Hooks,
    global: Matches,
    runtime: Runtime,
    client: OnceCell<Client>,
    config: OnceCell<ConfigFile>,
}

impl Cli {
    pub(crate) fn new(name: &str, hooks: &Hooks, global: Matches) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            name: name.to_owned(),
            hooks: hooks.clone(),
            global,
            runtime,
            client: OnceCell::new(),
            config: OnceCell::new(),
        })
    }

    /// Runs a future to its end on this thread.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Leaves everything to the end of the program: the kernel closes connections faster than we
    /// do, and a blocked read of standard input is not waited for.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    /// Whether `--debug` was given.
    pub(crate) fn debug(&self) -> bool {
        self.global.bool("debug")
    }

    /// The directory of the configuration file.
    pub(crate) fn config_directory(&self) -> PathBuf {
        match self.global.str("config") {
            "" => default_directory(),
            given => PathBuf::from(given),
        }
    }

    /// The configuration file, read at the first use.
    pub(crate) fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| {
            ConfigFile::load(&self.config_directory()).unwrap_or_else(|failure| {
                // A broken file costs its settings, not the command.
                say_error(&format!("WARNING: Error {}", failure.text()));
                ConfigFile::default()
            })
        })
    }

    /// The connection to the engine, set up at the first use.
    pub(crate) fn client(&self) -> Outcome<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(self.settings()?);
        Ok(self.client.get_or_init(|| client))
    }

    /// A connection for completion, which must not start anything.
    pub(crate) fn client_without_autostart(&self) -> Outcome<Client> {
        Ok(Client::new(Settings {
            autostart: None,
            ..self.settings()?
        }))
    }

    fn settings(&self) -> Outcome<Settings> {
        let context = match self.global.str("context") {
            "" if self.global.given("host") || env("DOCKER_HOST").is_some() => String::new(),
            "" => env("DOCKER_CONTEXT").unwrap_or_default(),
            given if self.global.given("host") => {
                let _ = given;
                return Err(Failure::new(
                    "conflicting options: cannot specify both --host and --context",
                ));
            }
            given => given.to_owned(),
        };
        if !matches!(context.as_str(), "" | "default") {
            return Err(Failure::new(format!(
                "context \"{context}\": contexts are not available yet in {}; use --host or DOCKER_HOST",
                self.name
            )));
        }
        let tls = self.tls_settings();
        let hosts = self.global.list("host");
        let named = match hosts.as_slice() {
            [] => env("DOCKER_HOST"),
            [one] => Some((*one).to_owned()),
            _ => return Err(Failure::new("Specify only one -H")),
        };
        let (host, autostart) = match named.filter(|host| !host.trim().is_empty()) {
            Some(text) => (
                Host::parse(&text, tls.is_some())
                    .map_err(|error| Failure::new(error.to_string()))?,
                None,
            ),
            None => (
                Host::Unix(self.hooks.default_socket.clone()),
                Some(self.hooks.autostart),
            ),
        };
        // The default socket named explicitly is still the default socket.
        let autostart = match &host {
            Host::Unix(path) if *path == self.hooks.default_socket => {
                autostart.or(Some(self.hooks.autostart))
            }
            _ => autostart,
        };
        Ok(Settings {
            host,
            tls,
            pinned_version: env("DOCKER_API_VERSION")
                .map(|version| version.trim_start_matches('v').to_owned()),
            user_agent: if self.name == "docker" {
                "Docker-Client/28.2.2 (linux)".to_owned()
            } else {
                concat!("Wharf-Client/", env!("CARGO_PKG_VERSION"), " (linux)").to_owned()
            },
            headers: self.headers(),
            autostart,
        })
    }

    /// `HttpHeaders` of the configuration file. Read only when the file exists, which it does not
    /// for most users.
    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = self.config().texts("HttpHeaders");
        // Docker: the file cannot change who the client says it is.
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("user-agent"));
        headers
    }

    /// The proxy variables the configuration file wants in containers, each in both cases.
    pub(crate) fn proxies(&self) -> Vec<(String, String)> {
        let Some(all) = self.config().get("proxies") else {
            return Vec::new();
        };
        let host = self
            .client()
            .map(|client| client.host().to_string())
            .unwrap_or_default();
        let settings = all.get(&host).or_else(|| all.get("default"));
        let mut out = Vec::new();
        for (key, name) in [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ] {
            let value = settings.and_then(|settings| settings.get(key)?.as_str());
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                out.push((name.to_owned(), value.to_owned()));
                out.push((name.to_lowercase(), value.to_owned()));
            }
        }
        out
    }

    fn tls_settings(&self) -> Option<TlsSettings> {
        let verify = if self.global.given("tlsverify") {
            self.global.bool("tlsverify")
        } else {
            env("DOCKER_TLS_VERIFY").is_some()
        };
        if !(verify || self.global.bool("tls") || env("DOCKER_TLS").is_some()) {
            return None;
        }
        let file = |flag: &str, name: &str| match self.global.str(flag) {
            // The files at their default places are used when they are there.
            "" => Some(self.certificate_directory().join(name)).filter(|path| path.exists()),
            given => Some(PathBuf::from(given)),
        };
        Some(TlsSettings {
            verify,
            // Without its CA nothing could be verified: a missing file is an error then.
            ca: file("tlscacert", "ca.pem")
                .or_else(|| verify.then(|| self.certificate_directory().join("ca.pem"))),
            cert: file("tlscert", "cert.pem"),
            key: file("tlskey", "key.pem"),
        })
    }

    pub(crate) fn certificate_directory(&self) -> PathBuf {
        env("DOCKER_CERT_PATH").map_or_else(|| self.config_directory(), PathBuf::from)
    }
}

/// An environment variable, if it is set to something.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a line to standard output.
pub(crate) fn println(text: &str) -> io::Result<()> {
    let mut line = String::with_capacity(text.len() + 1);
    line.push_str(text);
    line.push('\n');
    print(&line)
}

/// Writes a line to standard error. Nobody can be told when that fails.
pub(crate) fn say_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes to standard error as it is.
pub(crate) fn print_error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Asks on standard output and reads the answer; only `y` and `yes` are a yes.
pub(crate) fn confirm(question: &str) -> Outcome<bool> {
    print(question)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
