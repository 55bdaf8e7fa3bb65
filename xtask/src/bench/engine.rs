//! The engines under measurement, each with its own data directory and socket.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A running engine and the client that talks to it.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// The table's column head.
    pub(crate) title: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Executables whose processes are this engine's, for memory.
    executables: Vec<&'static str>,
    podman: bool,
    children: Vec<Child>,
}

impl Engine {
    /// Wharf first (its forwarding set-up keeps Docker from closing the FORWARD chain), then the peers.
    pub(crate) fn start_all(folder: &Path, cgroup_parent: &str) -> Result<Vec<Self>, String> {
        Ok(vec![
            Self::wharf(folder, cgroup_parent)?,
            Self::docker(folder)?,
            Self::podman(folder)?,
        ])
    }

    /// Wharf alone; also after an earlier one on the same folder has ended.
    pub(crate) fn wharf(folder: &Path, cgroup_parent: &str) -> Result<Self, String> {
        let program = wharf_tests::wharf_binary();
        let socket = format!("unix://{}", folder.join("wharf.sock").display());
        let child = Command::new(&program)
            .arg("daemon")
            .arg("--data-root")
            .arg(folder.join("wharf-data"))
            .arg("--exec-root")
            .arg("/run/wharf")
            .arg("--pidfile")
            .arg(folder.join("wharf.pid"))
            .args([
                "--host",
                &socket,
                "--cgroup-parent",
                &format!("/{cgroup_parent}"),
            ])
            .stdout(Stdio::null())
            .stderr(log(folder, "wharf")?)
            .spawn()
            .map_err(|error| error.to_string())?;
        let engine = Self {
            name: "wharf",
            title: format!("Wharf {}", env!("CARGO_PKG_VERSION")),
            program,
            arguments: vec!["-H".to_owned(), socket],
            environment: Vec::new(),
            executables: vec!["wharf", "wharf-shim"],
            podman: false,
            children: vec![child],
        };
        engine.wait_until_it_answers(folder)
    }

    fn docker(folder: &Path) -> Result<Self, String> {
        let socket = format!("unix://{}", folder.join("docker.sock").display());
        let child = Command::new("/usr/sbin/dockerd")
            .arg("--data-root")
            .arg(folder.join("docker-data"))
            .arg("--exec-root")
            .arg("/run/docker")
            .arg("--pidfile")
            .arg(folder.join("docker.pid"))
            .args(["--host", &socket])
            .stdout(Stdio::null())
            .stderr(log(folder, "docker")?)
            .spawn()
            .map_err(|error| format!("dockerd: {error}"))?;
        let engine = Self {
            name: "docker",
            title: format!("Docker {}", package_version("docker.io")),
            program: PathBuf::from("/usr/bin/docker"),
            arguments: vec!["-H".to_owned(), socket],
            environment: vec![(
                "DOCKER_CONFIG".to_owned(),
                folder.join("docker-config").display().to_string(),
            )],
            executables: vec![
                "dockerd",
                "containerd",
                "containerd-shim-runc-v2",
                "docker-proxy",
            ],
            podman: false,
            children: vec![child],
        };
        engine.wait_until_it_answers(folder)
    }

    fn podman(folder: &Path) -> Result<Self, String> {
        // crun refuses a hybrid cgroup mount; Podman's default limits may exceed the machine's hard ones.
        drop(
            Command::new("umount")
                .arg("/sys/fs/cgroup/unified")
                .stderr(Stdio::null())
                .status(),
        );
        let config = folder.join("containers.conf");
        std::fs::write(
            &config,
            "[containers]\ndefault_ulimits = [\"nofile=10000:10000\", \"nproc=20000:20000\"]\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
        )
        .map_err(|error| error.to_string())?;
        let policy = folder.join("policy.json");
        std::fs::write(
            &policy,
            "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}",
        )
        .map_err(|error| error.to_string())?;
        let root = folder.join("podman-data").display().to_string();
        let arguments = [
            "--root",
            &root,
            "--runroot",
            "/run/containers/storage",
            "--tmpdir",
            "/run/libpod",
            "--cgroup-manager",
            "cgroupfs",
            "--runtime",
            "crun",
        ];
        let arguments = arguments.map(str::to_owned).to_vec();
        let engine = Self {
            name: "podman",
            title: format!("Podman {}", package_version("podman")),
            program: PathBuf::from("/usr/bin/podman"),
            arguments,
            environment: vec![("CONTAINERS_CONF".to_owned(), config.display().to_string())],
            executables: vec!["conmon"],
            podman: true,
            children: Vec::new(),
        };
        engine.succeed(&["version"])?;
        Ok(engine)
    }

