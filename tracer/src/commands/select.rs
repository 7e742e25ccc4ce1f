/*! The filters of the command line, resolved once: what they name must exist. */

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::bail;

use crate::cli::Filters;
use crate::host::netns::Netns;
use crate::model::Selection;

/// What is asked for.
pub(super) struct Selected {
    /// The same for the kernel side, the stream and a look.
    pub(super) selection: Selection,
    /// The namespaces it names, open: so they are there as long as this lives.
    _namespaces: Vec<Netns>,
}

/// Resolves the filters.
///
/// # Errors
/// When a filter names nothing that exists.
pub(super) fn resolve(filters: &Filters) -> anyhow::Result<Selected> {
    let mut namespaces = Vec::new();
    for selector in &filters.netns {
        namespaces.push(selector.open()?);
    }
    for &pid in &filters.pid {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            bail!("there is no process {pid}; `ps -e` lists them");
        }
    }
    let inodes: BTreeSet<u32> = namespaces.iter().map(Netns::inode).collect();
    Ok(Selected {
        selection: Selection {
            pids: filters.pid.clone(),
            follow: false,
            comms: filters.comm.clone(),
            containers: filters.container.clone(),
            destinations: filters
                .dst
                .iter()
                .map(|dst| (dst.network, dst.port))
                .collect(),
            namespaces: inodes.into_iter().collect(),
        },
        _namespaces: namespaces,
    })
}
