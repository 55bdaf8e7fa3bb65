//! Debian's `docker-registry`, started inside a test's host.

use std::process::{Child, Command, Stdio};

use crate::host::Host;
use crate::output::{Output, run};

/// How a registry lets clients in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Plain HTTP, everybody.
    Plain,
    /// Plain HTTP, user `wharf` with password `secret`.
    Password,
    /// HTTPS with a certificate of a CA of the test's own, user `wharf` with password `secret`.
    Tls,
}

/// A running registry; its end comes with the host's.
#[derive(Debug)]
pub struct Registry<'h> {
    host: &'h Host,
    /// `127.0.0.1:<port>` (TLS: `localhost:<port>`).
    pub address: String,
    access: Access,
    child: Child,
}

impl<'h> Registry<'h> {
    /// Starts a registry on `port` of the host's loopback; returns when it answers.
    pub fn start(host: &'h Host, port: u16, access: Access) -> Self {
        let folder = host.join(&format!("registry-{port}"));
        std::fs::create_dir_all(&folder).expect("scratch is writable");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {data}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            data = folder.join("data").display()
        );
        let name = if access == Access::Tls {
            "localhost"
        } else {
            "127.0.0.1"
        };
        if access == Access::Tls {
            make_certificates(&folder);
            config.push_str(&format!(
                "  tls: {{certificate: {0}/cert.pem, key: {0}/key.pem}}\n",
                folder.display()
            ));
            let trusted = std::path::PathBuf::from(format!("/etc/docker/certs.d/localhost:{port}"));
            // The host's /etc is the machine's: give it a certs.d of its own.
            host.sh(&format!(
                "mkdir -p {f}/certs.d/localhost:{port} && cp {f}/ca.pem {f}/certs.d/localhost:{port}/ca.crt && \
                 mkdir -p {f}/etc-up {f}/etc-work && mount -t overlay overlay -o lowerdir=/etc,upperdir={f}/etc-up,workdir={f}/etc-work /etc && \
                 mkdir -p {t} && cp {f}/ca.pem {t}/ca.crt",
                f = folder.display(),
                t = trusted.display(),
            ))
            .ok();
        }
        if access != Access::Plain {
            let line = run(command("htpasswd", &["-Bbn", "wharf", "secret"]), None)
                .ok()
                .stdout;
            std::fs::write(folder.join("htpasswd"), line).expect("scratch is writable");
            config.push_str(&format!(
                "auth:\n  htpasswd: {{realm: wharf-test, path: {}}}\n",
                folder.join("htpasswd").display()
            ));
        }
        let config_file = folder.join("config.yml");
        std::fs::write(&config_file, config).expect("scratch is writable");
        let child = host
            .command("docker-registry")
            .arg("serve")
            .arg(&config_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).expect("scratch is writable"))
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self {
            host,
            address: format!("{name}:{port}"),
            access,
            child,
        };
        registry.wait_until_it_answers(&folder);
        registry
    }

    fn wait_until_it_answers(&self, folder: &std::path::Path) {
        let scheme = if self.access == Access::Tls {
            "https"
        } else {
            "http"
        };
        let url = format!("{scheme}://{}/v2/", self.address);
        crate::eventually("the registry answers", || {
            let curl = format!("curl --silent --output /dev/null --insecure --max-time 20 {url}");
            if self.host.sh(&curl).code == 0 {
                Ok(())
            } else {
                Err(std::fs::read_to_string(folder.join("log")).unwrap_or_default())
            }
        });
    }

    /// Copies a docker archive into the registry with skopeo, as `<repository>:<tag>`.
    pub fn push_archive(&self, archive: &std::path::Path, name: &str) -> Output {
        let mut skopeo = self.host.command("skopeo");
        skopeo.args([
            "copy",
            "--quiet",
            "--insecure-policy",
            "--dest-tls-verify=false",
        ]);
        if self.access != Access::Plain {
            skopeo.args(["--dest-creds", "wharf:secret"]);
        }
        skopeo
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/{name}", self.address));
        run(skopeo, None)
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn make_certificates(folder: &std::path::Path) {
    let script = "set -e; cd \"$0\"; \
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=wharf-test-ca -keyout ca-key.pem -out ca.pem; \
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out req.pem; \
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > ext; \
        openssl x509 -req -in req.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile ext -out cert.pem";
    let mut openssl = Command::new("sh");
    openssl.args(["-c", script]).arg(folder);
    run(openssl, None).ok();
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
