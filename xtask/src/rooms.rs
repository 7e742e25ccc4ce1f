/*!
`cargo xtask rooms`: which room of tracer/src, a top-level module, may name which other.
*/
mod attributes;
mod names;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::paths;
use names::{Module, Source, Tree};

/// A room that may name all others.
const EVERYTHING: &[&str] = &["*"];

/// The rooms and what each may name outside its tests. Where a part of a room has a line of its own
/// the longest match counts, on both sides: a room that may name `source` may not name
/// `source/live`, nor may the rest of `source`.
#[rustfmt::skip] // One line a room, however long.
const ROOMS: &[(&str, &[&str])] = &[
    // What everything is said in.
    ("model", &[]),
    ("exit", &[]),
    // Pure: what happens is handed in, as events of the model, and so is the clock.
    ("ledger", &["model"]),
    ("diagnosis", &["model"]),
    ("state", &["model", "diagnosis"]),
    ("view", &["model", "diagnosis", "state"]),
    ("gate", &["state"]),
    // The machine. What the kernel refuses has an exit code of its own.
    ("host", &["model"]),
    ("kernel", &["model", "exit"]),
    ("sandbox", &["host", "exit"]),
    // Where events come from is a trait; only the live source knows that there is a kernel.
    ("source", &["model"]),
    ("source/live", &["model", "source", "host", "kernel"]),
    // Any source into any view.
    ("stream", &["model", "source", "ledger", "diagnosis", "state", "view"]),
    // Arguments are parsed into the types of those who take them.
    ("cli", &["gate", "host", "kernel"]),
    ("commands", EVERYTHING),
];

/// What makes up the crate's roots rather than a room.
const ROOTS: &[&str] = &["lib.rs", "main.rs"];

/// Checks the tree against the list.
///
/// # Errors
///
/// When a file cannot be read or parsed, or the tree and the list differ; what differs is printed.
pub(crate) fn check() -> Result<()> {
    let src = paths::root().join("tracer/src");
    let mut sources = Vec::new();
    read(&src, "", &mut sources)?;
    let tree = names::read(&sources)?;
    let wrong = judge(ROOMS, &tree);
    for line in &wrong {
        eprintln!("{line}");
    }
    if !wrong.is_empty() {
        bail!(
            "compared which rooms of tracer/src name which others with the list: {} {}; take the names out, or change the list, ROOMS in xtask/src/rooms.rs",
            wrong.len(),
            if wrong.len() == 1 {
                "line differs"
            } else {
                "lines differ"
            }
        );
    }
    println!("rooms: {} files name only what they may", sources.len());
    Ok(())
}

/// Reads every source file below the folder, in the order of their names.
fn read(src: &Path, below: &str, into: &mut Vec<Source>) -> Result<()> {
    let dir = src.join(below);
    let reading = || format!("reading {}", dir.display());
    let mut entries = fs::read_dir(&dir)
        .with_context(reading)?
        .collect::<Result<Vec<_>, _>>()
        .with_context(reading)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name
            .to_str()
            .with_context(|| format!("{} has a name that is not UTF-8", entry.path().display()))?;
        let file = format!("{below}{name}");
        if entry.path().is_dir() {
            read(src, &format!("{file}/"), into)?;
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("reading {}", entry.path().display()))?;
            into.push(Source { file, text });
        }
    }
    Ok(())
}

/// Where the list and the tree differ, a line each.
fn judge(list: &[(&str, &[&str])], tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    let outright = tree.names.iter().filter(|name| !name.imported);
    let outright: BTreeSet<_> = outright
        .map(|name| (name.file.as_str(), room(list, &name.to)))
        .collect();
    for name in &tree.names {
        // A room without a line is reported once, below.
        let Some((from, may)) = entry(list, &name.from) else {
            continue;
        };
        let to = room(list, &name.to);
        if from == to {
            continue;
        }
        used.insert((from, to));
        if may == EVERYTHING || may.contains(&to) {
            continue;
        }
        if name.imported && outright.contains(&(name.file.as_str(), to)) {
            // The import is told already.
            continue;
        }
        let edges = if may.is_empty() {
            "it has none".to_owned()
        } else {
            may.join(", ")
        };
        let path = ["crate"]
            .into_iter()
            .chain(name.to.iter().map(String::as_str));
        let line = format!(
            "tracer/src/{}:{}: {from} names {to} ({}): not one of its edges ({edges})",
            name.file,
            name.line,
            path.collect::<Vec<_>>().join("::")
        );
        if !wrong.contains(&line) {
            wrong.push(line);
        }
    }
    let unlisted = |module: &&Module| entry(list, module).is_none();
    let rooms = tree.modules.iter().filter(unlisted);
    let rooms: BTreeSet<_> = rooms.filter_map(|module| module.first()).collect();
    wrong.extend(rooms.iter().map(|room| {
        format!("tracer/src has the room {room}, which is not in the list in xtask/src/rooms.rs")
    }));
    for (room, may) in list {
        let is_this = |module: &Module| entry(list, module).is_some_and(|(name, _)| name == *room);
        if !tree.modules.iter().any(is_this) {
            wrong.push(format!(
                "the list has {room}, which tracer/src has not: take it out"
            ));
        } else if *may != EVERYTHING {
            let unused = may.iter().filter(|to| !used.contains(&(*room, **to)));
            wrong.extend(unused.map(|to| {
                format!("the list allows {room} -> {to}, which nothing uses: take it out")
            }));
        }
    }
    wrong
}

/// What a path leads to, as the list calls it.
fn room<'a>(list: &[(&'a str, &'a [&'a str])], path: &'a Module) -> &'a str {
    match entry(list, path) {
        Some((room, _)) => room,
        None => path.first().map_or("the crate's root", String::as_str),
    }
}

