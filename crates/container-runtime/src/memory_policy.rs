//! On which NUMA nodes a container's memory is (`set_mempolicy(2)`).

use wharf_oci::runtime::MemoryPolicy;

use crate::error::{Stage, StartError};
use crate::number_list;

/// A policy with the kernel's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    mode: u32,
    nodes: Vec<u32>,
}

/// As many nodes as the kernel can be built for.
const NODES_MAX: u32 = 1024;

/// Understands the document's policy.
pub(crate) fn plan(policy: &MemoryPolicy) -> Result<Policy, StartError> {
    let refuse =
        |what: String| StartError::refused(Stage::Config, format!("linux.memoryPolicy: {what}"));
    let mode = match policy.mode.as_str() {
        "MPOL_DEFAULT" => 0,
        "MPOL_PREFERRED" => 1,
        "MPOL_BIND" => 2,
        "MPOL_INTERLEAVE" => 3,
        "MPOL_LOCAL" => 4,
        "MPOL_PREFERRED_MANY" => 5,
        "MPOL_WEIGHTED_INTERLEAVE" => 6,
        other => return Err(refuse(format!("mode {other:?} is not known"))),
    };
    let mut flags = 0;
    for flag in &policy.flags {
        flags |= match flag.as_str() {
            "MPOL_F_STATIC_NODES" => 1 << 15,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            other => return Err(refuse(format!("flag {other:?} is not known"))),
        };
    }
    let list = policy.nodes.as_deref().unwrap_or_default();
    let nodes = number_list::parse(list, NODES_MAX)
        .ok_or_else(|| refuse(format!("{list:?} is not a list of nodes")))?;
    Ok(Policy {
        mode: mode | flags,
        nodes,
    })
}

impl Policy {
    /// Makes it that of the calling process and what comes of it.
    pub(crate) fn apply(&self) -> Result<(), StartError> {
        wharf_sys::process::set_memory_policy(self.mode, &self.nodes).map_err(|errno| {
            StartError::refused(
                Stage::Config,
                format!("linux.memoryPolicy: the kernel refuses it: {errno}"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_understood() {
        let policy = |mode: &str, nodes: Option<&str>, flags: &[&str]| {
            plan(&MemoryPolicy {
                mode: mode.to_owned(),
                nodes: nodes.map(str::to_owned),
                flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            })
        };
        assert_eq!(
            policy("MPOL_INTERLEAVE", Some("0-1,3"), &["MPOL_F_STATIC_NODES"]).unwrap(),
            Policy {
                mode: 3 | 1 << 15,
                nodes: vec![0, 1, 3]
            }
        );
        assert!(policy("MPOL_LOCAL", None, &[]).is_ok());
        assert!(policy("MPOL_X", None, &[]).is_err());
        assert!(policy("MPOL_BIND", Some("x"), &[]).is_err());
        assert!(policy("MPOL_BIND", Some("0"), &["x"]).is_err());
    }
}