    fn wait_until_it_answers(self, folder: &Path) -> Result<Self, String> {
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        while self.succeed(&["version"]).is_err() {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(folder.join(format!("{}.log", self.name)))
                    .unwrap_or_default();
                return Err(format!("{} does not answer:\n{log}", self.name));
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Ok(self)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_remove("DOCKER_CONFIG")
            .args(&self.arguments)
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Runs a client command that must end well.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> Result<(), String> {
        let out = self
            .command(arguments)
            .output()
            .map_err(|error| error.to_string())?;
        if out.status.success() {
            Ok(())
        } else {
            Err(format!(
                "{} {}: {}",
                self.name,
                arguments.join(" "),
                String::from_utf8_lossy(&out.stderr)
            ))
        }
    }

    /// Milliseconds a client command takes, from its start to its end.
    pub(crate) fn time(&self, arguments: &[&str]) -> Result<f64, String> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let start = Instant::now();
        let out = command
            .spawn()
            .and_then(Child::wait_with_output)
            .map_err(|error| error.to_string())?;
        let elapsed = start.elapsed().as_secs_f64() * 1000.0;
        if out.status.success() {
            Ok(elapsed)
        } else {
            Err(format!(
                "{} {}: {}",
                self.name,
                arguments.join(" "),
                String::from_utf8_lossy(&out.stderr)
            ))
        }
    }

    /// `kill -9` of the engine's first process, collected.
    pub(crate) fn kill(mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.children.first().map(Child::id)
    }

    /// How many bytes a client command prints.
    pub(crate) fn output_bytes(&self, arguments: &[&str]) -> u64 {
        let Ok(mut child) = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            return 0;
        };
        let mut stdout = child.stdout.take().expect("stdout was asked for as a pipe");
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        while let Ok(count) = stdout.read(&mut buffer) {
            if count == 0 {
                break;
            }
            total += count as u64;
        }
        drop(child.wait());
        total
    }

    /// The quickest way to remove a running container. Podman waits ten seconds unless told not to.
    pub(crate) fn force_remove(&self, name: &str) -> &'static [&'static str] {
        // The commands live as long as the benchmark, which is as long as the process.
        let mut words = vec!["rm", "-f"];
        if self.podman {
            words.extend(["-t", "0"]);
        }
        words.push(Box::leak(name.to_owned().into_boxed_str()));
        Box::leak(words.into_boxed_slice())
    }

    /// The command that pulls from the registry on loopback.
    pub(crate) fn pull<'a>(&self, image: &'a str) -> Vec<&'a str> {
        if self.podman {
            vec!["pull", "-q", "--tls-verify=false", image]
        } else {
            vec!["pull", "-q", image]
        }
    }

    /// Proportional set size of all its processes, kB.
    pub(crate) fn memory_kb(&self) -> u64 {
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return 0;
        };
        processes
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .bytes()
                    .all(|b| b.is_ascii_digit())
            })
            .filter(|entry| self.owns(&entry.path()))
            .map(|entry| pss_kb(&entry.path()))
            .sum()
    }

    fn owns(&self, process: &Path) -> bool {
        let command_line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let first = command_line
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        let name = String::from_utf8_lossy(first);
        let name = name.rsplit('/').next().unwrap_or_default();
        self.executables.contains(&name)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

pub(crate) fn pss_kb(process: &Path) -> u64 {
    let text = std::fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

fn package_version(package: &str) -> String {
    let out = Command::new("dpkg-query")
        .args(["-W", "-f", "${Version}", package])
        .output();
    let version = out
        .map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
        .unwrap_or_default();
    let version = version.rsplit(':').next().unwrap_or_default();
    version
        .split(['+', '-'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn log(folder: &Path, name: &str) -> Result<std::fs::File, String> {
    std::fs::File::create(folder.join(format!("{name}.log"))).map_err(|error| error.to_string())
}

/// A registry on loopback holding one image.
pub(crate) struct Registry {
    pub(crate) image: String,
    child: Child,
}

impl Registry {
    pub(crate) fn start(folder: &Path, archive: &str) -> Result<Self, String> {
        const ADDRESS: &str = "127.0.0.1:5555";
        let config = folder.join("registry.yml");
        let data = folder.join("registry-data");
        std::fs::write(&config, format!("version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: {ADDRESS}\n", data.display()))
            .map_err(|error| error.to_string())?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let image = format!("{ADDRESS}/files:latest");
        let registry = Self { image, child };
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let copied = Command::new("skopeo")
                .args([
                    "copy",
                    "--quiet",
                    "--insecure-policy",
                    "--dest-tls-verify=false",
                ])
                .arg(format!("docker-archive:{archive}"))
                .arg(format!("docker://{}", registry.image))
                .stderr(Stdio::null())
                .status();
            if copied.is_ok_and(|status| status.success()) {
                return Ok(registry);
            }
            if Instant::now() > deadline {
                return Err("the registry does not take the image".to_owned());
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
