//! A `pasta` that is there and does not do its work.

use wharf_tests::user::{NEIGHBOUR, User};
use wharf_tests::{Host, fixtures, run};

use crate::ready;

/// First in the search path; it says what Debian 12's says where its AppArmor profile stops it.
const BROKEN: &str = "mkdir -p ~/bin; cat > ~/bin/pasta; chmod 755 ~/bin/pasta";
const BROKEN_PASTA: &str = "#!/bin/sh
echo 'No external routable interface for IPv6' >&2
echo \"Couldn't open user namespace: Permission denied\" >&2
exit 1
";

#[test]
fn slirp4netns_takes_over_where_pasta_fails() {
    if !ready("slirp4netns_takes_over_where_pasta_fails") {
        return;
    }
    let host = Host::new();
    let user = User::new(&host);
    let mut broken = user.command("sh");
    broken.args(["-c", BROKEN]);
    run(broken, Some(BROKEN_PASTA.as_bytes())).ok();
    let first_command = || {
        let mut command = user.wharf_command(&["info"]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env(
            "PATH",
            format!("{}:{path}", user.home().join("bin").display()),
        );
        run(command, None).ok()
    };

    first_command().never_complains("no network to the outside");
    user.sh("pgrep slirp4netns").ok();
    user.load(&fixtures::busybox());
    user.serve_page_on_neighbour("from the other machine");
    let page = format!("http://{NEIGHBOUR}:8000/page");
    user.wharf(&["run", "--rm", "busybox", "wget", "-q", "-O", "-", &page])
        .ok()
        .is("from the other machine");
    user.sh("kill -TERM $(cat $XDG_RUNTIME_DIR/wharf.pid)").ok();
    user.wait_until_gone();

    // Without it: what is wrong, and what helps.
    host.sh("mount --bind /dev/null /usr/bin/slirp4netns").ok();
    first_command()
        .complains("pasta failed: Couldn't open user namespace: Permission denied; ")
        .complains("apt-get install slirp4netns")
        .never_complains("IPv6");
    user.sh("kill -TERM $(cat $XDG_RUNTIME_DIR/wharf.pid)").ok();
    user.wait_until_gone();
}
