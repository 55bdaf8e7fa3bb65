//! The table at the end, on the terminal and in `docs/benchmark.md`.

use std::fmt::Write as _;
use std::path::Path;

use super::engine::Engine;
use super::measure::Samples;

enum Row {
    Latency { name: String, samples: Samples },
    Value { name: String, values: Vec<f64> },
    Floor { name: String, p50: f64, p95: f64 },
}

/// One table: what is compared stands in its columns, the first being ours.
pub(crate) struct Table {
    heading: String,
    columns: Vec<String>,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(heading: &str, columns: Vec<String>) -> Self {
        Self {
            heading: heading.to_owned(),
            columns,
            rows: Vec::new(),
        }
    }

    /// The engines side by side.
    pub(crate) fn of_engines(engines: &[Engine]) -> Self {
        let titles = engines.iter().map(|engine| engine.title.clone());
        Self::new("Engines", titles.collect())
    }

    pub(crate) fn latency(&mut self, name: &str, samples: Samples) {
        eprintln!(
            "{name}: {}",
            (0..self.columns.len())
                .map(|n| format!("{:.1}", samples.quantile(n, 0.5)))
                .collect::<Vec<_>>()
                .join(" | ")
        );
        self.rows.push(Row::Latency {
            name: name.to_owned(),
            samples,
        });
    }

    pub(crate) fn value(&mut self, name: &str, column: usize, value: f64) {
        eprintln!("{name}: {} {value:.2}", self.columns[column]);
        let known = self.rows.iter_mut().find_map(|row| match row {
            Row::Value {
                name: known,
                values,
            } if known == name => Some(values),
            _ => None,
        });
        match known {
            Some(values) => values[column] = value,
            None => {
                let mut values = vec![f64::NAN; self.columns.len()];
                values[column] = value;
                self.rows.push(Row::Value {
                    name: name.to_owned(),
                    values,
                });
            }
        }
    }

    pub(crate) fn floor(&mut self, name: &str, p50: f64, p95: f64) {
        eprintln!("{name}: {p50:.2} / {p95:.2}");
        self.rows.push(Row::Floor {
            name: name.to_owned(),
            p50,
            p95,
        });
    }

    fn render(&self, text: &mut String) {
        let _ = writeln!(text, "\n## {}\n", self.heading);
        let _ = writeln!(text, "| operation | {} |", self.columns.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(self.columns.len()));
        for row in &self.rows {
            let _ = match row {
                Row::Latency { name, samples } => {
                    let first = samples.quantile(0, 0.5);
                    let cells = (0..self.columns.len()).map(|n| {
                        let (p50, p95) = (samples.quantile(n, 0.5), samples.quantile(n, 0.95));
                        cell(&format!("{p50:.1} / {p95:.1}"), n, p50 / first)
                    });
                    writeln!(
                        text,
                        "| {name} | {} |",
                        cells.collect::<Vec<_>>().join(" | ")
                    )
                }
                Row::Value { name, values } => {
                    let cells = values
                        .iter()
                        .enumerate()
                        .map(|(n, value)| cell(&format!("{value:.2}"), n, value / values[0]));
                    writeln!(
                        text,
                        "| {name} | {} |",
                        cells.collect::<Vec<_>>().join(" | ")
                    )
                }
                Row::Floor { name, p50, p95 } => {
                    writeln!(
                        text,
                        "| {name} | {p50:.2} / {p95:.2} |{}",
                        " |".repeat(self.columns.len() - 1)
                    )
                }
            };
        }
    }
}

/// Writes the tables that have rows.
pub(crate) fn write(path: &Path, runs: usize, tables: &[Table]) -> Result<(), String> {
    let mut text = String::from(
        "# Benchmark\n\nMade by `cargo xtask bench`; engines alternate within one run, each sample after a\nrest. Absolute figures drift from machine to machine and hour to hour, ratios within a run hold. Latencies are milliseconds, p50 / p95",
    );
    let _ = write!(text, ", {runs} rounds.\n\n{}\n", machine());
    for table in tables.iter().filter(|table| !table.rows.is_empty()) {
        table.render(&mut text);
    }
    println!("{text}");
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A peer's figure carries its ratio to Wharf's.
fn cell(figure: &str, engine: usize, ratio: f64) -> String {
    if engine == 0 || !ratio.is_finite() {
        figure.to_owned()
    } else {
        format!("{figure} (×{ratio:.1})")
    }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")
                .map(|rest| rest.trim_start_matches([' ', '\t', ':']))
        })
        .unwrap_or("unknown")
        .to_owned();
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let date = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%d"])
        .output()
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
        .unwrap_or_default();
    format!(
        "{date}, {cores} cores {model}, kernel {}, load average at the end {}.",
        kernel.trim(),
        load.split(' ').next().unwrap_or("")
    )
}
