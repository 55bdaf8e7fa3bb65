//! The first command, on a host that has what it takes, and on one that lacks something.

use wharf_tests::user::User;
use wharf_tests::{Host, fixtures};

use crate::ready;

#[test]
fn the_first_command_starts_the_users_own_engine() {
    if !ready("the_first_command_starts_the_users_own_engine") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    user.wharf(&["ps", "-q"]).ok().is("");
    let pid = user.sh("cat $XDG_RUNTIME_DIR/wharf.pid").ok().text();
    user.wharf(&["network", "ls", "--format", "{{.Name}}"])
        .ok()
        .is("bridge\nhost\nnone");
    assert_eq!(user.sh("cat $XDG_RUNTIME_DIR/wharf.pid").ok().text(), pid);
    user.docker(&[
        "info",
        "--format",
        "{{.SecurityOptions}} {{.DockerRootDir}}",
    ])
    .ok()
    .says("name=rootless")
    .says(".local/share/wharf");
    user.docker(&["info"])
        .ok()
        .complains("WARNING: Running in rootless-mode without cgroups");
    // A second daemon is told who is there and changes nothing.
    user.wharf(&["daemon"]).code(1).complains(&pid);
    // It ends in order, and everything with it: keeper, network program, namespaces, sockets.
    user.sh(&format!("kill -TERM {pid}")).ok();
    user.wait_until_gone();
    user.sh("ls $XDG_RUNTIME_DIR $XDG_RUNTIME_DIR/wharf")
        .never_says("sock")
        .never_says("wharf.pid")
        .never_says("keeper");
}

#[test]
fn the_readmes_first_command_works_for_a_user() {
    if !ready("the_readmes_first_command_works_for_a_user") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("scripts");
    let image = fixtures::nginx_root();
    // Where the user may look into: the checkout need not be such a place.
    host.sh(&format!(
        "mkdir {0}/checkout && cp -r {1} {2} {0}/checkout",
        host.path().display(),
        scripts.display(),
        image.display(),
    ))
    .ok();
    let demo = format!(
        "cd {0}/checkout && WHARF_BINARY={0}/bin/wharf WHARF_DEMO_IMAGE={0}/checkout/{1} scripts/demo",
        host.path().display(),
        image.file_name().unwrap().to_string_lossy(),
    );
    user.sh(&demo)
        .ok()
        .says("<h1>Welcome to nginx on Wharf</h1>")
        .says("<h1>changed in the volume</h1>")
        .says("GET / HTTP/1.1")
        .says("# done");
    // As it found it.
    user.wait_until_gone();
    host.sh("ls /var/tmp | grep wharf-demo").code(1);
    // And for root, on the same host.
    host.sh(&demo).ok().says("# done");
    host.sh("ls /var/tmp | grep wharf-demo").code(1);
    // What is missing is root's to install.
    host.sh("mkdir /tmp/empty; mount --bind /tmp/empty /var/lib/dpkg")
        .ok();
    user.sh(&demo)
        .code(1)
        .complains("apt-get install -y --no-install-recommends")
        .complains("uidmap passt");
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    if !ready("what_is_missing_is_named_with_its_remedy") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    let refused = |prepare: &str, remedy: &str, restore: &str| {
        host.sh(prepare).ok();
        user.wharf(&["ps"]).code(1).complains(remedy);
        user.wharf(&["daemon"]).code(1).complains(remedy);
        host.sh(restore).ok();
    };
    for program in ["newuidmap", "newgidmap"] {
        refused(
            &format!("mount --bind /dev/null /usr/bin/{program}"),
            "apt-get install uidmap",
            &format!("umount /usr/bin/{program}"),
        );
    }
    refused(
        "mount --bind /dev/null /etc/subuid",
        "usermod --add-subuids 100000-165535 ann",
        "umount /etc/subuid",
    );
    refused(
        "echo bob:100000:65536 > /run/subgid; mount --bind /run/subgid /etc/subgid",
        "usermod --add-subgids 165536-231071 ann",
        "umount /etc/subgid",
    );
    refused(
        "mount --bind /dev/null /usr/bin/pasta; mount --bind /dev/null /usr/bin/slirp4netns",
        "apt-get install passt",
        "umount /usr/bin/pasta /usr/bin/slirp4netns",
    );
    refused(
        "chmod 600 /dev/net/tun",
        "chmod 666 /dev/net/tun",
        "chmod 666 /dev/net/tun",
    );
    // A chroot is no place for it.
    let jail = host.join("jail");
    host.sh(&format!("mkdir {0}; mount --rbind / {0}", jail.display()))
        .ok();
    let mut chrooted = host.command("chroot");
    chrooted
        .arg("--userspec=5001:5001")
        .arg(&jail)
        .arg(host.join("bin/wharf"))
        .arg("ps")
        .env("HOME", user.home())
        .env("XDG_RUNTIME_DIR", user.runtime());
    wharf_tests::run(chrooted, None)
        .code(1)
        .complains("in a chroot the kernel makes none");
    host.sh(&format!("umount -R {}", jail.display())).ok();
    // Nothing of the failed attempts is left.
    user.wait_until_gone();
    // Without a session: a directory of one's own in /tmp, unless somebody else has its name.
    host.sh("mkdir /tmp/wharf-5001; mv /run/user /run/user.away")
        .ok();
    let mut ps = user.wharf_command(&["ps", "-q"]);
    ps.env_remove("XDG_RUNTIME_DIR");
    wharf_tests::run(ps, None)
        .code(1)
        .complains("export XDG_RUNTIME_DIR=");
    host.sh("rmdir /tmp/wharf-5001").ok();
    let mut ps = user.wharf_command(&["ps", "-q"]);
    ps.env_remove("XDG_RUNTIME_DIR");
    wharf_tests::run(ps, None).ok().is("");
    host.sh("stat -c %a /tmp/wharf-5001; test -S /tmp/wharf-5001/wharf.sock")
        .ok()
        .says("700");
}
