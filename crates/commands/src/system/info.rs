//! `docker info`.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};
use wharf_go_template::{Template, Value};

use super::version::client_version;
use crate::cli::{Cli, print, say_error};
use crate::command::{Args, Command, Flag, INSPECT_FORMAT_HELP};
use crate::format::{types, units};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS]",
    short: "Display system-wide information",
    long: None,
    aliases: &["system info", "info"],
    args: Args::None,
    flags: &[Flag::string("format", INSPECT_FORMAT_HELP).short('f')],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    let template = match m.str("format") {
        "" => None,
        "json" => Some(Template::parse("{{json .}}")?),
        text => Some(Template::parse(text).map_err(|error| {
            Failure::new(format!("template parsing error: {error}")).with_status(64)
        })?),
    };
    let version = client_version(cli);
    let answer = cli
        .client()
        .and_then(|client| Ok(cli.block_on(client.get("/info"))?));
    match template {
        Some(template) => {
            let (mut all, failure) = match answer {
                Ok(info) => (info, None),
                Err(failure) => (json!({}), Some(failure)),
            };
            let mut client = version;
            client["Debug"] = json!(cli.debug());
            client["Plugins"] = json!([]);
            client["Warnings"] = Json::Null;
            all["ClientInfo"] = client;
            let typed = types::value("system.dockerInfo", &all);
            match template.execute(&typed.unwrap_or_else(|| Value::from_json(&all))) {
                Ok(text) => print(&format!("{text}\n"))?,
                Err(error) => {
                    print("\n")?;
                    return Err(failure.unwrap_or_else(|| Failure::new(error.to_string())));
                }
            }
            failure.map_or(Ok(()), Err)
        }
        None => {
            let mut out = String::from("Client:\n");
            let _ = writeln!(
                out,
                " Version:    {}",
                version["Version"].as_str().unwrap_or_default()
            );
            let _ = writeln!(out, " Context:    default");
            let _ = writeln!(out, " Debug Mode: {}", cli.debug());
            out.push_str("\nServer:\n");
            print(&out)?;
            let info = answer?;
            print(&server(&info))?;
            warnings(&info);
            Ok(())
        }
    }
}

fn warnings(info: &Json) {
    let warnings = info["Warnings"].as_array().into_iter().flatten();
    warnings.filter_map(Json::as_str).for_each(say_error);
}