/// The line of the list that a module comes under: the longest that begins its path.
fn entry<'a>(
    list: &[(&'a str, &'a [&'a str])],
    module: &[String],
) -> Option<(&'a str, &'a [&'a str])> {
    let begins = |room: &str| {
        let mut module = module.iter();
        room.split('/')
            .all(|part| module.next().is_some_and(|name| name == part))
    };
    let matching = list.iter().filter(|(room, _)| begins(room));
    matching.max_by_key(|(room, _)| room.len()).copied()
}

#[cfg(test)]
mod tests {
    use super::{EVERYTHING, Source, judge, names};

    const LIST: &[(&str, &[&str])] = &[
        ("model", &[]),
        ("host", &["model"]),
        ("source", &["model"]),
        ("source/live", &["model", "source", "host"]),
        ("stream", &["model", "source"]),
        ("commands", EVERYTHING),
    ];

    /// Files that use each edge of the list, and no other.
    const GOOD: &[(&str, &str)] = &[
        ("lib.rs", "pub mod model; pub mod host; use host::netns;"),
        ("main.rs", "fn main() { tracer::commands::run() }"),
        ("model/mod.rs", "pub struct Event;"),
        ("host/mod.rs", "use crate::model::Event;"),
        ("source.rs", "use crate::model::Event; pub mod live;"),
        (
            "source/live.rs",
            "use super::Batch; use crate::{host, model::Event};",
        ),
        (
            "stream.rs",
            "use crate::{model::Event, source::{self, Batch}};",
        ),
        (
            "commands/mod.rs",
            "use crate::{host, source::live, stream};",
        ),
    ];

    /// What is wrong with the good files once these replace some, or are added.
    fn wrong(instead: &[(&str, &str)]) -> Vec<String> {
        let kept = |file: &str| instead.iter().all(|(other, _)| *other != file);
        let files = GOOD.iter().filter(|(file, _)| kept(file)).chain(instead);
        let sources: Vec<_> = files
            .map(|(file, text)| Source {
                file: (*file).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        judge(LIST, &names::read(&sources).unwrap())
    }

    #[test]
    fn a_tree_that_keeps_to_the_list_passes() {
        assert_eq!(wrong(&[]), [""; 0]);
    }

    #[test]
    fn an_edge_that_is_not_listed_is_named_with_its_line() {
        assert_eq!(
            wrong(&[
                ("model/pool.rs", "\nuse crate::host::netns;\n"),
                (
                    "host/mod.rs",
                    "use crate::model::Event;\n\nfn f() { crate::stream::g() }"
                ),
            ]),
            [
                "tracer/src/model/pool.rs:2: model names host (crate::host::netns): not one of its edges (it has none)",
                "tracer/src/host/mod.rs:3: host names stream (crate::stream::g): not one of its edges (model)",
            ]
        );
    }

    #[test]
    fn what_has_a_line_of_its_own_is_not_reached_through_its_room() {
        let named = "names source/live (crate::source::live::Live): not one of its edges";
        // Named outright, in a group, and through an import of the room.
        let stream = "use crate::{model::Event, source::{self, Batch, live::Live}};
            fn f() { crate::source::live::Live::open();\n Live::open() }";
        assert_eq!(
            wrong(&[("stream.rs", stream)]),
            [
                format!("tracer/src/stream.rs:1: stream {named} (model, source)"),
                "tracer/src/stream.rs:2: stream names source/live (crate::source::live::Live::open): not one of its edges (model, source)".to_owned(),
            ]
        );
        let stream =
            "use crate::model::Event; use crate::source as from; fn f(_: from::live::Live) {}";
        assert_eq!(
            wrong(&[("stream.rs", stream)]),
            [format!(
                "tracer/src/stream.rs:1: stream {named} (model, source)"
            )]
        );
        // Nor handed on by the room itself.
        let source = "use crate::model::Event; pub mod live; pub use live::Live;";
        assert_eq!(
            wrong(&[("source.rs", source)]),
            [format!("tracer/src/source.rs:1: source {named} (model)")]
        );
    }

    #[test]
    fn imports_of_the_whole_crate_are_refused() {
        let globbed = "use super::*; use crate::model::Event;";
        assert_eq!(
            wrong(&[("host/mod.rs", globbed)]),
            [
                "tracer/src/host/mod.rs:1: host names the crate's root (crate): not one of its edges (model)"
            ]
        );
    }

    #[test]
    fn the_list_and_the_rooms_are_the_same() {
        let kitchen =
            "tracer/src has the room kitchen, which is not in the list in xtask/src/rooms.rs";
        assert_eq!(
            wrong(&[("kitchen.rs", "use crate::host;"), ("kitchen/sink.rs", "")]),
            [kitchen]
        );
        let without = |file: &str| file != "source/live.rs";
        let sources = GOOD.iter().filter(|(file, _)| without(file));
        let sources = sources.map(|(file, text)| Source {
            file: (*file).to_owned(),
            text: (*text).to_owned(),
        });
        let tree = names::read(&sources.collect::<Vec<_>>()).unwrap();
        assert_eq!(
            judge(LIST, &tree),
            ["the list has source/live, which tracer/src has not: take it out"]
        );
    }

    #[test]
    fn a_listed_edge_that_only_tests_use_is_to_be_taken_out() {
        let only_tests = "#[cfg(test)] mod tests { use crate::model::Event; }";
        assert_eq!(
            wrong(&[("host/mod.rs", only_tests)]),
            ["the list allows host -> model, which nothing uses: take it out"]
        );
    }
}
