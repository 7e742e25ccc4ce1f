/*! The only folder that knows aya: load, attach, drain, and what the kernel allows. */

pub mod attach;
pub mod btf;
pub mod cost;
mod entries;
mod features;
pub mod hooks;
pub mod kallsyms;
pub mod layout;
pub mod object;
pub mod preflight;
pub mod probes;
pub mod refusal;
mod surprise;
mod tracefs;
pub mod trial;
