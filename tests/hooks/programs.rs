/*! The programs a process holds in the kernel, and how often each of them ran. */

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use tracer::kernel::hooks::{Group, Hook, Kind};

/// Bytes of a program's name that the kernel keeps.
const NAME: usize = 15;

/// A process's programs.
#[derive(Debug)]
pub(super) struct Programs {
    /// Programs on typed tracepoints, by the tracepoint: their links tell it.
    tracepoints: BTreeMap<String, BTreeSet<u32>>,
    /// The ids of all, with name and runs.
    runs: BTreeMap<u32, (String, u64)>,
}

impl Programs {
    /// Reads them off the descriptors of a process.
    pub(super) fn of(pid: u32) -> Self {
        let mut ids = BTreeSet::new();
        let mut tracepoints = BTreeMap::<_, BTreeSet<_>>::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
            // A descriptor may be closed meanwhile.
            let Ok(text) = fs::read_to_string(entry.unwrap().path()) else {
                continue;
            };
            let field = |name: &str| {
                let mut lines = text.lines();
                let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
                Some(value.trim())
            };
            let Some(id) = field("prog_id").map(|id| id.parse::<u32>().unwrap()) else {
                continue;
            };
            ids.insert(id);
            if let Some(name) = field("tp_name") {
                tracepoints.entry(name.to_owned()).or_default().insert(id);
            }
        }
        let runs = aya::programs::loaded_programs()
            .flatten()
            .filter(|program| ids.contains(&program.id()))
            .map(|program| {
                let name = program.name_as_str().unwrap_or_default().to_owned();
                (program.id(), (name, program.run_count()))
            })
            .collect();
        Self { tracepoints, runs }
    }

    /// How often a place fired: the least of its programs. `None` when one of them is not there.
    pub(super) fn fired(&self, group: &Group, place: &str) -> Option<u64> {
        let hooks = group.hooks.iter().filter(|hook| hook.place == place);
        hooks.map(|hook| self.runs_of(hook)).min().flatten()
    }

    fn runs_of(&self, hook: &Hook) -> Option<u64> {
        let name = &hook.program[..hook.program.len().min(NAME)];
        let here = self.tracepoints.get(hook.target());
        let mut runs = self.runs.iter();
        // Long names differ beyond what the kernel keeps of them; on a tracepoint they do not.
        let found = runs.find(|(id, (kept, _))| {
            kept == name && (hook.kind != Kind::TpBtf || here.is_some_and(|here| here.contains(id)))
        });
        found.map(|(_, (_, runs))| *runs)
    }
}
