//! The evening: registries, pull, login, save, load, import, and nothing left at the end.

use super::Engine;
use crate::registry::{Access, Registry};
use crate::{Host, fixtures, run};

/// Three registries with something in them.
#[derive(Debug)]
pub struct Registries<'h> {
    plain: Registry<'h>,
    tls: Registry<'h>,
    guarded: Registry<'h>,
}

impl<'h> Registries<'h> {
    /// Starts and fills them. Before the engine: whom it trusts is in the host's `/etc`.
    pub fn start(host: &'h Host) -> Self {
        let plain = Registry::start(host, 5000, Access::Plain);
        let tls = Registry::start(host, 5443, Access::Tls);
        let guarded = Registry::start(host, 5001, Access::Password);
        plain
            .push_archive(&fixtures::busybox(), "tools/busybox:1")
            .ok();
        plain
            .push_archive(&fixtures::debian(), "debian:bookworm")
            .ok();
        tls.push_archive(&fixtures::busybox(), "busybox:tls").ok();
        guarded.push_archive(&fixtures::busybox(), "private:1").ok();
        Self {
            plain,
            tls,
            guarded,
        }
    }
}

/// Images and registries.
pub fn evening(engine: &impl Engine, registries: &Registries<'_>) {
    let Registries {
        plain,
        tls,
        guarded,
    } = registries;
    let docker = |arguments: &[&str]| engine.docker(arguments);
    let name = |registry: &Registry<'_>, path: &str| format!("{}/{path}", registry.address);

    let busybox = name(plain, "tools/busybox:1");
    docker(&["pull", &busybox])
        .ok()
        .says("Pull complete")
        .says("Digest: sha256:")
        .says("Status: Downloaded newer image for");
    docker(&["pull", &busybox])
        .ok()
        .says("Status: Image is up to date for");
    docker(&["run", "--rm", &busybox, "echo", "pulled"])
        .ok()
        .is("pulled");
    docker(&["pull", &name(plain, "tools/busybox:none")])
        .code(1)
        .complains("not found");
    let debian = name(plain, "debian:bookworm");
    docker(&["run", "--rm", &debian, "cat", "/etc/debian_version"])
        .ok()
        .says("12.")
        .complains("Unable to find image");
    docker(&["run", "--rm", &debian, "sh", "-c", "dpkg -l | grep -c ^ii"]).ok();

    docker(&["pull", &name(tls, "busybox:tls")]).code(1);
    engine
        .docker_with_input(
            &["login", "-u", "wharf", "--password-stdin", &tls.address],
            b"wrong",
        )
        .code(1);
    engine
        .docker_with_input(
            &["login", "-u", "wharf", "--password-stdin", &tls.address],
            b"secret",
        )
        .ok()
        .says("Login Succeeded");
    docker(&["pull", "-q", &name(tls, "busybox:tls")]).ok();
    docker(&["pull", &name(guarded, "private:1")]).code(1);
    engine
        .docker_with_input(
            &["login", "-u", "wharf", "--password-stdin", &guarded.address],
            b"secret",
        )
        .ok();
    docker(&["pull", "-q", &name(guarded, "private:1")]).ok();
    docker(&["logout", &guarded.address]).ok();

    // Save, remove, load: the same image again.
    let before = docker(&["images", "-q", "--no-trunc", &debian]).ok().text();
    let saved = engine.folder().join("saved.tar").display().to_string();
    docker(&["save", "-o", &saved, &debian, &busybox]).ok();
    let mut skopeo = std::process::Command::new("skopeo");
    skopeo.args([
        "inspect",
        "--raw",
        &format!("docker-archive:{saved}:{debian}"),
    ]);
    run(skopeo, None).ok();
    docker(&["rmi", &debian])
        .ok()
        .says("Untagged")
        .says("Deleted: sha256:");
    docker(&["load", "-i", &saved]).ok().says("Loaded image: ");
    docker(&["images", "-q", "--no-trunc", &debian])
        .ok()
        .is(&before);
    docker(&["run", "--rm", &debian, "true"]).ok();

    // Import a bare tar.
    engine
        .sh("mkdir -p root/bin && cp /bin/busybox root/bin/ && tar -C root -cf bare.tar .")
        .ok();
    docker(&[
        "import",
        "--change",
        "CMD [\"/bin/busybox\", \"echo\", \"imported\"]",
        &engine.folder().join("bare.tar").display().to_string(),
        "bare:1",
    ])
    .ok()
    .says("sha256:");
    docker(&["run", "--rm", "bare:1"]).ok().is("imported");

    docker(&[
        "run",
        "-d",
        "--name",
        "user",
        "bare:1",
        "/bin/busybox",
        "sleep",
        "100",
    ])
    .ok();
    docker(&["rmi", "bare:1"]).code(1).complains("conflict");
    docker(&["rm", "-f", "user"]).ok();
    docker(&["rmi", "-f", "bare:1"]).ok();
    docker(&["image", "prune", "-a", "-f"])
        .ok()
        .says("Total reclaimed space");
    docker(&["images", "-q"]).ok().is("");
}
