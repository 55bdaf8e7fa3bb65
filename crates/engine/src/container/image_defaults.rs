//! What an image says about its containers, merged under what the user says.

use wharf_api_types::container::{ContainerConfig, Empty, HealthConfig};
use wharf_fault::{Error, Result};
use wharf_oci::image::ContainerDefaults;

/// Fills what `config` leaves open from the image, as Docker does.
pub(super) fn merge(config: &mut ContainerConfig, image: &ContainerDefaults) -> Result<()> {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    for port in image.exposed_ports.keys() {
        config
            .exposed_ports
            .entry(super::ports::canonical(port))
            .or_insert(Empty {});
    }
    let mut env = config.env.take().unwrap_or_default();
    let given: Vec<String> = env
        .iter()
        .map(|variable| key(variable).to_owned())
        .collect();
    env.extend(
        image
            .env
            .iter()
            .filter(|variable| !given.iter().any(|name| name == key(variable)))
            .cloned(),
    );
    config.env = Some(env);
    let mut labels = config.labels.take().unwrap_or_default();
    for (name, value) in &image.labels {
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    config.labels = Some(labels);
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if empty(&config.entrypoint) {
        if empty(&config.cmd) {
            config.cmd.clone_from(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    // `--entrypoint ""` arrives as one empty word and means none.
    if config
        .entrypoint
        .as_deref()
        .is_some_and(|words| words == [""])
        || empty(&config.entrypoint)
    {
        config.entrypoint = None;
    }
    if empty(&config.entrypoint) && empty(&config.cmd) {
        return Err(Error::invalid("no command specified"));
    }
    merge_health(config, image);
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    // What older builders wrote may be relative.
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        config.working_dir = format!("/{}", config.working_dir);
    }
    let mut volumes = config.volumes.take().unwrap_or_default();
    volumes.extend(image.volumes.keys().map(|path| (path.clone(), Empty {})));
    config.volumes = (!volumes.is_empty()).then_some(volumes);
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = image.stop_timeout_secs;
    }
    if empty(&config.shell) {
        config.shell = (!image.shell.is_empty()).then(|| image.shell.clone());
    }
    Ok(())
}

fn merge_health(config: &mut ContainerConfig, image: &ContainerDefaults) {
    let Some(from) = &image.healthcheck else {
        return;
    };
    let own = config.healthcheck.get_or_insert_with(HealthConfig::default);
    if own.test.is_empty() {
        own.test.clone_from(&from.test);
    }
    for (value, inherited) in [
        (&mut own.interval, from.interval_nanos),
        (&mut own.timeout, from.timeout_nanos),
        (&mut own.start_period, from.start_period_nanos),
        (&mut own.start_interval, from.start_interval_nanos),
        (&mut own.retries, from.retries),
    ] {
        if *value == 0 {
            *value = inherited;
        }
    }
}

fn key(variable: &str) -> &str {
    variable.split('=').next().unwrap_or(variable)
}

/// Program and arguments.
pub(super) fn command(config: &ContainerConfig) -> (String, Vec<String>) {
    let mut words = config
        .entrypoint
        .iter()
        .flatten()
        .chain(config.cmd.iter().flatten())
        .cloned();
    let path = words.next().unwrap_or_default();
    (path, words.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|word| (*word).to_owned()).collect())
    }

    fn image() -> ContainerDefaults {
        ContainerDefaults {
            entrypoint: words(&["/entry"]),
            cmd: words(&["serve"]),
            env: vec!["A=1".into(), "B=2".into()],
            ..ContainerDefaults::default()
        }
    }

    fn merged(config: ContainerConfig) -> (String, Vec<String>) {
        let mut config = config;
        merge(&mut config, &image()).unwrap();
        command(&config)
    }

    #[test]
    fn commands_merge_as_in_docker() {
        let d = ContainerConfig::default;
        assert_eq!(merged(d()), ("/entry".into(), vec!["serve".into()]));
        assert_eq!(
            merged(ContainerConfig {
                cmd: words(&["x"]),
                ..d()
            }),
            ("/entry".into(), vec!["x".into()])
        );
        // A new entrypoint drops the image's arguments.
        assert_eq!(
            merged(ContainerConfig {
                entrypoint: words(&["/e"]),
                ..d()
            }),
            ("/e".into(), vec![])
        );
        let cleared = ContainerConfig {
            entrypoint: words(&[""]),
            cmd: words(&["sh"]),
            ..d()
        };
        assert_eq!(merged(cleared), ("sh".into(), vec![]));
        let mut nothing = ContainerConfig {
            entrypoint: words(&[""]),
            ..d()
        };
        assert_eq!(
            merge(&mut nothing, &image()).unwrap_err().to_string(),
            "no command specified"
        );
    }

    #[test]
    fn the_users_environment_comes_first() {
        let mut config = ContainerConfig {
            env: words(&["B=9", "C=3"]),
            ..ContainerConfig::default()
        };
        merge(&mut config, &image()).unwrap();
        assert_eq!(config.env.unwrap(), ["B=9", "C=3", "A=1"]);
    }
}
