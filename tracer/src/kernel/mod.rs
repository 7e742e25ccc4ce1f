/*! The only folder that knows aya: load, attach, drain, and what the kernel allows. */

pub mod btf;
pub mod kallsyms;
pub mod layout;
pub mod preflight;
pub mod probes;
