//! A whole day of work with the reference client: what people do with Docker, in one go. The same day
//! for root's engine (`day_of_work.rs`) and an ordinary user's (`rootless.rs`).
//!
//! Each step checks what is printed and the exit code. The images are real: a static busybox, a
//! debootstrap system, nginx, redis and PostgreSQL from Debian packages.

mod afternoon;
mod evening;
mod morning;
mod noon;

use std::path::{Path, PathBuf};

pub use afternoon::afternoon;
pub use evening::{Registries, evening};
pub use morning::morning;
pub use noon::noon;

use crate::{Daemon, Host, Output, user::User};

/// Whose engine the day is spent with.
pub trait Engine {
    /// Where it runs.
    fn host(&self) -> &Host;
    /// A command of the reference client.
    fn docker(&self, arguments: &[&str]) -> Output;
    /// The same with something on standard input.
    fn docker_with_input(&self, arguments: &[&str], input: &[u8]) -> Output;
    /// Loads an image archive.
    fn load(&self, archive: &Path) -> Output;
    /// A folder of whoever works here.
    fn folder(&self) -> PathBuf;
    /// A shell line of theirs in that folder.
    fn sh(&self, line: &str) -> Output;
    /// Whether containers have cgroups: limits and `pause` need them.
    fn has_cgroups(&self) -> bool;
}

impl Engine for Daemon<'_> {
    fn host(&self) -> &Host {
        self.host
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        Daemon::docker(self, arguments)
    }

    fn docker_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        Daemon::docker_with_input(self, arguments, input)
    }

    fn load(&self, archive: &Path) -> Output {
        Daemon::docker(self, &["load", "-i", &archive.display().to_string()]).ok()
    }

    fn folder(&self) -> PathBuf {
        self.host.path().to_owned()
    }

    fn sh(&self, line: &str) -> Output {
        self.host
            .sh(&format!("cd {}; {line}", self.host.path().display()))
    }

    fn has_cgroups(&self) -> bool {
        true
    }
}

impl Engine for User<'_> {
    fn host(&self) -> &Host {
        self.host
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        User::docker(self, arguments)
    }

    fn docker_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        User::docker_with_input(self, arguments, input)
    }

    fn load(&self, archive: &Path) -> Output {
        User::load(self, archive)
    }

    fn folder(&self) -> PathBuf {
        self.home().to_owned()
    }

    fn sh(&self, line: &str) -> Output {
        User::sh(self, &format!("cd ~; {line}"))
    }

    /// The tests' host delegates none.
    fn has_cgroups(&self) -> bool {
        false
    }
}

/// A full id, as `run -d` and `create` print it.
#[track_caller]
fn is_id(text: &str) -> String {
    let id = text.trim().to_owned();
    assert!(
        id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "`{text}` is no container id"
    );
    id
}
