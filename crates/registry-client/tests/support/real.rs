//! Debian's `docker-registry`, filled with `skopeo`: both started by their absolute paths, the
//! registry on a free loopback port with everything in a temporary directory, ended with the test.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const REGISTRY: &str = "/usr/bin/docker-registry";
const SKOPEO: &str = "/usr/bin/skopeo";
const OPENSSL: &str = "/usr/bin/openssl";
const HTPASSWD: &str = "/usr/bin/htpasswd";
const BUSYBOX: &str = "/bin/busybox";

/// Whether this machine has the programs; says so when not.
pub fn available() -> bool {
    let missing: Vec<_> = [REGISTRY, SKOPEO, OPENSSL, HTPASSWD, BUSYBOX]
        .into_iter()
        .filter(|path| !Path::new(path).exists())
        .collect();
    if !missing.is_empty() {
        let thread = std::thread::current();
        wharf_tests::skip(
            thread.name().unwrap_or("a registry's test"),
            &format!("{} not installed", missing.join(", ")),
        );
    }
    missing.is_empty()
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    pub tls: bool,
    /// `user` with the password `secret`.
    pub htpasswd: bool,
}

#[derive(Debug)]
pub struct Registry {
    child: Child,
    pub port: u16,
    pub dir: TempDir,
    setup: Setup,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Registry {
    /// Starts one. Port 0 is told nowhere: a free one is looked for, and another when somebody was faster.
    pub fn start(setup: Setup) -> Self {
        (0..10)
            .find_map(|_| Self::try_start(setup))
            .expect("a registry starts on one of ten free ports")
    }

    fn try_start(setup: Setup) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let root = dir.path();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n",
            root.join("data").display()
        );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        config.push_str(&format!(
            "http:\n  addr: 127.0.0.1:{port}\n  secret: test\n"
        ));
        if setup.tls {
            make_certificates(root);
            config.push_str(&format!(
                "  tls:\n    certificate: {0}/server.crt\n    key: {0}/server.key\n",
                root.display()
            ));
        }
        if setup.htpasswd {
            let output = Command::new(HTPASSWD)
                .args(["-Bbn", "user", "secret"])
                .output()
                .unwrap();
            fs::write(root.join("htpasswd"), output.stdout).unwrap();
            config.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}/htpasswd\n",
                root.display()
            ));
        }
        fs::write(root.join("config.yml"), config).unwrap();
        let mut child = Command::new(REGISTRY)
            .arg("serve")
            .arg(root.join("config.yml"))
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let registry = Self {
            child,
            port,
            dir,
            setup,
        };
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            if log.read_line(&mut line).unwrap() == 0 {
                return None;
            }
        }
        // Its log must go on being read, or it blocks.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut log, &mut std::io::sink());
        });
        Some(registry)
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Copies an image made of busybox under this name and tag.
    pub fn fill(&self, name: &str, tag: &str) {
        let layout = busybox_layout(self.dir.path());
        let mut command = Command::new(SKOPEO);
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
        ]);
        if self.setup.htpasswd {
            command.arg("--dest-creds=user:secret");
        }
        command
            .arg(format!("oci:{}:test", layout.display()))
            .arg(format!("docker://{}/{name}:{tag}", self.host()))
            .env("TMPDIR", self.dir.path());
        run(&mut command);
    }

    /// What skopeo reads back: proof that a push was a real one.
    pub fn copy_out(&self, name: &str, tag: &str) -> PathBuf {
        let target = self.dir.path().join("out");
        let mut command = Command::new(SKOPEO);
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
        ]);
        if self.setup.htpasswd {
            command.arg("--src-creds=user:secret");
        }
        command
            .arg(format!("docker://{}/{name}:{tag}", self.host()))
            .arg(format!("oci:{}:test", target.display()))
            .env("TMPDIR", self.dir.path());
        run(&mut command);
        target
    }
}

/// An authority and a server certificate for 127.0.0.1 signed by it.
fn make_certificates(dir: &Path) {
    let path = |name: &str| dir.join(name).display().to_string();
    run(Command::new(OPENSSL).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test authority",
        "-keyout",
        &path("ca.key"),
        "-out",
        &path("ca.crt"),
    ]));
    run(Command::new(OPENSSL).args([
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
        "-keyout",
        &path("server.key"),
        "-out",
        &path("server.csr"),
    ]));
    fs::write(
        dir.join("server.ext"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    run(Command::new(OPENSSL).args([
        "x509",
        "-req",
        "-in",
        &path("server.csr"),
        "-CA",
        &path("ca.crt"),
        "-CAkey",
        &path("ca.key"),
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        &path("server.ext"),
        "-out",
        &path("server.crt"),
    ]));
}

/// An OCI layout with one image of two layers: busybox, and a small file.
fn busybox_layout(dir: &Path) -> PathBuf {
    use super::memory::digest_of;
    let layout = dir.join("layout");
    if layout.exists() {
        return layout;
    }
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = digest_of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let tar = |name: &str, files: &[(&str, &[u8])]| {
        let root = dir.join(name);
        for (path, bytes) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let output = Command::new("/bin/tar")
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--mtime=@0",
                "-cf",
                "-",
                "-C",
            ])
            .arg(&root)
            .arg(".")
            .output()
            .unwrap();
        assert!(output.status.success());
        output.stdout
    };
    let busybox = fs::read(BUSYBOX).unwrap();
    let layers: Vec<(wharf_ids::Digest, usize)> = [
        tar("one", &[("bin/busybox", &busybox)]),
        tar("two", &[("etc/motd", b"hello\n")]),
    ]
    .iter()
    .map(|tar| (put(tar), tar.len()))
    .collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["/bin/busybox", "sh"]},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|(digest, _)| digest.as_str()).collect::<Vec<_>>()},
    })
    .to_string();
    let layers: Vec<_> = layers
        .iter()
        .map(|(digest, size)| {
            serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size})
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": put(config.as_bytes()), "size": config.len()},
        "layers": layers,
    })
    .to_string();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": put(manifest.as_bytes()), "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": "test"},
        }],
    });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    layout
}
