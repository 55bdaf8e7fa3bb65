//! What else a container may be asked to have: in a user namespace it works as without one, or says
//! why not.

use crate::{daemon, host};

#[test]
fn everything_else_works_as_ever() {
    let host = host();
    let daemon = daemon(&host, &["--userns-remap", "default"]);
    daemon.docker(&["network", "create", "net"]).ok();
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "net",
            "-p",
            "8080:80",
            "--init",
            "--tmpfs",
            "/scratch",
            "--shm-size",
            "1m",
            "--device",
            "/dev/zero:/dev/nought",
            "--ulimit",
            "nofile=100",
            "--memory",
            "64m",
            "--health-cmd",
            "true",
            "--health-interval",
            "1s",
            "-v",
            "/www",
            "--hostname",
            "web",
            "--add-host",
            "other:10.1.2.3",
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "busybox",
            "sh",
            "-c",
            "echo hello > /www/index.html; exec httpd -f -p 80 -h /www",
        ])
        .ok();
    host.fetch("http://127.0.0.1:8080/").ok().is("hello");
    daemon
        .docker(&[
            "run",
            "--rm",
            "--network",
            "net",
            "busybox",
            "wget",
            "-qO-",
            "http://web/",
        ])
        .ok()
        .is("hello");
    let script = "set -e; cat /proc/1/comm; touch /scratch/x /dev/shm/x; grep -q 10.1.2.3 /etc/hosts; echo '10.9.9.9 added' >> /etc/hosts; \
        stat -c %u:%g /etc/hosts /etc/resolv.conf /etc/hostname /scratch /dev/shm; hostname; head -c 4 /dev/nought | wc -c; echo x > /dev/null; \
        ulimit -n; cat /proc/sys/net/ipv4/ip_forward; ls /sys/class/net; test -r /sys/fs/cgroup; nslookup web >/dev/null; mount | grep -c ' /dev/mqueue '; \
        (umount /proc 2>/dev/null && echo unmounted) || true; (mknod /scratch/null c 1 3 2>/dev/null && echo made) || true; (echo 1 > /proc/sys/kernel/panic 2>/dev/null && echo wrote) || true";
    daemon
        .docker(&["exec", "web", "sh", "-c", script])
        .ok()
        .is("docker-init\n0:0\n0:0\n0:0\n0:0\n0:0\nweb\n4\n100\n1\neth0\nlo\n1");
    wharf_tests::waiting::becomes(&"healthy".to_owned(), || {
        let health = ["inspect", "-f", "{{.State.Health.Status}}", "web"];
        daemon.docker(&health).ok().text()
    });
    // A terminal belongs to the container's root.
    daemon
        .docker(&[
            "run",
            "--rm",
            "-t",
            "busybox",
            "stat",
            "-c",
            "%u",
            "/dev/console",
        ])
        .ok()
        .is("0");
    daemon
        .docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "ls",
            "/sys/class/net",
        ])
        .ok()
        .is("lo");
    daemon
        .docker(&["run", "--rm", "--ipc", "host", "busybox", "ls", "/dev/shm"])
        .ok();
    daemon
        .docker(&["run", "--rm", "--user", "33:33", "busybox", "id", "-u"])
        .ok()
        .is("33");
    daemon
        .docker(&[
            "run",
            "--rm",
            "--cap-add",
            "NET_ADMIN",
            "busybox",
            "ip",
            "link",
            "set",
            "lo",
            "mtu",
            "1280",
        ])
        .ok();
    // The image's own files keep their owners.
    daemon
        .docker(&[
            "run",
            "--rm",
            "busybox",
            "stat",
            "-c",
            "%u:%g",
            "/bin/busybox",
        ])
        .ok()
        .is("0:0");
}

#[test]
fn options_that_need_rights_work_or_say_why() {
    let host = host();
    let daemon = daemon(&host, &["--userns-remap", "mapper"]);
    let folder = host.join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "x").unwrap();
    let bind = |mode: &str| format!("{}:/data:{mode}", folder.display());
    let run = |flags: &[&str], command: &str| {
        let mut words = vec!["run", "--rm"];
        words.extend(flags);
        words.extend(["busybox", "sh", "-c", command]);
        daemon.docker(&words)
    };
    run(&["-v", &bind("ro")], "cat /data/file; touch /data/x")
        .code(1)
        .complains("Read-only file system");
    host.sh(&format!(
        "mount --bind {0} {0} && mount --make-rshared {0}",
        folder.display()
    ))
    .ok();
    run(&["-v", &bind("rslave")], "cat /data/file").ok().is("x");
    run(&["-v", &bind("rshared")], "cat /data/file")
        .ok()
        .is("x");
    run(&["-v", &bind("ro,idmap")], "stat -c %u /data/file")
        .ok()
        .is("0");
    run(
        &["--read-only", "--tmpfs", "/tmp:uid=33,mode=700"],
        "stat -c %u /tmp; touch /x",
    )
    .code(1)
    .says("33");
    run(
        &["--cgroupns", "private"],
        "cat /proc/self/cgroup > /dev/null",
    )
    .ok();
    run(&["--uts", "host"], "hostname > /dev/null").ok();
    run(&["--cap-add", "ALL"], "mount -t tmpfs none /mnt 2>/dev/null || mkdir /mnt; mount -t tmpfs none /mnt && echo mounted")
        .ok()
        .says("mounted");
    run(
        &["--security-opt", "no-new-privileges", "--user", "33"],
        "id -u",
    )
    .ok()
    .is("33");
    run(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj")
        .ok()
        .is("500");
    run(&["--security-opt", "seccomp=unconfined"], "unshare -U true").ok();
    daemon
        .docker(&[
            "volume",
            "create",
            "-o",
            "type=tmpfs",
            "-o",
            "device=tmpfs",
            "-o",
            "o=size=1m,uid=33",
            "memory",
        ])
        .ok();
    run(&["-v", "memory:/memory"], "stat -c %u /memory")
        .ok()
        .is("33");
    let device = format!("device={}", folder.display());
    daemon
        .docker(&[
            "volume",
            "create",
            "-o",
            "type=none",
            "-o",
            &device,
            "-o",
            "o=bind",
            "bound",
        ])
        .ok();
    // A bind by another name: the host's ids, unless asked for.
    run(&["-v", "bound:/data"], "stat -c %u /data/file")
        .ok()
        .is("65534");
    run(&["-v", "bound:/data:idmap"], "stat -c %u /data/file")
        .ok()
        .is("0");
    daemon
        .docker(&["run", "-d", "--name", "box", "busybox", "sleep", "600"])
        .ok();
    daemon
        .docker(&[
            "exec",
            "--privileged",
            "box",
            "mount",
            "-t",
            "tmpfs",
            "none",
            "/root",
        ])
        .ok();
    daemon.docker(&["network", "create", "later"]).ok();
    daemon.docker(&["network", "connect", "later", "box"]).ok();
    daemon
        .docker(&["exec", "box", "ip", "addr", "show", "eth1"])
        .ok();
    daemon.docker(&["update", "--memory", "64m", "--memory-swap", "64m", "box"]);
    daemon.docker(&["pause", "box"]).ok();
    daemon.docker(&["unpause", "box"]).ok();
    daemon.docker(&["restart", "-t", "0", "box"]).ok();
    daemon.docker(&["exec", "box", "true"]).ok();
}
