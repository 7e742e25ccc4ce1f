/*! What was measured, as Markdown tables of medians and spreads. */

use std::fmt::Write as _;
use std::time::Duration;

use crate::contender::{Absent, FLOOR, UNTRACED};
use crate::load::{Load, Size};
use crate::machine;
use crate::measure::{Account, Result};
use crate::scale::{Fate, Point};
use crate::search::{self, Search};

/// The tables so far; each is printed as it comes.
pub(crate) struct Report {
    text: String,
}

impl Report {
    /// Begins with the machine and those that are absent.
    pub(crate) fn begin(rounds: usize, absent: Vec<Absent>) -> Self {
        let mut report = Self {
            text: String::new(),
        };
        report.say(&format!(
            "Medians of {rounds} rounds in turn, with the lower and the upper quartile; {}.\n",
            machine::description()
        ));
        for Absent { name, why } in absent {
            report.say(&format!("Not measured: {name} ({why})."));
        }
        report
    }

    /// All of it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Adds a load's results.
    pub(crate) fn add(&mut self, load: Load, size: Size, results: &[Result]) {
        self.say(&format!("\n### {}\n", title(load, size)));
        if load == Load::Idle {
            self.idle(results);
            return;
        }
        let unit = load.unit();
        self.say(&format!(
            "| watching | {unit}s per second against untraced | programs, ns per {unit} | its process, µs per {unit} | resident MiB | skipped runs |\n\
             |---|---|---|---|---|---|"
        ));
        let untraced = results.iter().find(|one| one.name == UNTRACED);
        for one in results {
            let ratios = untraced.map_or_else(Vec::new, |untraced| {
                let pairs = untraced.took.iter().zip(&one.took);
                pairs
                    .map(|(free, took)| free.as_secs_f64() / took.as_secs_f64())
                    .collect()
            });
            let speed = if one.name == UNTRACED {
                "1".to_owned()
            } else {
                spread(&ratios, 3)
            };
            let kernel: Vec<f64> = one
                .programs
                .iter()
                .map(|all| all.values().map(|of| of.0).sum())
                .collect();
            let micros = |time: &Duration| time.as_secs_f64() * 1e6 / size.operations as f64;
            let process: Vec<f64> = one.cpu.iter().map(micros).collect();
            let memory: Vec<f64> = one
                .resident_kb
                .iter()
                .map(|&kb| kb as f64 / 1024.0)
                .collect();
            let (kernel, process, memory, misses) = if one.name == UNTRACED {
                (String::new(), String::new(), String::new(), String::new())
            } else {
                (
                    spread(&kernel, 0),
                    spread(&process, 2),
                    spread(&memory, 0),
                    one.misses.to_string(),
                )
            };
            self.say(&format!(
                "| {} | {speed} | {kernel} | {process} | {memory} | {misses} |",
                one.name
            ));
        }
        self.programs(unit, results);
    }

    /// Adds what tracer told of a storm.
    pub(crate) fn account(&mut self, size: Size, account: &Account) {
        self.say(&format!(
            "\nAccounted: {} births of TIME_WAIT told for {} connections, {} lost.",
            account.births, size.operations, account.lost
        ));
    }

    /// Adds how the cost grows.
    pub(crate) fn points(&mut self, fate: Fate, points: &[Point]) {
        self.say(&format!(
            "\n### connections at a time, {}\n\n\
             | connections | a second | programs, ns each | its process, µs each | then, ms a second | resident MiB | peak MiB | told | lost |\n\
             |---|---|---|---|---|---|---|---|---|",
            fate.name()
        ));
        for point in points {
            let each = |time: Duration| time.as_secs_f64() / point.connections as f64;
            self.say(&format!(
                "| {} | {:.0} | {:.0} | {:.2} | {:.1} | {:.0} | {:.0} | {} | {} |",
                point.connections,
                point.connections as f64 / point.took.as_secs_f64(),
                each(point.programs) * 1e9,
                each(point.process) * 1e6,
                point.at_rest.as_secs_f64() * 1e3,
                point.resident_kb as f64 / 1024.0,
                point.peak_kb as f64 / 1024.0,
                point.told,
                point.lost,
            ));
        }
    }

