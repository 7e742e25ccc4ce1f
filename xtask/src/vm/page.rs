/*! docs/kernels.md: the tables of a run, with what a reader must know to use them. */
use std::fs;

use anyhow::{Context as _, Result};

use super::matrix::{self, Guest};
use crate::paths;

/// Where it lies in the tree.
const FILE: &str = "docs/kernels.md";

/// What is above the tables.
const TOP: &str = "\
# Kernels that tracer was tried on

Written by `cargo xtask vm 5.10 6.1 6.12 newest --page`; do not edit the tables. It boots Debian's kernels in
qemu and runs the end-to-end tests in each, once with each backend: real clients and servers in namespaces of
their own count what they did, and tracer must say exactly the same. (Scenarios that play to both backends by
themselves, `agree::` and `hostile::`, run once a kernel.)

* **trampoline**: fentry and fexit on the kernel's own functions wherever they tell more than a tracepoint.
* **tracepoint**: nothing but tracepoints, as on a kernel that refuses trampolines.

Without `--backend` tracer takes the best of both, hook by hook, by trial; `tracer doctor` shows what that is on
your machine. A fact that is **inferred** is concluded from others and marked so in the output; **none** is not known.

";

/// Writes the page.
///
/// # Errors
///
/// When the file cannot be written.
pub(super) fn write(guests: &[Guest]) -> Result<()> {
    let file = paths::root().join(FILE);
    fs::write(&file, format!("{TOP}{}", matrix::tables(guests)))
        .with_context(|| format!("writing {}", file.display()))?;
    println!("vm: wrote {FILE}");
    Ok(())
}
