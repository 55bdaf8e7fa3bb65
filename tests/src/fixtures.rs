//! Real images, made once from Debian packages and kept as docker archives.
//!
//! `busybox` (static), `debian` (debootstrap), `nginx`, `redis` and `postgres` (each one layer on
//! `debian`). Nothing is downloaded but Debian packages.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::output::run;

/// Changes whenever the way images are made does, so that old ones are not used.
const RECIPE: &str = "1";

/// A static busybox with all its applets, 1 layer.
pub fn busybox() -> PathBuf {
    cached("busybox", |folder| {
        let root = folder.join("root");
        let script = "set -e; mkdir -p \"$0\"/bin \"$0\"/etc \"$0\"/root \"$0\"/home \"$0\"/var/spool/mail \"$0\"/usr; \
            mkdir -m 1777 \"$0\"/tmp; cp /bin/busybox \"$0\"/bin/busybox; \
            for a in $(/bin/busybox --list); do [ $a = busybox ] || ln \"$0\"/bin/busybox \"$0\"/bin/$a; done; \
            printf 'root:x:0:0:root:/root:/bin/sh\\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\\nwww-data:x:33:33:www-data:/var/www:/bin/false\\nnobody:x:65534:65534:nobody:/home:/bin/false\\n' > \"$0\"/etc/passwd; \
            printf 'root:x:0:\\ndaemon:x:1:\\nwww-data:x:33:\\naudio:x:29:www-data\\nnogroup:x:65534:\\n' > \"$0\"/etc/group";
        shell(script, &[&root]);
        let layer = tar_of(folder, "busybox", &root);
        archive(folder, "busybox:latest", &[layer], &json!({"Cmd": ["sh"]}))
    })
}

/// A minimal Debian, 1 layer.
pub fn debian() -> PathBuf {
    cached("debian", |folder| {
        let layer = tar_of(folder, "debian", &debian_root());
        archive(
            folder,
            "debian:bookworm",
            &[layer],
            &json!({"Cmd": ["bash"]}),
        )
    })
}

/// nginx serving `/var/www/html` on port 80, 2 layers.
pub fn nginx() -> PathBuf {
    cached("nginx", |folder| {
        let layers = with_packages(
            folder,
            "nginx-light",
            "ln -sf /dev/stdout /var/log/nginx/access.log; ln -sf /dev/stderr /var/log/nginx/error.log; \
             rm -f /var/www/html/*; echo '<h1>Welcome to nginx on Wharf</h1>' > /var/www/html/index.html",
        );
        archive(
            folder,
            "nginx:latest",
            &layers,
            &json!({
                "Cmd": ["nginx", "-g", "daemon off;"],
                "ExposedPorts": {"80/tcp": {}},
                "StopSignal": "SIGQUIT",
            }),
        )
    })
}

/// The root file system of the nginx that `scripts/demo` shows.
pub fn nginx_root() -> PathBuf {
    cached("nginx-root", |folder| {
        let root = folder.join("root.tar");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/nginx-image");
        let mut make = Command::new(script);
        make.arg(&root);
        run(make, None).ok();
        root
    })
}

/// redis on port 6379 with its data in the volume `/data`, 2 layers.
pub fn redis() -> PathBuf {
    cached("redis", |folder| {
        let layers = with_packages(
            folder,
            "redis-server",
            "mkdir -p /data; chown redis:redis /data",
        );
        archive(
            folder,
            "redis:latest",
            &layers,
            &json!({
                "Cmd": ["redis-server", "--bind", "*", "--protected-mode", "no", "--dir", "/data", "--appendonly", "yes"],
                "User": "redis",
                "WorkingDir": "/data",
                "Volumes": {"/data": {}},
                "ExposedPorts": {"6379/tcp": {}},
            }),
        )
    })
}

