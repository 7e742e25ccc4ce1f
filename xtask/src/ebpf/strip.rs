/*!
Takes DWARF out of an eBPF object and leaves everything else, BTF first of
all, as it is.
*/
use anyhow::{Context as _, Result, bail};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// Returns `object` without its `.debug_*` sections and their relocations.
///
/// # Errors
///
/// When `object` is no ELF file, or holds no BTF.
pub(super) fn strip(object: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(object).context("reading the linked eBPF object")?;
    let mut debug = Vec::new();
    let mut btf = false;
    for section in &elf.sections {
        btf |= section.name.as_slice() == b".BTF";
        if section.name.starts_with(b".debug_") {
            debug.push(section.id());
        }
    }
    if !btf {
        bail!(
            "the linked eBPF object holds no BTF: bpf-linker was to write it (--btf) and did not"
        );
    }
    for section in &mut elf.sections {
        let relocates_debug = section
            .sh_info_section
            .is_some_and(|target| debug.contains(&target))
            && matches!(section.data, SectionData::Relocation(_));
        if relocates_debug || debug.contains(&section.id()) {
            section.delete = true;
        }
    }
    // The symbols of deleted sections go with them.
    elf.delete_orphans();
    // LLVM keeps the names of sections and symbols in one table; the writer
    // wants one for each.
    if !elf
        .sections
        .iter()
        .any(|section| matches!(section.data, SectionData::SectionString))
    {
        let names = elf.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    elf.write(&mut stripped)
        .context("writing the stripped eBPF object")?;
    Ok(stripped)
}