/// The engine's half. Lines without a value are left out, as Docker does.
fn server(info: &Json) -> String {
    let text = |key: &str| info[key].as_str().unwrap_or_default();
    let count = |key: &str| info[key].as_i64().unwrap_or(0);
    let on = |key: &str| info[key].as_bool().unwrap_or(false);
    let texts = |value: &Json| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .map(str::to_owned)
            .collect()
    };
    let mut out = String::new();
    let mut line = |indent: usize, name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{:indent$}{name}: {value}", "");
        }
    };
    line(1, "Containers", &count("Containers").to_string());
    line(2, "Running", &count("ContainersRunning").to_string());
    line(2, "Paused", &count("ContainersPaused").to_string());
    line(2, "Stopped", &count("ContainersStopped").to_string());
    line(1, "Images", &count("Images").to_string());
    line(1, "Server Version", text("ServerVersion"));
    line(1, "Storage Driver", text("Driver"));
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        line(
            2,
            pair[0].as_str().unwrap_or_default(),
            pair[1].as_str().unwrap_or_default(),
        );
    }
    line(1, "Logging Driver", text("LoggingDriver"));
    line(1, "Cgroup Driver", text("CgroupDriver"));
    line(1, "Cgroup Version", text("CgroupVersion"));
    out.push_str(" Plugins:\n");
    for (name, key) in [
        ("Volume", "Volume"),
        ("Network", "Network"),
        ("Authorization", "Authorization"),
        ("Log", "Log"),
    ] {
        let list = texts(&info["Plugins"][key]);
        if !list.is_empty() || matches!(key, "Volume" | "Network" | "Log") {
            let _ = writeln!(out, "  {name}: {}", list.join(" "));
        }
    }
    let directories = texts(&info["CDISpecDirs"]);
    if !directories.is_empty() {
        out.push_str(" CDI spec directories:\n");
        directories
            .iter()
            .for_each(|directory| out.push_str(&format!("  {directory}\n")));
    }
    let swarm = info["Swarm"]["LocalNodeState"]
        .as_str()
        .unwrap_or("inactive");
    let _ = writeln!(out, " Swarm: {swarm}");
    if let Some(runtimes) = info["Runtimes"]
        .as_object()
        .filter(|runtimes| !runtimes.is_empty())
    {
        let mut names: Vec<&str> = runtimes.keys().map(String::as_str).collect();
        names.sort_unstable();
        let _ = writeln!(out, " Runtimes: {}", names.join(" "));
        let _ = writeln!(out, " Default Runtime: {}", text("DefaultRuntime"));
    }
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, " {name}: {value}");
        }
    };
    line("Init Binary", text("InitBinary"));
    for (name, key) in [
        ("containerd version", "ContainerdCommit"),
        ("runc version", "RuncCommit"),
        ("init version", "InitCommit"),
    ] {
        line(name, info[key]["ID"].as_str().unwrap_or_default());
    }
    security(&mut out, &texts(&info["SecurityOptions"]));
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, " {name}: {value}");
        }
    };
    line("Kernel Version", text("KernelVersion"));
    line("Operating System", text("OperatingSystem"));
    line("OSType", text("OSType"));
    line("Architecture", text("Architecture"));
    line("CPUs", &count("NCPU").to_string());
    line(
        "Total Memory",
        &units::binary_size(info["MemTotal"].as_f64().unwrap_or(0.0)),
    );
    line("Name", text("Name"));
    line("ID", text("ID"));
    line("Docker Root Dir", text("DockerRootDir"));
    line("Debug Mode", &on("Debug").to_string());
    if on("Debug") {
        let mut more = |name: &str, value: String| {
            let _ = writeln!(out, "  {name}: {value}");
        };
        more("File Descriptors", count("NFd").to_string());
        more("Goroutines", count("NGoroutines").to_string());
        more("System Time", text("SystemTime").to_owned());
        more("EventsListeners", count("NEventsListener").to_string());
    }
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, " {name}: {value}");
        }
    };
    line("HTTP Proxy", text("HttpProxy"));
    line("HTTPS Proxy", text("HttpsProxy"));
    line("No Proxy", text("NoProxy"));
    let mut block = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            let _ = writeln!(out, " {name}:");
            values
                .iter()
                .for_each(|value| out.push_str(&format!("  {value}\n")));
        }
    };
    block("Labels", texts(&info["Labels"]));
    let _ = writeln!(out, " Experimental: {}", on("ExperimentalBuild"));
    let registries = &info["RegistryConfig"];
    let mut insecure: Vec<String> = registries["IndexConfigs"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, config)| config["Secure"].as_bool() == Some(false))
        .map(|(name, _)| name.clone())
        .collect();
    insecure.extend(texts(&registries["InsecureRegistryCIDRs"]));
    let mut block = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            let _ = writeln!(out, " {name}:");
            values
                .iter()
                .for_each(|value| out.push_str(&format!("  {value}\n")));
        }
    };
    block("Insecure Registries", insecure);
    block("Registry Mirrors", texts(&registries["Mirrors"]));
    let _ = writeln!(out, " Live Restore Enabled: {}", on("LiveRestoreEnabled"));
    line_product(&mut out, text("ProductLicense"));
    let pools = info["DefaultAddressPools"].as_array().into_iter().flatten();
    let pools: Vec<String> = pools
        .map(|pool| {
            format!(
                "  Base: {}, Size: {}\n",
                pool["Base"].as_str().unwrap_or_default(),
                pool["Size"]
            )
        })
        .collect();
    if !pools.is_empty() {
        out.push_str(" Default Address Pools:\n");
        out.push_str(&pools.concat());
    }
    out.push('\n');
    out
}

fn line_product(out: &mut String, license: &str) {
    if !license.is_empty() {
        let _ = writeln!(out, " Product License: {license}");
    }
}

/// `name=seccomp,profile=builtin` becomes a name with its settings below.
fn security(out: &mut String, options: &[String]) {
    if options.is_empty() {
        return;
    }
    out.push_str(" Security Options:\n");
    for option in options {
        let pairs: Vec<(&str, &str)> = option
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        for (key, value) in &pairs {
            if *key == "name" {
                let _ = writeln!(out, "  {value}");
            } else {
                let mut letters = key.chars();
                let name: String = letters
                    .next()
                    .map(|first| first.to_uppercase().chain(letters).collect())
                    .unwrap_or_default();
                let _ = writeln!(out, "   {name}: {value}");
            }
        }
    }
}