/// PostgreSQL on port 5432 with its cluster in the volume `/var/lib/postgresql`, 2 layers.
pub fn postgres() -> PathBuf {
    cached("postgres", |folder| {
        let layers = with_packages(
            folder,
            "postgresql-15",
            "echo \"listen_addresses = '*'\" >> /etc/postgresql/15/main/postgresql.conf; \
             echo 'host all all all trust' >> /etc/postgresql/15/main/pg_hba.conf; \
             rm -f /etc/postgresql/15/main/environment.tmp",
        );
        archive(
            folder,
            "postgres:15",
            &layers,
            &json!({
                "Cmd": ["/usr/lib/postgresql/15/bin/postgres", "-D", "/var/lib/postgresql/15/main",
                        "-c", "config_file=/etc/postgresql/15/main/postgresql.conf"],
                "User": "postgres",
                "Volumes": {"/var/lib/postgresql": {}},
                "ExposedPorts": {"5432/tcp": {}},
                "StopSignal": "SIGINT",
            }),
        )
    })
}

/// An image of `files` small files in many folders, for measuring unpacking, 1 layer.
pub fn many_files(files: usize) -> PathBuf {
    cached(&format!("files-{files}"), |folder| {
        let layer = folder.join("layer.tar");
        let mut tar = tar::Builder::new(File::create(&layer).expect("scratch is writable"));
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for n in 0..files {
            let mut content = Vec::with_capacity(8192);
            while content.len() < 64 + n % 8000 {
                // xorshift: content that neither compresses to nothing nor differs between runs.
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                content.extend_from_slice(format!("{seed:x} ").as_bytes());
            }
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(1_700_000_000);
            header.set_cksum();
            tar.append_data(
                &mut header,
                format!("data/{}/{}/file-{n}", n % 97, n % 31),
                content.as_slice(),
            )
            .expect("scratch is writable");
        }
        tar.finish().expect("scratch is writable");
        drop(tar);
        archive(
            folder,
            &format!("files:{files}"),
            &[layer],
            &json!({"Cmd": ["none"]}),
        )
    })
}

/// Makes a fixture once; test programs that need it at the same time wait for the first.
fn cached(name: &str, make: impl FnOnce(&Path) -> PathBuf) -> PathBuf {
    let folder = crate::fixture_folder();
    let done = folder.join(format!("{name}-{RECIPE}.tar"));
    // It appears in one piece. Nobody who only uses it needs to write there: a guest could not.
    if done.exists() {
        return done;
    }
    let lock =
        File::create(folder.join(format!("{name}.lock"))).expect("the target folder is writable");
    lock.lock().expect("the file system has locks");
    if !done.exists() {
        let scratch = tempfile::Builder::new()
            .prefix("making-")
            .tempdir_in(&folder)
            .expect("the target folder is writable");
        std::fs::rename(make(scratch.path()), &done).expect("same file system");
    }
    done
}

/// The unpacked debootstrap system, shared by the images built on it.
fn debian_root() -> PathBuf {
    let folder = crate::fixture_folder();
    let root = folder.join(format!("debian-root-{RECIPE}"));
    let lock =
        File::create(folder.join("debian-root.lock")).expect("the target folder is writable");
    lock.lock().expect("the file system has locks");
    if !root.exists() {
        let scratch = folder.join("debian-root-making");
        let bootstrap = || {
            shell("rm -rf \"$0\"", &[&scratch]);
            let mut debootstrap = Command::new("debootstrap");
            debootstrap
                .args(["--variant=minbase", "bookworm"])
                .arg(&scratch);
            if let Some(mirror) = debian_mirror() {
                debootstrap.arg(mirror);
            }
            run(debootstrap, None)
        };
        // A mirror may be away for a moment.
        if bootstrap().code != 0 {
            bootstrap().ok();
        }
        shell("rm -rf \"$0\"/var/cache/apt/archives/*.deb", &[&scratch]);
        std::fs::rename(&scratch, &root).expect("same file system");
    }
    root
}

/// The mirror this machine itself uses.
pub fn debian_mirror() -> Option<String> {
    let mut texts = vec![std::fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    for entry in std::fs::read_dir("/etc/apt/sources.list.d").ok()?.flatten() {
        texts.push(std::fs::read_to_string(entry.path()).unwrap_or_default());
    }
    texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.trim_start().starts_with('#'))
        .find_map(|line| {
            line.split_whitespace()
                .find(|word| {
                    word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian")
                })
                .map(str::to_owned)
        })
}

