//! From resources to the control files to write. Pure.
//!
//! - [`split`]: for split hierarchies (v1), which take the document's values nearly as they are
//! - [`unified`]: for the unified one (v2), which has other units for weights and counts swap apart
//!   from memory; the conversions are those every OCI runtime uses, so that the same document means
//!   the same everywhere
//!
//! What a version cannot do is refused by name, and so is a value no kernel takes: nothing is
//! accepted and left out.

mod split;
mod unified;

use wharf_oci::runtime::{HugepageLimit, Resources};

pub use split::split;
pub use unified::unified;
pub(super) use {split::order_memory, unified::controllers};

/// A control file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller, by which the hierarchy is found.
    pub controller: &'static str,
    /// The file in the cgroup's directory.
    pub file: String,
    /// What is written.
    pub value: String,
    /// What it means if the kernel has no such file.
    pub missing: Missing,
    /// Whether the kernel may refuse the value until the writes after it are done.
    pub may_wait: bool,
}

/// What a missing control file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The kernel cannot do what is asked.
    Refuse,
    /// A kernel without it does what is asked anyhow.
    Fine,
    /// The next write says the same to other kernels; it is left out where this one is taken.
    TryNext,
}

/// Collects writes.
struct Writes {
    controller: &'static str,
    list: Vec<Write>,
}

impl Writes {
    fn new() -> Self {
        Self {
            controller: "",
            list: Vec::new(),
        }
    }

    fn add(&mut self, file: &str, value: impl ToString, missing: Missing) {
        self.list.push(Write {
            controller: self.controller,
            file: file.to_owned(),
            value: value.to_string(),
            missing,
            may_wait: false,
        });
    }

    fn push(&mut self, file: &str, value: impl ToString) {
        self.add(file, value, Missing::Refuse);
    }

    fn push_some<T: ToString>(&mut self, file: &str, value: Option<T>) {
        if let Some(value) = value {
            self.push(file, value);
        }
    }

    /// As [`push_some`](Self::push_some), for a value checked against those that follow.
    fn push_early<T: ToString>(&mut self, file: &str, value: Option<T>) {
        if let Some(value) = value {
            self.push(file, value);
            if let Some(last) = self.list.last_mut() {
                last.may_wait = true;
            }
        }
    }
}

/// 0 stands for "not said" wherever the document's numbers may be absent.
fn said<T: PartialEq + From<u8>>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::from(0))
}

/// A list of numbers and ranges, `0-3,7`; empty is not said.
fn number_list<'a>(name: &str, text: Option<&'a str>) -> Result<Option<&'a str>, String> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let known = |byte: u8| byte.is_ascii_digit() || b",-: /".contains(&byte);
    // The kernel reads further forms (`0-31:1/2`, `all`); it knows which numbers exist.
    if text == "all" || text.bytes().all(known) {
        Ok(Some(text))
    } else {
        Err(format!("{name} {text:?} is not a list like 0-3,7"))
    }
}

fn limit_or_max(limit: i64) -> String {
    if limit < 0 {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

/// No limit is -1. No tasks at all is no container: it is taken as one.
fn pids(limit: i64) -> String {
    limit_or_max(if limit == 0 { 1 } else { limit })
}

/// A weight for block devices as the document has it.
fn block_weight(weight: u16) -> Result<u16, String> {
    if (10..=1000).contains(&weight) {
        Ok(weight)
    } else {
        Err(format!("block IO weight {weight} is not 10 to 1000"))
    }
}

/// A device number, written `8:0`.
fn device(major: i64, minor: i64) -> Result<String, String> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(format!("{major}:{minor}")),
        _ => Err(format!(
            "block device {major}:{minor} is not a device number"
        )),
    }
}

/// Reservations where the kernel accounts them, and page faults; `file` is their name's end.
fn hugepages(limits: &[HugepageLimit], file: &str, writes: &mut Writes) -> Result<(), String> {
    writes.controller = "hugetlb";
    for HugepageLimit { page_size, limit } in limits {
        let digits = page_size.trim_end_matches(|unit: char| unit.is_ascii_uppercase());
        let valid = !digits.is_empty()
            && digits.bytes().all(|digit| digit.is_ascii_digit())
            && matches!(&page_size[digits.len()..], "KB" | "MB" | "GB");
        if !valid {
            return Err(format!(
                "huge page size {page_size:?} is not of the form 2MB"
            ));
        }
        writes.push(&format!("hugetlb.{page_size}.{file}"), limit);
        writes.add(
            &format!("hugetlb.{page_size}.rsvd.{file}"),
            limit,
            Missing::Fine,
        );
    }
    Ok(())
}

fn rdma(resources: &Resources, writes: &mut Writes) -> Result<(), String> {
    writes.controller = "rdma";
    for (device, limit) in &resources.rdma {
        let mut value = name("rdma device", device)?.to_owned();
        for (key, number) in [
            ("hca_handle", limit.hca_handles),
            ("hca_object", limit.hca_objects),
        ] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        writes.push("rdma.max", value);
    }
    Ok(())
}

/// A word that names something of the kernel's.
fn name<'a>(what: &str, name: &'a str) -> Result<&'a str, String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '=';
    if name.is_empty() || name.len() > 64 || name.contains(bad) {
        Err(format!("{what} {name:?} is not a name"))
    } else {
        Ok(name)
    }
}

#[cfg(test)]
mod tests;
