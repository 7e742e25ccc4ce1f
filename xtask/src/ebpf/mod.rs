/*!
`cargo xtask ebpf`: builds the eBPF object and records where it came from, or
proves that the checked-in one is what its sources build to.
*/
mod build;
mod provenance;
mod strip;
mod toolchain;

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::{paths, test};
use build::Build;
use provenance::Provenance;

/// Names the object that `tracer`, built with its feature `object-from-env`,
/// embeds in place of the checked-in one.
const OBJECT_VARIABLE: &str = "TRACER_BPF_OBJECT";

/// The feature of `tracer` that reads [`OBJECT_VARIABLE`] when it is built.
const OBJECT_FEATURE: &str = "tracer/object-from-env";

/// What to do about the eBPF object.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Changes nothing: builds the object anew and compares it with the checked-in one, byte for byte.
    /// Built by other tools than recorded it may differ; then every test runs against the fresh one
    #[arg(long)]
    check: bool,
}

/// Runs the verb.
///
/// # Errors
///
/// When the object cannot be built or written, or is not what is checked in.
pub(crate) fn run(options: Options) -> Result<()> {
    let Options { check } = options;
    if check {
        // Before the minutes a build may take.
        let recorded = provenance::verify()?;
        return compare(&recorded, &build::build(Some(&recorded))?);
    }
    let build = build::build(Provenance::read()?.as_ref())?;
    let object = paths::root().join(provenance::OBJECT);
    fs::create_dir_all(object.parent().expect("the object's path has a directory"))
        .and_then(|()| fs::write(&object, &build.object))
        .with_context(|| format!("writing {}", object.display()))?;
    build.provenance.write()?;
    println!(
        "{}: {} bytes, sha256 {}",
        provenance::OBJECT,
        build.object.len(),
        build.provenance.object_sha256
    );
    Ok(())
}

fn compare(recorded: &Provenance, build: &Build) -> Result<()> {
    let Build {
        object,
        provenance,
        file,
        core_sources,
    } = build;
    if recorded.object_sha256 == provenance.object_sha256 {
        println!(
            "{} is byte for byte what its sources build to ({} bytes, sha256 {})",
            provenance::OBJECT,
            object.len(),
            provenance.object_sha256
        );
        return Ok(());
    }
    let differences = recorded.other_tools(provenance);
    if differences.is_empty() && core_sources.is_none() {
        bail!(
            "{} is not what its sources build to with the recorded tools: sha256 {} is checked in, {} was \
             built into {}: run: cargo xtask ebpf",
            provenance::OBJECT,
            recorded.object_sha256,
            provenance.object_sha256,
            file.display()
        );
    }
    println!("The object was built by other tools than the checked-in one, so their bytes differ:");
    for difference in differences {
        println!("  {difference}");
    }
    if let Some(dir) = core_sources {
        println!(
            "  {} exists here, so lines of it are in the BTF",
            dir.display()
        );
    }
    println!(
        "Every test now runs against the fresh object, {}.",
        file.display()
    );
    test::Suite {
        arguments: &["--features".to_owned(), OBJECT_FEATURE.to_owned()],
        variables: &[(OBJECT_VARIABLE, file.as_os_str())],
        no_skips: false,
    }
    .run()
}