/// The Debian layer and one with `packages` installed and `finish` run on top.
fn with_packages(folder: &Path, packages: &str, finish: &str) -> Vec<PathBuf> {
    let base = debian_root();
    let script = "set -e; cd \"$0\"; mkdir upper work merged; \
        mount -t overlay overlay -o lowerdir=\"$1\",upperdir=upper,workdir=work,metacopy=off,redirect_dir=off merged; \
        mount -t proc proc merged/proc; mount --bind /dev merged/dev; \
        cp /etc/resolv.conf merged/etc/resolv.conf; \
        printf '#!/bin/sh\\nexit 101\\n' > merged/usr/sbin/policy-rc.d; chmod 755 merged/usr/sbin/policy-rc.d; \
        export DEBIAN_FRONTEND=noninteractive LC_ALL=C; \
        echo 'Acquire::Retries \"5\";' > merged/etc/apt/apt.conf.d/99retries; \
        chroot merged apt-get update; chroot merged apt-get install -y --no-install-recommends $2; \
        rm merged/etc/apt/apt.conf.d/99retries; \
        chroot merged sh -c \"$3\"; chroot merged apt-get clean; rm -rf merged/var/lib/apt/lists/* merged/usr/sbin/policy-rc.d; \
        umount merged/dev merged/proc merged; rm -rf upper/dev upper/etc/resolv.conf; \
        find upper -type c -delete; rm -rf upper/run/lock";
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "sh", "-c", script])
        .arg(folder)
        .arg(&base)
        .arg(packages)
        .arg(finish);
    run(unshare, None).ok();
    vec![
        tar_of(folder, "base", &base),
        tar_of(folder, "packages", &folder.join("upper")),
    ]
}

fn tar_of(folder: &Path, name: &str, root: &Path) -> PathBuf {
    let layer = folder.join(format!("{name}.layer.tar"));
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--sort=name",
        "--exclude=./dev/*",
        "--file",
    ]);
    tar.arg(&layer).arg("--directory").arg(root).arg(".");
    run(tar, None).ok();
    layer
}

/// A docker archive (manifest.json, config, layers) as `docker save` of old wrote it.
pub fn archive(folder: &Path, name: &str, layers: &[PathBuf], config: &Value) -> PathBuf {
    let mut config = config.clone();
    config["Env"] = json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256_of_file(layer)))
        .collect();
    let image = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| json!({"created": "2024-01-01T00:00:00Z", "created_by": "wharf test fixture"})).collect::<Vec<_>>(),
    });
    let image = serde_json::to_vec(&image).expect("plain JSON");
    let config_name = format!("{}.json", hex(&Sha256::digest(&image)));
    let layer_names: Vec<String> = (0..layers.len())
        .map(|n| format!("layer-{n}/layer.tar"))
        .collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": layer_names}]);

    let path = folder.join("image.tar");
    let mut tar = tar::Builder::new(File::create(&path).expect("scratch is writable"));
    append_bytes(&mut tar, &config_name, &image);
    for (layer, name) in layers.iter().zip(&layer_names) {
        let mut file = File::open(layer).expect("just written");
        tar.append_file(name, &mut file)
            .expect("scratch is writable");
    }
    append_bytes(
        &mut tar,
        "manifest.json",
        &serde_json::to_vec(&manifest).expect("plain JSON"),
    );
    tar.into_inner()
        .and_then(|mut file| file.flush())
        .expect("scratch is writable");
    path
}

fn append_bytes(tar: &mut tar::Builder<File>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, name, bytes)
        .expect("scratch is writable");
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn sha256_of_file(path: &Path) -> String {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).expect("just written");
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = std::io::Read::read(&mut file, &mut buffer).expect("readable");
        if count == 0 {
            return hex(&hasher.finalize());
        }
        hasher.update(&buffer[..count]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shell(script: &str, arguments: &[&Path]) {
    let mut command = Command::new("sh");
    command.args(["-c", script]).args(arguments);
    run(command, None).ok();
}
