//! Who the program runs as.

use crate::Test;
use crate::sandbox::Sandbox;

pub(crate) const TESTS: &[Test] = &[
    ("user_is_looked_up_in_the_container", looked_up),
    ("unknown_users_and_groups_are_dockers_errors", unknown),
    ("numbers_of_the_document_are_used", numbers),
    ("user_owns_its_streams", streams),
];

fn looked_up(sandbox: &Sandbox) {
    let script =
        "id -u; id -g; id -G; echo $HOME; grep Cap /proc/self/status | awk '{print $2}' | xargs";
    let mut container = sandbox.container(&["sh", "-c", script]);
    container
        .process()
        .env
        .retain(|variable| !variable.starts_with("HOME="));
    container.config.user = Some("web".into());
    container.config.group_add = vec!["disk".into(), "77".into()];
    let none = "0000000000000000";
    let caps = format!("{none} {none} {none} 00000000a80425fb {none}");
    assert_eq!(
        container.run().stdout,
        format!("33\n33\n33 4 6 77\n/var/www\n{caps}\n")
    );
    container.config.user = Some("1234:adm".into());
    container.config.group_add.clear();
    assert_eq!(container.run().stdout, format!("1234\n4\n4\n/\n{caps}\n"));
}

fn unknown(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["true"]);
    container.config.user = Some("nobody".into());
    assert_eq!(
        container.error().to_string(),
        "unable to find user nobody: no matching entries in passwd file"
    );
    container.config.user = Some("web:nogroup".into());
    assert_eq!(
        container.error().to_string(),
        "unable to find group nogroup: no matching entries in group file"
    );
}

fn numbers(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["sh", "-c", "id -u; id -G; umask; echo $HOME"]);
    container.process().user = wharf_oci::runtime::User {
        uid: 33,
        gid: 5,
        umask: Some(0o77),
        additional_gids: vec![9],
        username: None,
    };
    container
        .process()
        .env
        .retain(|variable| !variable.starts_with("HOME="));
    assert_eq!(container.run().stdout, "33\n5 9\n0077\n/var/www\n");
    // The highest number of all means "as it is" to the kernel, which is root.
    let user = container.process().user.clone();
    for wrong in [
        wharf_oci::runtime::User {
            uid: u32::MAX,
            ..user.clone()
        },
        wharf_oci::runtime::User {
            gid: u32::MAX,
            ..user.clone()
        },
        wharf_oci::runtime::User {
            additional_gids: vec![1 << 31],
            ..user
        },
    ] {
        container.process().user = wrong;
        let error = container.error().to_string();
        assert_eq!(error, "uids and gids must be in range 0-2147483647");
    }
}

fn streams(sandbox: &Sandbox) {
    let mut container = sandbox.container(&[
        "sh",
        "-c",
        "echo again >/dev/stdout; echo wrong >/dev/stderr",
    ]);
    container.config.user = Some("web".into());
    let outcome = container.run();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("again\n", "wrong\n")
    );
}
