//! Whose files are whose: mapped binds, copies in and out, and volumes that containers of different
//! mappings have in turn.

use wharf_tests::{Daemon, fixtures};

use crate::{daemon, host, inspect, owner, uid_map};

#[test]
fn binds_are_mapped_where_asked_for() {
    let host = host();
    let daemon = daemon(&host, &[]);
    let folder = host.join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("roots"), "x").unwrap();
    let shown = format!("{}", folder.display());
    let plain = format!("{shown}:/data");
    let mapped = format!("{shown}:/data:idmap");
    let stat = [
        "busybox",
        "sh",
        "-c",
        "stat -c %u:%g /data/roots; touch /data/new",
    ];
    let with = |flags: &[&str]| {
        let mut words = vec!["run", "--rm", "--userns=auto"];
        words.extend(flags);
        words.extend(stat);
        daemon.wharf(&words)
    };
    // As it is: the host's root is nobody.
    with(&["-v", &plain]).code(1).says("65534:65534");
    with(&["-v", &mapped]).ok().is("0:0");
    assert_eq!(owner(&host, &folder.join("new")), "0:0");
    host.sh(&format!("rm {shown}/new")).ok();
    with(&["--mount", &format!("type=bind,src={shown},dst=/data,idmap")])
        .ok()
        .is("0:0");
    host.sh(&format!(
        "rm {shown}/new; chown 4711:4712 {shown} {shown}/roots"
    ))
    .ok();
    // What 4711 has is root's inside, and the other way round.
    let given = format!("{shown}:/data:idmap=uids=@4711-0-1;gids=@4712-0-1");
    with(&["-v", &given]).ok().is("0:0");
    assert_eq!(owner(&host, &folder.join("new")), "4711:4712");
    // Also without a user namespace, and from the reference client.
    let given = format!("{shown}:/data:idmap=uids=4711-0-1;gids=4712-0-1");
    daemon
        .docker(&[
            "run",
            "--rm",
            "-v",
            &given,
            "busybox",
            "stat",
            "-c",
            "%u:%g",
            "/data/roots",
        ])
        .ok()
        .is("0:0");
    for (mode, why) in [
        ("idmap", "idmap needs a mapping"),
        (
            "idmap=uids=1-2",
            "invalid idmap range \"1-2\": DISK-HOST-SIZE expected",
        ),
        ("idmap=everything", "invalid idmap option \"everything\""),
    ] {
        daemon
            .docker(&[
                "run",
                "--rm",
                "-v",
                &format!("{shown}:/data:{mode}"),
                "busybox",
                "true",
            ])
            .code(125)
            .complains(why);
    }
}

#[test]
fn files_are_copied_both_ways_and_a_restart_changes_nothing() {
    let host = host();
    let daemon = daemon(&host, &["--userns-remap", "mapper"]);
    let folder = host.join("data");
    std::fs::create_dir(&folder).unwrap();
    let bind = format!("{}:/bound", folder.display());
    daemon
        .docker(&[
            "run", "-d", "--name", "box", "-v", "vol:/vol", "-v", &bind, "busybox", "sleep", "600",
        ])
        .ok();
    let before = uid_map(&daemon, "box");
    daemon.kill();
    daemon.restart();
    assert_eq!(uid_map(&daemon, "box"), before);
    assert_eq!(
        inspect(&daemon, "box")["State"]["IDMappings"]["GidMap"][0],
        "0:800000:65536"
    );
    let file = host.join("file");
    std::fs::write(&file, "text").unwrap();
    host.sh(&format!("chown 33:34 {}", file.display())).ok();
    let file = file.display().to_string();
    for running in [true, false] {
        for place in ["/root", "/vol", "/bound"] {
            daemon
                .docker(&["cp", &file, &format!("box:{place}/kept")])
                .ok();
            let archive = host.join("out.tar");
            let mut command = daemon.docker_command(&["cp", &format!("box:{place}/kept"), "-"]);
            command.stdout(std::fs::File::create(&archive).unwrap());
            assert!(command.status().unwrap().success());
            host.sh(&format!("tar tvf {} --numeric-owner", archive.display()))
                .ok()
                .says(" 33/34 ");
        }
        if running {
            daemon
                .docker(&[
                    "exec",
                    "box",
                    "stat",
                    "-c",
                    "%u:%g",
                    "/root/kept",
                    "/vol/kept",
                    "/bound/kept",
                ])
                .ok()
                .is("33:34\n33:34\n33:34");
        } else {
            daemon.docker(&["start", "box"]).ok();
            daemon
                .docker(&[
                    "exec",
                    "box",
                    "stat",
                    "-c",
                    "%u:%g",
                    "/root/kept",
                    "/vol/kept",
                    "/bound/kept",
                ])
                .ok()
                .is("33:34\n33:34\n33:34");
        }
        assert_eq!(owner(&host, &folder.join("kept")), "700033:800034");
        assert_eq!(
            owner(&host, &daemon.data_root().join("volumes/vol/_data/kept")),
            "33:34"
        );
        daemon
            .docker(&["exec", "box", "rm", "/root/kept", "/vol/kept"])
            .ok();
        // The directory is the host's root's: nothing the container's root could change.
        daemon.docker(&["exec", "box", "rm", "/bound/kept"]).code(1);
        std::fs::remove_file(folder.join("kept")).unwrap();
        daemon.docker(&["stop", "-t", "0", "box"]).ok();
    }
}

#[test]
fn a_server_keeps_its_data_whoever_runs_it() {
    let host = host();
    let daemon = Daemon::start_with(&host, &["--userns-remap", "mapper"]);
    daemon.load(&fixtures::postgres());
    let sql = |text: &str| {
        host.eventually("pg_isready -q -h 127.0.0.1 -U postgres");
        host.sh(&format!("psql -h 127.0.0.1 -U postgres -Atc '{text}'"))
            .ok()
            .text()
    };
    // The volume is filled from the image; the server insists on owning its files.
    let modes: [&[&str]; 3] = [&[], &["--userns=auto"], &["--userns=host"]];
    for (round, mode) in modes.into_iter().enumerate() {
        let mut words = vec![
            "run",
            "-d",
            "--name",
            "db",
            "-p",
            "5432:5432",
            "-v",
            "pg:/var/lib/postgresql",
        ];
        words.extend(mode);
        words.push("postgres:15");
        daemon.wharf(&words).ok();
        if round == 0 {
            sql("create table t (n int)");
        }
        sql("insert into t values (1)");
        assert_eq!(sql("select count(*) from t"), (round + 1).to_string());
        daemon.docker(&["stop", "db"]).ok();
        daemon.docker(&["rm", "db"]).ok();
    }
}