    /// Adds how long connect() took at a few levels of a pool.
    pub(crate) fn searches(&mut self, searches: &[Search]) {
        const LEVELS: [usize; 10] = [1, 25, 45, 49, 51, 60, 75, 90, 95, 99];
        self.say(
            "\n### connect() as a pool fills up, µs: median, and what one in a hundred exceeds\n",
        );
        let head = LEVELS.map(|level| format!(" {level} % |")).concat();
        self.say(&format!("| watching |{head}"));
        self.say(&format!("|---|{}", "---|".repeat(LEVELS.len())));
        for search in searches {
            let cells = LEVELS.map(|level| {
                let micros = |of: &[u64]| of[level * search::PARTS / 100] as f64 / 1e3;
                let (median, slowest) = (micros(&search.median_ns), micros(&search.slowest_ns));
                format!(" {median:.1}, {slowest:.1} |")
            });
            self.say(&format!("| {} |{}", search.name, cells.concat()));
        }
    }

    /// The programs of tracer and of the floor, side by side.
    fn programs(&mut self, unit: &str, results: &[Result]) {
        let own = results
            .iter()
            .filter(|one| one.is_own && !one.programs.is_empty());
        let own: Vec<&Result> = own.collect();
        let mut names: Vec<&String> = own
            .iter()
            .flat_map(|one| one.programs.iter().flat_map(|all| all.keys()))
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return;
        }
        let mut head = format!("\n| program | runs per {unit} |");
        for one in &own {
            let _ = write!(head, " {}, ns |", one.name);
        }
        self.say(&head);
        self.say(&format!("|---|---|{}", "---|".repeat(own.len())));
        for name in names {
            let of = |one: &Result, which: fn(&(f64, f64)) -> f64| -> Option<f64> {
                let values: Vec<f64> = one
                    .programs
                    .iter()
                    .filter_map(|all| all.get(name).map(which))
                    .collect();
                (!values.is_empty()).then(|| quartiles(&values)[1])
            };
            let runs = own
                .iter()
                .filter_map(|one| of(one, |both| both.1))
                .next_back();
            let mut line = format!("| {name} | {:.2} |", runs.unwrap_or_default());
            for one in &own {
                match of(one, |both| both.0) {
                    Some(time) => {
                        let _ = write!(line, " {time:.0} |");
                    }
                    None => line.push_str(" |"),
                }
            }
            self.say(&line);
        }
    }

    fn idle(&mut self, results: &[Result]) {
        self.say("| watching | its process, µs per second | resident MiB |\n|---|---|---|");
        for one in results
            .iter()
            .filter(|one| one.name != UNTRACED && one.name != FLOOR)
        {
            let rates: Vec<f64> = one
                .took
                .iter()
                .zip(&one.cpu)
                .map(|(took, cpu)| cpu.as_secs_f64() * 1e6 / took.as_secs_f64())
                .collect();
            let memory: Vec<f64> = one
                .resident_kb
                .iter()
                .map(|&kb| kb as f64 / 1024.0)
                .collect();
            self.say(&format!(
                "| {} | {} | {} |",
                one.name,
                spread(&rates, 0),
                spread(&memory, 0)
            ));
        }
    }

    fn say(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn title(load: Load, size: Size) -> String {
    match load {
        Load::Idle => load.to_string(),
        Load::Storm | Load::Inbound => format!(
            "{load}: {} connections by {} clients",
            size.operations, size.clients
        ),
        _ => format!("{load}: {} {}s", size.operations, load.unit()),
    }
}

/// Median, and the quartiles where they are not the same.
fn spread(values: &[f64], digits: usize) -> String {
    if values.is_empty() {
        return String::new();
    }
    let [low, middle, high] = quartiles(values);
    format!("{middle:.digits$} ({low:.digits$} to {high:.digits$})")
}

/// Lower quartile, median, upper quartile; of few values the outer ones are the least and the most.
fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = (sorted.len() - 1) as f64;
    let ranks = [
        (last * 0.25).floor(),
        (last * 0.5).round(),
        (last * 0.75).ceil(),
    ];
    ranks.map(|rank| sorted[rank as usize])
}
