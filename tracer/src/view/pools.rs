/*! A table of pools: how full, who holds most, how fast, how long. */

use std::io::{self, Write};

use super::table::{self, Column};
use super::text::columns::{Keep, endpoint, grouped};
use super::verdict::{more, used};
use super::words::{dry_in_s, percent, place, process, rate, seconds, states};
use super::{Page, escape};
use crate::model::Pool;

/// Columns from which on the states have one of their own; else they are below their pool.
const WIDE: usize = 140;

const fn column(heading: &'static str, right: bool, shrinks: Option<Keep>) -> Column {
    Column {
        heading,
        right,
        shrinks,
    }
}

const NARROW: [Column; 6] = [
    column("USED", true, None),
    column("%", true, None),
    column("TOWARDS", false, Some(Keep::Port)),
    column("TOP HOLDER", false, Some(Keep::Process)),
    column("RATE", true, None),
    column("DRY IN", true, None),
];

const BROAD: [Column; 7] = {
    let [used, percent, _, holder, rate, dry] = NARROW;
    let place = column("POOL", false, Some(Keep::Port));
    let states = column("STATES", false, Some(Keep::Start));
    [used, percent, place, holder, rate, dry, states]
};

/// Writes the pools in the order given, at most `rows` of them, as they stand at `now_ns`
/// (`CLOCK_MONOTONIC`). `name` says what people call a network namespace; it is shown where
/// the pools are of more than one.
///
/// # Errors
/// Those of `out`.
pub fn write(
    pools: &[Pool],
    name: impl Fn(u32) -> Option<String>,
    rows: usize,
    now_ns: u64,
    page: &Page,
    out: &mut impl Write,
) -> io::Result<()> {
    if pools.is_empty() {
        return writeln!(out, "no pool has a source port in use");
    }
    let shown = &pools[..pools.len().min(rows)];
    let mixed = shown.iter().any(|pool| pool.id.netns != shown[0].id.netns);
    let inside = |pool: &Pool| {
        if !mixed {
            return String::new();
        }
        let inode = pool.id.netns;
        name(inode).map_or_else(
            || format!("in netns {inode}"),
            |name| format!("in {}", escape::terminal(name.as_bytes())),
        )
    };
    if page.width.is_none_or(|width| width >= WIDE) {
        let lines: Vec<_> = shown
            .iter()
            .map(|pool| {
                let [used, percent, _, holder, rate, dry] = row(pool, now_ns);
                let place = place(&pool.id);
                let detail = joined([states(&pool.states), inside(pool)]);
                let row = [used, percent, place, holder, rate, dry, detail];
                (row, String::new())
            })
            .collect();
        table::write(&BROAD, &lines, page, out)?;
    } else {
        let lines: Vec<_> = shown
            .iter()
            .map(|pool| {
                let from = format!("from {}", pool.id.src);
                let detail = joined([from, states(&pool.states), inside(pool)]);
                (row(pool, now_ns), format!("    {detail}"))
            })
            .collect();
        table::write(&NARROW, &lines, page, out)?;
    }
    more(pools.len() - shown.len(), "pools", out)
}

fn joined<const N: usize>(parts: [String; N]) -> String {
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

fn row(pool: &Pool, now_ns: u64) -> [String; 6] {
    let capacity = pool.capacity.map_or(0, |capacity| capacity.ports());
    let holder = pool.holders.first().map_or_else(String::new, |holder| {
        let ports = grouped(holder.states.total());
        format!("{ports} {}", process(&holder.process))
    });
    let forecast = pool.forecast.as_ref();
    let dry = match forecast.and_then(|forecast| dry_in_s(forecast, now_ns)) {
        _ if capacity > 0 && pool.used() >= capacity => "dry".to_owned(),
        Some(dry) => seconds(dry),
        None => "-".to_owned(),
    };
    let full = percent(pool.used(), capacity);
    [
        used(pool.used(), capacity),
        full.trim_end_matches(" %").to_owned(),
        endpoint(pool.id.dst, pool.id.dport),
        holder,
        rate(pool.open_rate.ten),
        dry,
    ]
}

#[cfg(test)]
mod tests;
