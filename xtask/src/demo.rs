//! `cargo xtask demo`: the main job before one's eyes.
//!
//! Real nginx from Debian packages, a published port, a volume, `ps`, `logs`, `stats`, clean-up. It all
//! happens in namespaces of the demo's own, so the machine's network and firewall stay as they are.

use wharf_tests::{Daemon, Host, fixtures};

pub(crate) fn run() -> Result<(), String> {
    use_release_binary()?;
    println!("# making an nginx image from Debian packages (once; takes a minute)");
    let nginx = fixtures::nginx();
    let host = Host::new();
    let daemon = Daemon::start(&host);
    let archive = nginx.display().to_string();

    show(
        &daemon,
        &["version", "--format", "Docker API {{.Server.APIVersion}}"],
    )?;
    show(&daemon, &["load", "-i", &archive])?;
    show(&daemon, &["images"])?;
    show(&daemon, &["volume", "create", "site"])?;
    show(
        &daemon,
        &[
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "8080:80",
            "-v",
            "site:/var/www/html",
            "nginx",
        ],
    )?;
    println!("$ curl http://127.0.0.1:8080/");
    let page = host.fetch("http://127.0.0.1:8080/");
    print!("{}{}", page.stdout, page.stderr);
    if page.code != 0 || !page.stdout.contains("nginx on Wharf") {
        return Err("nginx did not serve its page".to_owned());
    }
    show(
        &daemon,
        &[
            "exec",
            "web",
            "sh",
            "-c",
            "echo '<h1>changed in the volume</h1>' > /var/www/html/index.html",
        ],
    )?;
    println!("$ curl http://127.0.0.1:8080/");
    print!("{}", host.fetch("http://127.0.0.1:8080/").stdout);
    show(&daemon, &["ps"])?;
    show(&daemon, &["logs", "web"])?;
    show(&daemon, &["stats", "--no-stream"])?;
    show(
        &daemon,
        &[
            "run",
            "--rm",
            "-v",
            "site:/site",
            "nginx",
            "cat",
            "/site/index.html",
        ],
    )?;
    show(&daemon, &["rm", "-f", "web"])?;
    show(&daemon, &["volume", "rm", "site"])?;
    show(&daemon, &["rmi", "nginx"])?;
    show(&daemon, &["ps", "-a"])?;
    println!("# done; the demo's daemon and everything it made are gone with it");
    Ok(())
}

/// Prints a command as typed, runs it with Wharf's own client and prints what it says.
fn show(daemon: &Daemon<'_>, arguments: &[&str]) -> Result<(), String> {
    println!("$ wharf {}", arguments.join(" "));
    let out = daemon.wharf(arguments);
    print!("{}{}", out.stdout, out.stderr);
    if out.code == 0 {
        Ok(())
    } else {
        Err(format!(
            "`wharf {}` ended with {}",
            arguments.join(" "),
            out.code
        ))
    }
}

/// Points the test kit at the optimised binary.
pub(crate) fn use_release_binary() -> Result<(), String> {
    if std::env::var_os("WHARF_BINARY").is_some() {
        return Ok(());
    }
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    // <target>/<triple>/debug/xtask
    let binary = this
        .ancestors()
        .nth(2)
        .expect("xtask lies in a profile folder")
        .join("release")
        .join("wharf");
    if !binary.exists() {
        return Err(format!(
            "{} is missing: run `cargo build --release` first",
            binary.display()
        ));
    }
    // The one thread there is: nobody reads the environment at the same time.
    wharf_tests::set_binary(binary);
    Ok(())
}
