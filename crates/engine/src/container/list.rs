//! Lists of containers: filters, order, limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use wharf_api_types::Filters;
use wharf_api_types::container::{
    ContainerSummary, HealthSummary, SummaryHostConfig, SummaryNetworkSettings,
};
use wharf_api_types::filters::FilterError;
use wharf_fault::{Error, Result};

use super::live::{Cell, Container};
use super::record::ContainerRecord;
use super::{inspect, ports, status};
use crate::Engine;

/// Which containers are wanted.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Stopped ones too.
    pub all: bool,
    /// Only the newest so many, stopped ones too; 0 is no limit.
    pub limit: usize,
    /// Measure files.
    pub size: bool,
    /// Conditions.
    pub filters: Filters,
}

const KNOWN: [&str; 15] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = [
    "paused",
    "restarting",
    "removing",
    "running",
    "dead",
    "created",
    "exited",
];
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// Filters, checked and looked up.
struct Conditions<'a> {
    filters: &'a Filters,
    all: bool,
    exited: Vec<i64>,
    /// Older than this.
    before: Option<Timestamp>,
    /// Newer than this.
    since: Option<Timestamp>,
    /// Image ids and names.
    ancestors: Option<BTreeSet<String>>,
    is_task: Option<bool>,
    published: Vec<PortRange>,
    exposed: Vec<PortRange>,
}

/// `80`, `80/udp`, `8000-8080/tcp`.
#[derive(Debug, PartialEq, Eq)]
struct PortRange {
    first: u16,
    last: u16,
    protocol: String,
}

impl PortRange {
    fn parse(name: &str, text: &str) -> Result<Self> {
        let invalid = || value_error(name, text);
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid());
        }
        Ok(Self {
            first,
            last,
            protocol: protocol.to_owned(),
        })
    }

    fn contains(&self, port: u16, protocol: &str) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

fn value_error(name: &str, value: &str) -> Error {
    Error::invalid(
        FilterError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
        }
        .to_string(),
    )
}

impl Engine {
    /// The containers that match, newest first.
    pub async fn container_list(&self, options: &ListOptions) -> Result<Vec<ContainerSummary>> {
        let conditions = self.conditions(options)?;
        let mut containers = self.containers.registry.all();
        containers.sort_by_key(|container| std::cmp::Reverse(container.read().record.created_at));
        let now = Timestamp::now();
        let mut chosen: Vec<(Arc<Container>, ContainerSummary)> = Vec::new();
        for container in containers {
            if options.limit > 0 && chosen.len() == options.limit {
                break;
            }
            let summary = {
                let cell = container.read();
                if !conditions.matches(&cell) {
                    continue;
                }
                self.summary(&cell, now)
            };
            chosen.push((container, summary));
        }
        let mut list = Vec::with_capacity(chosen.len());
        for (container, mut summary) in chosen {
            if options.size {
                // A container removed meanwhile has no size, and is no error.
                (summary.size_rw, summary.size_root_fs) =
                    self.sizes(&container).await.unwrap_or_default();
            }
            list.push(summary);
        }
        Ok(list)
    }

