/*! Rows under headings, as wide as their words and never wider than the page. */

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::Page;
use super::text::columns::{Colour, Keep, shorten, style};

/// Cells between two columns.
const GAP: usize = 2;

/// Cells a column is worth having; those that may shrink stop here.
const LEAST: usize = 8;

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// What stands above it.
    pub(super) heading: &'static str,
    /// Whether numbers are under each other by their last digit.
    pub(super) right: bool,
    /// How its words are shortened where the page is narrow; `None` never is.
    pub(super) shrinks: Option<Keep>,
}

/// Writes the headings and the rows, each followed by the line below it, unless that is empty.
pub(super) fn write<const N: usize>(
    columns: &[Column; N],
    rows: &[([String; N], String)],
    page: &Page,
    out: &mut impl Write,
) -> io::Result<()> {
    let widths = widths(columns, rows, page.width);
    let faint = style(page.colour, Colour::Faint);
    let headings = columns.map(|column| column.heading.to_owned());
    writeln!(out, "{faint}{}{faint:#}", line(columns, &widths, &headings))?;
    for (row, below) in rows {
        writeln!(out, "{}", line(columns, &widths, row))?;
        if !below.is_empty() {
            let room = page.width.unwrap_or(usize::MAX);
            writeln!(out, "{faint}{}{faint:#}", shorten(below, room, Keep::Start))?;
        }
    }
    Ok(())
}

fn widths<const N: usize>(
    columns: &[Column; N],
    rows: &[([String; N], String)],
    page: Option<usize>,
) -> [usize; N] {
    let mut widths = columns.map(|column| column.heading.width());
    for (row, _) in rows {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = (*width).max(word.width());
        }
    }
    let Some(page) = page else {
        return widths;
    };
    let gaps = GAP * N.saturating_sub(1);
    let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(page);
    // The widest gives first, one cell at a time: the others stay as they are.
    while over > 0 {
        let widest = (0..N)
            .filter(|&index| columns[index].shrinks.is_some() && widths[index] > LEAST)
            .max_by_key(|&index| widths[index]);
        let Some(widest) = widest else {
            break;
        };
        widths[widest] -= 1;
        over -= 1;
    }
    widths
}

fn line<const N: usize>(columns: &[Column; N], widths: &[usize; N], words: &[String; N]) -> String {
    let mut line = String::new();
    for ((column, &width), word) in columns.iter().zip(widths).zip(words) {
        let keep = column.shrinks.unwrap_or(Keep::Start);
        let word = shorten(word, width, keep);
        let padding = " ".repeat(width - word.width());
        if column.right {
            line.push_str(&padding);
        }
        line.push_str(&word);
        if !column.right {
            line.push_str(&padding);
        }
        line.push_str(&" ".repeat(GAP));
    }
    line.truncate(line.trim_end().len());
    line
}
