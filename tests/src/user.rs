//! An ordinary user on a test's host, who runs an engine of their own.

use std::path::PathBuf;
use std::process::Command;

use crate::host::Host;
use crate::output::{Output, run};

/// The user's id. The host's `/etc` is a copy of the machine's in which it is somebody.
const UID: u32 = 5001;
/// The first of the user's subordinate ids.
const FIRST_SUBORDINATE: u32 = 300_000;

/// Addresses of the host and of a machine it is connected with.
pub const HOST_ADDRESS: &str = "192.0.2.10";
/// That other machine.
pub const NEIGHBOUR: &str = "192.0.2.1";
/// The host's other address.
pub const HOST_ADDRESS_6: &str = "2001:db8::10";
/// The other machine's.
pub const NEIGHBOUR_6: &str = "2001:db8::1";

/// A user with home, subordinate ids and a session's runtime directory.
#[derive(Debug)]
pub struct User<'h> {
    /// Where.
    pub host: &'h Host,
    home: PathBuf,
}

impl<'h> User<'h> {
    /// Makes the account, and the host a member of a network with one other machine.
    pub fn new(host: &'h Host) -> Self {
        let home = host.join("home");
        let script = "set -e; cd $0; chmod 755 .; mkdir -p home bin etc-up etc-work; \
            mount -t overlay overlay -o lowerdir=/etc,upperdir=etc-up,workdir=etc-work /etc; \
            echo \"ann:x:$1:$1::$0/home:/bin/sh\" >> /etc/passwd; echo \"ann:x:$1:\" >> /etc/group; \
            echo ann:$2:65536 > /etc/subuid; echo ann:$2:65536 > /etc/subgid; \
            mkdir -p /run/user/$1; chown $1:$1 home /run/user/$1; chmod 700 home /run/user/$1; \
            mount -t tmpfs -o mode=1777 tmpfs /tmp; \
            touch bin/wharf; mount --bind \"$3\" bin/wharf; \
            mkdir -p /dev/net; mount -t tmpfs tmpfs /dev/net; mknod -m 666 /dev/net/tun c 10 200; \
            unshare --net sh -c 'echo > ready-net; exec sleep infinity' > /dev/null 2>&1 & echo $! > neighbour; \
            for i in $(seq 6000); do [ ! -e ready-net ] || break; sleep 0.01; done; \
            ip link add out0 type veth peer name eth0 netns $(cat neighbour); \
            ip addr add $4/24 dev out0; ip addr add $6/64 dev out0 nodad; ip link set out0 up; \
            ip route add default via $5; ip route add default via $7; \
            nsenter -t $(cat neighbour) -n sh -c \"ip link set lo up; ip addr add $5/24 dev eth0; \
            ip addr add $7/64 dev eth0 nodad; ip link set eth0 up\"";
        let mut setup = host.command("sh");
        setup
            .arg("-c")
            .arg(script)
            .arg(host.path())
            .args([UID.to_string(), FIRST_SUBORDINATE.to_string()])
            .arg(crate::wharf_binary())
            .args([HOST_ADDRESS, NEIGHBOUR, HOST_ADDRESS_6, NEIGHBOUR_6]);
        run(setup, None).ok();
        Self { host, home }
    }

    /// `program` set up to run as the user.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let id = UID.to_string();
        let mut command = self.host.command("setpriv");
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
            .arg(program)
            .env("HOME", &self.home)
            .env("USER", "ann")
            .env("XDG_RUNTIME_DIR", self.runtime())
            .env("DOCKER_CONFIG", self.home.join(".docker"))
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME");
        command
    }

    /// Runs a shell line as the user.
    pub fn sh(&self, line: &str) -> Output {
        let mut command = self.command("sh");
        command.arg("-c").arg(line);
        run(command, None)
    }

    /// A command of Wharf's own client, without any setting.
    pub fn wharf(&self, arguments: &[&str]) -> Output {
        run(self.wharf_command(arguments), None)
    }

    /// That command itself.
    pub fn wharf_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.host.join("bin/wharf"));
        command.args(arguments);
        command
    }

    /// A command of the reference client against the user's engine; Wharf's where there is none.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        self.docker_with_input(arguments, &[])
    }

    /// The same with something on standard input.
    pub fn docker_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let client = crate::docker_client().unwrap_or_else(|| self.host.join("bin/wharf"));
        let mut command = self.command(client);
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}/wharf.sock", self.runtime()),
            )
            .args(arguments);
        run(command, (!input.is_empty()).then_some(input))
    }

    /// Loads an image archive, whoever may read it.
    pub fn load(&self, archive: &std::path::Path) -> Output {
        let bytes = std::fs::read(archive).expect("an image of ours");
        self.docker_with_input(&["load"], &bytes).ok()
    }

    /// A shell line on the other machine of the network.
    pub fn neighbour(&self, line: &str) -> Output {
        let pid = self.host.join("neighbour");
        self.host.sh(&format!(
            "nsenter -t $(cat {}) -n sh -c '{line}'",
            pid.display()
        ))
    }

    /// Runs a shell line as the user again and again until it succeeds.
    #[track_caller]
    pub fn eventually(&self, line: &str) -> Output {
        crate::waiting::succeeds(line, || self.sh(line))
    }

    /// A web server on the other machine of the network, which serves `text` as
    /// `http://192.0.2.1:8000/page`.
    #[track_caller]
    pub fn serve_page_on_neighbour(&self, text: &str) {
        self.neighbour(&format!(
            "mkdir -p /tmp/www; echo {text} > /tmp/www/page; \
             cd /tmp/www; python3 -m http.server --bind {NEIGHBOUR} 8000 > /dev/null 2>&1 &"
        ))
        .ok();
        crate::eventually("the neighbour serves its page", || {
            let out = self.neighbour(&format!(
                "curl -s --max-time 20 http://{NEIGHBOUR}:8000/page"
            ));
            if out.code == 0 {
                Ok(())
            } else {
                Err(out.stderr)
            }
        });
    }

    /// The user's home.
    pub fn home(&self) -> &std::path::Path {
        &self.home
    }

    /// `$XDG_RUNTIME_DIR`.
    pub fn runtime(&self) -> String {
        format!("/run/user/{UID}")
    }

    /// The host's id of the user in a container with id `inside`.
    pub fn outside(&self, inside: u32) -> u32 {
        if inside == 0 {
            UID
        } else {
            FIRST_SUBORDINATE + inside - 1
        }
    }

    /// What the user's daemon has logged.
    pub fn log(&self) -> String {
        self.host
            .sh(&format!("cat {}/wharf.log", self.runtime()))
            .stdout
    }

    /// Waits until none of the user's processes is left, keeper and network program included.
    pub fn wait_until_gone(&self) {
        // Not by the owner in /proc: of a process that may not be looked into that is root.
        self.host.eventually(&format!("! pgrep -l -U {UID}"));
    }
}