    fn conditions<'a>(&self, options: &'a ListOptions) -> Result<Conditions<'a>> {
        let filters = &options.filters;
        let invalid = |error: FilterError| Error::invalid(error.to_string());
        filters.only(&KNOWN).map_err(invalid)?;
        for value in filters.get("status") {
            if !STATES.contains(&value.as_str()) {
                return Err(value_error("status", value));
            }
        }
        for value in filters.get("health") {
            if !HEALTH.contains(&value.as_str()) {
                return Err(value_error("health", value));
            }
        }
        let exited = filters
            .get("exited")
            .iter()
            .map(|text| text.parse().map_err(|_| value_error("exited", text)));
        let ranges = |name: &str| -> Result<Vec<PortRange>> {
            filters
                .get(name)
                .iter()
                .map(|text| PortRange::parse(name, text))
                .collect()
        };
        let created = |name: &str| -> Result<Vec<Timestamp>> {
            let look_up =
                |reference: &String| Ok(self.containers.find(reference)?.read().record.created_at);
            filters.get(name).iter().map(look_up).collect()
        };
        let is_task = if filters.contains("is-task") {
            Some(filters.flag("is-task", false).map_err(invalid)?)
        } else {
            None
        };
        let ancestors = filters
            .contains("ancestor")
            .then(|| self.ancestors(filters.get("ancestor")));
        Ok(Conditions {
            filters,
            all: options.all || options.limit > 0 || filters.contains("status"),
            exited: exited.collect::<Result<_>>()?,
            before: created("before")?.into_iter().max(),
            since: created("since")?.into_iter().min(),
            ancestors,
            is_task,
            published: ranges("publish")?,
            exposed: ranges("expose")?,
        })
    }

    /// Ids and names that `ancestor` values stand for.
    fn ancestors(&self, values: &[String]) -> BTreeSet<String> {
        let mut set = BTreeSet::new();
        for value in values {
            set.insert(value.clone());
            if let Ok(image) = self.images.store().resolve(value) {
                set.insert(image.id.to_string());
            }
        }
        set
    }

    fn summary(&self, cell: &Cell, now: Timestamp) -> ContainerSummary {
        let record = &cell.record;
        let health = cell
            .health
            .as_ref()
            .map(super::health::HealthState::to_wire);
        let running = cell.run.is_some();
        let word = health.as_ref().map(|health| health.status.as_str());
        let bindings = cell.run.as_ref().map_or(&[][..], |run| &run.kept.ports);
        ContainerSummary {
            id: record.id.to_string(),
            names: vec![record.slash_name()],
            image: self.image_name(record),
            image_id: record.image_id.clone(),
            image_manifest_descriptor: record.manifest.clone(),
            command: command(record),
            created: record.created_at.as_second(),
            ports: if running {
                ports::summary(&record.config, bindings)
            } else {
                Vec::new()
            },
            labels: record.config.labels.clone().unwrap_or_default(),
            state: record.state.status().to_owned(),
            status: status::text(&record.state, word, now),
            health: Some(HealthSummary {
                status: word.unwrap_or("none").to_owned(),
                failing_streak: health.as_ref().map_or(0, |health| health.failing_streak),
            }),
            host_config: SummaryHostConfig {
                network_mode: record.host_config.network_mode.clone(),
                annotations: record.host_config.annotations.clone(),
            },
            network_settings: SummaryNetworkSettings {
                networks: inspect::networks(cell),
            },
            mounts: record
                .mounts
                .iter()
                .map(|mount| mount.to_wire(|name| self.volumes.path(name).display().to_string()))
                .collect(),
            ..ContainerSummary::default()
        }
    }

    /// The image as the user named it, or its id where that name means another image by now.
    fn image_name(&self, record: &ContainerRecord) -> String {
        let name = &record.config.image;
        match self.images.store().resolve(name) {
            Ok(image) if image.id.as_str() == record.image_id => name.clone(),
            _ => record.image_id.clone(),
        }
    }
}

/// Program and arguments on one line; arguments with spaces in quotes.
fn command(record: &ContainerRecord) -> String {
    let mut text = record.path.clone();
    for argument in &record.args {
        if argument.contains(' ') {
            text.push_str(&format!(" '{argument}'"));
        } else {
            text.push_str(&format!(" {argument}"));
        }
    }
    text
}

