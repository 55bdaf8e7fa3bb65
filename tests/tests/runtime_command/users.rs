//! User namespaces through the command line, as root and as an ordinary user.

use serde_json::{Value, json};
use wharf_tests::{Bundle, Host, eventually, run};

/// The document's user namespace, mapped from `first` on.
fn map(bundle: &mut Bundle<'_>, first: u32, size: u32) {
    let linux = &mut bundle.config["linux"];
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    let maps = json!([{"containerID": 0, "hostID": first, "size": size}]);
    linux["uidMappings"] = maps.clone();
    linux["gidMappings"] = maps;
}

#[test]
fn a_container_has_a_user_namespace_and_so_has_what_is_executed_in_it() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "exec sleep 1000");
    map(&mut bundle, 200_000, 1000);
    bundle.write();
    let rootfs = bundle.join("rootfs").display().to_string();
    let above = host.path().display().to_string();
    host.sh(&format!(
        "chown -R 200000:200000 {rootfs}; chmod 755 {above}"
    ))
    .ok();
    bundle.runtime(&["create", "c1"]).ok();
    bundle.runtime(&["start", "c1"]).ok();
    let pid = bundle.state("c1")["pid"].to_string();
    let owner = host.sh(&format!("stat -c %u /proc/{pid}")).ok().text();
    assert_eq!(owner, "200000");
    let look = "cat /proc/self/uid_map; id -u; touch /tmp/mine; stat -c %u /tmp/mine";
    let out = bundle
        .runtime(&["exec", "c1", "sh", "-c", look])
        .ok()
        .text();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "200000", "1000", "0", "0"]);
    let user = [
        "exec",
        "--user",
        "5:6",
        "c1",
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map",
    ];
    bundle.runtime(&user).ok().says("5\n").says("200000");
    let mine = host
        .sh(&format!("stat -c %u {rootfs}/tmp/mine"))
        .ok()
        .text();
    assert_eq!(mine, "200000");
    bundle.runtime(&["kill", "c1", "KILL"]).ok();
    bundle.wait_until_stopped("c1");
    bundle.runtime(&["delete", "c1"]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn an_ordinary_user_runs_a_container() {
    let host = Host::new();
    let mut bundle = Bundle::new(&host, "b", "id -u; exec cat /proc/self/uid_map");
    // The document is the one that `spec --rootless` writes for that user.
    const USER: u32 = 5005;
    let above = host.path().display().to_string();
    let folder = bundle.join("").display().to_string();
    host.sh(&format!(
        "chmod 755 {above}; chown -R {USER}:{USER} {folder}"
    ))
    .ok();
    let binary = host.join("wharf-runtime");
    std::fs::copy(wharf_tests::wharf_binary(), &binary).unwrap();
    let as_user = |arguments: &[&str]| {
        let mut command = host.command("setpriv");
        let id = USER.to_string();
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c"])
            // What goes on in the background must not keep our pipes open.
            .arg(format!(
                "cd {folder} && \"$@\" > {folder}out 2>&1 < /dev/null; status=$?; cat {folder}out; exit $status"
            ))
            .arg("sh")
            .arg(&binary)
            .args(["--root", &format!("{folder}state")])
            .args(arguments);
        run(command, None)
    };
    host.sh(&format!("rm {folder}config.json")).ok();
    as_user(&["spec", "--rootless"]).ok();
    let text = std::fs::read(bundle.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["process"]["args"] = bundle.config["process"]["args"].clone();
    config["process"]["terminal"] = json!(false);
    bundle.config = config;
    bundle.write();
    let out = as_user(&["run", "c1"]).ok().text();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "5005", "1"]);
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    as_user(&["run", "--detach", "c2"]).ok();
    as_user(&["exec", "c2", "id", "-u"]).ok().is("0");
    as_user(&["list", "-q"]).ok().is("c2");
    as_user(&["kill", "c2", "KILL"]).ok();
    eventually("it has stopped", || {
        let state = as_user(&["state", "c2"]).ok().stdout;
        if state.contains("stopped") {
            Ok(())
        } else {
            Err(state)
        }
    });
    as_user(&["delete", "c2"]).ok();
    as_user(&["list", "-q"]).ok().is("");
}