impl Conditions<'_> {
    fn matches(&self, cell: &Cell) -> bool {
        let (record, state, filters) = (&cell.record, &cell.record.state, self.filters);
        let health = cell
            .health
            .as_ref()
            .map_or("none", super::health::HealthState::word);
        let exposed = || {
            record
                .config
                .exposed_ports
                .keys()
                .filter_map(|port| ports::parse_port(port).ok())
        };
        let published = || cell.run.iter().flat_map(|run| &run.kept.ports);
        (self.all || state.is_running())
            && filters.matches_part("id", record.id.as_str())
            && (filters.matches_part("name", &record.name)
                || filters.matches_part("name", &record.slash_name()))
            && self.is_task != Some(true)
            && filters.matches_labels(
                "label",
                record.config.labels.as_ref().unwrap_or(&Default::default()),
            )
            && filters.matches_exactly("isolation", &record.host_config.isolation)
            && self.before.is_none_or(|before| record.created_at < before)
            && self.since.is_none_or(|since| record.created_at > since)
            && (self.exited.is_empty()
                || self.exited.contains(&state.exit_code)
                    && !state.is_running()
                    && state.started_before)
            && filters.matches_exactly("status", state.status())
            && filters.matches_exactly("health", health)
            && self.matches_volume(record)
            && self.ancestors.as_ref().is_none_or(|set| {
                set.contains(&record.image_id) || set.contains(&record.config.image)
            })
            && self.matches_network(record)
            && (self.published.is_empty()
                || published().any(|binding| {
                    self.published.iter().any(|range| {
                        range.contains(binding.container_port, binding.protocol.as_str())
                    })
                }))
            && (self.exposed.is_empty()
                || exposed().any(|(port, protocol)| {
                    self.exposed
                        .iter()
                        .any(|range| range.contains(port, protocol.as_str()))
                }))
    }

    fn matches_volume(&self, record: &ContainerRecord) -> bool {
        let wanted = self.filters.get("volume");
        wanted.is_empty()
            || wanted.iter().any(|value| {
                let clean = super::mounts::clean(value);
                record
                    .mounts
                    .iter()
                    .any(|mount| mount.volume() == Some(value) || mount.destination == clean)
            })
    }

    fn matches_network(&self, record: &ContainerRecord) -> bool {
        let wanted = self.filters.get("network");
        wanted.is_empty()
            || wanted.iter().any(|value| {
                record.networks.iter().any(|(name, endpoint)| {
                    name == value || endpoint.network_id.starts_with(value.as_str())
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::{ImageSource, Phase, State};
    use wharf_api_types::container::{ContainerConfig, Empty};

    fn cell() -> Container {
        let mut config = ContainerConfig {
            image: "nginx".into(),
            ..ContainerConfig::default()
        };
        config.labels = Some([("tier".to_owned(), "front".to_owned())].into());
        config.exposed_ports.insert("80/tcp".into(), Empty {});
        Container::new(ContainerRecord {
            id: "a".repeat(64).parse().unwrap(),
            name: "web".into(),
            created_at: Timestamp::from_second(100).unwrap(),
            image_id: "sha256:1".into(),
            image: ImageSource::default(),
            manifest: None,
            path: "nginx".into(),
            args: vec!["-g".into(), "daemon off;".into()],
            config,
            host_config: Default::default(),
            networks: Default::default(),
            mounts: Vec::new(),
            id_maps: None,
            labels: Default::default(),
            state: State {
                phase: Phase::Exited,
                exit_code: 3,
                started_before: true,
                ..State::default()
            },
        })
    }

    fn conditions(filters: &Filters, all: bool) -> Conditions<'_> {
        Conditions {
            filters,
            all,
            exited: filters
                .get("exited")
                .iter()
                .map(|n| n.parse().unwrap())
                .collect(),
            before: None,
            since: None,
            ancestors: None,
            is_task: None,
            published: Vec::new(),
            exposed: filters
                .get("expose")
                .iter()
                .map(|text| PortRange::parse("expose", text).unwrap())
                .collect(),
        }
    }

    #[test]
    fn filters_choose() {
        let container = cell();
        let matches = |text: &str| {
            conditions(&Filters::parse(text).unwrap(), true).matches(&container.read())
        };
        for yes in [
            "{}",
            r#"{"name":["we"]}"#,
            r#"{"name":["^/web$"]}"#,
            r#"{"id":["aaa"]}"#,
            r#"{"status":["exited","paused"]}"#,
            r#"{"exited":["3"]}"#,
            r#"{"label":["tier=front"]}"#,
            r#"{"expose":["79-81"]}"#,
            r#"{"health":["none"]}"#,
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in [
            r#"{"name":["db"]}"#,
            r#"{"status":["running"]}"#,
            r#"{"exited":["0"]}"#,
            r#"{"label":["tier=back"]}"#,
            r#"{"expose":["80/udp"]}"#,
            r#"{"network":["x"]}"#,
            r#"{"volume":["x"]}"#,
        ] {
            assert!(!matches(no), "{no}");
        }
        assert!(!conditions(&Filters::new(), false).matches(&container.read()));
    }

    #[test]
    fn commands_are_quoted() {
        assert_eq!(command(&cell().read().record), "nginx -g 'daemon off;'");
    }
}
